"""Sounds in a CLIP's space: what of a sound counts, and what it is called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from guidance import clip
from guidance.audio import Wave, embed_labels, follow, labels, loud, name, whole
from guidance.audio_net import RATE, Ear
from guidance.clip import Clip


@pytest.fixture(scope="module")
def seer(tiny_clip: Path) -> Clip:
    return clip.load(tiny_clip, space="pocket")


def noise(seconds: float, seed: int = 0) -> Wave:
    wave = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return wave.astype(np.float32)


def tone(seconds: float, loudness: float = 0.3) -> Wave:
    time = np.arange(round(seconds * RATE)) / RATE
    return (loudness * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def test_a_sound_as_a_whole_is_one_direction_between_those_of_its_windows(tiny_ear: Ear) -> None:
    wave = np.concatenate([noise(4), tone(4)])
    found = whole(tiny_ear, wave)
    assert found.shape == (1, 32)
    assert found.norm() == pytest.approx(1, abs=1e-5)
    apart = float(tiny_ear.embed(noise(2)) @ tiny_ear.embed(tone(2)).T)
    assert all(float(found @ tiny_ear.embed(part).T) > apart for part in (noise(2), tone(2)))


@pytest.mark.parametrize("rest", [np.zeros(3 * RATE, "f4"), tone(3, 1e-4)], ids=["no", "faint"])
def test_quiet_windows_do_not_count(tiny_ear: Ear, rest: Wave) -> None:
    wave = np.concatenate([noise(3), rest])
    assert loud(tiny_ear, wave).tolist() == [True, True, True, False, False]
    assert torch.allclose(whole(tiny_ear, wave), whole(tiny_ear, wave[: 4 * RATE]), atol=1e-5)
    every = torch.nn.functional.normalize(tiny_ear.embed(wave).mean(dim=0, keepdim=True), dim=-1)
    assert not torch.allclose(whole(tiny_ear, wave), every, atol=1e-3)


def test_a_sound_that_is_soft_throughout_counts(tiny_ear: Ear) -> None:
    assert loud(tiny_ear, 1e-3 * noise(4)).all()


def test_silence_has_a_direction_too_and_it_is_finite(tiny_ear: Ear) -> None:
    assert whole(tiny_ear, np.zeros(3 * RATE, np.float32)).isfinite().all()


def test_labels_are_likely_by_shares_of_one_the_likeliest_first(tiny_ear: Ear, seer: Clip) -> None:
    wave = np.concatenate([noise(3), tone(3)])
    for names in name(seer, tiny_ear.embed(wave), most=len(labels())):
        chances = [chance for _, chance in names]
        assert sum(chances) == pytest.approx(1, abs=1e-4)
        assert chances == sorted(chances, reverse=True)
        assert {label for label, _ in names} == set(labels())
    assert [len(names) for names in name(seer, tiny_ear.embed(wave))] == [3] * 5


def test_what_lies_where_a_label_lies_is_called_so(seer: Clip) -> None:
    found = [names[0][0] for names in name(seer, embed_labels(seer), most=1)]
    assert found == list(labels())


def test_every_label_is_called_something_and_nothing_twice() -> None:
    assert len(labels()) > 20
    for label, called in labels().items():
        assert called, label
        assert all(called), label
        assert len(set(called)) == len(called), label


def test_followed_through_time_every_window_is_named_but_the_quiet_ones(
    tiny_ear: Ear, seer: Clip
) -> None:
    wave = np.concatenate([noise(3), np.zeros(3 * RATE, np.float32)])
    stretches = follow(tiny_ear, seer, wave)
    assert [(one.start, one.end) for one in stretches] == tiny_ear.windows(wave)
    assert [bool(one.names) for one in stretches] == [True, True, True, False, False]
    (alone,) = name(seer, tiny_ear.embed(wave[: 2 * RATE]))
    assert dict(stretches[0].names) == pytest.approx(dict(alone), abs=1e-4)
