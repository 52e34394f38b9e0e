"""open_clip's image tower, arranged for speed: the same weights, the same vectors.

Measured in `benchmarks/README.md`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU as PublishedQuickGELU
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def arrange(tower: nn.Module, precision: torch.dtype) -> nn.Module:
    """Return the tower in `precision`, channels last.

    The tower given is taken over: its weights are shared, folded and cast in place. One that is no
    plain vision transformer keeps its form; its batch norms become part of the convolutions before
    them. Gradients reach the views, not the weights.
    """
    fold_norms(tower)
    cast = tower.to(precision).to(memory_format=torch.channels_last)
    if _is_plain(cast):
        return Tower(cast)
    if precision != torch.float32 and not next(cast.parameters()).is_cuda:
        widen_depthwise(cast)
    return cast


def fold_norms(net: nn.Module) -> None:
    """Make each batch norm that follows a convolution part of it, in place.

    A frozen norm only scales and shifts. timm's norms carry the activation after them, which stays
    where the norm was.
    """
    children = list(net.named_children())
    for (name, conv), (after, norm) in itertools.pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(net, name, fuse_conv_bn_eval(conv, norm))
            setattr(net, after, getattr(norm, "act", nn.Identity()))
    for _, child in children:
        fold_norms(child)


def widen_depthwise(net: nn.Module) -> None:
    """Run the depthwise convolutions of a half-precision net in full precision, in place.

    On a CPU the way back through one takes about four times as long in bfloat16.
    """
    for name, child in net.named_children():
        if isinstance(child, nn.Conv2d) and child.groups > 1:
            setattr(net, name, Widened(child.float()))
        else:
            widen_depthwise(child)


class Widened(nn.Module):
    """A layer of full precision among others of half."""

    def __init__(self, layer: nn.Module) -> None:
        """Share the weights of `layer`."""
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer does, in the precision of x."""
        return self.layer(x.float()).to(x.dtype)


def _is_plain(tower: Any) -> bool:
    """Whether it is CLIP's own vision transformer, whose vector is that of its class token."""
    return (
        isinstance(tower, VisionTransformer)
        and tower.attn_pool is None
        and tower.pool_type == "tok"
        and not tower.output_tokens
        and all(type(block) is ResidualAttentionBlock for block in tower.transformer.resblocks)
    )


class Tower(nn.Module):
    """CLIP's vision transformer. Dosovitskiy et al., arXiv 2010.11929; Radford et al., 2021."""

    def __init__(self, tower: Any) -> None:
        """Share the weights of `tower`."""
        super().__init__()
        self.patch = tower.patch_size[0]
        self.patches = _linear(tower.conv1.weight.flatten(1), None)
        self.token, self.positions = tower.class_embedding, tower.positional_embedding
        self.before, self.after, self.proj = tower.ln_pre, tower.ln_post, tower.proj
        self.blocks = nn.ModuleList(Block(block) for block in tower.transformer.resblocks)

    def forward(self, views: Tensor) -> Tensor:
        """(n, 3, s, s), normalised -> (n, d)."""
        x = self.patches(self._cut(views))  # (n, cells, width)
        token = self.token.expand(len(x), 1, -1)
        x = self.before(torch.cat((token, x), dim=1) + self.positions)
        for block in self.blocks[:-1]:
            x = block(x, len(self.positions))
        x = self.blocks[-1](x, 1)  # what the other tokens would become, nobody reads
        return self.after(x[:, 0]) @ self.proj

    def _cut(self, views: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, cells, 3 patch patch).

        The strided convolution of the published tower does the same, but its gradient takes about
        ten times as long on a CPU.
        """
        side = views.shape[-1] // self.patch
        cells = views.unflatten(3, (side, self.patch)).unflatten(2, (side, self.patch))
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class Block(nn.Module):
    """Attention and a perceptron, each added to what comes in."""

    def __init__(self, block: Any) -> None:
        """Share the weights of `block`."""
        super().__init__()
        self.norm_1, self.attention, self.scale_1 = block.ln_1, Attention(block.attn), block.ls_1
        self.norm_2, self.scale_2 = block.ln_2, block.ls_2
        quick = isinstance(block.mlp.gelu, PublishedQuickGELU)
        gelu = QuickGELU() if quick else block.mlp.gelu
        self.mlp = nn.Sequential(block.mlp.c_fc, gelu, block.mlp.c_proj)

    def forward(self, x: Tensor, wanted: int) -> Tensor:
        """(n, tokens, width) -> (n, wanted, width): what becomes of the first tokens."""
        x = x[:, :wanted] + self.scale_1(self.attention(self.norm_1(x), wanted))
        return x + self.scale_2(self.mlp(self.norm_2(x)))


class Attention(nn.Module):
    """Several heads; their number and scale are the published ones."""

    def __init__(self, published: Any) -> None:
        """Share the weights of `published`, with the queries apart from keys and values."""
        super().__init__()
        weight, bias, width = published.in_proj_weight, published.in_proj_bias, published.embed_dim
        self.heads = published.num_heads
        self.queries = _linear(weight[:width], bias[:width])
        self.keys_values = _linear(weight[width:], bias[width:])
        self.out = _linear(published.out_proj.weight, published.out_proj.bias)

    def forward(self, x: Tensor, wanted: int) -> Tensor:
        """(n, tokens, width) -> (n, wanted, width): what the first tokens see in all."""
        q = self.queries(x[:, :wanted]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.keys_values(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, (n, heads, tokens, d) each.

    On a CPU, and for the few tokens of a view, torch's fused kernel has a backward pass several
    times as slow as the plain formula.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v)
    products = torch.baddbmm(
        q.new_zeros(()), q.flatten(0, 1), k.flatten(0, 1).mT, beta=0, alpha=q.shape[-1] ** -0.5
    )
    return (products.softmax(dim=-1) @ v.flatten(0, 1)).unflatten(0, q.shape[:2])


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        steep = 1.702 * x
        ctx.save_for_backward(steep)
        return F.silu(steep).div_(1.702)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (steep,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradient, steep)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), by way of torch's fused x sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return _QuickGELU.apply(x)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A layer around weights that exist already."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
