"""The joint space of `mini`: a picture is the probability-weighted mean of the embeddings of its class names.

Convex combination of semantic embeddings (ConSE, Norouzi et al. 2014, equation 3) over ImageNet's classes and the
classes of the trained head. Letters: B batch, K names, E embedding, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_NAMES_BLENDED = 10


@dataclass(frozen=True, slots=True)
class BlendedNames:
    """`vectors` `(B, E)` unit rows; `confidence` `(B,)` in [0, 1]; `nearest` `(B, K)` name indices, best first."""

    vectors: Tensor
    confidence: Tensor
    nearest: Tensor


def blend_names(probabilities: Tensor, name_vectors: Tensor, *, num_blended: int = NUM_NAMES_BLENDED) -> BlendedNames:
    """Blend the unit `name_vectors` `(K, E)` of the likeliest classes by their `probabilities` `(B, K)`.

    The confidence is how much of the unnormalised mean points along the nearest name: probability spread over
    unrelated names lowers it, probability spread over near-synonyms does not.
    """
    weights, classes = probabilities.topk(num_blended, dim=-1)  # (B, num_blended)
    mean = torch.einsum("bk,bke->be", weights, name_vectors[classes])  # (B, E)
    similarity = mean @ name_vectors.T  # (B, K)
    confidence = similarity.amax(dim=-1).clamp(0.0, 1.0)
    return BlendedNames(F.normalize(mean, dim=-1), confidence, similarity.argsort(dim=-1, descending=True))
