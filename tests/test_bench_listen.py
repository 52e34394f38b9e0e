"""The benchmark of listening: what it asks, how it counts, and pictures that give nothing away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image as Picture

from app.models import Models
from benchmarks import listen, listen_draw, listen_hear, listen_score, listen_sheets
from benchmarks.listen_draw import Way
from guidance import audio, clip
from guidance.audio_net import CONFIG, Ear
from training import examiner, recordings, sound
from training.recordings import SPEECH, Recording
from training.sound import Question, captions
from training.synth import RATE, RECIPES, synthesise

LABELS = ("drum", "bell", "rain", "frog", "owl", SPEECH)
TOWER = "test_efficientnet"  # timm's smallest
QUICK = Way(
    settings={
        "generator": "pixels",
        "precision": "float32",
        "width": 32,
        "height": 32,
        "steps": 2,
        "views": 2,
    }
)


def wave(name: str = "drum", seed: int = 0, seconds: float = 0.5) -> Any:
    return synthesise(name, np.random.default_rng(seed), seconds)


@pytest.fixture
def models(
    tiny_ear: Ear,
    tiny_clip: Path,
    tiny_drafter: Any,
    pocket_models: Models,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Models]:
    """What the program loads, with tiny networks and six labels in place of the shipped ones."""
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({label: captions(label) for label in LABELS}))
    for module in (audio, listen_hear, listen_draw):
        monkeypatch.setattr(module, "LABELS", file)
    guide = clip.load(tiny_clip)
    guide.space = "pocket"
    found = Models()
    found._kept |= {
        ("sound", "pocket", "cpu", "float32"): tiny_ear,
        ("clip", "pocket", "cpu", "float32"): guide,
        ("draft", "pocket", "cpu", "float32"): tiny_drafter,
        ("speech", "tiny.en", "cpu", "float32"): pocket_models.speech("tiny.en"),
    }
    audio.labels.cache_clear()
    yield found
    audio.labels.cache_clear()


@pytest.fixture(scope="module")
def marker() -> examiner.Examiner:
    """An examiner that has learned nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return examiner.Examiner(TOWER, 32).eval().requires_grad_(False)


# --- what is chosen among -------------------------------------------------------------------------


def test_the_right_name_is_always_among_the_fifty_and_the_others_are_always_the_same() -> None:
    every = [f"thing {n}" for n in range(130)]
    few = listen_hear.choices(["thing 7"], every[:60], every, 50)
    assert few[0] == "thing 7"
    assert len(set(few)) == 50
    assert few == listen_hear.choices(["thing 7"], reversed(every[:60]), every[::-1], 50)
    assert set(few[1:]) <= set(every[:60])  # what is tested competes before what is not


def test_what_is_tested_is_filled_up_when_it_is_less_than_fifty() -> None:
    tested, every = [f"thing {n}" for n in range(24)], [f"thing {n}" for n in range(130)]
    sets = [set(listen_hear.choices([own], tested, every, 50)) for own in tested]
    assert all(one == sets[0] and set(tested) < one for one in sets)


def test_the_texts_beside_a_sound_name_nothing_that_is_heard() -> None:
    tables = (recordings.TESTED_SYSTEM, *recordings.TESTED.values())
    heard = {name for table in tables for label in table for name in captions(label)}
    assert not heard & {text.split(maxsplit=1)[1] for text in listen_draw.TEXTS}
    assert len(set(listen_draw.TEXTS)) * 2 == listen_draw.JOINT  # each with two sounds


def test_every_label_of_another_source_has_enough_recordings_for_the_pictures() -> None:
    tables = (recordings.TESTED_SYSTEM, *recordings.TESTED.values())
    trained = {*RECIPES, *recordings.STAMPS, *recordings.ICONS, *recordings.SYSTEM}
    counted = [n for table in tables for label, n in table.items() if label in trained]
    assert sum(map(len, counted)) >= listen_draw.PICTURES


def test_each_label_comes_once_before_any_comes_twice() -> None:
    keys = [("dog", "a"), ("dog", "b"), ("owl", "c"), ("tuba", "d"), ("dog", "e"), ("owl", "f")]
    tested = [Recording(label, "elsewhere", key, wave()) for label, key in keys]
    chosen = listen_draw.across(tested, ["dog", "owl", "rain"], 4)
    assert {one.key for one in chosen[:2]} == {"a", "c"}
    assert {one.key for one in chosen[2:]} == {"b", "f"}
    assert listen_draw.across(tested, ["dog", "owl"], 1) == chosen[:1]


# --- encoder --------------------------------------------------------------------------------------


def listener(ear: Ear, models: Models, left_out: tuple[str, ...] = ()) -> listen_hear.Listener:
    return listen_hear.Listener(ear, models.clip("pocket", "float32"), LABELS, left_out)


def test_labels_lie_where_the_program_has_them(tiny_ear: Ear, models: Models) -> None:
    known = listener(tiny_ear, models)
    there = audio.embed_labels(known.clip)
    assert torch.allclose(torch.stack([known._text(label) for label in LABELS]), there, atol=1e-6)


def test_a_label_has_as_many_before_it_as_are_nearer(tiny_ear: Ear, models: Models) -> None:
    known = listener(tiny_ear, models)
    order = (known._text("rain") @ torch.stack([known._text(one) for one in LABELS]).T).argsort(
        descending=True
    )
    ranked = [LABELS[n] for n in order.tolist()]
    assert ranked[0] == "rain"
    assert [known.place(known._text("rain"), own, LABELS) for own in ranked] == [0, 1, 2, 3, 4, 5]


def test_an_encoder_that_hears_the_same_in_everything_names_nothing_but_by_chance(
    tiny_ear: Ear, models: Models
) -> None:
    known = listener(tiny_ear, models)
    assert known.place(torch.zeros(len(known._text("owl"))), "owl", LABELS) == len(LABELS) - 1


def test_unheard_parts_sources_and_settings_are_asked_apart() -> None:
    trained = [
        Recording("drum", "here", "long", wave(seconds=2.0)),
        Recording("drum", "here", "short", wave(seconds=1.0)),
        Recording(SPEECH, "here", "said", wave(seconds=2.0)),
    ]
    tested = [Recording("drum", "there", "a", wave()), Recording("tuba", "there", "b", wave())]
    asked = listen_hear.exams(trained, tested, LABELS, seed=3, made=["bell"])
    told = [(one.exam, one.label) for one in asked]
    assert told == [
        ("sections", "drum"),
        ("sections, disguised", "drum"),
        ("sources", "drum"),
        ("unknown", "tuba"),
        *[("synthesis", "bell")] * 3,
    ]
    assert np.array_equal(asked[0].wave, sound.split(trained[0].wave)[1])
    assert not np.array_equal(asked[1].wave[: len(asked[0].wave)], asked[0].wave)
    again = listen_hear.exams(trained, tested, LABELS, seed=3, made=["bell"])
    assert all(np.array_equal(a.wave, b.wave) for a, b in zip(asked, again, strict=True))


def test_marks_say_what_chance_would_be(tiny_ear: Ear, models: Models) -> None:
    asked = [Question("sources", name, wave(name)) for name in ("drum", "bell")]
    told = listen_hear.mark(listener(tiny_ear, models), asked)["sources"]
    assert told["classes"] == 5  # somebody speaking is none
    assert told["top 1"]["chance"] == 0.2
    assert told["top 5"] == {"right": "2/2", "share": 1.0, "chance": 1.0}
    assert [row["label"] for row in told["each"]] == ["drum", "bell"]
    fifty = [Question("", label, wave("bell")) for label in list(RECIPES)[:3]]
    many = listen_hear.Listener(tiny_ear, models.clip("pocket", "float32"), tuple(RECIPES))
    told = listen_hear.mark(many, fifty)[""]
    assert (told["classes"], told["top 1"]["chance"], told["top 5"]["chance"]) == (50, 0.02, 0.1)


def test_a_class_that_was_left_out_is_asked_with_all_that_there_is_of_it(
    tiny_ear: Ear, models: Models, tmp_path: Path
) -> None:
    sound.export(tiny_ear.network, tmp_path / "deaf", "pocket", LABELS)
    config = tmp_path / "deaf" / CONFIG
    config.write_text(json.dumps({**json.loads(config.read_text()), "tower": TOWER}))
    (tmp_path / "deaf" / listen_hear.LEFT_OUT).write_text(json.dumps(["owl", "tuba"]))
    deaf = listen_hear.open_listener(tmp_path / "deaf", models.clip("pocket", "float32"))
    assert (deaf.labels, deaf.left_out) == (LABELS, ("owl", "tuba"))
    told = listen_hear.mark_left_out(deaf, [Recording("owl", "here", "a", wave("owl"))], [], seed=1)
    assert list(told) == ["owl"]  # of a tuba there is neither recording nor recipe
    assert told["owl"]["top 1"]["right"].endswith("/4")
    with pytest.raises(SystemExit, match=r"No sound encoder in .*Run `python -m training sound`"):
        listen_hear.open_listener(tmp_path, deaf.clip)


def test_left_out_classes_count_alike_however_many_sounds_they_have() -> None:
    def marks(first: float, five: float) -> dict[str, Any]:
        return {
            "top 1": {"share": first, "chance": 0.02},
            "top 5": {"share": five, "chance": 0.1},
        }

    told = listen_hear.sum_up_left_out({"owl": marks(0.0, 0.25), "frog": marks(0.1, 0.75)})
    assert told["top 1"] == {"mean": 0.05, "chance": 0.02, "times": 2.5}
    assert told["top 5"] == {"mean": 0.5, "chance": 0.1, "times": 5.0}


# --- speech ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "heard", "noun", "whole", "only"),
    [
        ("A frog.", "Frog.", True, True, True),
        ("A brown hen.", "a hen", True, False, False),
        ("Two wild boars.", "Wild boar!", True, False, False),
        ("A horse.", "Horses", True, True, True),
        ("A mountaingoat.", "mountain goat", True, True, True),
        ("A cow.", "The cow says moo.", True, True, False),
        ("A doe.", "dough", False, False, False),
        ("A rat.", "a bat or rather a cat", False, False, False),
        ("An ox.", "", False, False, False),
    ],
)
def test_a_name_is_heard_rightly_when_its_noun_is(
    name: str, heard: str, noun: bool, whole: bool, only: bool
) -> None:
    told = listen_hear.understood(name, heard)
    assert told == {"noun": noun, "whole name": whole, "nothing else": only}


def test_names_are_counted_and_why_one_was_not_heard_is_told(pocket_models: Models) -> None:
    ship, _ = soundfile.read(Path(__file__).parent / "sounds" / "ship.flac", dtype="float32")
    spoken = [
        ("A ship in a storm.", ship),
        ("A dark storm.", ship),
        ("A storm.", ship),
        ("An ox.", np.zeros(RATE, np.float32)),
    ]
    rows = listen_hear.transcribe(pocket_models.speech("tiny.en"), spoken)
    assert "too quiet" in rows[3]["reason"]
    assert "reason" not in rows[0]
    assert {what: found["right"] for what, found in listen_hear.sum_up_speech(rows).items()} == {
        "noun": "3/4",
        "whole name": "2/4",
        "nothing else": "1/4",
    }


# --- pictures -------------------------------------------------------------------------------------


def test_the_same_sound_in_another_file_gives_exactly_the_same_picture_and_another_sound_does_not(
    models: Models, tmp_path: Path
) -> None:
    first = listen_draw.record(tmp_path / "00.wav", wave())
    renamed = listen_draw.record(tmp_path / "an owl at night.flac", wave(), "an owl at night")
    other = listen_draw.record(tmp_path / "01.wav", wave("bell"))
    assert b"owl" in renamed.read_bytes()
    assert b"owl" not in first.read_bytes()
    rows = [
        {"label": label, **listen_draw.make(tmp_path / place, file, "a house", models, QUICK)}
        for label, place, file in (
            ("drum", "00", first), ("drum", "00-renamed", renamed), ("bell", "01", other)
        )
    ]  # fmt: skip
    assert rows[0] == rows[1]
    assert rows[0]["text"] == "a house"
    assert listen_draw.same(tmp_path, 1) == {"right": "1/1", "share": 1.0}
    told = listen_draw.others(tmp_path, [rows[0], rows[2]])
    assert told["right"] == "1/1"
    assert told["median distance"] > 0
    (tmp_path / "00-renamed.png").write_bytes((tmp_path / "01.png").read_bytes())
    assert listen_draw.same(tmp_path, 1)["right"] == "0/1"
    assert listen_draw.others(tmp_path, [rows[0], rows[1]])["right"] == "0/0"  # twins of one label


def test_a_picture_that_lies_there_is_kept_and_pictures_made_in_another_way_are_refused(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "hashes", lambda name, kind: {"weights": "a"})
    folder = listen_draw.prepare(tmp_path, "pictures", QUICK, models)
    made = listen_draw.make_typed(folder / "00-typed", "A red house.", models, QUICK)
    assert made == {"prompt": "a red house"}
    before = (folder / "00-typed.png").stat().st_mtime_ns
    assert listen_draw.prepare(tmp_path, "pictures", QUICK, models) == folder
    assert listen_draw.read_way(folder)["encoder"] == {"weights": "a"}
    assert listen_draw.make_typed(folder / "00-typed", "A red house.", models, QUICK) == made
    assert (folder / "00-typed.png").stat().st_mtime_ns == before
    with pytest.raises(SystemExit, match="made in another way"):
        listen_draw.prepare(tmp_path, "pictures", Way(seed=8), models)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("owl", "an owl"),
        ("a red heart", "a red heart"),
        ("scissors", "scissors"),
        ("glass", "a glass"),
        ("the moon", "the moon"),
    ],
)
def test_the_examiner_is_asked_with_an_article(name: str, told: str) -> None:
    assert listen_draw.called(name) == told
    assert listen_draw.called(told) == told


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "blue")):
        for what in ("", "-spoken", "-typed"):
            Picture.new("RGB", (40, 40), colour).save(tmp_path / f"{number:02}{what}.png")
    return tmp_path


def test_the_examiner_ranks_the_right_name_among_the_others(
    coloured: Path, marker: examiner.Examiner
) -> None:
    names = [f"thing {n}" for n in range(120)]
    rows = [{"label": "owl", "text": "a house"}, {"label": "frog", "text": "a house"}]
    told = listen_draw.mark_pictures(marker, coloured, rows, names)
    assert told["names"] == 100
    assert told["top 5"]["chance"] == 0.05
    few = listen_hear.choices(["an owl"], names, (), 100)
    seen = listen_draw.examine(marker, coloured / "00.png", few)
    assert told["places"][0] == int((seen[1:] > seen[0]).sum())
    assert told["top 1"]["right"] == f"{sum(p == 0 for p in told['places'])}/2"
    joint = listen_draw.mark_joint(marker, coloured, rows, names)
    assert joint["names"] == 100
    both = sum(max(pair) < 10 for pair in joint["places"])
    assert joint["both in the first ten"]["right"] == f"{both}/2"
    assert joint["twins told apart"]["right"] in {"0/1", "1/1"}


def test_the_same_pictures_of_spoken_and_typed_names_are_as_good(
    coloured: Path, marker: examiner.Examiner
) -> None:
    pairs = [{"name": "A frog."}, {"name": "An owl."}]
    told = listen_draw.compare_spoken(marker, coloured, pairs, ["a house", "a tree"])
    assert told["spoken"] == told["typed"]
    assert listen_score._spoken_as_typed({"speech": {"pictures": told}}) == 0


def test_twins_are_told_apart_by_which_sound_fits_which_picture(
    coloured: Path, marker: examiner.Examiner
) -> None:
    rows = [{"label": "owl", "text": "a house"}, {"label": "frog", "text": "a house"}]
    told = [
        listen_draw.mark_joint(marker, coloured, order, ["a tree"])["twins told apart"]["share"]
        for order in (rows, rows[::-1])
    ]
    assert sorted(told) == [0.0, 1.0]  # whoever is right of the one is wrong of the other


def test_a_tie_is_no_success() -> None:
    nearness = torch.tensor([0.5, 0.5, 0.1, 0.7])
    assert [listen_draw.place_of(nearness, own) for own in range(4)] == [2, 2, 3, 0]


def test_a_missing_examiner_is_refused(tmp_path: Path, marker: examiner.Examiner) -> None:
    with pytest.raises(SystemExit, match="No examiner in"):
        listen.open_examiner(tmp_path)
    examiner.export(marker, tmp_path, TOWER)
    found = listen.open_examiner(tmp_path)
    assert found.embed_texts(["an owl"]).shape == (1, 32)


# --- sheets and the blind reader ------------------------------------------------------------------


def test_a_high_tone_stands_high_in_a_spectrogram_and_a_late_one_to_the_right() -> None:
    time = np.arange(RATE) / RATE
    for hertz, rows in ((3000, slice(0, 80)), (200, slice(80, 160))):
        tone = (np.sin(2 * np.pi * hertz * time) * (time > 0.5)).astype(np.float32)
        bright = listen_sheets.spectrogram(tone).sum(axis=2).astype(float)
        assert bright.shape == (160, 160)
        row, column = np.unravel_index(bright.argmax(), bright.shape)
        assert row in range(160)[rows]
        assert column > 75
    assert listen_sheets.spectrogram(np.zeros(100, np.float32)).shape == (160, 160, 3)


def test_the_sheet_for_people_shows_sound_and_picture(coloured: Path) -> None:
    chosen = [Recording(label, "there", f"{label}.ogg", wave()) for label in ("drum", "bell")]
    rows = [{"names": [["drum", 0.9]]}, {"names": []}]
    listen_sheets.show(coloured, coloured, chosen, rows)
    sheet = np.asarray(Picture.open(coloured / "sounds.png"))
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 160 * 160
    assert (sheet[36:196, :160] == listen_sheets.spectrogram(chosen[0].wave)).all()


@pytest.fixture
def hidden(coloured: Path) -> Path:
    real = [(name, Picture.new("RGB", (8, 8), "green")) for name in ("teddy bear", "kite")]
    listen_sheets.hide(coloured, coloured, ["rain", "owl"], real)
    return coloured


def test_a_blind_sheet_lies_apart_from_its_key(hidden: Path) -> None:
    assert (hidden / "blind.png").exists()
    key = json.loads((hidden / "key" / "blind.json").read_text())
    assert sorted(row["shows"] for row in key) == ["owl", "rain", "real kite", "real teddy bear"]
    assert [path.name for path in hidden.glob("*.json")] == []
    pixels = np.asarray(Picture.open(hidden / "blind.png"))
    colours = {"rain": (255, 0, 0), "owl": (0, 0, 255)}
    for row in key:
        middle = pixels[20 + 96, row["cell"] * 192 + 96]
        assert tuple(middle) == colours.get(row["shows"], (0, 128, 0))


def test_a_blind_reader_is_right_who_names_the_source_or_what_makes_it(hidden: Path) -> None:
    key = json.loads((hidden / "key" / "blind.json").read_text())
    says = {
        "rain": ("blue stripes", "a dark cloud"),
        "owl": ("an owl", ""),
        "real teddy bear": ("a bear", ""),
    }
    lines = [
        {"sheet": 0, "cell": row["cell"], "first": first, "second": second}
        for row in key
        for first, second in [says.get(row["shows"], ("no idea", ""))]
    ]
    told = listen_score.score_blind(key, lines)
    assert told["first guess"]["right"] == "1/2"
    assert told["either guess"]["right"] == "2/2"
    assert told["real pictures named"]["right"] == "1/2"
    with pytest.raises(SystemExit, match="1 cells have no answer"):
        listen_score.score_blind(key, lines[1:])


def test_what_makes_a_sound_is_known_of_labels_that_are_asked_about() -> None:
    tables = (recordings.TESTED_SYSTEM, *recordings.TESTED.values())
    assert set(listen_score.MAKERS) <= {label for table in tables for label in table}


# --- onsets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("true", "seen", "count"),
    [
        ([0.5, 1.0], [0.54, 1.06], 1),
        ([0.5, 0.52], [0.51], 1),  # one onset is found once
        ([0.5], [0.46, 0.5, 0.54], 1),
        ([0.1, 0.2], [0.14, 0.21], 2),
        ([], [0.3], 0),
        ([0.3], [], 0),
    ],
)
def test_an_onset_is_found_once_within_fifty_milliseconds(
    true: list[float], seen: list[float], count: int
) -> None:
    assert listen_hear.matched(true, seen) == count


def test_onsets_are_counted_over_rhythms_of_both_kinds() -> None:
    told = listen_hear.find_onsets(2, seed=1)
    assert told == listen_hear.find_onsets(2, seed=1)
    assert told["rhythms"] == 2
    right, there = map(int, told["found"]["right"].split("/"))
    assert 0 < right <= there
    assert told["true of those found"]["right"].split("/")[0] == str(right)


# --- scores ---------------------------------------------------------------------------------------


def test_the_score_holds_what_was_measured_against_the_bars_and_leaves_out_the_rest(
    hidden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listen_score.write(hidden, "onsets", {"found": {"right": "96/100", "share": 0.96}})
    listen_score.write(hidden, "speech", {"noun": {"right": "3/6", "share": 0.5}, "each": [1, 2]})
    nothing = {
        "another sound with the same text": listen_score.share(0, 0)
    }  # one picture has no twin
    listen_score.write(hidden, "joint", nothing)
    capsys.readouterr()
    told = listen_score.score(hidden, None)
    rows = {row["bar"]: (row["least"], row["found"], row["met"]) for row in told["bars"]}
    assert rows == {
        "spoken names: noun heard": (0.6, 0.5, False),
        "onsets within 50 ms": (0.95, 0.96, True),
    }
    missing = capsys.readouterr().out.splitlines()
    assert len(missing) == len(listen_score.BARS) - 2
    assert "Not measured: blind reader names the source." in missing
    assert json.loads((hidden / "listen.json").read_text()) == told
    assert {"commit", "cpu", "cores", "torch"} <= set(told["onsets"]["where"])


def test_answers_of_a_blind_reader_are_scored_with_the_rest(hidden: Path) -> None:
    key = json.loads((hidden / "key" / "blind.json").read_text())
    lines = [{"sheet": 0, "cell": row["cell"], "first": "rain", "second": ""} for row in key]
    (hidden / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (row,) = listen_score.score(hidden, hidden / "answers.jsonl")["bars"]
    assert row == {"bar": "blind reader names the source", "least": 0.4, "found": 0.5, "met": True}
