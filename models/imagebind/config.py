"""ImageBind as data: six towers, their stems and the state-dict paths of their parts (ImageBind, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TowerSize:
    """The size of one transformer."""

    width: int
    depth: int
    num_heads: int


@dataclass(frozen=True, slots=True)
class PatchStem:
    """A linear map of windows over every axis after the channels; an axis is time, height, width or samples.

    `weight`, `norm` and `positions` are state-dict paths; `stride` None means windows side by side; a `flat` weight is
    stored as a matrix.
    """

    channels: int
    kernel: tuple[int, ...]
    input_size: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    weight: str = "rgbt_stem.proj.weight"
    norm: str | None = "rgbt_stem.norm_layer"
    positions: str = "pos_embedding_helper.pos_embed"
    flat: bool = False

    @property
    def steps(self) -> tuple[int, ...]:
        return self.stride or self.kernel

    def grid(self, input_size: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many windows fit along each axis."""
        return tuple((n - k) // s + 1 for n, k, s in zip(input_size, self.kernel, self.steps, strict=True))


@dataclass(frozen=True, slots=True)
class TokenStem:
    """A token embedding with learned positions and a causal mask."""

    vocab_size: int
    context: int


@dataclass(frozen=True, slots=True)
class TowerSpec:
    """One modality: transformer, stem, head `(norm path, projection path)` and logit scale.

    `bias_kv` appends one learned key and value to every attention; `logit_scale` None leaves rows at unit norm.
    """

    size: TowerSize
    stem: PatchStem | TokenStem
    head: tuple[str, str] = ("0", "2")
    pre_norm: bool = False
    bias_kv: bool = True
    logit_scale: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBindConfig:
    """Every dimension of one ImageBind; the defaults are `imagebind_huge`."""

    embedding_width: int = 1024
    image_size: int = 224
    video_frames: int = 2
    vision_kernel: tuple[int, int, int] = (2, 14, 14)
    audio_kernel: int = 16
    audio_stride: int = 10
    num_mel_bins: int = 128
    num_mel_frames: int = 204
    depth_kernel: int = 16
    thermal_kernel: int = 16
    imu_kernel: int = 8
    imu_samples: int = 2000
    vocab_size: int = 49408
    context: int = 77
    vision: TowerSize = TowerSize(1280, 32, 16)
    text: TowerSize = TowerSize(1024, 24, 16)
    audio: TowerSize = TowerSize(768, 12, 12)
    depth: TowerSize = TowerSize(384, 12, 8)
    thermal: TowerSize = TowerSize(768, 12, 12)
    imu: TowerSize = TowerSize(512, 6, 8)

    def __post_init__(self) -> None:
        for name, spec in self.towers.items():
            if spec.size.width % spec.size.num_heads:
                raise ConfigError(f"{name} width {spec.size.width} must be a multiple of {spec.size.num_heads} heads")
            if isinstance(spec.stem, PatchStem) and min(spec.stem.grid(spec.stem.input_size)) < 1:
                raise ConfigError(f"{name} kernel {spec.stem.kernel} is larger than its input {spec.stem.input_size}")

    @property
    def towers(self) -> dict[str, TowerSpec]:
        """The six towers by their state-dict names."""
        square, mel = (self.image_size,) * 2, (self.num_mel_bins, self.num_mel_frames)
        clip = (self.video_frames, *square)
        # index 0 of the released vision stem is a module without parameters
        vision = PatchStem(3, self.vision_kernel, clip, weight="rgbt_stem.proj.1.weight", norm=None)
        audio = PatchStem(1, (self.audio_kernel,) * 2, mel, (self.audio_stride,) * 2)
        depth = PatchStem(
            1, (self.depth_kernel,) * 2, square, weight="depth_stem.proj.weight", norm="depth_stem.norm_layer"
        )
        thermal = PatchStem(1, (self.thermal_kernel,) * 2, square)
        imu = PatchStem(
            6,
            (self.imu_kernel,),
            (self.imu_samples,),
            weight="imu_stem.proj.weight",
            norm="imu_stem.norm_layer",
            positions="pos_embed",
            flat=True,
        )
        text = TokenStem(self.vocab_size, self.context)
        return {
            "vision": TowerSpec(self.vision, vision, pre_norm=True, bias_kv=False),
            "text": TowerSpec(self.text, text, head=("proj.0", "proj.1"), bias_kv=False, logit_scale=1 / 0.07),
            "audio": TowerSpec(self.audio, audio, logit_scale=20.0),
            "depth": TowerSpec(self.depth, depth, logit_scale=5.0),
            "thermal": TowerSpec(self.thermal, thermal, logit_scale=10.0),
            "imu": TowerSpec(self.imu, imu, head=("0", "3"), logit_scale=5.0),
        }
