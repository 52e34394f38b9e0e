"""Sounds in a CLIP's space: what every sound encoder offers, and what can be made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from guidance.clip import Clip, Embedding

LABELS = Path(__file__).resolve().parent.parent / "weights" / "sound" / "labels.json"
_QUIET = 1e-3  # of the loudest window's power: what is 30 dB below it says nothing
_HEAT = 0.05  # of the likelihood of labels, as the pocket encoder was trained with

Wave = NDArray[np.float32]  # (samples,), mono, -1..1


class AudioEncoder(Protocol):
    """Stretches of a sound become unit vectors beside those of words and pictures."""

    rate: int  # Hz it wants
    space: str  # the CLIP whose embeddings it speaks

    def embed(self, wave: Wave) -> Embedding:
        """Sound at `rate` -> (windows, d), unit length, one for each window."""
        ...

    def windows(self, wave: Wave) -> list[tuple[float, float]]:
        """Start and end of each window, in seconds."""
        ...

    def recall(self, heard: Embedding) -> Embedding:
        """(n, d) -> (n, d): what is to steer where these were heard; the same if it knows none."""
        ...


Names = tuple[tuple[str, float], ...]  # the likeliest first, and how likely (0..1)


class Stretch(NamedTuple):
    """What a stretch of a sound is like; no names where it is too quiet."""

    start: float  # seconds
    end: float
    names: Names


def cut(seconds: float, window: float, stride: float) -> list[tuple[float, float]]:
    """Start and end in seconds of each window of a sound; a short sound is one window."""
    last = max(0.0, seconds - window)
    starts = [i * stride for i in range(math.ceil(last / stride))] + [last]
    return [(start, min(seconds, start + window)) for start in starts]


def whole(encoder: AudioEncoder, wave: Wave) -> Embedding:
    """Sound at the encoder's rate -> (1, d), unit length: what its loud windows say together."""
    windows = encoder.embed(wave)[loud(encoder, wave)]
    return F.normalize(windows.mean(dim=0, keepdim=True), dim=-1)


def loud(encoder: AudioEncoder, wave: Wave) -> Tensor:
    """(windows,): whether each is loud enough, beside the loudest, to say anything."""
    edges = [(round(a * encoder.rate), round(b * encoder.rate)) for a, b in encoder.windows(wave)]
    power = torch.tensor([float(np.square(wave[a:b]).mean()) for a, b in edges])
    return power >= _QUIET * power.max()


def follow(encoder: AudioEncoder, clip: Clip, wave: Wave) -> list[Stretch]:
    """Name what is heard in each window of a sound at the encoder's rate."""
    named = name(clip, encoder.embed(wave))
    heard = loud(encoder, wave).tolist()
    return [
        Stretch(*window, names if is_loud else ())
        for window, names, is_loud in zip(encoder.windows(wave), named, heard, strict=True)
    ]


def name(clip: Clip, embedded: Embedding, most: int = 3) -> list[Names]:
    """(n, d) -> the best labels of each: those that the pocket encoder was trained with.

    How likely a label is, among them all, is a softmax of its nearness in the CLIP's space.
    """
    known = tuple(labels())
    likely = (embedded @ embed_labels(clip).T / _HEAT).softmax(dim=1).topk(most)
    return [
        tuple((known[i], chance) for i, chance in zip(row, chances, strict=True))
        for row, chances in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)
    ]


@cache
def labels() -> Mapping[str, list[str]]:
    """Names of sounds, and what else people call what makes them."""
    return json.loads(LABELS.read_text(encoding="utf-8"))


@cache
def embed_labels(clip: Clip) -> Embedding:
    """(labels, d), unit length: the mean of what each is called."""
    called = list(labels().values())
    each = clip.embed_phrases([caption for captions in called for caption in captions])
    means = [part.mean(dim=0) for part in each.split([len(captions) for captions in called])]
    return F.normalize(torch.stack(means), dim=-1)
