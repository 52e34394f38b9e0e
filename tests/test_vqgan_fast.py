"""The decoder arranged for speed draws what the published one draws."""

import contextlib
import copy
import io
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules import model as published
from torch import Tensor, nn

from generators import pocket_net, vqgan_fast
from guidance.interrupt import interruptible

CELLS = 16


@pytest.fixture
def decoder() -> nn.Module:
    """The published network, thin, with norms that do something."""
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()):
        net = published.Decoder(
            ch=32,
            out_ch=3,
            ch_mult=(1, 2, 2),
            num_res_blocks=1,
            attn_resolutions=(8,),
            in_channels=3,
            resolution=32,
            z_channels=CELLS,
        )
    for norm in (layer for layer in net.modules() if isinstance(layer, nn.GroupNorm)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
    return net.eval().requires_grad_(False)


@pytest.fixture
def post_quant_conv() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(CELLS, CELLS, 1).requires_grad_(False)


def picture_and_gradient(net: nn.Module, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The picture, and the gradient of a fixed random projection of it."""
    cells = cells.clone().requires_grad_()
    picture = net(cells)
    direction = torch.randn(picture.shape, generator=torch.Generator().manual_seed(2))
    (picture * direction.to(picture)).sum().backward()
    return picture.detach().float(), cells.grad.float()


def cells(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("shape", [(1, CELLS, 8, 8), (1, CELLS, 4, 7), (2, CELLS, 3, 2)])
def test_same_picture_and_gradient(decoder, post_quant_conv, shape):
    expected = picture_and_gradient(nn.Sequential(post_quant_conv, decoder), cells(*shape))
    fast = vqgan_fast.arrange(decoder, post_quant_conv, torch.float32)
    found = picture_and_gradient(fast, cells(*shape))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_half_precision_pulls_the_same_way(decoder, post_quant_conv):
    z = cells(1, CELLS, 8, 8)
    expected = picture_and_gradient(nn.Sequential(post_quant_conv, decoder), z)
    fast = vqgan_fast.arrange(copy.deepcopy(decoder), post_quant_conv, torch.bfloat16)
    found = picture_and_gradient(fast, z.bfloat16())
    for ours, theirs in zip(found, expected, strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99


def test_upsampling_is_repeating_and_convolving():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 4, 6)
    expected = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(vqgan_fast.Upsample(conv)(x), expected)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_norm_and_silu_have_the_gradient_of_the_two(mean):
    torch.manual_seed(0)
    norm = nn.GroupNorm(4, 8, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = (torch.randn(2, 8, 5, 3) + mean).requires_grad_()
    direction = torch.randn_like(x)
    (expected,) = torch.autograd.grad(F.silu(norm(x)), x, direction)
    (found,) = torch.autograd.grad(vqgan_fast.NormSilu(norm)(x), x, direction)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_keeps_less_than_half_for_the_gradient(decoder, post_quant_conv):
    def kept(net: nn.Module) -> int:
        sizes: dict[int, int] = {}  # by address: one tensor kept twice takes its memory once

        def note(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        weights = {weight.data_ptr() for weight in net.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            picture = net(cells(1, CELLS, 8, 8).requires_grad_())
        assert picture.requires_grad
        return sum(size for address, size in sizes.items() if address not in weights)

    plain = kept(nn.Sequential(post_quant_conv, decoder))
    assert kept(vqgan_fast.arrange(decoder, post_quant_conv, torch.float32)) < plain / 2


def test_weights_are_shared_not_copied(decoder, post_quant_conv):
    fast = vqgan_fast.arrange(decoder, post_quant_conv, torch.bfloat16)
    ours = {weight.data_ptr() for weight in fast.parameters()}
    theirs = {name: weight.data_ptr() for name, weight in decoder.named_parameters()}
    alone = {name for name, address in theirs.items() if address not in ours}
    assert alone == {f"up.{level}.upsample.conv.weight" for level in (1, 2)}  # these are summed


def test_it_can_be_stopped_at_every_layer(decoder, post_quant_conv):
    fast = vqgan_fast.arrange(decoder, post_quant_conv, torch.float32)
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in decoder.modules())
    checks = []
    with interruptible([SimpleNamespace(decoder=fast)], lambda: checks.append(1)):
        picture = fast(cells(1, CELLS, 2, 2).requires_grad_())
        assert len(checks) > convolutions
        checks.clear()
        picture.sum().backward()
        assert len(checks) > convolutions


def test_another_network_is_left_as_it_is():
    torch.manual_seed(0)
    pocket = pocket_net.Decoder((8, 8, 8), 4)
    expected = picture_and_gradient(pocket, cells(1, 4, 3, 3))
    fast = vqgan_fast.arrange(pocket, nn.Identity(), torch.float32)
    for ours, theirs in zip(picture_and_gradient(fast, cells(1, 4, 3, 3)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
