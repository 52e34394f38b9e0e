"""The recipe inside a picture: all it takes to make it again, and nothing about a person."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app import pipeline, recipe
from app.catalog import Kind
from app.errors import Refused
from app.images import MOST_RECIPE, read_recipe, save_png, to_pixels
from app.request import CHOICES, Guide, Request, Vector, make_request
from guidance.optimise import Step

SHA = "0" * 64
SETTLED = {"chunk": 2, "threads": 1, "precision": "float32"}


class Weights:
    """Where recipes learn of models: a device, and hashes that a test can change."""

    def __init__(self, **hashes: str) -> None:
        self.device, self._hashes = "cpu", hashes

    def hashes(self, name: str, kind: Kind | None = None) -> dict[str, str]:
        return {key: value for key, value in self._hashes.items() if key == f"{kind}_{name}"}


WEIGHTS = Weights(
    generator_pocket="a" * 64,
    clip_pocket="b" * 64,
    clip_other="c" * 64,
    sound_pocket="d" * 64,
)


def request(**given: Any) -> Request:
    return make_request({"prompt": "a red apple", "seed": 7, **SETTLED, **given})


def step(index: int) -> Step:
    image = torch.zeros(1, 3, 32, 32)
    return Step(index, True, image, {}, snapshot=lambda: None, settled=lambda: image)  # type: ignore[arg-type,return-value]


def test_a_picture_carries_what_made_it(tmp_path: Path, pocket_models: Any) -> None:
    asked = request(width=32, height=32, steps=1, views=2)
    (*_, last) = pipeline.run(asked, pocket_models)
    made = recipe.make_recipe(asked, pocket_models, last)
    path = save_png(tmp_path / "apple.png", to_pixels(last.settled()), made)
    found = read_recipe(path)
    assert recipe.read(found) == asked
    assert found["run"]["steps"] == 1
    assert {"device", "torch", "python", "platform"} < set(found["run"])
    assert found["models"] == recipe.hashes(asked, pocket_models)
    assert len(found["models"]) == 3  # generator, CLIP and draft network
    assert all(len(sha256) == 64 for sha256 in found["models"].values())


def test_it_names_inputs_by_hash_and_holds_no_path_and_no_user() -> None:
    asked = request(
        init={"sha256": SHA, "name": "beach.jpg"},
        embeddings=(Vector(sha256=SHA, space="pocket", name="sea.safetensors").model_dump(),),
        sounds=({"sha256": SHA, "name": "sea.wav"},),
    )
    text = json.dumps(recipe.make_recipe(asked, WEIGHTS, step(3)))
    assert SHA in text
    for private in (str(Path.home()), str(Path.cwd()), f"/{getpass.getuser()}"):
        assert private not in text


def test_only_the_weights_that_were_used_are_named() -> None:
    assert set(recipe.hashes(request(), WEIGHTS)) == {"generator_pocket", "clip_pocket"}
    heard = request(sounds=({"sha256": SHA},))
    assert set(recipe.hashes(heard, WEIGHTS)) == {
        "generator_pocket",
        "clip_pocket",
        "sound_pocket",
    }


TEXTS = st.text(max_size=50).map(lambda text: f"x{text}".replace("::", ""))


@given(
    prompt=TEXTS,
    before=TEXTS,
    seed=st.integers(0, 2**63 - 1),
    noise=st.floats(0, 1),
    steps=st.integers(1, 2000),
    optimiser=st.sampled_from(CHOICES["optimiser"]),
    augment=st.lists(st.sampled_from(CHOICES["augment"])).map(tuple),
    weight=st.floats(-20, 20),
)
def test_every_request_comes_back_as_it_was(weight: float, **fields: Any) -> None:
    picture = {"sha256": SHA, "weight": weight, "stop": abs(weight)}
    sound = {**picture, "start": abs(weight) / 3, "seconds": 1 + abs(weight)}
    asked = request(**fields, pictures=(picture,), sounds=(sound,))
    written = json.dumps(recipe.make_recipe(asked, WEIGHTS, step(0)))
    assert recipe.read(json.loads(written)) == asked


def test_the_largest_request_fits_into_a_picture(tmp_path: Path) -> None:
    wide = "\U0001f34e"  # four bytes
    picture = {"sha256": SHA, "name": wide * 200, "weight": -1.2345678901234567}
    asked = request(
        prompt=wide * 2000,
        negative=wide * 2000,
        before=wide * 2000,
        pictures=(picture,) * 16,
        embeddings=({**picture, "space": "ViT-B-32-laion400m"},) * 16,
        sounds=({**picture, "encoder": "wav2clip", "start": 12345.678901234567},) * 8,
        clips=tuple(Guide(name="ViT-B-32-laion400m").model_dump() for _ in range(4)),
        palette=("#d03020",) * 32,
        regularise={"palette": 1.0},
    )
    made = recipe.make_recipe(asked, WEIGHTS, step(0))
    path = save_png(tmp_path / "apples.png", to_pixels(step(0).image), made)
    assert recipe.read(read_recipe(path)) == asked
    assert len(json.dumps(made, ensure_ascii=False).encode()) <= MOST_RECIPE


def test_an_older_version_is_read() -> None:
    old = {**recipe.make_recipe(request(), WEIGHTS, step(0)), "synesthete": "0.0.9"}
    assert recipe.read(old) == request()


def test_an_older_version_that_does_not_fit_is_refused_with_both_versions() -> None:
    old = recipe.make_recipe(request(), WEIGHTS, step(0))
    old["synesthete"], old["request"]["zoom"] = "0.0.9", 1.1
    with pytest.raises(Refused, match=rf"0\.0\.9.*{recipe.VERSION}.*zoom"):
        recipe.read(old)


def test_a_newer_version_is_refused_with_both_versions() -> None:
    new = {**recipe.make_recipe(request(), WEIGHTS, step(0)), "synesthete": "99.1.0"}
    with pytest.raises(Refused, match=rf"99\.1\.0.*{recipe.VERSION}.*Update"):
        recipe.read(new)


@pytest.mark.parametrize(
    "version", [None, 1, "", "1", "1.x.0", "1.2", ["0.1.0"], "9" * 5000 + ".0.0"]
)
def test_a_recipe_without_a_version_is_refused(version: object) -> None:
    with pytest.raises(Refused, match="which version"):
        recipe.read({"synesthete": version, "request": {}})


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"request": None},
        {"request": "a red apple"},
        {"request": {"prompt": 7}},
        {"request": {"prompt": "x", "steps": "many"}},
        {"request": {"prompt": "x", "width": 1e9}},
        {"request": {"prompt": "x", "generator": "../../etc/passwd"}},
        {"request": {"prompt": "x", "init": {"sha256": "short"}}},
    ],
)
def test_what_is_no_request_is_refused_like_any_other(broken: dict[str, Any]) -> None:
    with pytest.raises(Refused) as error:
        recipe.read({"synesthete": recipe.VERSION, **broken})
    assert "\n" not in str(error.value)


def test_nothing_is_said_where_nothing_changed() -> None:
    made = recipe.make_recipe(request(), WEIGHTS, step(0))
    assert recipe.differences(made, request(), WEIGHTS) == []


def test_other_weights_and_another_machine_are_told() -> None:
    made = recipe.make_recipe(request(), WEIGHTS, step(0))
    made["run"]["torch"] = "1.0"
    others = Weights(generator_pocket="f" * 64, clip_pocket="b" * 64)
    small, large = recipe.differences(made, request(), others)
    assert "torch 1.0 then" in small
    assert "generator_pocket" in large
    assert "clip_pocket" not in large


@pytest.mark.parametrize("odd", [{"run": None, "models": None}, {"run": [], "models": "x"}])
def test_a_recipe_with_odd_trimmings_still_says_what_differs(odd: dict[str, Any]) -> None:
    made = {**recipe.make_recipe(request(), WEIGHTS, step(0)), **odd}
    assert len(recipe.differences(made, request(), WEIGHTS)) == 1
