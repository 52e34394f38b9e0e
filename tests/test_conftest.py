"""The helpers in conftest.py keep their own promises."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from safetensors.torch import load_file
from torch import Tensor

Pixels = NDArray[np.uint8]
Golden = Callable[[str, Pixels], None]


@pytest.fixture
def golden_folder(tmp_path: Path) -> Path:
    """A folder of our own, so that the real pictures stay as they are."""
    return tmp_path / "golden"


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """False, unless a test asks for True."""
    return getattr(request, "param", False)


@pytest.fixture
def grey() -> Pixels:
    return np.full((8, 8, 3), 100, np.uint8)


def _keep(grey: Pixels, folder: Path) -> None:
    folder.mkdir()
    Picture.fromarray(grey).save(folder / "grey.png")


@pytest.mark.parametrize("update_golden", [True], indirect=True)
def test_updating_writes_the_golden_picture(
    golden: Golden, golden_folder: Path, grey: Pixels
) -> None:
    golden("grey", grey)
    assert np.array_equal(np.asarray(Picture.open(golden_folder / "grey.png")), grey)


def test_a_missing_golden_picture_fails(golden: Golden, grey: Pixels) -> None:
    with pytest.raises(AssertionError, match="No golden picture"):
        golden("grey", grey)


def test_two_grey_levels_are_forgiven_and_three_are_not(
    golden: Golden, golden_folder: Path, grey: Pixels
) -> None:
    _keep(grey, golden_folder)
    for level in (98, 102):
        grey[3, 4, 1] = level
        golden("grey", grey)
    grey[3, 4, 1] = 103
    with pytest.raises(AssertionError, match="3 at most"):
        golden("grey", grey)


def test_on_average_one_pixel_may_be_far_away(
    golden: Golden, golden_folder: Path, grey: Pixels
) -> None:
    _keep(grey, golden_folder)
    grey[3, 4] = 200
    golden("grey", grey, average=2)
    with pytest.raises(AssertionError, match=r"1\.6 grey levels away"):
        golden("grey", grey, average=1.5)


def test_another_size_is_another_picture(golden: Golden, golden_folder: Path, grey: Pixels) -> None:
    _keep(grey, golden_folder)
    with pytest.raises(AssertionError, match="grey levels"):
        golden("grey", grey[:4])


def test_the_network_is_unplugged_and_this_machine_is_not() -> None:
    with pytest.raises(OSError, match="offline"):
        socket.create_connection(("example.org", 80), timeout=1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()


def test_checkerboard_is_a_picture(checkerboard: Tensor) -> None:
    assert checkerboard.shape == (1, 3, 64, 64)
    assert checkerboard.min() == 0
    assert checkerboard.max() == 1


def test_tiny_clip_is_a_model_of_open_clip(tiny_clip: Path) -> None:
    name = f"local-dir:{tiny_clip}"
    model, _, _ = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(["a red apple", "a blue boat"])
    words, views = model.encode_text(tokens), model.encode_image(torch.rand(2, 3, 32, 32))
    assert words.shape == views.shape == (2, 32)
    assert not torch.allclose(words[0], words[1])


def test_tiny_vqgan_has_the_published_names(tiny_vqgan: Path) -> None:
    weights = load_file(tiny_vqgan / "model.safetensors")
    parts = {name.partition(".")[0] for name in weights}
    assert parts == {"encoder", "decoder", "quantize", "quant_conv", "post_quant_conv"}
    assert weights["quantize.embedding.weight"].shape == (64, 32)
