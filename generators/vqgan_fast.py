"""The published decoder, arranged for speed: the same weights, the same picture.

Its weights are frozen, so no layer but a normalisation needs its input again to find a gradient;
nothing else is kept. Measured in `benchmarks/README.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules import model as published
from torch import Tensor, nn


def arrange(decoder: nn.Module, post_quant_conv: nn.Module, precision: torch.dtype) -> nn.Module:
    """Return one module that maps quantised cells to a picture, in `precision`, channels last.

    The decoder given is taken over: its weights are shared and cast in place. Any other network
    than the published one is cast and left as it is. Gradients reach the cells, not the weights.
    """
    layers = [post_quant_conv, decoder]
    if isinstance(decoder, published.Decoder) and isinstance(post_quant_conv, nn.Conv2d):
        layers = [Conv(post_quant_conv), *_layers(decoder)]
    return nn.Sequential(*layers).to(precision).to(memory_format=torch.channels_last)


def _layers(decoder: Any) -> Iterator[nn.Module]:
    """The layers of the published decoder in the order in which they are used."""
    yield Conv(decoder.conv_in)
    yield Residual(decoder.mid.block_1)
    yield Attention(decoder.mid.attn_1)
    yield Residual(decoder.mid.block_2)
    for stage in reversed(decoder.up):
        for index, block in enumerate(stage.block):
            yield Residual(block)
            if len(stage.attn):
                yield Attention(stage.attn[index])
        if hasattr(stage, "upsample"):
            yield Upsample(stage.upsample.conv)
    yield NormSilu(decoder.norm_out)
    yield Conv(decoder.conv_out)


class _Frozen(torch.autograd.Function):
    """A linear layer that is not trained: torch's own would keep its input for the weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layer: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.adjoint = adjoint
        return layer(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.adjoint(gradient), None, None


class Conv(nn.Module):
    """A convolution of stride 1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Share the weights of `conv`."""
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.padding = conv.kernel_size[0] // 2

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h, w)."""
        return _Frozen.apply(x, self._layer, self._adjoint)

    def _layer(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.padding)

    def _adjoint(self, gradient: Tensor) -> Tensor:
        return F.conv_transpose2d(gradient, self.weight, padding=self.padding)


class Upsample(nn.Module):
    """Repeat every pixel 2 x 2 and convolve 3 x 3, as one transposed convolution at the low size.

    Of the nine pixels that the published convolution reads, at most four differ; their weights are
    summed beforehand, which leaves 4/9 of the work.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        """Sum the weights of `conv`, (d, c, 3, 3), to (c, d, 4, 4)."""
        super().__init__()
        kernel = F.conv2d(
            conv.weight.flip(-1, -2).flatten(0, 1)[:, None],
            torch.ones(1, 1, 2, 2).to(conv.weight),
            padding=1,
        )
        summed = kernel.unflatten(0, conv.weight.shape[:2]).squeeze(2).transpose(0, 1)
        self.weight = nn.Parameter(summed, requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, 2 h, 2 w)."""
        return _Frozen.apply(x, self._layer, self._adjoint)

    def _layer(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, stride=2, padding=1)

    def _adjoint(self, gradient: Tensor) -> Tensor:
        return F.conv2d(gradient, self.weight, stride=2, padding=1)


class _NormSilu(torch.autograd.Function):
    """silu(group_norm(x)), keeping x alone.

    The norm is n = a x + b, with a and b of each channel. With d the gradient at n, that at x is
    a d + e x + f, with e and f of each group: two sums and two passes. The backward pass of torch's
    own norm takes several times as long on a CPU in half precision and channels last.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        b, c, h, w = x.shape
        normal, mean, rstd = torch.native_group_norm(x, weight, bias, b, c, h * w, groups, eps)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return F.silu(normal, inplace=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, mean, rstd, weight, bias = ctx.saved_tensors
        channels, groups = len(weight), mean.shape[1]
        weight, mean, rstd = weight.float(), mean.float(), rstd.float()

        def spread(values: Tensor) -> Tensor:  # (b, g) -> (b, c)
            return values.repeat_interleave(channels // groups, dim=1)

        def fit(values: Tensor) -> Tensor:  # (b, c) -> as x has it
            return values.to(x.dtype)[:, :, None, None]

        def mean_of(values: Tensor) -> Tensor:  # (b, c, h, w) -> (b, g), weighted
            each = values.mean(dim=(2, 3)).float() * weight
            return each.unflatten(1, (groups, -1)).mean(dim=2)

        a = spread(rstd) * weight
        normal = torch.addcmul(fit(bias.float() - spread(mean) * a), x, fit(a))
        d = torch.ops.aten.silu_backward(gradient, normal)
        level = mean_of(d)
        e = (level * mean - mean_of(d * x)) * rstd**3
        f = -e * mean - level * rstd
        dx = torch.addcmul(fit(spread(f)), x, fit(spread(e))).addcmul_(d, fit(a))
        return dx, None, None, None, None


class NormSilu(nn.Module):
    """Group normalisation, then x sigmoid(x)."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        """Share the weights of `norm`."""
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps = norm.num_groups, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> the same shape."""
        return _NormSilu.apply(x, self.weight, self.bias, self.groups, self.eps)


class Residual(nn.Module):
    """The published ResnetBlock without time and dropout, which a VQGAN does not use."""

    def __init__(self, block: Any) -> None:
        """Share the weights of `block`."""
        super().__init__()
        self.first = nn.Sequential(NormSilu(block.norm1), Conv(block.conv1))
        self.second = nn.Sequential(NormSilu(block.norm2), Conv(block.conv2))
        shortcut = getattr(block, "nin_shortcut", getattr(block, "conv_shortcut", None))
        self.shortcut = Conv(shortcut) if shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, d, h, w)."""
        return self.second(self.first(x)).add_(self.shortcut(x))


class Attention(nn.Module):
    """The published AttnBlock: every pixel looks at every pixel, with one head."""

    def __init__(self, block: Any) -> None:
        """Share the weights of `block`."""
        super().__init__()
        self.norm = block.norm
        self.q, self.k, self.v = Conv(block.q), Conv(block.k), Conv(block.v)
        self.out = Conv(block.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> the same shape."""
        normal = self.norm(x)
        q, k, v = (part(normal).flatten(2).mT[:, None] for part in (self.q, self.k, self.v))
        seen = F.scaled_dot_product_attention(q, k, v)  # (b, 1, h w, c)
        return x + self.out(seen[:, 0].mT.unflatten(2, x.shape[2:]))
