"""Speed of the ImageBind-huge vision tower in bf16: `python -m benchmarks.imagebind_vision [--device cuda]`.

One run measures the bf16 matmul rate of the machine, the tower, and the same tower in float32 eager with
`nn.MultiheadAttention` over sequence-first tokens and a 3-D convolution, as the reference runs it. Weights are random.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.imagebind.config import ImageBindConfig, TowerSize
from models.imagebind.model import TRUNK_EPS, ImageBind

MLP_RATIO = 4


class EagerBlock(nn.Module):
    """One trunk block with PyTorch's own attention module, sequence first."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, num_heads)
        self.norm_1 = nn.LayerNorm(width, eps=TRUNK_EPS)
        self.norm_2 = nn.LayerNorm(width, eps=TRUNK_EPS)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, MLP_RATIO * width), "fc2": nn.Linear(MLP_RATIO * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm_2(x)))
        return x + self.mlp["fc2"](hidden)  # type: ignore[no-any-return]


class EagerVision(nn.Module):
    """The vision tower up to the head's projection, from the weights of an `ImageBind`."""

    def __init__(self, model: ImageBind) -> None:
        super().__init__()
        size = model.config.vision
        self.stem, self.head = model.modality_preprocessors["vision"], model.modality_heads["vision"]
        self.pre_norm = model.modality_trunks["vision"].get_submodule("pre_transformer_layer")
        self.blocks = nn.ModuleList(EagerBlock(size.width, size.num_heads) for _ in range(size.depth))
        self.blocks.load_state_dict(model.modality_trunks["vision"].get_submodule("blocks").state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Return `(B, E)` before norm of images `(B, 3, H, W)`."""
        stem = self.stem
        clips = images.unsqueeze(2).repeat(1, 1, 2, 1, 1)  # (B, 3, 2, H, W)
        weight = stem.get_parameter("rgbt_stem.proj.1.weight")
        tokens = nn.functional.conv3d(clips, weight, stride=weight.shape[2:]).flatten(2).mT  # (B, N, D)
        tokens = torch.cat((stem.get_parameter("cls_token").expand(len(images), -1, -1), tokens), dim=1)
        tokens = self.pre_norm(tokens + stem.get_parameter("pos_embedding_helper.pos_embed")).transpose(0, 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[0])  # type: ignore[no-any-return]


def vision_config(num_blocks: int) -> ImageBindConfig:
    """Return `imagebind_huge` with the other towers shrunk to nothing."""
    none = TowerSize(8, 1, 1)
    huge = ImageBindConfig(vocab_size=8, text=none, audio=none, depth=none, thermal=none, imu=none)
    return replace(huge, vision=replace(huge.vision, depth=num_blocks))


def tower_flops(config: ImageBindConfig, batch_size: int) -> float:
    """Return the multiply-adds, times two, of the matrix products of one batch of images."""
    width, num_blocks = config.vision.width, config.vision.depth
    num_tokens = (config.image_size // config.vision_kernel[1]) ** 2 + 1
    linear = (4 + 2 * MLP_RATIO) * width * width * num_tokens
    attention = 2 * num_tokens * num_tokens * width
    return 2.0 * batch_size * num_blocks * (linear + attention)


def median_s(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median wall time of `run`, after one call that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def matmul_rate(device: torch.device, num_rows: int, width: int) -> float:
    """Return the best bf16 FLOP/s over the tower's own shapes and one large square product."""
    best = 0.0
    for m, k, n in ((num_rows, width, 4 * width), (num_rows, 4 * width, width), (4096, 4096, 4096)):
        left, right = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in ((m, k), (n, k)))
        best = max(best, 2.0 * m * k * n / median_s(lambda a=left, b=right: a @ b.T, device, 5))  # type: ignore[misc]
    return best


def main() -> None:
    """Print the matmul ceiling, the tower's rate and fraction of it, and the ratio to float32 eager."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=32, help="fewer blocks make a shorter run at the same rate")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-eager", action="store_true", help="skip the float32 reference")
    args = parser.parse_args()
    device, config = torch.device(args.device), vision_config(args.blocks)
    with torch.inference_mode(), device:
        torch.manual_seed(0)
        model = ImageBind(config).eval()
        images = torch.randn(args.batch_size, 3, config.image_size, config.image_size)
        eager_s = 0.0
        if not args.without_eager:
            reference = EagerVision(model).eval()
            eager_s = median_s(lambda: reference(images), device, args.repeats)
            del reference
        model, images = model.to(torch.bfloat16), images.to(torch.bfloat16)
        num_rows = args.batch_size * ((config.image_size // config.vision_kernel[1]) ** 2 + 1)
        before = matmul_rate(device, num_rows, config.vision.width)
        tower_s = median_s(lambda: model.embed("vision", images), device, args.repeats)
        ceiling = max(before, matmul_rate(device, num_rows, config.vision.width))
    rate = tower_flops(config, args.batch_size) / tower_s
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, batch {args.batch_size}")
    print(f"bf16 matmul ceiling  {ceiling / 1e12:8.3f} TFLOP/s")
    print(f"vision tower bf16    {rate / 1e12:8.3f} TFLOP/s  {rate / ceiling:.1%} of the ceiling")
    print(f"                     {tower_s:8.3f} s  {args.batch_size / tower_s:.2f} images/s ({args.blocks} blocks)")
    if eager_s:
        print(f"float32 eager        {eager_s:8.3f} s  bf16 is {eager_s / tower_s:.2f} x as fast")


if __name__ == "__main__":
    main()
