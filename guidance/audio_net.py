"""The pocket sound encoder: what is heard in two seconds, as a direction in a CLIP's space.

A log-mel spectrogram is a picture of a sound, so the network is one for pictures with one colour
(EfficientNet-Lite0, as in the pocket CLIP); what it finds is turned into the CLIP's own numbers.
"""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models import efficientnet
from torch import Tensor, nn

from guidance.audio import Wave, cut
from guidance.clip import Embedding
from guidance.weights import fill

RATE = 16_000  # Hz
WINDOW, STRIDE = 2.0, 1.0  # seconds: how long a window is, how far the next one begins
TOWER = "tf_efficientnet_lite0"
CONFIG, WEIGHTS = "config.json", "model.safetensors"

_FFT, _HOP, _MELS = 512, 160, 64
_LOWEST, _HIGHEST = 50.0, 7_800.0  # Hz
_FLOOR = 1e-6  # of a window's loudest cell: what is 60 dB below it is not heard
_CHUNK = 4  # windows at a time
_SPEEDS = (0.7, 0.85, 1.0, 1.18, 1.4)  # at which each is heard: another dog is larger or smaller
_HEAT = 0.02  # of what is recalled: a cosine of .05 more is twelve times as likely


class Network(nn.Module):
    """Windows become directions; `goals`, (labels, width), are those of the sounds it knows."""

    filters: Tensor
    goals: Tensor

    def __init__(self, width: int, labels: int, tower: str = TOWER) -> None:
        """Random weights; `width` numbers a direction, `tower` one of timm's EfficientNets."""
        super().__init__()
        self.tower = getattr(efficientnet, tower)(pretrained=False, num_classes=0, in_chans=1)
        self.speak = nn.Linear(self.tower.num_features, width)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("goals", F.normalize(torch.randn(labels, width), dim=-1))

    def forward(self, waves: Tensor) -> Tensor:
        """(n, samples), -1..1 -> (n, width), unit length."""
        return self.name(self.look(waves))

    def name(self, seen: Tensor) -> Tensor:
        """(n, 1, mels, frames), as `look` shows it -> (n, width), unit length."""
        return F.normalize(self.speak(self.tower(seen)).float(), dim=-1)

    def recall(self, heard: Tensor) -> Tensor:
        """(n, width) -> (n, width): the known sounds, each as likely as it is near.

        One step of an associative memory (Ramsauer et al., arXiv 2008.02217): between two animals
        lies no animal, and a draft of it would be half of each.
        """
        return F.normalize((heard @ self.goals.T / _HEAT).softmax(dim=-1) @ self.goals, dim=-1)

    def look(self, waves: Tensor) -> Tensor:
        """(n, samples) -> (n, 1, mels, frames): log power, each window standardised by itself.

        So loudness does not count, nor what is in the next window.
        """
        bell = torch.hann_window(_FFT, device=waves.device)
        waves = F.pad(waves[:, None], (_FFT // 2, _FFT // 2), mode="reflect")[:, 0]
        power = torch.stft(waves, _FFT, _HOP, window=bell, center=False, return_complex=True)
        mels = self.filters @ power.abs().square()
        loudest = mels.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        seen = (mels / loudest).clamp(min=_FLOOR).log()
        mean, spread = seen.mean(dim=(1, 2), keepdim=True), seen.std(dim=(1, 2), keepdim=True)
        return ((seen - mean) / spread.clamp(min=0.1))[:, None]


def retune(waves: Tensor, speed: float) -> Tensor:
    """(n, samples) -> the same number: faster and higher above 1, slower and lower below.

    As a tape would; of what becomes longer the middle is kept, after what is shorter comes silence.
    """
    if speed == 1.0:
        return waves
    length = waves.shape[-1]
    played = F.interpolate(waves[:, None], round(length / speed), mode="linear")[:, 0]
    left = max(0, (played.shape[-1] - length) // 2)
    played = played[:, left : left + length]
    return F.pad(played, (0, length - played.shape[-1]))


def mel_filters() -> Tensor:
    """(mels, bins): triangles evenly spaced on the mel scale (O'Shaughnessy 1987)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (_LOWEST, _HIGHEST))
    edges = 700 * (10 ** (torch.linspace(low, high, _MELS + 2) / 2595) - 1)
    bins = torch.linspace(0, RATE / 2, _FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


class Ear:
    """A frozen sound encoder: an `AudioEncoder` (see `guidance.audio`)."""

    rate = RATE

    def __init__(self, network: Network, *, space: str) -> None:
        """Freeze a network. `space` names the CLIP whose directions it has learned."""
        self.network, self.space = network.eval().requires_grad_(False), space

    def windows(self, wave: Wave) -> list[tuple[float, float]]:
        """Start and end in seconds of each window; a short sound is one window."""
        return cut(len(wave) / self.rate, WINDOW, STRIDE)

    @torch.no_grad()
    def embed(self, wave: Wave) -> Embedding:
        """(samples,) -> (windows, d), unit length: the mean over five speeds.

        No window changes another's.
        """
        return torch.cat([self._hear(piece) for piece in self._cut(wave).split(_CHUNK)])

    def _hear(self, waves: Tensor) -> Embedding:
        heard = [self.network(retune(waves, speed)) for speed in _SPEEDS]
        return F.normalize(torch.stack(heard).mean(dim=0), dim=-1)

    @torch.no_grad()
    def recall(self, heard: Embedding) -> Embedding:
        """(n, d) -> (n, d): what of the known sounds these directions most likely are."""
        return self.network.recall(heard)

    def _cut(self, wave: Wave) -> Tensor:
        """(windows, samples): each window whole; a sound shorter than one ends in silence."""
        length = round(WINDOW * self.rate)
        starts = [round(start * self.rate) for start, _ in self.windows(wave)]
        pieces = [torch.from_numpy(wave[start : start + length]) for start in starts]
        whole = torch.stack([F.pad(piece, (0, length - len(piece))) for piece in pieces])
        return whole.to(self._device)

    @cached_property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def load(path: Path, device: str = "cpu") -> Ear:
    """Read a folder with `config.json` and `model.safetensors`, as `training.sound` writes it.

    Raises ValueError when the weights do not fit.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    network = Network(config["width"], config["labels"], config["tower"])
    fill(network, path / WEIGHTS)
    return Ear(network.to(device), space=config["space"])
