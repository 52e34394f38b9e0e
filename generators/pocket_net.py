"""The pocket VQGAN's own network: no normalisation, sub-pixel in and out.

GroupNorm at a small width throws a picture's flat colours away; without it, and with the finest
pixels folded into channels (Shi et al., arXiv 1609.05158), a network of a few million numbers
learns flat colour at once and runs fast on a CPU.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


class Residual(nn.Module):
    """Two convolutions whose result is added to their input; at birth they add nothing."""

    def __init__(self, width: int) -> None:
        """`width` channels in and out."""
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, h, w) -> the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class Encoder(nn.Sequential):
    """(b, 3, h, w) in -1..1 -> (b, d, h / 8, w / 8), unbounded."""

    def __init__(self, widths: tuple[int, int, int], embed_dim: int) -> None:
        """`widths` of the three resolutions (1/2, 1/4, 1/8); `embed_dim` numbers a cell."""
        fine, middle, coarse = widths
        super().__init__(
            nn.PixelUnshuffle(2),
            _conv(12, fine),
            Residual(fine),
            _conv(fine, middle, stride=2),
            Residual(middle),
            _conv(middle, coarse, stride=2),
            Residual(coarse),
            Residual(coarse),
            Residual(coarse),
            nn.Conv2d(coarse, embed_dim, 1),
        )


class Decoder(nn.Sequential):
    """(b, d, h / 8, w / 8) -> (b, 3, h, w), about -1..1."""

    def __init__(self, widths: tuple[int, int, int], embed_dim: int) -> None:
        """As `Encoder`, run backwards."""
        fine, middle, coarse = widths
        super().__init__(
            _conv(embed_dim, coarse),
            Residual(coarse),
            Residual(coarse),
            Residual(coarse),
            Residual(coarse),
            nn.Upsample(scale_factor=2),
            _conv(coarse, middle),
            Residual(middle),
            Residual(middle),
            nn.Upsample(scale_factor=2),
            _conv(middle, fine),
            Residual(fine),
            Residual(fine),
            nn.ReLU(),
            _conv(fine, 12),
            nn.PixelShuffle(2),
        )
