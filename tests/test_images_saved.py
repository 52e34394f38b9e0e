"""Recipes travel in the PNGs that are saved, and come back whole or not at all; previews."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from app import images
from app.errors import Refused
from app.images import open_picture, preview_jpeg, read_recipe, save_jpeg, save_png
from tests.pictures import PHOTO, as_file, chunk, code_of, edits, png, repeatable

# ---- recipes -------------------------------------------------------------------------------------

RECIPE = {"request": {"prompt": "ein roter Apfel 🍎 | «x»::-0.5", "seed": 2**63 - 1}, "ema": 0.9}


def test_a_picture_and_its_recipe_come_back_the_same(tmp_path: Path) -> None:
    path = save_png(tmp_path / "apple.png", PHOTO, RECIPE)
    assert path == tmp_path / "apple.png"
    assert np.array_equal(open_picture(path).pixels, PHOTO)
    assert read_recipe(str(path)) == RECIPE


def test_other_programs_can_read_the_recipe_too(tmp_path: Path) -> None:
    with Picture.open(save_png(tmp_path / "apple.png", PHOTO, RECIPE)) as picture:
        picture.load()
        assert json.loads(picture.text["synesthete"]) == RECIPE
        assert len(picture.text) == 2  # the recipe and the line that says who made it


@pytest.mark.parametrize("recipe", [RECIPE, None])
def test_a_picture_says_that_a_model_made_it(tmp_path: Path, recipe: dict[str, Any] | None) -> None:
    with Picture.open(save_png(tmp_path / "a.png", PHOTO, recipe)) as picture:
        assert picture.info["xmp"].count(b"digitalsourcetype/trainedAlgorithmicMedia") == 1
    with Picture.open(io.BytesIO(preview_jpeg(PHOTO))) as preview:
        assert b"trainedAlgorithmicMedia" in preview.info["xmp"]


def test_saving_again_takes_another_name(tmp_path: Path) -> None:
    first = save_png(tmp_path / "a.png", PHOTO, RECIPE)
    second = save_png(tmp_path / "a.png", 255 - PHOTO, {})
    assert (first.name, second.name) == ("a.png", "a-2.png")
    assert read_recipe(first) == RECIPE
    assert read_recipe(second) == {}


texts = st.text(st.characters(), max_size=30)  # with NUL, and surrogates that stand alone
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    """Give `save(content)`: a file that is written over each time."""
    path = tmp_path_factory.mktemp("recipes") / "picture.png"

    def write(content: bytes) -> Path:
        path.write_bytes(content)
        return path

    return write


def with_text(data: bytes, *more: bytes) -> bytes:
    """A small PNG with an iTXt chunk of these bytes."""
    return png(20, 20, chunk(b"iTXt", data), *more)


@settings(repeatable, max_examples=60)  # each one waits for the disk
@given(recipe=st.dictionaries(texts, values, max_size=6))
def test_any_recipe_comes_back_the_same(
    recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_png(tmp_path_factory.getbasetemp() / "any.png", PHOTO, recipe)
    assert read_recipe(path) == recipe
    path.unlink()


HEAD = b"synesthete\0\0\0\0\0"
BAD_RECIPES = {
    "none": (as_file(PHOTO), "recipe.none"),
    "a JPEG": (as_file(PHOTO, "JPEG"), "recipe.format"),
    "an empty file": (b"", "recipe.format"),
    "two": (with_text(HEAD + b"{}", chunk(b"iTXt", HEAD + b"{}")), "recipe.many"),
    "no JSON": (with_text(HEAD + b"{'a': 1}"), "recipe.damaged"),
    "half": (with_text(HEAD + b'{"a": 1'), "recipe.damaged"),
    "no object": (with_text(HEAD + b"[1, 2]"), "recipe.damaged"),
    "NaN": (with_text(HEAD + b'{"a": NaN}'), "recipe.damaged"),
    "no UTF-8": (with_text(HEAD + b'{"a": "\xff"}'), "recipe.damaged"),
    "too long": (with_text(HEAD + json.dumps({"a": "x" * 65_536}).encode()), "recipe.damaged"),
    "too deep": (with_text(HEAD + b'{"a":' + b"[" * 60_000), "recipe.damaged"),
    "a bomb": (with_text(b"synesthete\0\x01\0\0\0" + zlib.compress(bytes(9**7))), "recipe.damaged"),
    "only a keyword": (with_text(b"synesthete\0"), "recipe.damaged"),
    "too many chunks": (
        with_text(HEAD + b"{}", chunk(b"tEXt", b"") * images.MOST_CHUNKS),
        "recipe.damaged",
    ),
    "another keyword": (with_text(b"synesthete2\0\0\0\0\0{}"), "recipe.none"),
    "a wrong checksum": (with_text(HEAD + b"{}").replace(b"{}", b"[]"), "recipe.none"),
    "cut in the middle": (with_text(HEAD + b'{"a": 123}')[:60], "recipe.none"),
}


@pytest.mark.parametrize(("content", "code"), BAD_RECIPES.values(), ids=list(BAD_RECIPES))
def test_a_recipe_that_is_not_whole_is_refused(
    content: bytes, code: str, save: Callable[[bytes], Path]
) -> None:
    with pytest.raises(Refused) as refused:
        read_recipe(save(content))
    assert refused.value.code == code
    assert str(refused.value).endswith(".")


def test_a_recipe_is_read_without_decoding_the_picture(save: Callable[[bytes], Path]) -> None:
    bomb = png(50_000, 50_000, chunk(b"iTXt", HEAD + b'{"seed": 7}'))
    assert read_recipe(save(bomb)) == {"seed": 7}


def test_a_recipe_beyond_all_limits_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 65,536 bytes"):
        save_png(tmp_path / "a.png", PHOTO, {"prompt": "x" * 70_000})
    assert os.listdir(tmp_path) == []


@repeatable
@given(data=st.binary(max_size=80), keyword=st.booleans())
def test_any_text_in_a_png_is_a_recipe_or_refused(
    data: bytes, keyword: bool, save: Callable[[bytes], Path]
) -> None:
    path = save(with_text(b"synesthete\0" * keyword + data))
    code = code_of(lambda: read_recipe(path))
    assert isinstance(read_recipe(path), dict) if code is None else code.startswith("recipe.")


@repeatable
@given(changes=edits, cut=st.floats(0, 1))
def test_a_spoiled_picture_never_gives_another_recipe(
    changes: list[tuple[float, int]], cut: float, save: Callable[[bytes], Path]
) -> None:
    content = bytearray(with_text(HEAD + json.dumps(RECIPE).encode()))
    for at, value in changes:
        content[int(at * len(content))] = value
    path = save(bytes(content[: int(len(content) * cut)]))
    code = code_of(lambda: read_recipe(path))
    assert read_recipe(path) == RECIPE if code is None else code.startswith("recipe.")


# ---- previews ------------------------------------------------------------------------------------


def test_a_preview_is_small_and_written_over_the_last(tmp_path: Path) -> None:
    path = tmp_path / "preview.jpg"
    save_jpeg(path, np.zeros((1024, 512, 3), np.uint8))
    assert save_jpeg(path, np.full((1024, 512, 3), 255, np.uint8)) == path
    with Picture.open(path) as picture:
        assert picture.size == (256, 512)
        assert picture.getpixel((9, 9)) == (255, 255, 255)
    assert os.listdir(tmp_path) == ["preview.jpg"]
    with Picture.open(io.BytesIO(preview_jpeg(PHOTO))) as small:
        assert small.size == (40, 24)  # never enlarged
