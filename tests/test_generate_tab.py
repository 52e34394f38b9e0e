"""What the Generate tab shows beside a picture: galleries, buttons, words, curves and examples."""

from __future__ import annotations

import html
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Picture

from app import film, options
from app.desk import Trace
from app.errors import Refused
from app.images import open_picture, read_recipe, to_tensor
from app.models import Models
from app.tabs import Studio, curves, generate_parts, making, ready, wording
from app.tabs.common import Change
from app.worker import Worker
from guidance.lexicon import Readings
from guidance.phrases import undress
from guidance.styles import STYLES, WORDS
from tests.handlers import watch
from tests.tiny_worker import OWNER
from tests.tiny_worker import models as models
from tests.tiny_worker import worker as worker


@pytest.fixture
def studio(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A page that stands before the worker; what it may show lies in a folder of the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    studio = Studio(lambda: worker)
    yield studio
    studio.close()


GIVEN: dict[str, Any] = {
    "prompt": "a red apple",
    "negative": "",
    "quality": "draft",
    "size": "32x32",
    "count": 1,
    "seed": "7",
    "start": "flat",
    "init": None,
    "init_noise": 0,
    "image_prompt": None,
    "image_weight": "1",
    "generator": "pocket",
    "clip": "pocket",
    "steps": "6",
    "views": "2",
}


def press(studio: Studio, begin: Callable[..., making.Begin], **given: Any) -> Change:
    """What stands on the page after a button was pressed and all is over."""
    seen, error = watch(making.course(studio, begin(given, OWNER), threading.Event()))
    assert error is None
    page: Change = {}
    for change in seen:
        page |= change
    return page


def text(markup: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", markup)).split())


# --- the page --------------------------------------------------------------------------------


def test_several_pictures_stand_in_a_gallery_and_any_of_them_can_be_looked_at(
    studio: Studio, tmp_path: Path
) -> None:
    page = press(studio, making.asked, **{**GIVEN, "count": 3})
    captions = [caption.removesuffix(", judged best") for _, caption in page["several"]["value"]]
    assert captions == ["Seed 7", "Seed 8", "Seed 9"]
    assert page["several"]["visible"]
    assert page["actions"]["visible"]
    assert len(list(tmp_path.glob("*.png"))) == 3
    change = making.chosen(page["shown"], 0)
    assert change["shown"].card.caption.startswith("Seed 7")
    assert read_recipe(change["finished"])["request"]["seed"] == 7
    assert "Seed 7" in text(change["details"])
    assert change["result"]["value"] == change["finished"]


def test_of_several_the_one_that_the_judge_likes_best_is_looked_at(
    studio: Studio, models: Models
) -> None:
    page = press(studio, making.asked, **{**GIVEN, "count": 3})
    told = "Done: 3 pictures. This one the judge likes best. Choose one to look at it."
    assert text(page["status"]) == told
    paths, captions = zip(*page["several"]["value"], strict=True)
    (best,) = (n for n, caption in enumerate(captions) if caption.endswith(", judged best"))
    goal = models.clip("pocket").embed_text(["a red apple"])
    pictures = torch.cat([to_tensor(open_picture(path)) for path in paths])
    assert models.judge("pocket").marks(pictures, goal).argmax() == best
    assert page["several"]["selected_index"] == best
    assert page["finished"] == paths[best] == page["shown"].card.path
    assert f"Seed {7 + best}" in text(page["details"])
    assert page["reuse"]["value"] == f"Reuse seed {7 + best}"


def test_where_no_words_pull_the_last_of_several_is_looked_at(studio: Studio) -> None:
    page = press(studio, making.asked, **{**GIVEN, "prompt": "fog::-1", "count": 2})
    assert text(page["status"]) == "Done: 2 pictures. Choose one to look at it."
    assert page["shown"].card.caption == "Seed 8"


def test_a_single_picture_needs_no_gallery(studio: Studio) -> None:
    page = press(studio, making.asked, **GIVEN)
    assert not page["several"]["visible"]
    assert page["further"]["value"] == "More steps"
    assert page["further"]["interactive"]


def test_how_far_several_pictures_are_is_told_together(studio: Studio) -> None:
    begin = making.asked({**GIVEN, "count": 2}, OWNER)
    seen, _ = watch(making.course(studio, begin, threading.Event()))
    told = [change["status"] for change in seen if "status" in change]
    assert any(text(status).startswith("Picture 2 of 2 · Done: 6 steps") for status in told)
    shares = [float(share) for status in told for share in re.findall('value="([0-9.]+)"', status)]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_stopped_picture_offers_to_continue_and_a_done_one_more_steps(studio: Studio) -> None:
    stop = threading.Event()

    async def stopped() -> AsyncIterator[Change]:
        begin = making.asked({**GIVEN, "steps": "2000"}, OWNER)
        async for change in making.course(studio, begin, stop):
            if "preview" in change:
                stop.set()
            yield change

    seen, error = watch(stopped())
    assert error is None
    page: Change = {}
    for change in seen:
        page |= change
    assert page["further"]["value"] == "Continue"
    assert page["further"]["interactive"]
    assert "stopped at step" in page["shown"].card.caption


def test_buttons_go_on_from_the_picture_that_is_shown(studio: Studio, worker: Worker) -> None:
    page = press(studio, making.asked, **GIVEN)
    shown = page["shown"]
    longer = press(studio, making.further, shown=shown, more_steps=4)
    assert "Goes on from step 6" in text(longer["details"])
    varied = press(studio, making.varied, shown=shown, count=1)
    other = read_recipe(varied["finished"])["request"]
    assert {**other, "seed": 7} == read_recipe(page["finished"])["request"]
    fields = {**GIVEN, "prompt": "a green pear", "shown": shown, "size": "wide", "count": 4}
    retold = press(studio, making.retold, **fields)
    request = read_recipe(retold["finished"])["request"]
    assert (request["prompt"], request["width"], request["height"]) == ("a green pear", 32, 32)
    assert request["init"]["name"] == Path(page["finished"]).name
    assert f"Begun from {request['init']['name']}" in text(retold["details"])


def test_without_a_picture_the_buttons_say_so(studio: Studio) -> None:
    begin = making.further({"shown": making.Shown()}, OWNER)
    _, error = watch(making.course(studio, begin, threading.Event()))
    assert error is not None
    assert "There is no picture yet" in error.message


def test_what_is_refused_leaves_what_stood_there(studio: Studio) -> None:
    page = press(studio, making.asked, **{**GIVEN, "count": 2})
    begin = making.asked({**GIVEN, "prompt": " "}, OWNER)
    seen, error = watch(making.course(studio, begin, threading.Event(), page["shown"]))
    assert error is not None
    assert seen[-1]["actions"]["visible"]
    assert len(seen[-1]["several"]["value"]) == 2
    assert "shown" not in seen[-1]


def test_a_picture_that_was_cleared_away_is_not_used(studio: Studio) -> None:
    page = press(studio, making.asked, **GIVEN)
    assert making.as_start(page["shown"])["init"] == page["finished"]
    Path(page["finished"]).unlink()
    with pytest.raises(Refused, match="not here any more"):
        making.as_start(page["shown"])


def test_the_film_is_shown_when_somebody_asks_for_it(studio: Studio) -> None:
    page = press(studio, making.asked, **GIVEN)
    seen, _ = watch(making.film(studio, page["shown"], OWNER))
    assert Path(seen[-1]["film"]).suffix == ".mp4"
    assert seen[-1]["film_note"] == ""
    page = press(studio, making.further, shown=page["shown"], more_steps=4)
    seen, _ = watch(making.film(studio, page["shown"], OWNER))
    assert "It begins at step 6" in text(seen[-1]["film_note"])


def test_another_visitor_sees_no_film(studio: Studio) -> None:
    page = press(studio, making.asked, **GIVEN)
    ((change,), _) = watch(making.film(studio, page["shown"], "b" * 32))
    assert "There is no job" in text(change["film_note"])


def test_where_no_film_was_made_it_says_so(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_FILM_PATIENCE", 0.3)
    monkeypatch.setattr(film, "make", lambda folder: None)
    page = press(studio, making.asked, **GIVEN)
    seen, _ = watch(making.film(studio, page["shown"], OWNER))
    assert "There is no film of this run" in text(seen[-1]["film_note"])


# --- words -----------------------------------------------------------------------------------


def test_the_styles_of_the_page_are_those_that_drafts_know_in_the_words_they_learned() -> None:
    learned = {name: words[0].removesuffix(" {}") for name, words in WORDS.items()}
    assert {name: learned[name] for name in STYLES} == wording.STYLES
    assert {style for _, style in generate_parts.STYLES} == {"", *STYLES}


@pytest.mark.parametrize("style", wording.STYLES)
def test_a_style_becomes_words_that_are_understood_and_can_be_taken_back(style: str) -> None:
    for prompt in ("a Red colored cat::2 | fog::0.5", "a portrait of a house of cards"):
        dressed = wording.dress(prompt, style)
        assert undress(dressed)[0] == wording.style_of(dressed) == style
        assert dressed.endswith(prompt)
        assert wording.dress(dressed, style) == dressed
        assert wording.dress(dressed, "") == prompt
        for other in wording.STYLES:
            assert wording.dress(wording.dress(dressed, other), style) == dressed


def test_nothing_is_dressed_where_there_are_no_words() -> None:
    assert wording.dress("  ", "oil") == "  "


def test_what_was_understood_is_shown_with_its_weight() -> None:
    shown = text(wording.understood("a castle | fog::0.5 | people::-1::0.3 | 🍎", "blur"))
    assert shown == (
        "Understood as a castle fog weight 0.5 away from people weight −1, until 0.3 away "
        "red apple away from blur weight −0.5"
    )


def test_what_cannot_be_understood_is_said_instead() -> None:
    assert "out of range" in text(wording.understood("a castle::30", ""))
    assert wording.understood("", "") == ""


def test_words_of_visitors_stay_words() -> None:
    nasty = "<img src=x onerror=alert(1)>"
    for shown in (
        wording.understood(nasty, nasty, [nasty]),
        wording.understood(f"{nasty}::30", ""),
        curves.draw(Trace((0, 1), {nasty: (1.0, 0.5), '"><script>': (0.1, 0.2)}), 1),
    ):
        assert "<img" not in shown
        assert "<script" not in shown
        assert "&lt;img" in shown


def test_what_no_model_will_read_is_shown_while_somebody_types(worker: Worker) -> None:
    (sentence,) = wording.unread(worker, "very " * 60 + "last", "", "pocket")
    assert "which does not read" in sentence
    assert sentence.endswith("very …'.")  # not all of it: there may be pages
    (sentence,) = wording.unread(worker, "дом", "", "pocket")
    assert "read English" in sentence
    (sentence,) = wording.unread(worker, "a cat in the kitchen | in the kitchen::-1", "", "pocket")
    assert (
        sentence == "The first draft leaves out 'in the kitchen'; the steps after it may show it."
    )
    assert wording.unread(worker, "a red apple", "", "pocket") == []
    assert wording.unread(worker, "a castle::30" * 10, "", "pocket") == []


def test_it_is_told_as_what_a_word_is_read() -> None:
    read = Readings({"sheep": "ewe", "moon": "crescent moon"})
    shown = text(wording.understood("a sheep::2 | a <b>cat</b>", "a moon", (), read))
    assert "a sheep read as an ewe, weight 2" in shown
    assert "a moon read as a crescent moon" in shown
    assert shown.count("read as") == 2


def test_a_word_that_was_never_taught_is_told_before_it_is_drawn(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidance.lexicon.taught", lambda folder: frozenset({"and", "horse"}))
    (sentence,) = wording.unread(worker, "a blorptang and a hors", "", "pocket")
    assert sentence.endswith("by guess: 'blorptang'.")  # the other may still be a horse
    assert wording.unread(worker, "a horse and a hors", "", "pocket") == []


# --- curves that are drawn -------------------------------------------------------------------


def drawing(trace: Trace, steps: int) -> list[ElementTree.Element]:
    """The drawings, as a browser reads them."""
    figure = ElementTree.fromstring(curves.draw(trace, steps))
    return list(figure.iter("svg"))


def test_a_curve_reaches_as_far_as_the_run_and_falls_with_its_loss() -> None:
    (svg,) = drawing(Trace((0, 10, 20), {"a fox": (3.0, 2.0, 1.0)}), 40)
    points = [tuple(map(float, point.split(","))) for point in svg[0].get("points").split()]
    assert [x for x, _ in points] == [0, 60, 120]
    heights = [y for _, y in points]
    assert heights == sorted(heights)
    assert svg.get("aria-label") == "a fox: 3.000 at step 0, 1.000 at step 20"


def test_each_target_has_a_curve_and_figures_beside_it() -> None:
    trace = Trace((0, 1), {"a fox": (0.5, 0.4), "people": (-0.1, -0.2), "late": (None, None)})
    assert len(drawing(trace, 2)) == 2
    told = text(curves.draw(trace, 2))
    assert "a fox 0.500 → 0.400" in told
    assert "people −0.100 → −0.200" in told


def test_one_point_is_a_dot_a_flat_curve_a_line_and_nothing_is_nothing() -> None:
    (svg,) = drawing(Trace((0,), {"a": (0.5,)}), 9)
    assert len(svg[0].get("points").split()) == 2
    (svg,) = drawing(Trace((0, 1), {"a": (0.5, 0.5)}), 9)
    assert len({point.split(",")[1] for point in svg[0].get("points").split()}) == 1
    assert curves.draw(Trace(), 9) == ""


# --- examples --------------------------------------------------------------------------------


def test_every_example_has_a_small_picture_and_fields_that_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert 4 <= len(ready.EXAMPLES) <= 6
    assert sum(example.path.stat().st_size for example in ready.EXAMPLES) < 150_000
    for index, (example, (path, words)) in enumerate(
        zip(ready.EXAMPLES, ready.shown(), strict=True)
    ):
        assert words == example.prompt
        with Picture.open(path) as picture:
            assert picture.size == (192, 192)
        change = ready.choose(index)
        fields = {name: change[name] for name in GIVEN if name in change}
        typed = making.typed({**GIVEN, **fields})
        (request,) = options.read(typed).requests
        expected = options.read({"prompt": example.prompt, "seed": ready.SEED}).requests[0]
        assert request == expected
        assert change["result"]["visible"]
