"""An adapter in training inside its frozen decoder: conditions with gradients, the loss of answers, released weights.

B rows, T tokens, L adapted layers, P adapter tokens, H heads, D decoder width.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from core.errors import ConfigError
from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.adapters.llama_adapter_v1 import StaticPromptAdapter
from models.adapters.llama_adapter_v2 import LlamaAdapterV2
from models.adapters.tuned_keys import TunedParts
from models.llama.condition import ConditionTable, ConditionView
from models.llama.model import Block, DenseCausalAttention, Llama
from training.instructions import IGNORED, Batch
from training.tuned_llama import load_released_tensors, released_tensors, tune, without_lora

TrainableAdapter = ImageBindLLMAdapter | StaticPromptAdapter | LlamaAdapterV2


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableSet:
    """Which parameters a phase trains: parts of the decoder, and the adapter with its gates or not."""

    parts: TunedParts = field(default_factory=TunedParts)
    adapter: bool = True


class AdapterTrainee(nn.Module):
    """Decoder, adapter and raw gates of one phase. `trained` holds what the phase changes, for loop and optimiser.

    Gates that no earlier phase opened start at zero. `bf16` computes under autocast; `recompute` drops activations of
    each block and computes them again in the backward pass.
    """

    def __init__(
        self,
        decoder: Llama,
        adapter: TrainableAdapter,
        phase: TrainableSet,
        *,
        bf16: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.bf16 = bf16
        self.layers = adapter.adapted_layers(decoder.config.num_layers)
        gates = torch.zeros(len(self.layers), decoder.config.num_heads, device=decoder.output.weight.device)
        decoder.set_adapters(self.layers, gates, num_tokens=adapter.num_tokens)
        self.tuned = tune(decoder, phase.parts)
        self.decoder, self.adapter = decoder, adapter.float().requires_grad_(phase.adapter)
        own = adapter.gates if isinstance(adapter, ImageBindLLMAdapter) else None
        # one parameter per layer, so that groups of layers can be trained apart
        self.gates = nn.ParameterList([] if own is not None else [nn.Parameter(row.clone()) for row in gates])
        self.gates.requires_grad_(phase.adapter)
        named = {f"decoder.{key}": value for key, value in self.tuned.items()}
        named |= {f"adapter.{key}": value for key, value in adapter.named_parameters() if value.requires_grad}
        named |= {f"gates.{i}": gate for i, gate in enumerate(self.gates) if gate.requires_grad}
        self.trained = nn.ParameterDict({key.replace(".", "/"): value for key, value in named.items()})
        if recompute:
            apply_activation_checkpointing(decoder, check_fn=lambda module: isinstance(module, Block))

    @property
    def takes_media(self) -> bool:
        """Whether pictures condition this adapter; the decoder keys of such files start with `llama.`."""
        return not isinstance(self.adapter, StaticPromptAdapter)

    def effective_gates(self) -> Tensor:
        """Return the gates `(L, H)` after tanh; differentiable."""
        if isinstance(self.adapter, ImageBindLLMAdapter):
            return self.adapter.effective_gates()
        return torch.stack(list(self.gates)).tanh()

    def condition(self, media: Tensor | None) -> ConditionView | None:
        """Return the condition of B rows of media, or of text alone, as the served adapter would give it."""
        adapter, mask = self.adapter, None
        if isinstance(adapter, StaticPromptAdapter):
            if media is not None:
                raise ConfigError("LLaMA-Adapter V1 and V2 chat take text only; leave pictures out of their data")
            if not self.layers:
                return None
            prompts = adapter.prompts()  # (1, L, P, D)
        elif isinstance(adapter, LlamaAdapterV2) and media is None:
            if not adapter.config.num_visual_layers:
                return None
            prompts, mask = adapter.static_prompts(), self._mask(1, with_image=False)
        elif media is None:
            return None
        elif isinstance(adapter, LlamaAdapterV2):
            tokens = media.view(len(media), -1, adapter.config.clip_width)  # (B, T, E)
            mask = self._mask(len(media), with_image=True)
            with torch.autocast(media.device.type, enabled=False):  # small, and its norms have no mixed kernels
                prompts = adapter.prompts(tokens)  # (B, L, P, D)
        else:
            with torch.autocast(media.device.type, enabled=False):
                prompts = adapter.prompts(media)  # (B, L, 1, D)
        with without_lora(self.decoder):
            table: ConditionTable = self.decoder.project_condition(prompts, gates=self.effective_gates(), mask=mask)
        rows = torch.arange(len(prompts), device=prompts.device)[:, None]  # (B or 1, 1)
        return ConditionView(table, rows)

    def _mask(self, num_rows: int, *, with_image: bool) -> Tensor | None:
        """Return `(L, R, P)`, True at real tokens, under early fusion."""
        assert isinstance(self.adapter, LlamaAdapterV2)
        counts = self.adapter.token_counts(with_image=with_image)
        if counts is None:
            return None
        longest = max(counts)
        real = torch.arange(longest) < torch.tensor(counts)[:, None]  # (L, P)
        return real[:, None].expand(-1, num_rows, -1).to(self.adapter.adapter_query.device)

    def loss(self, batch: Batch, media: Tensor | None) -> Tensor:
        """Return the mean cross-entropy of answer tokens in nats; `media` are the batch's `(B, ...)` embeddings."""
        device = self.decoder.output.weight.device
        autocast = torch.autocast(device.type, torch.bfloat16) if self.bf16 else nullcontext()
        tokens = batch.token_ids.to(device)
        with autocast:
            condition = self.condition(None if media is None else media.to(device))
            positions = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
            hidden = self.decoder(tokens, positions, DenseCausalAttention(), condition)[:, :-1]  # (B, T - 1, D)
            targets = batch.targets[:, 1:].to(device)
            asked = targets != IGNORED
            logits = self.decoder.output(hidden[asked])  # (answer tokens, V)
        return F.cross_entropy(logits.float(), targets[asked])

    def released(self, *, prefix: str) -> dict[str, Tensor]:
        """Return every tensor of the adapter file under its released name; decoder keys start with `prefix`."""
        config = self.decoder.config
        tensors = {f"{prefix}{key}": value for key, value in released_tensors(self.tuned, config).items()}
        if isinstance(self.adapter, ImageBindLLMAdapter):
            return tensors | self.adapter.to_reference(config.num_layers)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            tensors[f"{prefix}layers.{layer}.attention.gate"] = gate.detach().view(1, -1, 1, 1)
        return tensors | {_released_name(key): _rows(key, value) for key, value in self.adapter.state_dict().items()}

    def load_tuned(self, stored: dict[str, Tensor], *, prefix: str) -> None:
        """Go on from the tuned decoder tensors of an adapter file. Raises `ConfigError` when it lacks one."""
        found = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
        if missing := sorted(self.tuned.keys() - found.keys()):
            raise ConfigError(f"the adapter file lacks {', '.join(missing[:4])}: it was not fine-tuned this way")
        load_released_tensors(self.tuned, found, self.decoder.config)


def _released_name(key: str) -> str:
    """Map `visual_blocks.0.qkv.weight` to `visual_blocks.0.attn.qkv.weight` and `adapter_query` to its table."""
    if key in ("adapter_query", "visual_query"):
        return f"{key}.weight"
    for name, owner in (("qkv", "attn"), ("proj", "attn"), ("fc1", "mlp"), ("fc2", "mlp")):
        if key.startswith("visual_blocks.") and f".{name}." in key:
            return key.replace(f".{name}.", f".{owner}.{name}.")
    return key


def _rows(key: str, value: Tensor) -> Tensor:
    return value.flatten(0, 1) if key == "adapter_query" else value


def make_optimizer(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW as the references set it: betas (0.9, 0.95), weight decay on matrices only."""
    listed = list(parameters)
    matrices, vectors = [p for p in listed if p.ndim > 1], [p for p in listed if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    kept = [{**group, "lr": rate, "initial_lr": rate} for group in groups if group["params"]]
    return torch.optim.AdamW(kept, betas=(0.9, 0.95))


def save_adapter(trainee: AdapterTrainee, path: Path, *, prefix: str) -> None:
    """Write the adapter file as training checkpoints are laid out, which `bindchat convert` reads."""
    torch.save({"model": {key: value.contiguous() for key, value in trainee.released(prefix=prefix).items()}}, path)
