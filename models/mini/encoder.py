"""The picture encoder of `mini`: frozen EfficientNet-Lite2, a trained head, and the blend of class names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn

from core.errors import CheckpointError
from core.types import DecodedMedia, Embedding, FloatArray, Modality
from models.devices import map_rows
from models.mini.framing import frame_thing
from models.mini.fused_network import FusedEfficientNet
from models.mini.space import BlendedNames, blend_names

IMAGE_SIZE, THUMBNAIL_SIZE = 260, 224  # pixels of the network's input
THUMBNAIL_BELOW = 130  # pixels of the short side; so small a picture is magnified to the smaller input only
CHANNEL_MEAN, CHANNEL_STD = 0.498, 0.502


def preprocess_image(pixels: np.ndarray, size: int | None = None) -> Tensor:
    """Return `(H, W, 3)` uint8 as `(3, size, size)` float32: short side to `size` (bicubic), centre cropped.

    A thing on a plain ground is framed first. Unless it is given, `size` is 224 for thumbnails and 260 for others.
    """
    image = Image.fromarray(frame_thing(pixels))
    if size is None:
        size = THUMBNAIL_SIZE if min(image.size) < THUMBNAIL_BELOW else IMAGE_SIZE
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    cropped = resized.crop((left, top, left + size, top + size))
    array = np.asarray(cropped, dtype=np.float32) / 255.0
    return torch.from_numpy((array - CHANNEL_MEAN) / CHANNEL_STD).permute(2, 0, 1).contiguous()


class FeatureNetwork:
    """EfficientNet-Lite2 trained on ImageNet: B pictures `(3, S, S)`, each of its own size, to features `(B, 1280)`."""

    def __init__(self, weights: Path) -> None:
        network = EfficientNet.from_name("efficientnet-lite2")
        try:
            network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{weights} does not hold EfficientNet-Lite2: {error}") from error
        network.eval().requires_grad_(False)
        self._fused = FusedEfficientNet(network)
        self._class_weights = network._fc.weight.detach(), network._fc.bias.detach()

    def __call__(self, pictures: Sequence[Tensor]) -> Tensor:
        return self._fused(pictures)

    def look(self, pictures: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return features `(F,)` and activation `(h, w)` of each picture `(3, S, S)`.

        The activation is high where the likeliest ImageNet class is seen: the maps, whose means are the features,
        weighted by its row of the frozen classifier (Zhou et al. 2016).
        """
        return map_rows(self._look, pictures)

    def _look(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        maps = self._fused.maps(picture[None])[0]  # (F, h, w)
        features = maps.mean(dim=(1, 2))
        rows, biases = self._class_weights
        likeliest = rows[int((rows @ features + biases).argmax())]  # (F,)
        return features, torch.einsum("fhw,f->hw", maps, likeliest)

    def class_weights(self) -> tuple[Tensor, Tensor]:
        """Return the frozen ImageNet classifier: `(1000, 1280)` and `(1000,)`."""
        return self._class_weights


class NameHead(nn.Module):
    """Probabilities of ImageNet's frozen classes and the learnt names, and the blend of their names.

    `extra` are names learnt from photographs, in one softmax with ImageNet's. `drawn` are names learnt from drawings:
    its first output says how surely the picture is one, the others share that much of the probability.
    `name_vectors` `(K, E)` are in the order ImageNet, `extra`, `drawn`.
    """

    name_vectors: Tensor

    def __init__(
        self, imagenet: tuple[Tensor, Tensor], extra: nn.Linear, name_vectors: Tensor, drawn: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.drawn = drawn
        weight, bias = imagenet
        self.classifier = nn.Linear(weight.shape[1], weight.shape[0] + extra.out_features)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.cat((weight, extra.weight)))
            self.classifier.bias.copy_(torch.cat((bias, extra.bias)))
        self.register_buffer("name_vectors", name_vectors)  # (K, E)

    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probability of every name."""
        probabilities: Tensor = self.classifier(features).softmax(dim=-1)  # (B, K)
        if self.drawn is not None:
            logits = self.drawn(features)
            is_drawing = logits[:, :1].sigmoid()  # (B, 1)
            drawings = is_drawing * logits[:, 1:].softmax(dim=-1)
            probabilities = torch.cat(((1 - is_drawing) * probabilities, drawings), dim=-1)  # (B, K)
        return probabilities

    def forward(self, features: Tensor) -> BlendedNames:
        return blend_names(self.probabilities(features), self.name_vectors)


@dataclass(frozen=True, slots=True)
class Eye:
    """What names pictures of one input size, and when to trust it.

    `sigmoid(slope * raw + bias)` is the chance that the nearest name is right.
    """

    head: NameHead
    slope: float
    bias: float


@dataclass(frozen=True, slots=True)
class Look:
    """What one pass tells of a picture: its name, `features` `(F,)`, the `probabilities` `(K,)` of the names.

    `activation` `(h, w)` is that of `FeatureNetwork.look`.
    """

    features: FloatArray
    activation: FloatArray
    probabilities: FloatArray
    nearest: int
    confidence: float


class MiniImageEncoder:
    """`core.types.ModalityEncoder` for pictures; rows of unit norm in the 384-d MiniLM space.

    `eyes` are by input size, all over the same names. The confidence is calibrated.
    """

    modality = Modality.IMAGE

    def __init__(
        self, features: FeatureNetwork, eyes: Mapping[int, Eye], names: Sequence[str], encoder_id: str
    ) -> None:
        self.encoder_id = encoder_id
        self.names = tuple(names)
        self._features = features
        self._eyes = dict(eyes)
        for eye in self._eyes.values():
            eye.head.eval().requires_grad_(False)

    @property
    def name_vectors(self) -> FloatArray:
        """The unit embeddings `(K, 384)` of `names`."""
        return self._eyes[IMAGE_SIZE].head.name_vectors.numpy()

    def preprocess(self, media: DecodedMedia) -> Tensor:
        """Return one `(3, S, S)` float32 picture of one of the input sizes."""
        return preprocess_image(media.array)

    def encode(self, batch: Sequence[Tensor]) -> list[Embedding]:
        """Return one embedding with its confidence per picture; rows do not depend on their batch.

        Its features are what `look` takes, but of a thumbnail there are none: experts look at those more closely.
        """
        with torch.inference_mode():
            seen = self._features.look(batch)
            blended = self._blended(batch, torch.stack([features for features, _ in seen]))
            return [
                Embedding(
                    vector=vector.numpy(),
                    encoder_id=self.encoder_id,
                    confidence=float(confidence),
                    features=tuple(part.numpy() for part in parts) if picture.shape[-1] == IMAGE_SIZE else (),
                )
                for picture, parts, vector, confidence in zip(
                    batch, seen, blended.vectors, blended.confidence, strict=True
                )
            ]

    def look(self, picture: Tensor, known: Sequence[FloatArray] = ()) -> Look:
        """Return what one preprocessed picture is called, where that is seen, and the features that say so.

        `known` are the features of its embedding: with them it need not go through the network again.
        """
        with torch.inference_mode():
            parts = map(torch.tensor, known) if known else self._features.look([picture])[0]
            features, activation = parts  # (F,), (h, w)
            eye = self._eyes[picture.shape[-1]]
            blended = eye.head(features[None])
            raw = eye.slope * float(blended.confidence[0]) + eye.bias
            return Look(
                features=features.numpy(),
                activation=activation.numpy(),
                probabilities=eye.head.probabilities(features[None])[0].numpy(),
                nearest=int(blended.nearest[0, 0]),
                confidence=1 / (1 + math.exp(-raw)),
            )

    def name_probabilities(self, batch: Sequence[Tensor]) -> Tensor:
        """Return the probabilities `(B, K)` of `names` for preprocessed pictures."""
        with torch.inference_mode():
            return self._probabilities(batch, self._features(batch))

    def blend(self, batch: Sequence[Tensor]) -> BlendedNames:
        """Return the vectors, calibrated confidences and nearest names of a batch; `nearest` indexes `names`."""
        with torch.inference_mode():
            return self._blended(batch, self._features(batch))

    def _blended(self, batch: Sequence[Tensor], features: Tensor) -> BlendedNames:
        eyes = [self._eyes[picture.shape[-1]] for picture in batch]
        blended = blend_names(self._probabilities(batch, features), eyes[0].head.name_vectors)
        slopes, biases = (torch.tensor([getattr(eye, part) for eye in eyes]) for part in ("slope", "bias"))
        return replace(blended, confidence=torch.sigmoid(slopes * blended.confidence + biases))

    def _probabilities(self, batch: Sequence[Tensor], features: Tensor) -> Tensor:
        sizes = torch.tensor([picture.shape[-1] for picture in batch])
        found = torch.empty(len(batch), len(self.names))
        for size, eye in self._eyes.items():
            found[sizes == size] = eye.head.probabilities(features[sizes == size])
        return found
