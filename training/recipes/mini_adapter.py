"""Train `mini.safetensors`: `python -m training.recipes.mini_adapter DATA --out DIR [--init FILE] [--parts PART...]`.

DATA holds `caltech101_112.zip` and `fluent_emoji_3d_112.zip`. In order: embed the names (MiniLM), extract picture
features (EfficientNet-Lite2, once), learn new names and drawings (part `heads`), `calibration`, let the base model
answer plain questions and learn which those are (`relevance`), train the ImageBind-LLM `adapter` with every base weight
frozen, then the judge of yes-or-no questions and the adapter's `verdicts`. Parts not asked for are kept from `--init`,
to the bit. Interrupted runs resume. Set MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ to 1073741824 where 8 GB a
worker are free: glibc otherwise gives large temporaries back at once, and training takes twice as long. `--workers 2`
with OMP_NUM_THREADS=1 beats two threads on shared cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import zipfile
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.llama.condition import ConditionView
from models.llama.gguf import load_gguf_llama
from models.llama.model import Llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import CONDITIONED_TEMPLATE, VOCABULARY, decoder_file, picture_network_file
from models.mini.encoder import FeatureNetwork
from models.mini.loader import ADAPTER_PREFIX, BRIDGE, DOUBT_BELOW
from models.mini.verdicts import PREFIX as VERDICT_PREFIX
from training.loop import LoopConfig, Team, run_loop
from training.recipes import mini_pictures as pictures
from training.recipes.mini_chat import chat_answers
from training.recipes.mini_emoji import drawn_names
from training.recipes.mini_eyes import EYES, PHOTOGRAPHS, Lesson, learn_eye, made_once, see_photographs
from training.recipes.mini_pictures import FeatureSimulator, Name
from training.recipes.mini_relevance import train_relevance
from training.recipes.mini_samples import Batch, Sample, SampleMaker, Space, batches_of
from training.recipes.mini_topics import plain_questions
from training.recipes.mini_verdicts import judged_samples, train_judge, train_verdicts

PARTS = ("heads", "calibration", "relevance", "adapter", "verdicts")
TALKING = {"relevance", "adapter", "verdicts"}  # the parts that the decoder or its questions teach
MAX_BATCH_TOKENS = 1300
POOL_SAMPLES = 1024
OTHER_NAMES = pictures.NAMES_FILE


def all_names() -> tuple[list[Name], list[Name], dict[str, list[Name]]]:
    """Return ImageNet's thousand names, the other nouns without those, and the names of other senses."""
    others = pictures.read_other_names(OTHER_NAMES)
    right = [*others["everyday"], *others["corrected"]]
    imagenet, nouns = (pictures.corrected(names, right) for names in pictures.read_vocabulary(VOCABULARY))
    synonyms = [
        Name(word, name.kind, name.groups)
        for name in imagenet
        for word in name.synonyms
        if word.lower() != name.text.lower()
    ]
    known = {name.text.lower() for name in imagenet}
    spoken = [*others["everyday"], *(name for name in nouns if name.kind != "person"), *synonyms]
    kept = {name.text.lower(): name for name in reversed(spoken) if name.text.lower() not in known}
    return imagenet, list(reversed(kept.values())), others


def build_space(data: Path, out: Path, seed: int, every: int = 1) -> tuple[Space, dict[str, Tensor], list[str]]:
    """Return the space, the tensors of the encoder to ship, and the classes that training never saw.

    The space is seen through the eye for thumbnails, which is what all training pictures are.
    """
    imagenet, nouns, others = all_names()
    with zipfile.ZipFile(data / PHOTOGRAPHS) as stored:
        classes = sorted(
            {Path(name).parent.name for name in stored.namelist() if name.endswith(".webp")}, key=str.lower
        )
    unseen = pictures.choose_unseen(classes, imagenet, seed)
    trained = [name for name in classes if name not in unseen]
    bank = (*imagenet, *pictures.extra_names(trained, imagenet))
    parts = (bank, tuple(nouns[::every]), tuple(others["sounds"]), tuple(others["shapes"]))
    texts = [name.text for part in parts for name in part]
    embedded = made_once(out / "names.pt", lambda: pictures.embed_texts(texts))
    vectors = embedded.split_with_sizes([len(part) for part in parts])
    lesson = Lesson(
        data=data,
        out=out,
        network=FeatureNetwork(picture_network_file()),
        imagenet=imagenet,
        trained=trained,
        seed=seed,
        every=every,
    )
    eyes = [learn_eye(recipe, lesson, vectors[0]) for recipe in EYES]
    spoken = pictures.read_spoken_emoji(OTHER_NAMES, every)
    drawn = made_once(out / "emoji_names.pt", lambda: pictures.embed_texts(drawn_names(spoken)))
    eye, seen = eyes[-1], see_photographs(EYES[-1], lesson)
    features, targets = pictures.training_rows(seen, trained, imagenet)
    space = Space(
        bank=parts[0],
        vectors=vectors[0],
        nouns=parts[1],
        noun_vectors=vectors[1],
        sounds=parts[2],
        sound_vectors=vectors[2],
        shapes=parts[3],
        shape_vectors=vectors[3],
        head=eye.head,
        simulator=FeatureSimulator(features, lesson.network.class_weights()),
        photographs=eye.head(features),
        photograph_names=tuple(1000 + target for target in targets.tolist()),
        doubt_below=eye.calibration.raw_at(DOUBT_BELOW),
    )
    shipped = {key: value for eye in eyes for key, value in eye.tensors.items()}
    return space, {**shipped, "names.vectors": torch.cat((vectors[0], drawn))}, unseen


def new_adapter(decoder: Llama, seed: int) -> ImageBindLLMAdapter:
    """Return the untrained adapter: prefixes from N(0, 1), gates at zero, the doubt of about unit length."""
    torch.manual_seed(seed)
    adapter = ImageBindLLMAdapter(
        BRIDGE,
        num_layers=decoder.config.num_layers,
        num_heads=decoder.config.num_heads,
        doubt_below=DOUBT_BELOW,
        has_verdicts=True,
    )
    nn.init.normal_(adapter.prefix_query)
    assert adapter.doubt is not None
    nn.init.normal_(adapter.doubt, std=BRIDGE.embedding_width**-0.5)
    return adapter


def start_from(adapter: ImageBindLLMAdapter, weights: Path) -> None:
    """Copy the adapter of earlier trained weights; what they lack keeps its start."""
    with safe_open(weights, framework="pt") as stored:
        keys = [key for key in stored.keys() if key.startswith(ADAPTER_PREFIX)]  # noqa: SIM118 (not a mapping)
        state = {key.removeprefix(ADAPTER_PREFIX): stored.get_tensor(key).float() for key in keys}
    adapter.load_state_dict({**adapter.state_dict(), **state})


def make_optimizer(adapter: ImageBindLLMAdapter, rate: float = 1.0) -> torch.optim.Optimizer:
    """AdamW; the gates learn twenty times as fast as the rest."""
    rest = [parameter for name, parameter in adapter.named_parameters() if name != "gates"]
    groups = [
        {"params": rest, "lr": 1e-3 * rate},
        {"params": [adapter.gates], "lr": 2e-2 * rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.02)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


class ShortCausalAttention:
    """Causal attention over short `(B, T)` rows as plain products, whose backward is faster than the fused kernel's."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        B, T, num_heads, head_width = q.shape
        num_kv_heads = k.shape[2]
        q = q.view(B, T, num_kv_heads, -1, head_width).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (B, Hkv, G T, Dh)
        k, v = k.transpose(1, 2), v.transpose(1, 2)  # (B, Hkv, T, Dh)
        scores = (q @ k.transpose(-1, -2)).float() / head_width**0.5  # (B, Hkv, G T, T)
        future = torch.ones(T, T, dtype=torch.bool).triu(1).repeat(num_heads // num_kv_heads, 1)
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1).to(v.dtype)
        out = (weights @ v).unflatten(2, (-1, T))  # (B, Hkv, G, T, Dh)
        return out.permute(0, 3, 1, 2, 4).reshape(B, T, num_heads, head_width)  # type: ignore[no-any-return]


class Conditions(Protocol):
    """What makes the adapter tokens `(B, L, 1, D)` of B rows, behind its gates `(L, H)`."""

    def prompts(
        self, vectors: Tensor, doubtful: Tensor | None = None, verdicts: Sequence[bool | None] = ()
    ) -> Tensor: ...

    def effective_gates(self) -> Tensor: ...


def answer_loss(decoder: Llama, adapter: Conditions, batch: Batch) -> Tensor:
    """Return the weighted mean cross-entropy of the answer tokens against what each should be.

    The head runs on those positions only.
    """
    dtype = decoder.tok_embeddings.weight.dtype
    prompts = adapter.prompts(batch.vectors, batch.doubtful, batch.verdicts)  # (B, L, 1, D)
    table = decoder.project_condition(prompts.to(dtype), gates=adapter.effective_gates())
    rows = torch.arange(len(batch.vectors))[:, None]
    positions = torch.arange(batch.token_ids.shape[1]).expand_as(batch.token_ids)
    hidden = decoder(batch.token_ids, positions, ShortCausalAttention(), ConditionView(table, rows))  # (B, T, D)
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    logits = decoder.logits(hidden[:, :-1][wanted]).float()  # (N, V)
    likely = logits.gather(-1, batch.target_ids[:, 1:][wanted]) - logits.logsumexp(dim=-1, keepdim=True)  # (N, K)
    losses = -(likely * batch.target_shares[:, 1:][wanted]).sum(dim=-1)  # (N,)
    return (losses * weights[wanted]).sum() / weights[wanted].sum()


def batch_source(draw: Callable[[int], list[Sample]], seed: int) -> Callable[[int], Batch]:
    """Return a function from the step to its batch; `draw` makes a pool on demand from its number alone."""
    starts: list[int] = [0]

    @lru_cache(maxsize=2)
    def pool(number: int) -> list[Batch]:
        return batches_of(draw(number), MAX_BATCH_TOKENS, random.Random(f"{seed}-order-{number}"))

    def batch_at(step: int) -> Batch:
        number = next((i for i, start in enumerate(starts) if start > step), len(starts)) - 1
        while True:
            batches = pool(number)
            if len(starts) == number + 1:
                starts.append(starts[number] + len(batches))
            if step < starts[number + 1]:
                return batches[step - starts[number]]
            number += 1

    return batch_at


def export(adapter: ImageBindLLMAdapter, encoder: dict[str, Tensor], names: list[str], folder: Path) -> None:
    """Write the served weights (bfloat16 bridge, float32 gates and head) and the names as one safetensors file."""
    trained = adapter.state_dict()
    tensors = {f"{ADAPTER_PREFIX}{key}": value.to(torch.bfloat16) for key, value in trained.items()}
    tensors |= {f"{ADAPTER_PREFIX}{key}": trained[key].float() for key in ("gates", "doubt", "verdicts")}
    tensors |= {key: as_served(value) for key, value in encoder.items()}
    metadata = {"names": json.dumps(names, ensure_ascii=False)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "mini.safetensors", metadata)


def keep_parts(weights: Path, made: Collection[str], out: Path) -> None:
    """Put the parts of finished weights that are not to be `made` where an interrupted run would have kept its own."""
    tensors = {key: value.float() for key, value in load_file(weights).items()}

    def of(prefix: str, *, cut: bool = True) -> dict[str, Tensor]:
        own = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        return {key.removeprefix(prefix) if cut else key: value for key, value in own.items()}

    kept: dict[str, dict[str, Any]] = {"heads": {}, "calibration": {}}
    for prefix in (recipe.prefix for recipe in EYES if f"{recipe.prefix}confidence" in tensors):
        kept["heads"] |= {f"{prefix}{part}": of(f"{prefix}{part}.") for part in ("head", "drawings")}
        kept["calibration"][f"{prefix}calibration"] = tensors[f"{prefix}confidence"]
    kept["heads"]["emoji_names"] = tensors["names.vectors"][-len(tensors["drawings.weight"]) + 1 :].clone()
    kept["relevance"] = {"relevance": of("relevance.", cut=False)}
    kept["verdicts"] = {"judge": of(VERDICT_PREFIX, cut=False)}
    for part in kept.keys() - set(made):
        for name, value in kept[part].items():
            torch.save(value, out / f"{name}.pt")


def stored_names(weights: Path) -> list[str]:
    """Return the names that finished weights hold."""
    with safe_open(weights, framework="pt") as stored:
        return list(json.loads(stored.metadata()["names"]))


def as_served(tensor: Tensor) -> Tensor:
    """Return a tensor of the encoder or the judge in the precision it is shipped in."""
    return tensor.float() if tensor.ndim == 1 else tensor.half()


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to make; the rest is --init's")
    parser.add_argument("--init", type=Path, help="a mini.safetensors whose adapter to go on from")
    parser.add_argument("--fresh", action="store_true", help="begin the adapter from nothing all the same")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread that share each step")
    parser.add_argument(
        "--verdict-steps", type=int, default=120, help="steps that teach the adapter to say yes or no; 0: none"
    )
    parser.add_argument("--invented", type=int, default=1500, help="plain questions the base model makes up")
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        help="divide photographs, drawings, questions, and the steps of all but the adapter by this",
    )
    arguments = parser.parse_args(argv)
    if set(arguments.parts) != set(PARTS) and arguments.init is None:
        parser.error("--parts needs --init: the weights that get them")
    return arguments


def train(rank: int, arguments: argparse.Namespace) -> None:
    """Run one worker of the team; the first one exports."""
    team = Team(rank, arguments.workers)
    out, seed, made = arguments.out, arguments.seed, set(arguments.parts)
    meet(team, out)
    if made != set(PARTS):
        keep_parts(arguments.init, made, out)
    space, encoder, unseen = build_space(arguments.data, out, seed, arguments.every)
    (out / "unseen.json").write_text(json.dumps(unseen) + "\n")
    decoder = load_gguf_llama(decoder_file(), torch.bfloat16).requires_grad_(False)
    adapter = new_adapter(decoder, seed)
    if arguments.init is not None and not arguments.fresh:
        start_from(adapter, arguments.init)
    decoder.set_adapters(tuple(range(decoder.config.num_layers)), adapter.effective_gates(), num_tokens=1)
    if made & TALKING:
        learn_to_talk(decoder, adapter, space, arguments, team)
    encoder |= {
        k: v for part in ("relevance", "judge") for k, v in torch.load(out / f"{part}.pt", weights_only=True).items()
    }
    if rank == 0:
        bank = [name.text for name in space.bank]
        drawn = drawn_names(pictures.read_spoken_emoji(OTHER_NAMES, arguments.every))
        kept = [] if "heads" in made else stored_names(arguments.init)[len(bank) :]
        export(adapter, encoder, [*bank, *(kept or drawn)], out)


def learn_to_talk(
    decoder: Llama, adapter: ImageBindLLMAdapter, space: Space, arguments: argparse.Namespace, team: Team
) -> None:
    """Make what words teach: relevance, the adapter, the judge and the verdicts, each unless it is kept already."""
    out, seed, every, made = arguments.out, arguments.seed, arguments.every, set(arguments.parts)
    tokenizer = load_gguf_tokenizer(decoder_file())
    named = [*space.bank, *space.nouns]
    asked = plain_questions([name.text for name in named], seed)[::every]
    chat = chat_answers(decoder, tokenizer, asked, out, num_invented=arguments.invented // every, seed=seed)
    plain = [row.question for row in chat]
    made_once(out / "relevance.pt", lambda: train_relevance(named, plain, seed, every))
    conditioned = tokenizer.with_template(CONDITIONED_TEMPLATE)
    maker = SampleMaker(space, conditioned, chat, seed, from_scratch=arguments.init is None or arguments.fresh)
    made_once(out / "judge.pt", lambda: train_judge(maker, space, plain, seed, every))
    if team.size > 1 and team.rank == 0:
        distributed.barrier()
    if "adapter" in made:
        batch_at = batch_source(lambda number: maker.pool(number, POOL_SAMPLES), seed)
        loop = LoopConfig(num_steps=arguments.steps, max_minutes=arguments.minutes)
        optimizer = make_optimizer(adapter, arguments.rate)
        run_loop(adapter, optimizer, team_loss(decoder, adapter, batch_at, team), loop, out, team=team)
    if "verdicts" in made and arguments.verdict_steps:
        judged_at = batch_source(lambda number: judged_samples(maker, named, POOL_SAMPLES, f"{seed}-{number}"), seed)
        train_verdicts(adapter, team_loss(decoder, adapter, judged_at, team), arguments.verdict_steps, out, team)


def meet(team: Team, out: Path) -> None:
    """Join the team; all but the first wait until it has made features, names and chat."""
    if team.size == 1:
        return
    torch.set_num_threads(1)
    meeting = f"file://{(out / f'team-{os.getppid()}').resolve()}"
    waits = timedelta(hours=12)
    distributed.init_process_group("gloo", init_method=meeting, rank=team.rank, world_size=team.size, timeout=waits)
    if team.rank > 0:
        distributed.barrier()


def team_loss(
    decoder: Llama, adapter: ImageBindLLMAdapter, batch_at: Callable[[int], Batch], team: Team
) -> Callable[[int], Tensor]:
    """Return a function from the step to this worker's loss."""
    return lambda step: answer_loss(decoder, adapter, batch_at(step * team.size + team.rank))


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not TALKING & set(arguments.parts):
        arguments.workers = 1
    if arguments.workers == 1:
        train(0, arguments)
    else:
        spawn(train, (arguments,), nprocs=arguments.workers)  # type: ignore[no-untyped-call]
        (arguments.out / f"team-{os.getpid()}").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
