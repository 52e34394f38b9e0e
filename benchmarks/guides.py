"""Other guides than the one that ships: levers that look or read differently, or learned anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app import pipeline
from app.models import Models
from guidance.clip import Clip, Embedding, load
from training import data
from training.scenes import Batches, Studio

OTHER = "ViT-B-32-openai"  # in the name of this row of the catalog another guide comes
PAIRS, SEED = 1024, 5  # scenes with captions that the map of words is fitted on
RUNS = Path("runs")  # where trainings leave their results


@lru_cache
def plain(models: Models) -> Clip:
    """The pocket CLIP's words with the judge's eyes: a tower that was never attacked."""
    judge, guide = models.judge(pipeline.JUDGE), unlooked(models.clip("pocket", "float32"))
    guide.tower, guide.side = nn.Sequential(judge.network.tower, judge.network.speak), 96
    return guide


@lru_cache
def moved(models: Models) -> Clip:
    """The pocket CLIP, its words moved to where its pictures live (`procrustes`)."""
    clip = models.clip("pocket", "float32")
    library = data.load(data.CACHE).part(lambda picture: not picture.held_out)
    pictures, captions = Batches(Studio(library, clip.side), PAIRS, SEED)[0]
    with torch.no_grad():
        seen = torch.cat([clip.embed_image(part / 255) for part in pictures.float().split(64)])
    move, read = procrustes(clip.embed_phrases(captions), seen), clip.embed_text
    guide = unlooked(clip)
    guide.embed_text = lambda texts: move(read(texts))  # type: ignore[method-assign]
    return guide


def trained(run: str) -> Callable[[Models], Clip]:
    """What a training of a CLIP has left in `RUNS`, in a space of its own: eyes and words.

    The draft is still drawn by the words of the CLIP that ships.
    """
    guide = lru_cache(lambda: load(RUNS / run / "clip", space=OTHER))
    return lambda models: guide()


def unlooked(clip: Clip) -> Clip:
    """A copy that has not looked at the unrelated pictures yet."""
    guide = copy.copy(clip)
    guide.__dict__.pop("_unrelated", None)
    return guide


def procrustes(words: Embedding, pictures: Embedding) -> Callable[[Embedding], Embedding]:
    """The rotation about their means that brings words nearest to their pictures, both (n, d).

    Schoenemann 1966; for CLIP, "Implicit Inversion turns CLIP into a Decoder" (ICLR 2026).
    """
    here, there = words.mean(dim=0), pictures.mean(dim=0)
    u, _, v = torch.linalg.svd((words - here).T @ (pictures - there))
    turn: Tensor = u @ v
    return lambda embedded: F.normalize((embedded - here) @ turn + there, dim=-1)
