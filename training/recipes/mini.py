"""Train the `mini` model: `python -m training.recipes.mini DATA --out DIR [--minutes M] [--seed S]`.

DATA holds `caltech101_112.zip`. Stages: embed the names (MiniLM), extract picture features (EfficientNet-Lite2, once),
learn new names (head), then train the ImageBind-LLM adapter with every base weight frozen. Interrupted runs resume.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.llama.condition import ConditionView
from models.llama.gguf import load_gguf_llama
from models.llama.model import Llama
from models.llama.tokenizer_files import load_gguf_tokenizer
from models.mini.assets import CONDITIONED_TEMPLATE, VOCABULARY, decoder_file, picture_network_file
from models.mini.encoder import FeatureNetwork, NameHead
from models.mini.loader import ADAPTER_PREFIX, BRIDGE
from training.loop import LoopConfig, run_loop
from training.recipes import mini_pictures as pictures
from training.recipes.mini_chat import greedy_answers, plain_questions
from training.recipes.mini_samples import Batch, SampleMaker, Space, batches_of

MAX_BATCH_TOKENS = 1300
POOL_SAMPLES = 1024
MAX_CHAT_TOKENS = 26


def build_space(data: Path, out: Path, seed: int) -> tuple[Space, dict[str, Tensor], list[str]]:
    """Return the space, the tensors of the encoder to ship, and the classes that training never saw."""
    network = FeatureNetwork(picture_network_file())
    imagenet_weights = network.class_weights()
    photographs = pictures.read_photographs(data / "caltech101_112.zip", network, out / "features.pt")
    imagenet, nouns = pictures.read_vocabulary(VOCABULARY)
    classes = sorted(set(photographs.classes), key=str.lower)
    unseen = pictures.choose_unseen(classes, imagenet, seed)
    trained = [name for name in classes if name not in unseen]
    extra = pictures.extra_names(trained, imagenet)
    position = {name.text: i for i, name in enumerate(extra)}
    rows = photographs.rows("train", trained)
    targets = torch.tensor([position[pictures.spoken(photographs.classes[row])] for row in rows.tolist()])
    head_layer = pictures.train_head(photographs, rows, targets, imagenet_weights, seed)
    bank = (*imagenet, *extra)
    other_words = [
        pictures.Name(word, name.kind, name.groups)
        for name in imagenet
        for word in name.synonyms
        if word.lower() != name.text.lower()
    ]
    spoken_nouns = (*(name for name in nouns if name.kind != "person"), *other_words)
    vectors = pictures.embed_texts([name.text for name in (*bank, *spoken_nouns)])
    head = NameHead(imagenet_weights, head_layer, vectors[: len(bank)]).eval().requires_grad_(False)
    space = Space(
        bank=bank,
        vectors=vectors[: len(bank)],
        nouns=spoken_nouns,
        noun_vectors=vectors[len(bank) :],
        head=head,
        simulator=pictures.FeatureSimulator(photographs.features[rows], imagenet_weights),
        photographs=head(photographs.features[rows]),
        photograph_names=tuple(1000 + target for target in targets.tolist()),
    )
    tensors = {"head.weight": head_layer.weight.detach(), "head.bias": head_layer.bias.detach()}
    return space, {**tensors, "names.vectors": vectors[: len(bank)]}, unseen


def new_adapter(decoder: Llama, seed: int) -> ImageBindLLMAdapter:
    """Return the untrained adapter: prefixes from N(0, 1), gates at zero."""
    torch.manual_seed(seed)
    adapter = ImageBindLLMAdapter(BRIDGE, num_layers=decoder.config.num_layers, num_heads=decoder.config.num_heads)
    nn.init.normal_(adapter.prefix_query)
    return adapter


def make_optimizer(adapter: ImageBindLLMAdapter) -> torch.optim.Optimizer:
    """AdamW; the gates learn twenty times as fast as the rest."""
    rest = [parameter for name, parameter in adapter.named_parameters() if name != "gates"]
    groups = [{"params": rest, "lr": 1e-3}, {"params": [adapter.gates], "lr": 2e-2, "weight_decay": 0.0}]
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


def answer_loss(decoder: Llama, adapter: ImageBindLLMAdapter, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the answer tokens; the head runs on those positions only."""
    dtype = decoder.tok_embeddings.weight.dtype
    prompts = adapter.prompts(batch.vectors)  # (B, L, 1, D)
    table = decoder.project_condition(prompts.to(dtype), gates=adapter.effective_gates())
    rows = torch.arange(len(batch.vectors))[:, None]
    positions = torch.arange(batch.token_ids.shape[1]).expand_as(batch.token_ids)
    hidden = decoder(batch.token_ids, positions, ShortCausalAttention(), ConditionView(table, rows))  # (B, T, D)
    targets = batch.targets[:, 1:]
    wanted = targets != -100
    return F.cross_entropy(decoder.logits(hidden[:, :-1][wanted]), targets[wanted])


def batch_source(maker: SampleMaker, seed: int) -> Callable[[int], Batch]:
    """Return a function from the step to its batch; pools are made on demand and depend on their number alone."""
    starts: list[int] = [0]

    @cache
    def pool(number: int) -> list[Batch]:
        return batches_of(maker.pool(number, POOL_SAMPLES), MAX_BATCH_TOKENS, random.Random(f"{seed}-order-{number}"))

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


def chat_answers(out: Path) -> list[tuple[str, list[int]]]:
    """Return plain questions with the base model's answers, made once and kept in `out`."""
    path = out / "chat.json"
    known: dict[str, list[int]] = dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    questions = plain_questions()
    if new := [question for question in questions if question not in known]:
        decoder = load_gguf_llama(decoder_file(), torch.bfloat16)
        answers = greedy_answers(decoder, load_gguf_tokenizer(decoder_file()), new, max_tokens=MAX_CHAT_TOKENS)
        known |= dict(zip(new, answers, strict=True))
        path.write_text(json.dumps(list(known.items())), encoding="utf-8")
    return [(question, known[question]) for question in questions]


def export(adapter: ImageBindLLMAdapter, encoder: dict[str, Tensor], names: list[str], folder: Path) -> None:
    """Write the served weights (bfloat16 bridge, float32 gates and head) and the names as one safetensors file."""
    trained = adapter.state_dict()
    tensors = {f"{ADAPTER_PREFIX}{key}": value.to(torch.bfloat16) for key, value in trained.items()}
    tensors[f"{ADAPTER_PREFIX}gates"] = trained["gates"].float()
    tensors |= {key: value.float() if key == "head.bias" else value.half() for key, value in encoder.items()}
    metadata = {"names": json.dumps(names, ensure_ascii=False)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "mini.safetensors", metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    space, encoder, unseen = build_space(arguments.data, arguments.out, arguments.seed)
    (arguments.out / "unseen.json").write_text(json.dumps(unseen) + "\n")
    chat = chat_answers(arguments.out)
    decoder = load_gguf_llama(decoder_file(), torch.bfloat16).requires_grad_(False)
    tokenizer = load_gguf_tokenizer(decoder_file()).with_template(CONDITIONED_TEMPLATE)
    batch_at = batch_source(SampleMaker(space, tokenizer, chat, arguments.seed), arguments.seed)
    adapter = new_adapter(decoder, arguments.seed)
    decoder.set_adapters(tuple(range(decoder.config.num_layers)), adapter.effective_gates(), num_tokens=1)
    loop = LoopConfig(num_steps=arguments.steps, max_minutes=arguments.minutes)
    run_loop(
        adapter,
        make_optimizer(adapter),
        lambda step: answer_loss(decoder, adapter, batch_at(step)),
        loop,
        arguments.out,
    )
    export(adapter, encoder, [name.text for name in space.bank], arguments.out)


if __name__ == "__main__":
    main()
