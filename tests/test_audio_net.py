"""The pocket sound encoder: each window of a sound by itself, neither its neighbours nor how loud.

Its numbers here are of a tower a tenth as deep, of seeded random weights.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from guidance import audio_net
from guidance.audio import Wave
from guidance.audio_net import CONFIG, RATE, STRIDE, WEIGHTS, WINDOW, Ear, Network, mel_filters

WIDTH, LABELS = 32, 5  # as the fixture has them


def noise(seconds: float, seed: int = 0) -> Wave:
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return wave.astype(np.float32)


def tone(seconds: float, hertz: float) -> Wave:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype("f4")


@pytest.mark.parametrize(
    ("seconds", "windows"), [(0.25, 1), (1.0, 1), (2.0, 1), (2.01, 2), (3.0, 2), (5.5, 5), (20, 19)]
)
def test_windows_cover_a_sound_and_a_short_one_is_one_window(
    tiny_ear: Ear, seconds: float, windows: int
) -> None:
    edges = tiny_ear.windows(noise(seconds))
    assert len(edges) == windows
    assert edges[0][0] == 0
    assert edges[-1][1] == pytest.approx(seconds)
    assert all(end - start == pytest.approx(min(seconds, WINDOW)) for start, end in edges)
    starts = [start for start, _ in edges]
    assert all(0 < after - one <= STRIDE + 1e-9 for one, after in pairwise(starts))


@pytest.mark.parametrize("seconds", [0.25, 2, 4.3, 20])
def test_each_window_becomes_a_direction(tiny_ear: Ear, seconds: float) -> None:
    wave = noise(seconds)
    embedded = tiny_ear.embed(wave)
    assert embedded.shape == (len(tiny_ear.windows(wave)), WIDTH)
    assert embedded.dtype == torch.float32
    assert torch.allclose(embedded.norm(dim=1), torch.ones(len(embedded)), atol=1e-5)
    assert torch.equal(embedded, tiny_ear.embed(wave))


def test_neighbours_do_not_change_a_window(tiny_ear: Ear) -> None:
    wave = np.concatenate([tone(2, 440), noise(20)])
    alone, among = tiny_ear.embed(wave[: 2 * RATE])[0], tiny_ear.embed(wave)[0]
    assert torch.allclose(alone, among, atol=1e-5)
    assert alone @ tiny_ear.embed(noise(2))[0] < 0.9  # and it does not say the same of everything


def test_how_loud_a_sound_is_does_not_count(tiny_ear: Ear) -> None:
    wave = noise(2)
    assert torch.allclose(tiny_ear.embed(wave), tiny_ear.embed(0.01 * wave), atol=1e-4)


@pytest.mark.parametrize("wave", [np.zeros(RATE, "f4"), np.ones(RATE, "f4")], ids=["0", "1"])
def test_of_nothing_at_all_it_says_something_finite(tiny_ear: Ear, wave: Wave) -> None:
    assert tiny_ear.embed(wave).isfinite().all()


@pytest.mark.parametrize("hertz", [200, 1_000, 3_000, 7_000])
def test_a_tone_is_seen_at_its_pitch(tiny_ear: Ear, hertz: float) -> None:
    seen = tiny_ear.network.look(torch.from_numpy(tone(2, hertz))[None])
    assert seen.shape[:3] == (1, 1, 64)
    row = int(seen[0, 0].mean(dim=1).argmax())
    middle = float(torch.linspace(0, RATE / 2, 257)[mel_filters()[row].argmax()])
    assert middle == pytest.approx(hertz, rel=0.1, abs=32)


def test_every_row_of_the_spectrum_hears_something() -> None:
    filters = mel_filters()
    assert (filters >= 0).all()
    assert (filters.sum(dim=1) > 0.5).all()
    peaks = filters.argmax(dim=1)
    assert (peaks.diff() >= 0).all()


# --- what it recalls --------------------------------------------------------------------------


def test_of_a_sound_that_it_knows_it_recalls_that_sound(tiny_ear: Ear) -> None:
    known = tiny_ear.network.goals
    assert known.shape == (LABELS, WIDTH)
    assert torch.allclose(known.norm(dim=1), torch.ones(LABELS), atol=1e-5)
    assert (tiny_ear.recall(known) * known).sum(dim=1).min() > 0.999
    blurred = torch.nn.functional.normalize(known + 0.5 * known.roll(1, dims=0), dim=1)
    recalled = (tiny_ear.recall(blurred) * known).sum(dim=1)
    assert (recalled > (blurred * known).sum(dim=1)).all()


def test_what_is_recalled_is_a_direction(tiny_ear: Ear) -> None:
    heard = tiny_ear.embed(noise(5))
    recalled = tiny_ear.recall(heard)
    assert recalled.shape == heard.shape
    assert torch.allclose(recalled.norm(dim=1), torch.ones(len(heard)), atol=1e-5)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tiny_ear: Ear, tmp_path: Path) -> Path:
    config = {"width": WIDTH, "labels": LABELS, "tower": "test_efficientnet", "space": "pocket"}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    save_file(tiny_ear.network.state_dict(), tmp_path / WEIGHTS)
    return tmp_path


def test_a_loaded_one_says_the_same(tiny_ear: Ear, folder: Path) -> None:
    loaded = audio_net.load(folder)
    assert (loaded.space, loaded.rate) == ("pocket", RATE)
    assert torch.equal(loaded.embed(noise(3)), tiny_ear.embed(noise(3)))
    heard = tiny_ear.embed(noise(3))
    assert torch.equal(loaded.recall(heard), tiny_ear.recall(heard))
    assert not any(weight.requires_grad for weight in loaded.network.parameters())
    assert not loaded.network.training


def test_halved_weights_say_nearly_the_same(tiny_ear: Ear, folder: Path) -> None:
    weights = tiny_ear.network.state_dict()
    short = {key: w.half() if w.is_floating_point() else w for key, w in weights.items()}
    save_file(short, folder / WEIGHTS)
    near = (audio_net.load(folder).embed(noise(3)) * tiny_ear.embed(noise(3))).sum(dim=1)
    assert (near > 0.999).all()


def test_weights_of_another_network_are_refused_in_words(folder: Path) -> None:
    save_file(Network(WIDTH + 1, LABELS, "test_efficientnet").state_dict(), folder / WEIGHTS)
    with pytest.raises(ValueError, match="are another network's"):
        audio_net.load(folder)
