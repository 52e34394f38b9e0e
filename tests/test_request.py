"""A request is checked once, at the door, with a sentence for everything that cannot be."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refused
from app.request import CHOICES, QUALITIES, Request, make_request, read_request

FOX = {"prompt": "a fox"}
HASH = "0" * 64


def test_a_prompt_is_enough() -> None:
    request = make_request(FOX)
    assert request.prompt == "a fox"
    assert request.steps == QUALITIES["normal"]["steps"]


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_quality_fills_in_what_was_not_given(quality: str) -> None:
    request = make_request({**FOX, "steps": 7}, quality)
    assert request.steps == 7
    assert request.views == QUALITIES[quality]["views"]


def test_two_requests_without_a_seed_differ_and_seed_zero_stays_zero() -> None:
    assert make_request(FOX).seed != make_request(FOX).seed
    assert make_request({**FOX, "seed": 0}).seed == 0


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"prompt": ""}, "prompt.empty"),
        ({"prompt": " | "}, "prompt.empty"),
        ({"prompt": "a" * 2001}, "prompt.long"),
        ({"prompt": "a::1e400"}, "prompt.weight"),
        ({"prompt": "|".join("a" * 17)}, "prompt.many"),
        ({"negative": "a::1e9"}, "prompt.weight"),
        ({"steps": 0}, "request.steps"),
        ({"steps": -5}, "request.steps"),
        ({"steps": 10**9}, "request.steps"),
        ({"steps": 3.7}, "request.steps"),
        ({"steps": True}, "request.steps"),
        ({"steps": "12"}, "request.steps"),
        ({"steps": None}, "request.steps"),
        ({"steps": [1]}, "request.steps"),
        ({"width": 16}, "request.width"),
        ({"height": 8192}, "request.height"),
        ({"width": -64}, "request.width"),
        ({"seed": -1}, "request.seed"),
        ({"seed": 2**63}, "request.seed"),
        ({"step_size": 0.0}, "request.step_size"),
        ({"step_size": -1.0}, "request.step_size"),
        ({"step_size": 1e6}, "request.step_size"),
        ({"step_size": math.nan}, "request.step_size"),
        ({"noise": math.inf}, "request.noise"),
        ({"noise": math.nan}, "request.noise"),
        ({"views": 0}, "request.views"),
        ({"views": 10_000}, "request.views"),
        ({"ema": 1.0}, "request.ema"),
        ({"generator": "nothing"}, "request.generator"),
        ({"generator": "../../etc/passwd"}, "request.generator"),
        ({"generator": "Pocket"}, "request.generator"),
        ({"optimiser": "magic"}, "request.optimiser"),
        ({"augment": ("Af", "Zz")}, "request.augment"),
        ({"clips": ({"name": "nothing"},)}, "request.clips"),
        ({"clips": ()}, "request.clips"),
        ({"palette": ("red",)}, "request.palette"),
        ({"palette": ("#ff0000",)}, "request.whole"),
        ({"regularise": {"palette": 1.0}}, "request.whole"),
        ({"regularise": {"smoothness": -1.0}}, "request.regularise.smoothness"),
        ({"distance": "directional"}, "request.whole"),
        ({"init_noise": 0.5}, "request.whole"),
        ({"init": {"sha256": "x"}}, "request.init.sha256"),
        ({"precision": "float16"}, "request.precision"),
        ({"strange": 1}, "request.strange"),
        ({"sounds": ({"sha256": "x"},)}, "request.sounds.0.sha256"),
        ({"sounds": ({"sha256": HASH, "encoder": "nothing"},)}, "request.sounds.0.encoder"),
        ({"sounds": ({"sha256": HASH, "start": -1.0},)}, "request.sounds.0.start"),
        ({"sounds": ({"sha256": HASH, "start": math.nan},)}, "request.sounds.0.start"),
        ({"sounds": ({"sha256": HASH, "seconds": 0.0},)}, "request.sounds.0.seconds"),
        ({"sounds": ({"sha256": HASH, "seconds": 121.0},)}, "request.sounds.0.seconds"),
        ({"sounds": ({"sha256": HASH, "weight": 21.0},)}, "request.sounds.0.weight"),
        ({"sounds": ({"sha256": HASH, "weight": math.inf},)}, "request.sounds.0.weight"),
        ({"sounds": ({"sha256": HASH, "stop": -1.0},)}, "request.sounds.0.stop"),
        ({"sounds": ({"sha256": HASH, "name": "x" * 201},)}, "request.sounds.0.name"),
        ({"sounds": ({"sha256": HASH},) * 9}, "request.sounds"),
        ({"prompt": "", "sounds": ({"sha256": HASH, "weight": 0.0},)}, "prompt.empty"),
        (
            {"distance": "directional", "init": {"sha256": HASH}, "sounds": ({"sha256": HASH},)},
            "request.whole",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(given: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        make_request({**FOX, **given})
    assert refused.value.code == code
    assert "\n" not in str(refused.value)


def test_an_unknown_quality_lists_what_exists() -> None:
    with pytest.raises(Refused, match=r"No quality called 'great'. We have: draft, normal, best."):
        make_request(FOX, "great")


@pytest.mark.parametrize(
    "field", ["start", "generator", "optimiser", "schedule", "method", "distance"]
)
def test_an_unknown_name_lists_what_exists(field: str) -> None:
    with pytest.raises(Refused, match=rf"No {field} called 'x'. We have: {CHOICES[field][0]}"):
        make_request({**FOX, field: "x"})


def test_an_unknown_encoder_lists_those_there_are() -> None:
    with pytest.raises(Refused, match=r"No encoder called 'x'. We have: pocket, wav2clip."):
        make_request({**FOX, "sounds": ({"sha256": HASH, "encoder": "x"},)})


def test_a_picture_an_embedding_or_a_sound_can_steer_without_words() -> None:
    assert make_request({"sounds": ({"sha256": HASH},)}).prompt == ""
    assert make_request({"pictures": ({"sha256": HASH},)}).prompt == ""
    assert make_request({"embeddings": ({"sha256": HASH, "space": "pocket"},)}).prompt == ""


def test_a_request_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_request(FOX).steps = 3  # type: ignore[misc]


def test_a_request_survives_a_recipe() -> None:
    request = make_request({
        **FOX,
        "pictures": ({"sha256": HASH, "weight": 0.5},),
        "sounds": ({"sha256": HASH, "start": 1.5, "seconds": 2.0, "stop": 0.25},),
        "clips": ({"name": "pocket", "weight": 2.0},),
        "palette": ("#D03020",),
        "regularise": {"palette": 1.0},
    })  # fmt: skip
    recipe = json.loads(json.dumps({"request": request.model_dump(mode="json")}))
    assert read_request(recipe) == request


@pytest.mark.parametrize("recipe", [{}, {"request": 3}, {"request": {"prompt": "a", "x": 1}}])
def test_a_foreign_recipe_is_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        read_request(recipe)


ANYTHING = st.none() | st.text() | st.floats() | st.integers() | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from(sorted(Request.model_fields)), ANYTHING, max_size=4))
def test_anything_given_becomes_a_request_or_a_refusal(given: dict[str, Any]) -> None:
    request = None
    with contextlib.suppress(Refused):
        request = make_request({**FOX, **given})
    assert request is None or 1 <= request.steps <= 2000
