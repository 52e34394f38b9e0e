"""CLIP: words and pictures in one space, read as the model expects them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image as Picture
from torchvision.transforms.functional import to_tensor

from guidance import clip

POCKET = Path(__file__).parent.parent / "weights" / "clip"


@pytest.fixture(scope="module")
def tiny(tiny_clip: Path) -> clip.Clip:
    return clip.load(tiny_clip)


@pytest.fixture(scope="module")
def pocket() -> clip.Clip:
    return clip.load(POCKET)


@pytest.mark.parametrize("name", ["tiny", "pocket"])
def test_embeddings_have_unit_length_and_one_size(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    words = model.embed_text(["a fox", "snow"])
    views = model.embed_image(torch.rand(3, 3, model.side, model.side))
    assert words.shape[1] == views.shape[1]
    assert torch.allclose(words.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(views.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("name", ["tiny", "pocket"])
def test_the_picture_has_a_gradient_and_the_model_has_none(
    name: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    views = torch.rand(1, 3, model.side, model.side, requires_grad=True)
    (model.embed_image(views) @ model.embed_text(["a fox"]).T).sum().backward()
    assert views.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.model.parameters())


@pytest.mark.parametrize("name", ["tiny_clip", "pocket_folder"])
def test_a_picture_is_embedded_as_open_clip_would(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = POCKET if name == "pocket_folder" else request.getfixturevalue(name)
    model = clip.load(folder)
    # already of the model's size, so that only colours are prepared: resizing is ours by design
    pixels = np.random.default_rng(0).integers(0, 256, (model.side, model.side, 3), dtype=np.uint8)
    theirs, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    picture = Picture.fromarray(pixels)
    with torch.no_grad():
        expected = theirs.eval().encode_image(prepare(picture)[None], normalize=True)
        assert torch.allclose(model.embed_image(to_tensor(picture)[None]), expected, atol=1e-5)
        text = theirs.encode_text(
            open_clip.get_tokenizer(f"local-dir:{folder}")(["a fox"]), normalize=True
        )
    assert torch.allclose(model.embed_text(["a fox"]), text, atol=1e-5)


def test_a_views_embedding_does_not_depend_on_its_batch_mates(tiny: clip.Clip) -> None:
    views = torch.rand(4, 3, tiny.side, tiny.side)
    views[3] *= 100
    assert torch.allclose(tiny.embed_image(views)[:3], tiny.embed_image(views[:3]), atol=1e-5)


def test_a_wrong_quick_gelu_flag_is_refused(tiny_clip: Path) -> None:
    with pytest.raises(ValueError, match="quick_gelu=False, its row in the catalog says True"):
        clip.load(tiny_clip, quick_gelu=True)


def test_weights_of_another_clip_are_refused(tiny_clip: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_clip, tmp_path / "clip")
    config = json.loads((folder / clip.CONFIG).read_text())
    config["model_cfg"]["text_cfg"]["layers"] = 3
    (folder / clip.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"(?s)belong to another CLIP.*resblocks.2"):
        clip.load(folder)


def test_words_beyond_the_context_are_named(tiny: clip.Clip) -> None:
    assert tiny.unread("a red fox") == ""
    assert tiny.unread("very " * 40 + "last").endswith("very last")


@pytest.mark.parametrize("name", ["tiny", "pocket"])
@pytest.mark.parametrize("at_once", [2, 256])
def test_many_phrases_are_read_as_one_is(
    name: str, at_once: int, request: pytest.FixtureRequest
) -> None:
    """Also those whose words have the number that fills the rest of a line ("!" is 0)."""
    model = request.getfixturevalue(name)
    texts = ["a cat", "", "!", "wow! what a red bus!!!", "a house by the sea", "word " * 100]
    before = model.embed_text(texts)
    assert torch.allclose(model.embed_phrases(texts, at_once), before, atol=1e-5)
    assert torch.equal(model.embed_text(texts), before)  # it itself reads as far as ever


def test_bfloat16_points_the_same_way(tiny_clip: Path, tiny: clip.Clip) -> None:
    half = clip.load(tiny_clip, precision=torch.bfloat16)
    views = torch.rand(2, 3, tiny.side, tiny.side)
    assert torch.cosine_similarity(half.embed_image(views), tiny.embed_image(views)).min() > 0.99


def test_unrelated_words_and_pictures_are_measured(pocket: clip.Clip) -> None:
    words = pocket.unrelated_angle(pocket.embed_text(["a lighthouse"]))
    frame = torch.rand(1, 3, pocket.side, pocket.side)
    picture = pocket.unrelated_angle(pocket.embed_image(frame))
    assert 0.3 < words < 2.2
    assert 0.2 < picture < 2.2


def test_the_pocket_clip_knows_its_pictures(pocket: clip.Clip) -> None:
    from guidance.calibrate import UNRELATED, unrelated_pictures

    captions = json.loads(UNRELATED.with_suffix(".json").read_text())
    tiles = torch.nn.functional.interpolate(unrelated_pictures(), (pocket.side, pocket.side))
    scores = pocket.embed_image(tiles) @ pocket.embed_text(captions).T
    right = (scores.argmax(dim=1) == torch.arange(len(captions))).sum()
    assert right >= 12  # of 16; 1 by chance
