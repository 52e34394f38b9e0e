"""Wav2CLIP: any sound becomes vectors in the space of OpenAI's ViT-B/32.

Wu, Seetharaman, Kumar and Bello, "Wav2CLIP: Learning Robust Audio Representations from CLIP",
arXiv 2110.11499. The layers and keys are the published ones, the code is ours: an 18-layer residual
network (He et al., arXiv 1512.03385) looks at a spectrogram, and two linear layers turn what it
sees into the CLIP's numbers.

The published code standardises a spectrogram by the mean and deviation of everything it is given
at once, so that a window alone and the same window among others differ. Here each window is
standardised by itself, which is what the published code does with a single sound.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from guidance.audio import Wave, cut
from guidance.clip import Embedding

RATE, SPACE = 16_000, "ViT-B-32-openai"
WEIGHTS = "model.safetensors"
WINDOW, STRIDE = 10.0, 5.0  # seconds; it was trained on ten

_FFT, _HOP = 512, 353  # samples
_FLOOR = 1e-7  # of power, below which all is the same silence
_WIDTHS = (64, 128, 256, 512)  # channels of the four stages
_CHUNK = 8  # windows at a time


class Block(nn.Module):
    """Two convolutions added to their input."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        """`before` channels in, `width` out, at every `stride`-th place."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or before != width:
            shrink = nn.Conv2d(before, width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(b, before, h, w) -> (b, width, h / stride, w / stride)."""
        change = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.downsample(x) + self.bn2(self.conv2(change)))


class Spectrogram(nn.Module):
    """The power of each pitch at each moment."""

    window: Tensor

    def __init__(self) -> None:
        """The window is stored beside the weights, as in the published file."""
        super().__init__()
        self.register_buffer("window", torch.hann_window(_FFT))

    def forward(self, waves: Tensor) -> Tensor:
        """(b, samples) -> (b, 257, 1 + samples // 353)."""
        half = _FFT // 2
        padded = F.pad(waves[:, None], (half, half), mode="reflect")[:, 0]
        heard = torch.stft(
            padded, _FFT, _HOP, window=self.window, center=False, return_complex=True
        )
        return heard.abs().square()


class Tower(nn.Module):
    """A residual network of 18 layers that sees a spectrogram as a grey picture."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.spectrogram = Spectrogram()
        self.conv1 = nn.Conv2d(1, _WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], stride=1)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], stride=2)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], stride=2)
        self.layer4 = _stage(_WIDTHS[2], _WIDTHS[3], stride=2)

    def forward(self, waves: Tensor) -> Tensor:
        """(b, samples) -> (b, 512)."""
        seen = standardised(torch.log(self.spectrogram(waves) + _FLOOR))[:, None]
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(seen))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def _stage(before: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(before, width, stride), Block(width, width, 1))


def standardised(spectrograms: Tensor) -> Tensor:
    """(b, pitches, moments) -> the same: of each its own mean 0 and deviation 1.

    One that is the same everywhere, like silence, becomes 0.
    """
    mean = spectrograms.mean(dim=(1, 2), keepdim=True)
    spread = spectrograms.std(dim=(1, 2), keepdim=True)
    return (spectrograms - mean) / (spread + 1e-9)


class Turn(nn.Module):
    """From what the tower sees to the CLIP's numbers."""

    def __init__(self) -> None:
        """Random weights; between the two lies a ReLU, and a dropout while it was trained."""
        super().__init__()
        layers = (nn.Linear(512, 512), nn.ReLU(), nn.Identity(), nn.Linear(512, 512))
        self.sequential = nn.Sequential(*layers)

    def forward(self, seen: Tensor) -> Tensor:
        """(b, 512) -> (b, 512)."""
        return self.sequential(seen)


class Network(nn.Module):
    """Both parts, under the names that the published file has for them."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.audio_encoder, self.audio_transform = Tower(), Turn()

    def forward(self, waves: Tensor) -> Embedding:
        """(b, samples), -1..1 -> (b, 512), unit length."""
        return F.normalize(self.audio_transform(self.audio_encoder(waves)), dim=-1)


class Wav2Clip:
    """A frozen Wav2CLIP: an `AudioEncoder` (see `guidance.audio`)."""

    rate, space = RATE, SPACE

    def __init__(self, network: Network) -> None:
        """Freeze a network."""
        self.network = network.eval().requires_grad_(False)

    def windows(self, wave: Wave) -> list[tuple[float, float]]:
        """Start and end in seconds of each window; a short sound is one window."""
        return cut(len(wave) / self.rate, WINDOW, STRIDE)

    @torch.no_grad()
    def embed(self, wave: Wave) -> Embedding:
        """(samples,) -> (windows, 512), unit length; no window changes another's.

        A sound shorter than a window is not filled up: the network takes any length.
        """
        device = self.network.audio_encoder.conv1.weight.device
        return torch.cat([self.network(some.to(device)) for some in self._cut(wave).split(_CHUNK)])

    def recall(self, heard: Embedding) -> Embedding:
        """The same: it was trained with sounds of every kind and knows no list of them."""
        return heard

    def _cut(self, wave: Wave) -> Tensor:
        """(windows, samples); less than the reflection at both ends needs ends in silence."""
        length = min(len(wave), round(WINDOW * self.rate))
        starts = [
            min(round(start * self.rate), len(wave) - length) for start, _ in self.windows(wave)
        ]
        pieces = torch.stack([torch.from_numpy(wave[at : at + length]) for at in starts])
        return F.pad(pieces, (0, max(0, _FFT - length)))


def load(path: Path, device: str = "cpu") -> Wav2Clip:
    """Read a folder with `model.safetensors`, the published weights without their counters.

    Raises ValueError when the weights are another network's.
    """
    network = Network()
    expected = {key for key in network.state_dict() if not key.endswith("num_batches_tracked")}
    weights = {key: value.float() for key, value in load_file(path / WEIGHTS).items()}
    odd = sorted(expected ^ set(weights))
    if odd:
        raise ValueError(f"The weights in {path} are another network's: {', '.join(odd[:3])}.")
    try:
        network.load_state_dict(weights, strict=False)  # the counters alone are missing
    except RuntimeError as error:
        raise ValueError(f"The weights in {path} are another network's: {error}") from error
    return Wav2Clip(network.to(device))
