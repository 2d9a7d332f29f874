"""Build the object graph. The only module, with `server/cli.py`, that knows every concrete class."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError
from core.telemetry import Measurements
from server.context import ModelFacts, Service
from server.settings import Settings

if TYPE_CHECKING:
    from cache_index.embedding_memo import EmbeddingMemo
    from core.types import DecoderBackend
    from engine.backends import DecodingConfig
    from engine.backends.vllm.options import VllmOptions
    from engine.classifiers import PictureClassifiers
    from engine.document_store import DocumentStore
    from engine.encoding.caches import VisualCaches
    from engine.encoding.files import FileEmbedder
    from engine.encoding.medium import LocalEncoder, MediumEncoder
    from engine.encoding.service import EncodingService
    from engine.experts.caption import Captioner
    from engine.experts.service import ExpertService
    from engine.file_store import FileStore
    from engine.media_first import MediaFirst
    from media.decode import DecodeWorkers
    from media.fetch import FetchPolicy
    from media.limits import MediaLimits
    from models.bundle import ModelBundle
    from models.devices import ThreadShares

# How often a thread of the decoder looks for the next product before it sleeps: about a millisecond, so that it stays
# awake from one product to the next, and the system keeps the threads on processors of their own. With microseconds
# they sleep within a step and wake up on one processor; at OpenMP's 18 ms another busy process makes a product wait.
OPENMP_SPINS = "20000"


def build_service(settings: Settings) -> Service:
    """Load the model and connect everything that serves it; nothing runs until the pipeline is started.

    Blocks for seconds: call it from a thread. The model is a name of the table or a folder that `bindchat convert`
    wrote. Raises `UnknownName` for a model or backend that is not in its table and `CheckpointError` for weights
    that cannot be loaded.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", OPENMP_SPINS)  # OpenMP reads it when torch is first imported, below
    from models.devices import share_threads
    from models.registry import DTYPES, load_model

    share_threads(settings.num_threads)  # already now, because loading multiplies too
    bundle = load_model(settings.model, DTYPES[settings.dtype], audio_encoder=settings.audio_encoder)
    return connect_service(settings, bundle)


def damaged_files(settings: Settings) -> list[str]:
    """Return one sentence for each file of a converted model that is missing or changed; none for built-in models."""
    from models.folder import verify_folder
    from models.registry import is_folder

    return verify_folder(Path(settings.model)) if is_folder(settings.model) else []


def build_front(settings: Settings) -> Service:
    """Load what an ingress replica of a Ray Serve application needs, and connect it to the other replicas.

    Raises what `build_service` raises, and `ConfigError` outside of such an application.
    """
    from engine.scale.encoders import remote_encoder
    from models.parts import ModelPart, load_part
    from models.registry import DTYPES

    bundle = load_part(settings.model, DTYPES[settings.dtype], ModelPart.FRONT, audio_encoder=settings.audio_encoder)
    return connect_service(settings, bundle, remote_encoder(bundle.encoders))


def build_decoder(settings: Settings) -> DecoderBackend:
    """Load what a decoder replica of a Ray Serve application needs. Raises what `build_service` raises."""
    from engine.backends import BACKENDS
    from models.devices import share_threads
    from models.parts import ModelPart, load_part
    from models.registry import DTYPES

    threads = share_threads(settings.num_threads)
    bundle = load_part(settings.model, DTYPES[settings.dtype], ModelPart.DECODER)
    decoding = _decoding_config(settings, bundle, _max_context(settings, bundle), threads)
    return BACKENDS.load(settings.backend)(bundle, decoding)


def build_encoders(settings: Settings, device: str) -> EncodingService:
    """Load what an encoder replica of a Ray Serve application needs, its encoders on `device`.

    Raises what `build_service` raises, and `ConfigError` for encoders that do not run there.
    """
    from engine.encoding.service import EncodingService
    from models.parts import ModelPart, load_part, move_encoders
    from models.registry import DTYPES

    bundle = load_part(settings.model, DTYPES[settings.dtype], ModelPart.ENCODERS, audio_encoder=settings.audio_encoder)
    if device != "cpu":
        move_encoders(bundle.encoders, device)
    return EncodingService(_local_encoder(settings, bundle, Measurements(), settings.num_threads), memo=_memo(settings))


def connect_service(settings: Settings, bundle: ModelBundle, encoder: MediumEncoder | None = None) -> Service:
    """Connect everything that serves a loaded model; without an `encoder` its media are encoded in this process."""
    from engine.backends import BACKENDS
    from engine.batch_journal import BatchJournal
    from engine.encoding.fusion import fuse, only_medium
    from engine.encoding.service import EncodingService
    from engine.experts.caption import Captioner
    from engine.intake import MediaIntake
    from engine.pipeline import Pipeline, PipelineConfig
    from media.fetch import RemoteFetcher
    from models.devices import share_threads

    limits, measurements = _media_limits(settings), Measurements()
    max_context = _max_context(settings, bundle)
    threads = share_threads(settings.num_threads)
    caches = _visual_caches(settings, bundle)
    decoder = _media_decoder(settings, measurements)
    decoding = _decoding_config(settings, bundle, max_context, threads)
    num_parameters = sum(parameter.numel() for parameter in bundle.decoder.parameters())  # a backend packs them
    backend = BACKENDS.load(settings.backend)(bundle, decoding)
    encoding = EncodingService(
        encoder or _local_encoder(settings, bundle, measurements, threads.encoders, decoder, decoding.media_first),
        caches=caches,
        measurements=measurements,
        memo=_memo(settings),
        blend=only_medium if bundle.takes_image_tokens else fuse,
    )
    pipeline = Pipeline(
        bundle,
        backend,
        encoding,
        PipelineConfig(
            max_context=max_context,
            max_in_flight=settings.ray_max_in_flight if encoder else settings.max_slots + settings.max_queue,
            max_tokens_in_flight=settings.max_tokens_in_flight,
            stall_after_s=settings.stall_after_s,
            created_s=int(time.time()),
        ),
        experts=_experts(settings, Captioner(bundle, backend, encoding), decoder, measurements, is_front=bool(encoder)),
    )
    device = str(next(bundle.decoder.parameters()).device)
    facts = ModelFacts(device=device, num_parameters=num_parameters, sources=bundle.sources)
    fetcher = RemoteFetcher(_fetch_policy(settings), measurements=measurements)
    intake = MediaIntake(limits, fetcher, measurements)
    files = settings.files_dir
    journal = None if files is None else BatchJournal(files / "batches.sqlite3")
    stores = (_file_store(settings), _document_store(settings), journal)
    return Service(pipeline, intake, facts, *stores, caches, measurements, _classifiers(settings, measurements))


def _classifiers(settings: Settings, measurements: Measurements) -> PictureClassifiers:
    """Return the classifiers with a decoder process of their own, started when first needed."""
    from engine.classifiers import PictureClassifiers
    from media.decode import DecodeWorkers
    from models.illama.folder import BUILT_IN, load_classifier

    decoder = DecodeWorkers(_media_limits(settings), num_workers=1, measurements=measurements)
    return PictureClassifiers(decoder, load_classifier, BUILT_IN)


def _max_context(settings: Settings, bundle: ModelBundle) -> int:
    longest = bundle.decoder.config.max_context
    return min(settings.max_context or longest, longest)


def _memo(settings: Settings) -> EmbeddingMemo | None:
    from cache_index.embedding_memo import EmbeddingMemo

    return EmbeddingMemo(settings.max_memo_bytes) if settings.max_memo_bytes else None


def _media_decoder(settings: Settings, measurements: Measurements) -> DecodeWorkers:
    from media.decode import DecodeWorkers

    return DecodeWorkers(_media_limits(settings), measurements=measurements)


def _local_encoder(
    settings: Settings,
    bundle: ModelBundle,
    measurements: Measurements,
    num_threads: int | None,
    decoder: DecodeWorkers | None = None,
    media_first: MediaFirst | None = None,
) -> LocalEncoder:
    from engine.encoding.medium import LocalEncoder
    from engine.encoding.runner import EncoderRunner, EncodingConfig

    return LocalEncoder(
        decoder or _media_decoder(settings, measurements),
        EncoderRunner(bundle.encoders, EncodingConfig(num_threads=num_threads), measurements=measurements),
        media_first,
    )


def build_file_embedder(settings: Settings) -> FileEmbedder:
    """Load the model's encoders for commands that embed files without a server; start it with `with`.

    Raises `ConfigError` for a model that embeds nothing to index.
    """
    from core.types import Modality
    from engine.encoding.files import FileEmbedder
    from engine.encoding.service import EncodingService
    from engine.intake import MediaIntake
    from models.registry import DTYPES, load_model

    bundle = load_model(settings.model, DTYPES[settings.dtype], audio_encoder=settings.audio_encoder)
    if Modality.IMAGE not in bundle.encoders or bundle.takes_image_tokens:
        raise ConfigError(f"model {bundle.name} has no joint space to index; name one that embeds pictures")
    service = EncodingService(_local_encoder(settings, bundle, Measurements(), settings.num_threads))
    return FileEmbedder(service, MediaIntake(_media_limits(settings)), encoder_id=bundle.joint_space_id)


def _file_store(settings: Settings) -> FileStore | None:
    """Return the store of uploaded files, None when there is no folder for them. Raises `ConfigError`."""
    from engine.file_store import FileQuota, FileStore

    if settings.files_dir is None:
        return None
    quota = FileQuota(
        max_file_bytes=settings.max_upload_bytes, max_bytes=settings.max_files_bytes, max_files=settings.max_files
    )
    return FileStore(settings.files_dir, quota)


def _document_store(settings: Settings) -> DocumentStore | None:
    """Return the store of responses and batches, in memory when there is no folder. Raises `ConfigError`.

    One of several ingress replicas has none: what one keeps, the others would not find.
    """
    from engine.document_store import DocumentQuota, DocumentStore

    if settings.backend == "ray":
        return None
    quota = DocumentQuota(
        max_documents=settings.max_responses,
        max_bytes=settings.max_responses_bytes,
        keep_s=round(settings.responses_keep_s),
    )
    return DocumentStore(settings.files_dir and settings.files_dir / "documents.sqlite3", quota)


def _visual_caches(settings: Settings, bundle: ModelBundle) -> VisualCaches | None:
    """Open the model's own index and the operator's. Raises `ConfigError` and `IndexMismatch` naming the index."""
    from engine.encoding.caches import VisualCaches, WhereIndexes

    if bundle.takes_image_tokens or not bundle.encoders:
        if settings.cache_indexes:
            raise ConfigError(
                f"model {bundle.name} has no joint space to index; take cache_indexes out of its settings"
            )
        return None
    pairs = (pair.partition("=") for pair in settings.cache_indexes)
    named = {name: Path(path) for name, _, path in pairs}
    where = WhereIndexes(named=named, copies=settings.cache_dir, on_gpu=settings.cache_device == "cuda")
    return VisualCaches(bundle, where)


def _decoding_config(
    settings: Settings, bundle: ModelBundle, max_context: int, threads: ThreadShares
) -> DecodingConfig:
    from engine.backends import DecodingConfig
    from engine.media_first import MediaFirst
    from models.devices import decoder_device

    device = decoder_device(settings.device)
    return DecodingConfig(
        max_slots=settings.max_slots,
        max_queue=settings.max_queue,
        max_context=max_context,
        max_cache_tokens=_cache_tokens(settings, bundle),
        reuse_prefixes=settings.reuse_prefixes,
        weights_dtype=settings.weights_dtype,
        device=device,
        num_threads=threads.decoder,
        media_first=MediaFirst() if device == "cpu" else None,
        vllm=_vllm_options(settings),
    )


def _cache_tokens(settings: Settings, bundle: ModelBundle) -> int | None:
    """Return how many tokens fit the KV cache's share of memory, None without a bound of its own."""
    if settings.kv_cache_mib is None:
        return None
    bytes_per_value = bundle.decoder.tok_embeddings.weight.element_size()
    return settings.kv_cache_mib * 1024 * 1024 // bundle.decoder.config.kv_cache_bytes(1, bytes_per_value)


def _vllm_options(settings: Settings) -> VllmOptions:
    from engine.backends.vllm.options import VllmOptions

    lora = settings.vllm_lora_folder
    return VllmOptions(
        tensor_parallel_size=settings.vllm_tensor_parallel_size,
        pipeline_parallel_size=settings.vllm_pipeline_parallel_size,
        quantization=settings.vllm_quantization,
        kv_cache_bytes=settings.vllm_kv_cache_bytes,
        gpu_memory_share=settings.vllm_gpu_memory_share,
        eager=settings.vllm_eager,
        lora_folder=None if lora is None else str(lora),
    )


def _experts(
    settings: Settings,
    captioner: Captioner,
    decoder: DecodeWorkers,
    measurements: Measurements,
    *,
    is_front: bool,
) -> ExpertService:
    """Build the experts that are installed. Raises `ConfigError` when one that runs by default is not."""
    from engine.experts import ExpertContext, ExpertOptions
    from engine.experts.service import ExpertService

    key = settings.expert_caption_key
    options = ExpertOptions(
        by_default=settings.experts_by_default,
        timeout_s=settings.expert_timeout_s,
        max_chars=settings.expert_max_chars,
        num_threads=settings.num_threads,
        classifier=settings.expert_classifier,
        speech_folder=settings.expert_speech_folder,
        caption_url=settings.expert_caption_url,
        caption_model=settings.expert_caption_model,
        caption_key=None if key is None else key.get_secret_value(),
    )
    bundle = captioner.bundle
    context = ExpertContext(bundle=bundle, options=options, describe=captioner.describe)
    special_texts = tuple(bundle.tokenizer.special_ids)
    return ExpertService(context, special_texts, decoder, starts_decoder=is_front, measurements=measurements)


def _media_limits(settings: Settings) -> MediaLimits:
    from media.limits import MediaLimits

    return MediaLimits(
        max_bytes=settings.max_media_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_parts=settings.max_media_parts,
        max_pixels=settings.max_pixels,
        max_decoded_bytes=settings.max_decoded_bytes,
        max_frames=settings.max_frames,
        max_seconds=settings.max_seconds,
        max_points=settings.max_points,
        max_worker_bytes=settings.max_worker_bytes,
        decode_timeout_s=settings.decode_timeout_s,
    )


def _fetch_policy(settings: Settings) -> FetchPolicy:
    from media.fetch import FetchPolicy

    return FetchPolicy(
        enabled=settings.allow_remote_media,
        allowed_domains=settings.media_domains,
        max_bytes=settings.max_media_bytes,
        timeout_s=settings.fetch_timeout_s,
    )
