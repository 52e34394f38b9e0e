"""The benchmark of edits: what it measures, and what counts as a right answer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as Picture

from app import editing, planner
from app.editing import propose
from app.errors import Refused
from app.images import Canonical, Pixels
from app.request import QUALITIES
from benchmarks import edit, edit_measures, edit_score, edit_tasks, edit_ways, photographs
from guidance.instruct import COLOURS, understand
from guidance.styles import STYLES, WEATHERS
from training.data import WALLPAPERS
from training.examiner import Examiner, export
from training.splits import load_splits

TABLE = json.loads(photographs.MASKS.read_text())


def task(kind: str = "recolour", how: str = "green", says: tuple[str, ...] = ()) -> edit_tasks.Task:
    pixels = np.full((64, 64, 3), 250, np.uint8)
    cv2.circle(pixels, (32, 32), 16, (215, 40, 40), -1)
    where = np.zeros((64, 64), np.uint8)
    cv2.circle(where, (32, 32), 16, 1, -1)
    words = {
        "recolour": f"make the ball {how}",
        "remove": "remove the ball",
        "replace": f"replace the ball with a {how}",
        "add": f"add a {how}",
        "weather": "add snow",
    }
    ground = np.full((64, 64, 3), 250, np.uint8)
    return edit_tasks.Task(
        kind, words[kind], "ball", pixels, where.astype(bool), says or (how,), how, (), ground
    )


def other(task: edit_tasks.Task, **fields: Any) -> edit_tasks.Task:
    return edit_tasks.Task(**{**task.__dict__, **fields})


# --- what is asked for ----------------------------------------------------------------------------


def test_there_are_eighty_edits_of_six_kinds() -> None:
    assert sum(edit_tasks.SHARES.values()) == 80
    assert len(edit_tasks.SHARES) == 6


@pytest.mark.parametrize("name", [*STYLES, *WEATHERS])
def test_every_style_and_weather_is_asked_for_in_words_that_mean_it(name: str) -> None:
    words = {**edit_tasks.STYLE_WORDS, **edit_tasks.WEATHER_WORDS}[name]
    assert understand(words).how == name
    assert {**edit_tasks.STYLES_SAID, **edit_tasks.WEATHERS_SAID}[name]
    assert edit_tasks.SYNONYMS[name]


@pytest.mark.parametrize(
    ("kind", "how", "after"),
    [
        ("recolour", "orange", "an orange ball"),
        ("replace", "owl", "an owl"),
        ("add", "hat", "a ball and a hat"),
        ("remove", "", "a plain background"),
        ("weather", "snow", "a ball in the snow"),
    ],
)
def test_every_kind_has_words_for_before_and_after(kind: str, how: str, after: str) -> None:
    assert edit_tasks.words(task(kind, how)) == ("a ball", after)


def test_few_are_the_first_of_each_kind_and_keep_their_numbers() -> None:
    asked = [task("recolour"), task("recolour"), task("remove", ""), task("recolour")]
    assert list(edit.first(asked, 1)) == [0, 2]
    assert list(edit.first(asked, None)) == [0, 1, 2, 3]


# --- what is measured -----------------------------------------------------------------------------


def test_a_colour_is_measured_by_its_hue_and_its_shading() -> None:
    asked = task()
    rng = np.random.default_rng(0)
    shaded = asked.pixels.astype(int) - rng.integers(0, 60, (64, 64, 1))
    asked = other(asked, pixels=shaded.clip(0, 255).astype(np.uint8))
    lab = cv2.cvtColor(asked.pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    goal = np.array([[COLOURS["green"]]], np.uint8).astype(np.float32) / 255
    lab[..., 1:] = cv2.cvtColor(goal, cv2.COLOR_RGB2LAB)[0, 0, 1:]
    lab[..., 0] *= 0.8
    green = (cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)
    found = edit_measures.colours(asked, green)
    assert found["hue"] < 10
    assert found["shading"] > 0.9
    assert edit_measures.colours(asked, asked.pixels)["hue"] > 80


def test_what_moved_is_measured_inside_and_outside() -> None:
    asked = task()
    changed = asked.pixels.copy()
    changed[asked.object] = (0, 200, 40)
    found = edit_measures.measure(asked, changed, asked.object)
    assert (found["moved outside"], found["kept outside"]) == (0, 1)
    assert found["moved inside"] == pytest.approx((215 + 160 + 0) / 3)
    everywhere = edit_measures.measure(asked, 255 - asked.pixels, asked.object)
    assert everywhere["kept outside"] == 0
    assert everywhere["moved outside"] == pytest.approx(245)


def test_a_thing_that_is_gone_looks_like_the_ground_without_it() -> None:
    asked = task("remove", "")
    assert asked.ground is not None
    gone, there = (
        edit_measures.measure(asked, pixels, asked.object)["from the ground"]
        for pixels in (asked.ground, asked.pixels)
    )
    assert (gone, there > 100) == (0, True)


def test_only_what_the_words_name_may_change() -> None:
    place = np.zeros((64, 64), bool)
    place[:8] = True
    free = {
        (kind, how): edit_measures.allowed(task(kind, how), place)
        for kind, how in (("recolour", "red"), ("replace", "owl"), ("add", "hat"), ("weather", ""))
    }
    where = task().object
    assert np.array_equal(free["recolour", "red"], where)
    assert free["replace", "owl"].sum() > where.sum()
    assert free["replace", "owl"][where].all()
    assert np.array_equal(free["add", "hat"], place)
    assert free["weather", ""].all()


# --- what it comes to -----------------------------------------------------------------------------


def test_the_summary_counts_by_kind() -> None:
    row = {"kind": "remove", "guide prefers after": False, "guide": -0.1, "seconds": 2.0}
    row |= {"given": {"outside equal": True}}
    more = {"guide prefers after": True, "seconds": 4.0, "iou": 0.5, "best": 0.5, "said": "found"}
    told = edit_score.summary({0: row, 1: {**row, **more}})
    assert told["outside equal"] == "2/2"
    assert told["remove"]["guide prefers after"] == "1/2"
    assert told["remove"]["seconds"] == [3.0, 4.0]
    assert told["remove"]["iou"] == {"mean": 0.5, "median": 0.5, "of": 1}
    assert edit_score.summary({0: row})["region from words"] is None


def test_ways_are_compared_edit_by_edit() -> None:
    ours = {n: {"kind": "add", "kept outside": 1.0, "seconds": 9.0, "guide": 0.5} for n in range(8)}
    plain = {n: {"kind": "add", "kept outside": 0.1 + n / 100, "seconds": 2.0} for n in range(6)}
    told = edit_score.compare({"ours": ours, "plain": plain})
    kept, seconds = (told["plain"]["all"][what] for what in ("kept outside", "seconds"))
    assert (kept["ours better"], kept["its better"], kept["of"]) == (6, 0, 6)
    assert kept["p"] < 0.05
    assert (seconds["ours better"], seconds["its better"]) == (0, 6)
    assert "guide" not in told["plain"]["all"]
    assert told["plain"]["add"] == told["plain"]["all"]
    head, _, line = edit_score.table(told).splitlines()
    assert head == "| way | edits | kept outside | seconds |"
    assert line.startswith("| plain: the predecessors' way")
    assert line.endswith("| 6 | 0.125 / 1* | 2 / 9* |")


def test_where_nothing_differs_nothing_is_better() -> None:
    rows = {n: {"kind": "add", "seconds": 2.0} for n in range(3)}
    told = edit_score.compare({"ours": rows, "no-pull": rows})
    assert told["no-pull"]["all"]["seconds"]["p"] is None


def test_an_answer_is_right_when_it_says_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [task(), task("remove", "", edit_tasks.SYNONYMS["remove"])]
    monkeypatch.setitem(edit_tasks.SETS, "scenes", lambda: asked)
    folder = drawn(tmp_path, asked)
    edit._sheets(folder, dict(enumerate(asked)), {0: {"iou": 0.5}, 1: {}})
    key = json.loads((folder / "key.json").read_text())
    changes = {0: "the ball became green", 1: "it turned purple"}
    lines = [{"sheet": k["sheet"], "cell": k["cell"], "change": changes[k["task"]]} for k in key]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(map(json.dumps, lines)))
    told = edit_score.read_answers(folder, answers, "scenes")
    assert told == {"right": "1/2", "recolour": "1/1", "remove": "0/1"}
    answers.write_text(json.dumps(lines[0]))
    with pytest.raises(SystemExit, match="1 cells have no answer"):
        edit_score.read_answers(folder, answers, "scenes")


def drawn(
    out: Path, asked: Sequence[edit_tasks.Task], after: Mapping[int, Any] | None = None
) -> Path:
    """A folder of edits as `make` leaves it, that change nothing but what `after` says."""
    folder = out / "ours" / "scenes"
    folder.mkdir(parents=True)
    for number, one in enumerate(asked):
        shown = {"before": one.pixels, "place": one.pixels, "after": one.pixels}
        for what, pixels in {**shown, "after": (after or {}).get(number, one.pixels)}.items():
            Picture.fromarray(pixels).save(folder / f"{number:02}-{what}.png")
    return folder


# --- the examiner ---------------------------------------------------------------------------------


def ball_or_not(pictures: Sequence[Picture.Image], texts: Sequence[str]) -> np.ndarray:
    """An examiner who knows balls and colours: how red, green or white the middle is."""

    def likeness(picture: Picture.Image, text: str) -> float:
        middle = np.asarray(picture)[picture.height // 2, picture.width // 2].astype(int)
        red, green, blue = middle
        if "green" in text:
            return float(green - max(red, blue)) / 255
        if "ball" in text:
            return float(np.ptp(middle)) / 510
        return 0.2 * (text == "a plain background") + 0.1

    return np.array([[likeness(picture, text) for text in texts] for picture in pictures])


def test_the_examiner_marks_what_was_done_and_what_was_there_already(tmp_path: Path) -> None:
    asked = [task(), task("remove", "")]
    green = asked[0].pixels.copy()
    green[asked[0].object] = (20, 220, 20)
    folder = drawn(tmp_path, asked, {0: green})
    done, idle = (edit_score.mark(ball_or_not, asked[n], folder, n) for n in (0, 1))
    assert (done["done"], done["already"], done["itself"]) == (True, False, [True])
    assert done["gain"] > 0.5
    assert (idle["done"], idle["already"], idle["gain"]) == (False, False, 0)


def test_a_recoloured_thing_is_itself_by_its_name_in_the_new_colour(tmp_path: Path) -> None:
    ball = task()
    green = ball.pixels.copy()
    green[ball.object] = (20, 220, 20)
    folder, asked = drawn(tmp_path, [ball], {0: green}), list[str]()

    def noted(pictures: Sequence[Picture.Image], texts: Sequence[str]) -> np.ndarray:
        asked.append(texts[0])
        return ball_or_not(pictures, texts)

    edit_score.mark(noted, ball, folder, 0)
    assert asked[-2:] == ["a ball", "a green ball"]


def test_what_nobody_spoke_of_is_kept_when_it_is_still_named(tmp_path: Path) -> None:
    ball = task("remove", "")
    asked = [other(ball, thing="owl", others=(("ball", ball.object),))]
    assert edit_score.mark(ball_or_not, asked[0], drawn(tmp_path, asked), 0)["kept"] == [True]
    gone = drawn(tmp_path / "gone", asked, {0: np.full_like(ball.pixels, 250)})
    found = edit_score.mark(ball_or_not, asked[0], gone, 0)
    assert found["kept"] == [False]
    told = edit_score.marked({0: found, 1: {**found, "kept": [True], "kind": "add"}})
    assert told["all"]["kept"] == "1/2"
    assert told["remove"]["kept"] == "0/1"


def test_a_thing_is_shown_with_a_little_around_it() -> None:
    ball = task()
    crop = edit_score._crop(Picture.fromarray(ball.pixels), ball.object)
    assert crop.width == crop.height
    assert 33 < crop.width < 50
    assert edit_score._crop(crop, None) is crop


def test_the_examiner_marks_every_way_and_its_marks_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [task()]
    monkeypatch.setitem(edit_tasks.SETS, "scenes", lambda: asked)
    folder = drawn(tmp_path, asked)
    row = {"kind": "recolour", "seconds": 1.0, "guide": 0.0, "guide prefers after": False}
    (folder / "00.json").write_text(json.dumps(row))
    net = Examiner("test_efficientnet", 32).eval()
    examiner = tmp_path / "examiner"
    export(net, examiner, "test_efficientnet")
    told = edit_score.examine(tmp_path, ["photographs", "scenes"], examiner)
    assert told["ours"]["scenes"]["all"]["mean gain"] == 0
    assert json.loads((tmp_path / "examiner.json").read_text()) == told
    assert edit_score.rows(folder)[0]["examiner"] == 0


# --- ways -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """A draft of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUALITIES, "draft", {"steps": 4, "views": 2, "width": 64, "height": 64})
        yield


@pytest.fixture(scope="module")
def order(pocket_models: Any) -> edit_ways.Order:
    """A ball to be made green, beside a large empty place."""
    ball, clip = task(), pocket_models.clip("pocket", "float32")
    pixels = np.pad(ball.pixels, ((0, 64), (0, 64), (0, 0)), mode="edge")
    mask = np.pad(ball.object, (0, 64)).astype(np.uint8) * 255
    proposal = propose(Canonical(pixels), "ball", ball.instruction, clip, mask=mask)
    return edit_ways.Order(proposal, edit_tasks.words(ball)[1], "draft")


@pytest.fixture(scope="module")
def as_ours(order: edit_ways.Order, pocket_models: Any) -> Pixels:
    return edit_ways.WAYS["ours"](order, pocket_models)


def test_our_way_is_that_of_the_program(
    order: edit_ways.Order, as_ours: Pixels, pocket_models: Any
) -> None:
    asked = editing.order(order.proposal, order.strength, order.quality, seed=order.seed)
    request = planner.settle(asked.requests[0])
    *_, last = planner.make(request, pocket_models, asked.inputs)
    assert np.array_equal(as_ours, last.pixels())


@pytest.mark.parametrize("name", [n for n in edit_ways.WAYS if not n.startswith(("ours", "plain"))])
def test_every_way_of_ours_differs_where_it_says_so_and_keeps_the_promise(
    name: str, order: edit_ways.Order, as_ours: Pixels, pocket_models: Any
) -> None:
    way = edit_ways.WAYS[name]
    made = way(order, pocket_models)
    outside = order.proposal.mask == 0
    assert np.array_equal(made[outside], order.proposal.picture.pixels[outside])
    apart = np.abs(made.astype(int) - as_ours).max()
    assert apart > 0 if "recolour" in way.kinds else apart <= 2  # rounding


def test_the_plain_way_holds_nothing(order: edit_ways.Order, pocket_models: Any) -> None:
    before = order.proposal.picture.pixels
    made = edit_ways.WAYS["plain"](order, pocket_models)
    assert made.shape == before.shape
    outside = order.proposal.mask == 0
    assert (made != before)[outside].any(axis=1).mean() > 0.9


def test_edits_are_made_in_all_ways_and_those_that_lie_there_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [other(task(), instruction="make the red circle green", thing="red circle")]
    monkeypatch.setitem(edit_tasks.SETS, "scenes", lambda: asked)
    how = {"quality": "draft", "strength": 0.8, "seed": 7}
    ways = ["ours", "retouch-only"]
    told = edit.make(tmp_path, ["scenes"], ways, None, **how)
    assert told["ours"]["scenes"]["outside equal"] == "1/1"
    assert "outside equal" not in told["retouch-only"]["scenes"]
    before = (tmp_path / "ours" / "scenes" / "00.json").stat().st_mtime_ns
    assert edit.make(tmp_path, ["scenes"], ways, None, **how) == told
    assert (tmp_path / "ours" / "scenes" / "00.json").stat().st_mtime_ns == before
    beside = edit.compare(tmp_path, "scenes")
    assert beside["retouch-only"]["all"]["kept outside"]["of"] == 1
    assert (tmp_path / "compare-scenes.png").exists()


# --- photographs ----------------------------------------------------------------------------------


def test_photographs_are_reported_before_scenes_and_twenty_edits_of_every_kind() -> None:
    assert list(edit_tasks.SETS) == ["photographs", "scenes", "pairs"]
    kinds = Counter(row["kind"] for row in TABLE["regions"])
    assert set(kinds) == set(edit_tasks.SHARES)
    assert kinds.total() == 20
    assert {row["photograph"] for row in TABLE["regions"]} == set(TABLE["photographs"])


@pytest.mark.parametrize("row", TABLE["regions"], ids=lambda row: row["instruction"])
def test_an_outline_lies_in_its_photograph_and_its_words_mean_the_edit(row: Any) -> None:
    plan = understand(row["instruction"])
    assert (plan.kind, plan.region) == (row["kind"], row["thing"])
    assert row["how"] or edit_tasks.SYNONYMS[row["kind"]]
    width, height = TABLE["photographs"][row["photograph"]]["size"]
    scale = min(1, TABLE["side"] / max(width, height))
    for points in row["polygons"] + row.get("holes", []):
        assert len(points) > 3
        assert all(0 <= x <= scale * width and 0 <= y <= scale * height for x, y in points)


def test_no_outlined_wallpaper_was_trained_on() -> None:
    held_out = load_splits().photographs
    for row in TABLE["photographs"].values():
        if row["package"] in WALLPAPERS:
            assert f"{row['package']}/{Path(row['path']).parts[3]}" in held_out


@pytest.mark.parametrize("name", ["china", "flower", "lion"])
def test_the_pinned_packages_ship_the_photograph_that_was_outlined(name: str) -> None:
    row = TABLE["photographs"][name]
    pixels = photographs._read(name, row, TABLE["side"])
    assert list(pixels.shape[1::-1]) == row["size"]


def test_a_photograph_that_is_missing_is_named_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    monkeypatch.setattr(photographs, "CACHE", tmp_path)
    with pytest.raises(
        Refused, match=r"'pie' is not here: it is sweet/pie\.png of bakery\. Run `pip"
    ):
        photographs.locate("pie", "bakery", "sweet/pie.png")
    with pytest.raises(Refused, match="Run `python -m training data`"):
        photographs.locate("pie", WALLPAPERS[0], "sweet/pie.png")


def bakery(folder: Path) -> Path:
    """A package with one photograph, 80 x 40, outlined at half its size: a ring."""
    file = folder / "sweet" / "pie.png"
    file.parent.mkdir()
    Picture.fromarray(np.full((40, 80, 3), 200, np.uint8)).save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    region = {
        "photograph": "pie",
        "kind": "remove",
        "instruction": "remove the pie",
        "thing": "pie",
    }
    outer, inner = ([[a, a], [b, a], [b, b], [a, b]] for a, b in ((4, 15), (8, 11)))
    table = {
        "side": 40,
        "photographs": {"pie": {"package": "bakery", "path": "sweet/pie.png", "sha256": digest}},
        "regions": [{**region, "how": "", "polygons": [outer], "holes": [inner]}],
    }
    masks = folder / "masks.json"
    masks.write_text(json.dumps(table))
    return masks


def test_points_become_a_region_of_the_photograph_at_the_side_they_were_drawn_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    (thing,) = photographs.load(bakery(tmp_path))
    assert thing.pixels.shape == (20, 40, 3)
    assert thing.object.shape == (20, 40)
    assert thing.object.sum() == 12 * 12 - 4 * 4
    assert thing.object[4, 4]
    assert not thing.object[9, 9]


def test_another_picture_in_its_place_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "EXTRA", tmp_path)
    masks = bakery(tmp_path)
    Picture.new("RGB", (80, 40)).save(tmp_path / "sweet" / "pie.png")
    with pytest.raises(Refused, match="is not the photograph that was outlined as 'pie'"):
        photographs.load(masks)


def test_a_place_that_the_program_refuses_counts_as_nothing() -> None:
    where = task().object
    half = where & (np.arange(64) < 32)
    said = (photographs.SURE, photographs.UNSURE, photographs.ABSENT)
    sure, unsure, absent = (photographs.judge(half, what, where) for what in said)
    assert sure["iou"] == unsure["iou"] == pytest.approx(0.48, abs=0.02)
    assert absent == {"iou": 0.0, "best": sure["best"], "said": "refused"}
    told = photographs.summary([sure, unsure, absent])
    assert told["mean iou"] == pytest.approx(2 * sure["iou"] / 3, abs=1e-3)
    assert told["mean iou without asking"] == pytest.approx(sure["iou"] / 3, abs=1e-3)
    assert told["mean iou of those shown"] == sure["iou"]
    assert told["mean iou of the best places"] == sure["best"]
    assert (told["found"], told["asked"], told["refused"], told["of"]) == (1, 1, 1, 3)
    assert photographs.summary([absent])["mean iou of those shown"] is None


def test_where_words_find_a_thing_is_measured_set_by_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = task()
    asked = other(ball, instruction="make the red circle green")
    everywhere = other(ball, instruction="add snow")
    monkeypatch.setitem(edit_tasks.SETS, "photographs", lambda: [everywhere, asked])
    told = edit.regions(tmp_path, ["photographs"])
    (row,) = told["photographs"]["each"]
    assert row["best"] > 0.9
    assert told["photographs"]["mean iou of the best places"] == row["best"]
    assert json.loads((tmp_path / "regions.json").read_text()) == told


def test_a_drawn_place_shows_the_outline_and_what_was_found() -> None:
    asked = task()
    shown = photographs.draw(asked.pixels, asked.object, ~asked.object)
    assert (shown[0, 0] != asked.pixels[0, 0]).any()
    assert (shown[32, 32] == asked.pixels[32, 32]).all()
    assert (shown == (60, 230, 60)).all(axis=2).any()
