"""The sound encoder's training: recordings with true captions, fair exams, a falling loss."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from guidance import audio_net
from guidance.audio import LABELS
from guidance.audio_net import Ear, Network
from tests.elsewhere import learns_the_same_there
from tests.pupils import TINY
from training import pupil, recordings, sound
from training.course import State
from training.data import Library, Picture
from training.recordings import SPEECH, Recording, qt_resource
from training.sound import LENGTH, Album, Goals, Lessons, Plan, Wave
from training.synth import RATE, RECIPES

WIDTH = TINY["embed_dim"]


def tone(seconds: float, hertz: float = 440.0) -> Wave:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * hertz * time).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> Wave:
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return wave.astype(np.float32)


# --- Qt's resource files ----------------------------------------------------------------------


def rcc(files: dict[str, bytes], version: int) -> bytes:
    """A resource file by hand: a root, in it a folder "sounds", in that the files."""
    names, data = b"", b""
    where = {}
    for name in ("sounds", *files):
        where[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    date = struct.pack(">Q", 0) if version >= 2 else b""
    nodes = [
        struct.pack(">IHII", 0, 2, 1, 1) + date,
        struct.pack(">IHII", where["sounds"], 2, len(files), 2) + date,
    ]
    for name, content in files.items():
        nodes.append(struct.pack(">IHHHI", where[name], 0, 0, 0, len(data)) + date)
        data += struct.pack(">I", len(content)) + content
    tree = b"".join(nodes)
    head = 20
    places = (head, head + len(tree), head + len(tree) + len(data))
    return b"qres" + struct.pack(">4I", version, *places) + tree + data + names


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_file_in_a_resource_file_is_found(version: int) -> None:
    files = {"bark.ogg": b"wau", "größe.ogg": b"", "a": bytes(range(256)) * 9}
    assert dict(qt_resource(rcc(files, version))) == files


@pytest.mark.parametrize("blob", [b"", b"qre", b"OggS" + bytes(99)])
def test_what_is_no_resource_file_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="no Qt resource file"):
        list(qt_resource(blob))


# --- recordings -------------------------------------------------------------------------------


def encoded(wave: Wave, rate: int = RATE, kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All archives, unpacked, each recording a tenth of a second of stereo noise at 8 kHz."""
    cache = tmp_path_factory.mktemp("cache")
    short = encoded(np.stack([noise(0.05), -0.5 * noise(0.05)], axis=1), 8_000)

    def put(package: str, path: str, content: bytes = short) -> None:
        place = cache / "deb" / package / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    stamps, icons, system, gcompris = recordings.PACKAGES
    for keys in recordings.STAMPS.values():
        for key in keys:
            put(stamps, f"{recordings._STAMPS}/{key}.ogg")
    put(stamps, f"{recordings._STAMPS}/animals/owl_desc.ogg")
    put(stamps, f"{recordings._STAMPS}/animals/owl.txt", b"An owl.\nde.utf8=Eine Eule.\n")
    put(stamps, f"{recordings._STAMPS}/animals/nameless_desc.ogg")
    for keys in recordings.ICONS.values():
        for key in keys:
            put(icons, f"{recordings._ICONS}/{key}")
    for table in (recordings.SYSTEM, recordings.TESTED_SYSTEM):
        for keys in table.values():
            for key in keys:
                put(system, f"{recordings._SYSTEM}/{key}")
    for archive, table in recordings.TESTED.items():
        files = {key: short for keys in table.values() for key in keys}
        put(gcompris, f"{recordings._GCOMPRIS}/{archive}", rcc(files, 2))
    return cache


def test_every_recording_of_the_tables_is_read_alike(cache: Path) -> None:
    trained, tested = list(recordings.trained_on(cache)), list(recordings.tested_on(cache))
    tables = (recordings.STAMPS, recordings.ICONS, recordings.SYSTEM)
    named = sum(len(keys) for table in tables for keys in table.values())
    assert len(trained) == named + 2  # and two of somebody speaking
    assert {one.label for one in trained if one.source == recordings.PACKAGES[0]} == {
        *recordings.STAMPS,
        SPEECH,
    }
    for one in (*trained, *tested):
        assert one.wave.dtype == np.float32
        assert one.wave.shape == (round(0.1 * RATE),)  # mono, at our rate
        assert np.abs(one.wave).max() == pytest.approx(1)


def test_nothing_that_trains_is_tested(cache: Path) -> None:
    trained, tested = (
        {(one.source, one.key) for one in found}
        for found in (recordings.trained_on(cache), recordings.tested_on(cache))
    )
    assert tested
    assert not trained & tested


def test_of_the_other_source_only_tests_are_made(cache: Path) -> None:
    assert recordings.PACKAGES[3] not in {one.source for one in recordings.trained_on(cache)}


def test_names_that_are_spoken_come_with_who_says_them(cache: Path) -> None:
    ((name, wave),) = recordings.names_spoken(cache)
    assert name == "An owl."
    assert len(wave) == round(0.1 * RATE)


def test_a_missing_recording_is_not_passed_over(cache: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(recordings._files(cache, "x", {"dog": ("bark.ogg",)}))


LABELLED = sorted({*recordings.STAMPS, *recordings.ICONS, *recordings.SYSTEM, SPEECH, *RECIPES})


@pytest.mark.parametrize("label", LABELLED)
def test_every_label_has_captions_the_plain_noun_first(label: str) -> None:
    name, *others = sound.captions(label)
    assert name == (RECIPES[label].captions[0] if label in RECIPES else label)
    assert len({name, *others}) == 1 + len(others)
    for caption in (name, *others):
        assert caption == caption.strip() != ""
        assert " a a " not in f" {caption} "
        assert " an a " not in f" {caption} "


# --- sounds -----------------------------------------------------------------------------------


def test_a_part_of_a_recording_is_kept_apart() -> None:
    wave = np.arange(5 * RATE, dtype=np.float32)
    trained, kept = sound.split(wave)
    assert kept is not None
    assert len(kept) == pytest.approx(len(wave) / 5, abs=1)
    (start,) = np.flatnonzero(wave == kept[0])
    assert np.array_equal(kept, wave[start : start + len(kept)])  # in one piece
    assert np.array_equal(np.sort(np.concatenate([*trained, kept])), wave)


def test_of_a_short_recording_nothing_is_kept() -> None:
    (trained,), kept = sound.split(noise(1.4))
    assert kept is None
    assert np.array_equal(trained, noise(1.4))


def two_labels() -> list[Recording]:
    """Three sources of two labels: one has a low tone, one is noise."""
    return [
        Recording("hum", "one", "a", tone(4, 150)),
        Recording("hum", "two", "b", tone(3, 250)),
        Recording("hiss", "one", "c", noise(4)),
        Recording("hiss", "one", "d", noise(1)),
    ]


def test_recordings_are_gathered_by_label_and_source_without_what_is_kept() -> None:
    album = sound.collect(two_labels(), made=0, seed=0)
    assert {label: len(by) for label, by in album.trained.items()} == {"hum": 2, "hiss": 1}
    assert {label: len(kept) for label, kept in album.kept.items()} == {"hum": 2, "hiss": 1}
    trained, kept = sound.split(noise(4))
    assert [len(wave) for wave in album.trained["hiss"][0]] == [*map(len, trained), RATE]
    assert np.array_equal(album.kept["hiss"][0], kept)


def test_made_sounds_are_a_source_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: RECIPES[name] for name in list(RECIPES)[:2]}
    monkeypatch.setattr(sound, "RECIPES", few)
    monkeypatch.setattr(sound, "_MADE_SECONDS", 1.0)
    one, again, other = (sound.collect([], made=2, seed=seed) for seed in (0, 0, 1))
    for name in few:
        assert [len(waves) for waves in one.trained[name]] == [2]
        (first, second), (same, _), (third, _) = (
            album.trained[name][0] for album in (one, again, other)
        )
        assert np.array_equal(first, same)
        assert not np.array_equal(first, second)
        assert not np.array_equal(first, third)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.0, 9.0])
def test_a_disguise_keeps_the_length_and_is_reproducible(seconds: float) -> None:
    seen = set()
    for seed in range(6):
        one, again = (sound.disguise(tone(seconds), np.random.default_rng(seed)) for _ in range(2))
        assert one.shape == (LENGTH,)
        assert one.dtype == np.float32
        assert np.array_equal(one, again)
        assert 0.09 < float(np.sqrt(np.mean(one**2))) < 0.2
        seen.add(one.tobytes())
    assert len(seen) == 6


def test_a_disguise_of_silence_is_finite() -> None:
    chance = np.random.default_rng(0)
    assert np.isfinite(sound.disguise(np.zeros(RATE, np.float32), chance)).all()


def test_a_disguise_changes_nothing_of_what_it_was_given() -> None:
    wave = tone(3)
    sound.disguise(wave, np.random.default_rng(0))
    assert np.array_equal(wave, tone(3))


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_played_faster_it_is_shorter_and_higher(speed: float) -> None:
    turned = sound.retune(tone(2), speed)
    assert len(turned) == pytest.approx(2 * RATE / speed, abs=2)
    peak = np.abs(np.fft.rfft(turned)).argmax() * RATE / len(turned)
    assert peak == pytest.approx(440 * speed, abs=2)


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    lessons = Lessons(sound.collect(two_labels(), 0, 0), ("hiss", "hum"), Plan(batch=24))
    (waves, parts), (again, same) = lessons[3], lessons[3]
    assert waves.shape == (24, LENGTH)
    assert torch.equal(waves, again)
    assert torch.equal(parts, same)
    assert not torch.equal(waves, lessons[4][0])


def test_a_batch_says_how_much_of_each_label_is_in_it() -> None:
    lessons = Lessons(sound.collect(two_labels(), 0, 0), ("hiss", "hum"), Plan(batch=60))
    _, parts = lessons[0]
    assert torch.allclose(parts.sum(dim=1), torch.ones(60))
    pure = (parts == 1).any(dim=1)
    assert 0.5 < pure.float().mean() < 1  # of those that are mixed, some are twice the same
    assert 0.3 < parts.mean(dim=0)[0] < 0.7  # every label as often, however many recordings


def test_a_cover_hides_a_band_and_a_span_and_leaves_the_rest() -> None:
    seen = torch.rand(64, 1, 64, 201) + 1
    covered = sound.cover(seen, torch.Generator().manual_seed(0))
    hidden = covered == 0
    assert torch.equal(covered[~hidden], seen[~hidden])
    assert hidden.any()
    assert hidden.all(dim=3)[:, 0].sum(dim=1).max() <= 12
    assert hidden.all(dim=2)[:, 0].sum(dim=1).max() <= 40


# --- training ---------------------------------------------------------------------------------


@pytest.fixture
def goals() -> Goals:
    """Two labels far apart, one of which has drawings, in a vocabulary of four."""
    directions = F.normalize(torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(0)))
    pictures = torch.stack([directions[2], torch.zeros(WIDTH)])
    return Goals(("hiss", "hum"), directions[:2], pictures, directions)


def small() -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Network(WIDTH, 2, "test_efficientnet")
    pupil.quicken(net.tower)
    return net


def test_a_few_steps_on_two_labels_lower_the_loss(goals: Goals, tmp_path: Path) -> None:
    plan = Plan(steps=16, batch=12, workers=0, warm_up=1, rate=3e-3, tower_rate=3e-3, mixed=0.0)
    state = sound.new_state(small(), plan)
    lessons = Lessons(sound.collect(two_labels(), 0, 0), goals.labels, plan)
    waves, parts = lessons[1_000]

    def loss() -> float:
        net = state.net.train()  # as it trains: sixteen steps settle no running means
        with torch.no_grad():
            return float(sum(sound.compare(plan, goals, net(waves), parts).values()))

    before = loss()
    sound.train(plan, state, lessons, goals, tmp_path)
    assert loss() < 0.7 * before
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"label", "near", "names", "shown", "right"} <= set(log[1])
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_training_that_goes_on_is_the_one_that_never_stopped(
    goals: Goals, tmp_path: Path
) -> None:
    plan = Plan(steps=3, batch=4, workers=0, warm_up=1)
    album = sound.collect(two_labels(), 0, 0)
    lessons = Lessons(album, goals.labels, plan)
    whole, half = sound.new_state(small(), plan), sound.new_state(small(), plan)
    for number in range(3):
        sound.train_step(plan, whole, goals, 0.5, lessons[number])
        whole.step += 1
    sound.train_step(plan, half, goals, 0.5, lessons[0])
    half.step += 1
    torch.save(half.parts(), tmp_path / "checkpoint.pt")
    late = sound.new_state(small(), plan)
    late.resume(tmp_path / "checkpoint.pt")
    for number in range(1, 3):
        sound.train_step(plan, late, goals, 0.5, lessons[number])
        late.step += 1
    weights = zip(whole.mean.parameters(), late.mean.parameters(), strict=True)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in weights)


def test_on_a_gpu_it_learns_the_same(goals: Goals, tmp_path: Path) -> None:
    def train(device: str) -> State:
        plan = Plan(steps=3, batch=4, workers=0, device=device)
        state = sound.new_state(small(), plan)
        lessons = Lessons(sound.collect(two_labels(), 0, 0), goals.labels, plan)
        sound.train(plan, state, lessons, goals, tmp_path)
        return state

    learns_the_same_there(train)


def test_the_loss_is_least_where_it_should_be(goals: Goals) -> None:
    plan, parts = Plan(), torch.eye(2)
    right = sum(sound.compare(plan, goals, goals.texts, parts).values())
    wrong = sum(sound.compare(plan, goals, goals.texts.flip(0), parts).values())
    assert right < wrong
    assert sound.compare(plan, goals, goals.texts, parts)["near"] == pytest.approx(0, abs=1e-5)


def test_without_drawings_the_loss_is_finite(goals: Goals) -> None:
    bare = replace(goals, pictures=torch.zeros(2, WIDTH))
    losses = sound.compare(Plan(), bare, goals.texts, torch.eye(2))
    assert "shown" not in losses
    assert all(loss.isfinite() for loss in losses.values())
    hum_alone = torch.tensor([[0.0, 1.0]])  # of which there is no drawing
    losses = sound.compare(Plan(), goals, goals.texts[1:], hum_alone)
    assert losses["shown"] == 0


def test_goals_are_where_the_words_and_the_drawings_are() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = pupil.Pupil(TINY).eval()
    names = ("dog", "dog", "apple")
    pictures = tuple(Picture("ours", f"{i}", name) for i, name in enumerate(names))
    rgba = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 4), np.uint8)
    library = Library(pictures, rgba, (), np.zeros((0, 192, 288, 3), np.uint8))
    found = sound.find_goals(["apple", "dog", SPEECH], reader, library)
    assert found.labels == ("apple", "dog", SPEECH)
    assert found.texts.shape == found.pictures.shape == (3, WIDTH)
    assert found.names.shape == (2, WIDTH)  # every name once
    assert torch.allclose(found.texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert [bool(row.any()) for row in found.pictures] == [True, True, False]


# --- out, and how well ------------------------------------------------------------------------


def test_what_is_exported_is_loaded_and_says_the_same(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Network(WIDTH, 2).eval()
    sound.export(net, tmp_path, "pocket", ("dog", SPEECH))
    loaded, wave = audio_net.load(tmp_path), noise(3)
    assert loaded.space == "pocket"
    assert ((loaded.embed(wave) * Ear(net, space="").embed(wave)).sum(dim=1) > 0.999).all()
    assert torch.allclose(loaded.network.goals, net.goals, atol=1e-3)
    called = json.loads((tmp_path / LABELS.name).read_text())
    assert called == {label: sound.captions(label) for label in ("dog", SPEECH)}


def test_an_exam_asks_what_did_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "RECIPES", {})
    album = sound.collect([*two_labels(), Recording(SPEECH, "one", "e", noise(4))], 0, 0)
    others = [Recording("hum", "new", "f", tone(1)), Recording("unknown", "new", "g", tone(1))]
    asked = sound.questions(album, others, seed=0)
    assert [(one.exam, one.label) for one in asked] == [
        ("sections", "hum"), ("sections", "hum"), ("sections", "hiss"), ("sources", "hum"),
    ]  # fmt: skip
    trained = {wave.tobytes() for by in album.trained.values() for ws in by for wave in ws}
    assert not trained & {one.wave.tobytes() for one in asked}


def test_made_questions_are_of_unheard_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(RECIPES))
    monkeypatch.setattr(sound, "RECIPES", {name: RECIPES[name]})
    known = Album({name: []})
    asked = sound.questions(known, [], seed=0)
    assert [(one.exam, one.label) for one in asked] == [("made", name)] * sound._ASKED
    assert sound.questions(sound.without(known, [name]), [], seed=0) == []


def test_what_is_left_out_is_never_heard_and_written_down(tmp_path: Path) -> None:
    album = sound.without(sound.collect(two_labels(), 0, 0), ["hum"])
    assert (set(album.trained), set(album.kept)) == ({"hiss"}, {"hiss"})
    with pytest.raises(LookupError, match="No sound is called hoot"):
        sound.without(album, ["hoot"])
    sound.export(Network(WIDTH, 2), tmp_path, "pocket", ["hiss"], ["hum"])
    assert json.loads((tmp_path / sound.LEFT_OUT).read_text()) == ["hum"]


def test_answers_are_shares_of_right_ones(tiny_ear: Ear) -> None:
    waves = [tone(2, 150), tone(2, 3_000), noise(2)]
    heard = torch.stack([sound.hear(tiny_ear, wave) for wave in waves])
    asked = [sound.Question("ends", str(i), wave) for i, wave in enumerate(waves)]

    def share(order: list[int]) -> dict[str, float]:
        goals = Goals(("0", "1", "2"), heard[order], torch.zeros(3, WIDTH), heard)
        return sound.answers(tiny_ear.network, goals, asked)

    assert share([0, 1, 2]) == {"ends_top1": 1.0, "ends_top5": 1.0}
    assert share([1, 0, 2]) == {"ends_top1": pytest.approx(1 / 3), "ends_top5": 1.0}
