"""The Listen tab without a browser: what its handlers hear, show, refuse, and let steer."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import soundfile

from app import listening, sonogram
from app.desk import Look
from app.images import read_recipe
from app.listening import Heard, Steering
from app.models import Models
from app.sounds import RATE, Sound, open_sound, save_wav
from app.stopping import Stopped
from app.tabs import Studio, hearing, listen
from app.tabs.common import Change
from app.tabs.hearing import EXAMPLES, Chip, Known
from app.worker import Worker
from guidance.audio import Stretch, Wave
from guidance.audio_net import Ear
from scripts.examples import sounds as made_again
from tests.handlers import last, text, watch

SHIP = Path(__file__).parent / "sounds" / "ship.flac"  # "a ship in a storm", by espeak-ng
EXAMPLE_FILES = Path(__file__).parent.parent / "app" / "examples"
MOST_EXAMPLE = 60_000  # bytes


class Listeners(Models):
    """Small networks of chance, and the Whisper that comes with us."""

    def __init__(self, ear: Ear, drafter: Any) -> None:
        super().__init__()
        self.ear, self.drafter = ear, drafter

    def sound(self, name: str) -> Any:
        return self.ear

    def draft(self, name: str) -> Any:
        return self.drafter


@pytest.fixture(scope="module")
def models(tiny_pocket: None, tiny_ear: Ear, tiny_drafter: Any) -> Listeners:
    """Loaded once."""
    return Listeners(tiny_ear, tiny_drafter)


@pytest.fixture
def studio(models: Listeners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose results go to a folder of the test."""
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path / "results"))
    studio = Studio(lambda: Worker(models))
    yield studio
    studio.close()


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """The fields of the page: three seconds of a tone, of which nothing was heard yet."""
    return {
        "sound": save(tmp_path / "tone.wav", tone(3)),
        "begin": 0,
        "seconds": 30,
        "text": "",
        "text_weight": 1,
        "by_words": True,
        "words": "",
        "by_sound": True,
        "weight": 1,
        "by_mood": True,
        "mood": "",
        "colours": "",
        "quality": "draft",
        "size": "32x32",
        "seed": "7",
        "heard": Known(),
    }


def tone(seconds: float, hertz: float = 440, rate: int = RATE) -> Wave:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def save(path: Path, wave: Wave) -> str:
    return str(save_wav(path, wave))


def press_listen(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(hearing.attend(studio, given, threading.Event()))


def press_make(studio: Studio, given: dict[str, Any]) -> tuple[list[Change], gr.Error | None]:
    return watch(hearing.course(studio, given, threading.Event(), "somebody"))


def after(given: dict[str, Any], seen: list[Change]) -> dict[str, Any]:
    """The fields of the page as the changes have left them."""
    for change in seen:
        given = {**given, **{name: value for name, value in change.items() if name in given}}
    return given


def made(tmp_path: Path) -> dict[str, Any]:
    """The request of the only picture that was saved."""
    (path,) = (tmp_path / "results").glob("*.png")
    return read_recipe(path)["request"]


# --- the page ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Our parts of the page, and what was imported for it; laid out elsewhere, for Gradio leaves
    an event loop behind.
    """
    code = (
        "import json, sys\n"
        "from app.tabs import Studio\n"
        "from app.ui import build\n"
        "told = ('elem_id', 'label', 'info', 'alt_text')\n"
        "of = lambda part: {'kind': type(part).__name__,\n"
        "    **{name: getattr(part, name, None) for name in told}}\n"
        "parts = [of(part) for part in build(Studio()).blocks.values()]\n"
        "ours = [part for part in parts if (part['elem_id'] or '').startswith('listen-')]\n"
        "print(json.dumps({'parts': ours, 'imported': list(sys.modules)}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_every_control_has_a_label_and_says_what_it_is_for(page: dict[str, Any]) -> None:
    fields = {"Textbox", "Slider", "Checkbox", "Radio", "Number", "Dropdown"}
    assert {part["kind"] for part in page["parts"]} > {*fields, "Audio", "Image"}
    for part in page["parts"]:
        if part["kind"] in {*fields, "Audio", "Image"}:
            assert part["label"] or part["alt_text"], part
        assert part["kind"] not in fields or part["info"], part


def test_the_page_opens_without_what_listening_needs(page: dict[str, Any]) -> None:
    assert not {"torch", "numba", "faster_whisper"} & {*page["imported"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_small_and_made_by_our_own_script(name: str) -> None:
    path = EXAMPLE_FILES / f"{name}.flac"
    assert path.stat().st_size < MOST_EXAMPLE
    kept, rate = soundfile.read(path)
    again = made_again()[name]
    assert 3 <= len(kept) / rate <= 5
    assert np.abs(kept - 0.7 * again).max() < 0.005
    assert Path(hearing.example(name)).read_bytes() == path.read_bytes()


# --- listening --------------------------------------------------------------------------------


def test_what_is_said_fills_the_words_and_steers(studio: Studio, given: dict[str, Any]) -> None:
    seen, error = press_listen(studio, {**given, "sound": str(SHIP)})
    assert error is None
    assert text(last(seen, "status")) == "Listened. What steers: the words."
    assert (last(seen, "words"), last(seen, "weight")) == ("a ship in a storm", 0)
    told = dict(re.findall("<dt>(.*?)</dt><dd>(.+?)</dd>", last(seen, "figure")))
    assert list(told) == ["Words", "Sound", "Mood"]
    assert re.search(r"“.*ship in a storm.*” \(\d+% sure\)", html.unescape(told["Words"]))


def test_the_sound_is_drawn_and_told_in_words(studio: Studio, given: dict[str, Any]) -> None:
    seen, _ = press_listen(studio, {**given, "begin": 1, "seconds": 1})
    shown = last(seen, "figure")
    assert 'src="data:image/webp;base64,' in shown
    assert 'alt="The sound over time' in shown
    assert "1 to 2 s of 3." in text(shown)
    assert 'class="studio-part"><i style="left:33.33%;width:33.33%"' in shown
    assert "Only 1 s are used of 3 s, from 1 s on." in text(shown)


@pytest.mark.parametrize("way", hearing.WAYS)
def test_what_is_switched_off_is_not_listened_for(
    studio: Studio, given: dict[str, Any], way: str
) -> None:
    seen, _ = press_listen(studio, {**given, hearing.WAYS[way].switch: False})
    assert last(seen, "heard").ways == {*hearing.WAYS} - {way}
    assert not any(field in change for change in seen for field in hearing.WAYS[way].fields)


def test_silence_is_said_and_does_not_steer(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    given["sound"] = save(tmp_path / "quiet.wav", tone(2) * 0)
    seen, _ = press_listen(studio, given)
    assert "2 s of silence" in text(last(seen, "figure"))
    assert "Nothing in it steers" in text(last(seen, "status"))
    given = after(given, seen)
    seen, error = press_make(studio, given)
    assert error is not None
    assert "'quiet.wav' is silent. Add words for what to draw" in text(last(seen, "status"))
    _, error = press_make(studio, {**given, "text": "a red apple"})
    assert error is None
    request = made(tmp_path)
    assert (request["prompt"], request["sounds"]) == ("a red apple", [])


def test_the_buttons_change_places_and_back(studio: Studio, given: dict[str, Any]) -> None:
    for press in (press_listen, press_make):
        seen, _ = press(studio, given)
        states = [
            tuple(change[name]["interactive"] for name in ("listen", "make", "stop"))
            for change in seen
            if "stop" in change
        ]
        assert states == [(False, False, True), (True, True, False)]


def test_who_stops_ends_the_listening_itself(studio: Studio, given: dict[str, Any]) -> None:
    """It would else go on for seconds, and the next sound would wait for it."""
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        studio.worker().result().hear(given["sound"], "tone.wav", stop=stop)


def test_who_stops_while_it_is_listened_to_gets_nothing(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    stop = threading.Event()
    stop.set()
    seen, error = watch(hearing.attend(studio, given, stop))
    assert (text(last(seen, "status")), error) == ("Stopped.", None)
    seen, error = watch(hearing.course(studio, given, stop, "somebody"))
    assert (text(last(seen, "status")), error) == ("Stopped before it began.", None)
    assert not (tmp_path / "results").exists()


# --- a picture --------------------------------------------------------------------------------


def test_a_sound_and_words_make_a_picture_without_listening_first(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    seen, error = press_make(studio, {**given, "text": "a red apple", "text_weight": 0.5})
    assert error is None
    assert last(seen, "heard").ways == {*hearing.WAYS}
    assert "data:image" in last(seen, "figure")
    request = made(tmp_path)
    assert request["prompt"].startswith("a red apple::0.5")
    (sound,) = request["sounds"]
    assert (sound["name"], sound["weight"], sound["seconds"]) == ("tone.wav", 1, 3)
    (saved,) = (tmp_path / "results").glob("*.png")
    assert Path(last(seen, "result")["value"]).read_bytes() == saved.read_bytes()
    losses = re.search("<dt>Losses</dt><dd>(.+?)</dd>", last(seen, "details"))[1]
    for name in ("a red apple", "tone.wav"):
        assert re.search(rf"{name}: \d\.\d+ at first, \d\.\d+ now", losses)


def test_who_comes_back_sees_their_picture_go_on(studio: Studio, given: dict[str, Any]) -> None:
    worker = studio.worker().result()
    heard = worker.hear(given["sound"], "tone.wav")
    asked = listening.order(heard, Steering(sound=1), quality="draft", width=32, height=32)
    picture = worker.order(asked, threading.Event(), "somebody")
    assert hearing.is_ours(picture.request)
    seen, error = watch(hearing.resumed(studio, [picture]))
    assert error is None
    assert "Done: " in text(last(seen, "status"))
    assert "tone.wav" in text(last(seen, "details"))
    assert Path(last(seen, "finished")).exists()
    assert last(seen, "make")["interactive"]


def test_what_was_heard_is_corrected_and_not_listened_to_again(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    given["sound"] = str(SHIP)
    seen, _ = press_listen(studio, given)
    given = {**after(given, seen), "words": "a red bus", "mood": "a calm picture"}
    seen, error = press_make(studio, {**given, "colours": "#102030 #ffeedd"})
    assert error is None
    assert not any("figure" in change for change in seen)
    request = made(tmp_path)
    assert request["prompt"] == "a red bus | a calm picture::0.4"
    assert request["palette"] == ["#102030", "#ffeedd"]
    assert request["sounds"] == []


def test_another_section_is_another_sound(given: dict[str, Any]) -> None:
    known = Known((given["sound"], 0.0, 30.0), frozenset(hearing.WAYS))
    given["heard"] = known
    assert hearing._unheard(given, known.section) == []
    assert hearing._unheard(given, (given["sound"], 1.0, 30.0)) == [*hearing.WAYS]


def test_a_way_that_is_switched_on_later_is_listened_in_then(
    studio: Studio, given: dict[str, Any]
) -> None:
    seen, _ = press_listen(studio, {**given, "sound": str(SHIP), "by_words": False})
    given = {**after({**given, "sound": str(SHIP)}, seen), "by_words": True, "weight": 0.25}
    seen, error = press_make(studio, given)
    assert error is None
    assert last(seen, "words") == "a ship in a storm"
    assert not any("weight" in change for change in seen)


def test_what_was_typed_before_anybody_listened_stays(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    own = {"sound": str(SHIP), "words": "a blue whale", "mood": "a calm picture"}
    _, error = press_make(studio, {**given, **own})
    assert error is None
    assert made(tmp_path)["prompt"] == "a blue whale | a calm picture::0.4"


def test_what_is_switched_off_does_not_steer(given: dict[str, Any]) -> None:
    filled = {**given, "words": "a bus", "weight": 0.5, "mood": "calm", "colours": "#102030"}
    everything = hearing.steering(filled)
    assert (everything.words, everything.sound) == ("a bus", 0.5)
    assert (everything.mood, everything.palette) == ("calm", ("#102030",))
    for way in hearing.WAYS.values():
        filled[way.switch] = False
    assert hearing.steering(filled) == Steering()


def test_another_sound_forgets_what_was_heard() -> None:
    change = hearing.another()
    assert {*change} >= {*listen._FOUND}
    assert (change["words"], change["mood"], change["weight"]) == ("", "", 1)
    assert change["heard"] == Known()


def test_losses_are_shown_as_they_fall() -> None:
    fall, pixels = hearing.Fall(), np.zeros((1, 1, 3), np.uint8)
    fall.told(Look(0, 9, {"a": 0.5, "b": 1.0}, 0, pixels))
    assert fall.told(Look(9, 9, {"a": 0.25, "b": 0.75}, 1, pixels)) == (
        "a: 0.500 at first, 0.250 now · b: 1.000 at first, 0.750 now"
    )


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sound": None}, "There is no sound yet. Choose one, record one, or take one of ours."),
        ({"sound": "/nowhere/at-all.wav"}, "The sound is not here any more"),
        ({"sound": __file__}, "is no sound that we can read"),
        ({"begin": 4}, "'tone.wav' is 3 s long; a section cannot start at 4 s."),
        ({"begin": -1}, "A section cannot start at -1 s. Give 0 or more seconds."),
        ({"begin": float("nan")}, "A section cannot start at nan s."),
        ({"seconds": 500}, "A section has 0.25 to 120 s, not 500."),
        ({"seconds": float("nan")}, "A section has 0.25 to 120 s, not nan."),
        ({"seed": "seven"}, "seed: 'seven' is no whole number"),
        ({"size": "huge"}, "huge"),
        (
            {"by_mood": True, "mood": "calm", "colours": "teal"},
            "'teal' is no colour. Write colours like #20a0ff",
        ),
        ({"text": "a red apple::99"}, "99"),
        ({"text": "a red apple", "text_weight": float("nan")}, "out of range"),
        ({"by_words": False, "by_sound": False, "by_mood": False}, "Add words for what to draw"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    studio: Studio, given: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    quiet = {"by_words": False, "by_mood": False}
    seen, error = press_make(studio, {**given, **quiet, **wrong})
    assert error is not None
    assert sentence in html.unescape(error.message)
    assert sentence in text(last(seen, "status"))
    assert last(seen, "make")["interactive"] is True
    assert not any("sound" in change for change in seen)  # what was uploaded is still there
    assert not (tmp_path / "results").exists()


def test_after_a_broken_sound_the_next_one_is_heard(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF....WAVE nothing of the kind")
    seen, error = press_listen(studio, {**given, "sound": str(broken)})
    assert error is not None
    assert text(last(seen, "status")).startswith("'broken.wav' is damaged")
    seen, error = press_listen(studio, given)
    assert error is None
    assert last(seen, "heard").section == (given["sound"], 0, 30)


def test_words_of_visitors_are_shown_as_words(
    studio: Studio, given: dict[str, Any], tmp_path: Path
) -> None:
    given["sound"] = save(tmp_path / "<img src=x>.wav", tone(1))
    seen, error = press_make(studio, {**given, "text": "<img src=y>", "by_words": False})
    assert error is None
    names = ("status", "details", "figure", "swatches")
    shown = "".join(str(change.get(name, "")) for change in seen for name in names)
    assert not re.search("<img src=[xy]", shown)
    assert "&lt;img src=x&gt;.wav" in shown


def test_only_colours_become_swatches() -> None:
    assert hearing.swatches('#102030 red #ffeedd "><script>') == (
        '<p class="studio-swatches" role="img" aria-label="Colours: #102030, #ffeedd">'
        '<i style="background:#102030"></i><i style="background:#ffeedd"></i></p>'
    )
    assert hearing.swatches("") == hearing.swatches(None) == ""


# --- what is drawn ----------------------------------------------------------------------------


def heard(*stretches: Stretch) -> Heard:
    return Heard(Sound(tone(8), "0" * 64, 0.0, 8.0), "x.wav", stretches=stretches)


def test_labels_that_stay_are_one_and_share_what_overlaps() -> None:
    rain, dog = (("rain", 0.8),), (("dog", 0.6),)
    found = hearing.chips(
        heard(
            Stretch(0, 2, rain),
            Stretch(1, 3, (("rain", 0.6),)),
            Stretch(2, 4, dog),
            Stretch(3, 5, ()),
            Stretch(4, 6, (("cat", 0.05),)),
            Stretch(6, 8, dog),
        )
    )
    assert found == [
        Chip(0, 2.5, "rain", pytest.approx(0.7)),
        Chip(2.5, 3.5, "dog", 0.6),
        Chip(6, 8, "dog", 0.6),
    ]


def test_a_figure_says_when_what_is_heard() -> None:
    shown = hearing.figure(heard(Stretch(0, 2, (("rain", 0.8),)), Stretch(4, 8, (("dog", 0.6),))))
    assert 'style="left:50.00%;width:50.00%" title="dog 60%">dog 60%</li>' in shown
    alt = re.search('alt="(.*?)"', shown)[1]
    assert alt.endswith("0.0 to 2.0 s: rain (80%); 4.0 to 8.0 s: dog (60%).")
    assert "studio-part" not in shown  # it is all of the file


def test_a_high_tone_stands_above_a_low_one_and_after_it() -> None:
    wave = np.concatenate([tone(1, 200, sonogram.RATE), tone(1, 4_000, sonogram.RATE)])
    drawn = np.asarray(sonogram.draw(wave)).astype(int).sum(axis=2)
    height = sonogram.WAVE_HEIGHT + sonogram.PITCH_HEIGHT
    assert drawn.shape == (height, sonogram.WIDTH)
    pitches = drawn[sonogram.WAVE_HEIGHT :]
    early = pitches[:, : sonogram.WIDTH // 2 - 20].mean(axis=1).argmax()
    late = pitches[:, sonogram.WIDTH // 2 + 20 :].mean(axis=1).argmax()
    assert late < sonogram.PITCH_HEIGHT / 2 < early


def test_the_wave_is_drawn_where_it_is_loud() -> None:
    wave = np.concatenate([tone(1, rate=sonogram.RATE), np.zeros(sonogram.RATE, np.float32)])
    drawn = np.asarray(sonogram.draw(wave))[: sonogram.WAVE_HEIGHT]
    painted = (drawn == sonogram._WAVE).all(axis=2).sum(axis=0)
    assert painted[50] > sonogram.WAVE_HEIGHT * 0.8
    assert painted[-50] <= 2


def test_a_click_in_two_minutes_is_seen() -> None:
    wave = 1e-3 * np.random.default_rng(0).standard_normal(120 * sonogram.RATE, np.float32)
    wave[60 * sonogram.RATE] = 1
    power = sonogram.mel(wave)
    assert power.shape[1] == sonogram.WIDTH
    assert abs(int(power.sum(axis=0).argmax()) - sonogram.WIDTH // 2) <= 1


@pytest.mark.parametrize("count", [1, 700, 4_000])
def test_the_shortest_and_the_silent_are_drawn(count: int) -> None:
    silent = np.asarray(sonogram.draw(np.zeros(count, np.float32)))
    assert (silent[sonogram.WAVE_HEIGHT :] == sonogram._GROUND).all()


def test_an_example_is_heard_as_a_sound_of_its_length() -> None:
    assert open_sound(EXAMPLE_FILES / "duck.flac").seconds == 3.5
