"""The image tower arranged for speed sees what open_clip's sees."""

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import Tensor, nn

from guidance import clip_fast
from guidance.interrupt import interruptible

PLAIN = {"image_size": 24, "patch_size": 8, "width": 32, "layers": 3, "heads": 4, "mlp_ratio": 4.0}


def tower(**settings: object) -> nn.Module:
    """A small one, with norms and biases that do something."""
    torch.manual_seed(0)
    net = VisionTransformer(**{**PLAIN, "output_dim": 16, **settings})
    for layer in net.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
        if isinstance(layer, nn.MultiheadAttention):
            nn.init.normal_(layer.in_proj_bias, 0, 0.3)
            nn.init.normal_(layer.out_proj.bias, 0, 0.3)
    return net.eval().requires_grad_(False)


def vectors_and_gradient(net: nn.Module, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """The vectors of three views, and the gradient of a fixed random projection of them."""
    chance = torch.Generator().manual_seed(2)
    views = torch.randn(3, 3, 24, 24, generator=chance).requires_grad_()
    vectors = net(views.to(precision)).float()
    (vectors * torch.randn(vectors.shape, generator=chance)).sum().backward()
    return vectors.detach(), views.grad


KINDS = {
    "quick": {"act_layer": QuickGELU},
    "gelu": {},
    "scaled layers": {"ls_init_value": 0.3},
    "no norm before": {"no_ln_pre": True},
    "norm after the pool": {"final_ln_after_pool": True},
}


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_same_vectors_and_gradient(settings):
    published = tower(**settings)
    expected = vectors_and_gradient(published, torch.float32)
    fast = clip_fast.arrange(published, torch.float32)
    assert isinstance(fast, clip_fast.Tower)
    for ours, theirs in zip(vectors_and_gradient(fast, torch.float32), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("activation", [QuickGELU, nn.GELU])
def test_half_precision_pulls_the_same_way(activation):
    published = tower(act_layer=activation)
    expected = vectors_and_gradient(copy.deepcopy(published), torch.float32)
    fast = clip_fast.arrange(published, torch.bfloat16)
    for ours, theirs in zip(vectors_and_gradient(fast, torch.bfloat16), expected, strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    "published",
    [
        tower(pool_type="avg"),
        tower(attentional_pool=True, attn_pooler_heads=4, attn_pooler_queries=5),
        tower(block_type="custom"),
    ],
    ids=["mean of tokens", "attention pool", "other blocks"],
)
def test_other_towers_are_left_as_they_are(published):
    expected = vectors_and_gradient(published, torch.float32)
    fast = clip_fast.arrange(published, torch.float32)
    assert fast is published
    for ours, theirs in zip(vectors_and_gradient(fast, torch.float32), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def convolutional() -> nn.Module:
    """A small tower of convolutions, with norms that do something."""
    torch.manual_seed(0)
    net = TimmModel("test_efficientnet", embed_dim=16, image_size=24, pretrained=False)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.3)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 1.5)
    return net.eval().requires_grad_(False)


def test_norms_become_part_of_the_convolutions_before_them():
    published = convolutional()
    expected = vectors_and_gradient(published, torch.float32)
    fast = clip_fast.arrange(published, torch.float32)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules())
    for ours, theirs in zip(vectors_and_gradient(fast, torch.float32), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_convolutions_in_half_precision_pull_the_same_way():
    expected = vectors_and_gradient(convolutional(), torch.float32)
    fast = clip_fast.arrange(convolutional(), torch.bfloat16)
    assert any(isinstance(layer, clip_fast.Widened) for layer in fast.modules())
    for ours, theirs in zip(vectors_and_gradient(fast, torch.bfloat16), expected, strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99


def test_views_do_not_see_each_other():
    fast = clip_fast.arrange(tower(), torch.float32)
    views = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fast(views)[1:2], fast(views[1:2]))


def test_it_can_be_stopped_at_every_layer():
    fast = clip_fast.arrange(tower(act_layer=QuickGELU), torch.float32)
    views = torch.randn(2, 3, 24, 24).requires_grad_()
    checks = []
    with interruptible([SimpleNamespace(tower=fast)], lambda: checks.append(1)):
        vectors = fast(views)
        assert len(checks) > 8 * PLAIN["layers"]
        checks.clear()
        vectors.sum().backward()
        assert len(checks) > 8 * PLAIN["layers"]
