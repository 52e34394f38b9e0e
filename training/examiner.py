"""Training of the examiner, who is to mark the pictures of the others and never guides.

`benchmarks/examiner.py` asks it. It must not like what the guide likes only because they went to
one school: it has another tower from another start (EfficientNet-Lite2), words of its own learned
from captions alone, no attacks and no teacher; and it has seen the held-out things too, for it will
be asked about them. Contrastive training as in CLIP (Radford et al. 2021, figure 3).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidance.weights import fill
from training.clip import contrast
from training.course import Course, Report, State, adamw, in_half, pace, set_rates, write_weights
from training.course import train as train_course
from training.scenes import Batches

TOWER, SIDE = "tf_efficientnet_lite2", 96  # px
WIDTH, LONGEST = 256, 24  # numbers of an embedding; words of a caption
WORDS = 8192  # rows of the table of words; two that share one are told apart by their neighbours
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Plan(Course):
    """How long and how hard to train."""

    batch: int = 96
    tower_rate: float = 4e-4
    text_rate: float = 1e-3
    decay: float = 0.05
    ema: float = 0.998


class Examiner(nn.Module):
    """A picture and a caption become unit vectors; those that belong together lie together."""

    def __init__(self, tower: str = TOWER, width: int = WIDTH) -> None:
        """Random weights; ``tower`` is a network of timm's."""
        super().__init__()
        self.tower = timm.create_model(tower, pretrained=False, num_classes=0)
        self.look = nn.Linear(self.tower.num_features, width)
        self.words = nn.Embedding(WORDS, width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(LONGEST, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.read = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.speak = nn.Linear(width, width)
        self.temperature = nn.Parameter(torch.tensor(2.7))  # log of the inverse

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """(n, 3, s, s) in 0..1 -> (n, width), unit length."""
        return F.normalize(self.look(self.tower(pictures * 2 - 1).float()), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions -> (n, width), unit length."""
        numbers = number_words(texts).to(self.words.weight.device)
        x = self.words(numbers) + self.places[: numbers.shape[1]]
        x = self.read(x, src_key_padding_mask=numbers == 0).float()
        there = (numbers > 0)[..., None].float()
        return F.normalize(self.speak((x * there).sum(1) / there.sum(1)), dim=-1)

    def scale(self) -> Tensor:
        """The learned inverse temperature."""
        return self.temperature.exp().clamp(max=100.0)


def number_words(texts: Iterable[str]) -> Tensor:
    """(n, t): each word's row in the table, by its checksum; 0 behind the last word."""
    rows = []
    for text in texts:
        words = re.findall(r"[a-z0-9]+", text.lower())[:LONGEST] or ["nothing"]
        rows.append(torch.tensor([1 + zlib.crc32(w.encode()) % (WORDS - 1) for w in words]))
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def new_state(net: Examiner, plan: Plan) -> State:
    """Begin with a net; its tower learns more gently."""
    net = net.to(plan.device)
    gently = {net.tower: plan.tower_rate}
    return State(net, adamw(net, plan.text_rate, plan.decay, gently=gently))


def train_step(
    plan: Plan, state: State, progress: float, batch: tuple[Tensor, list[str]]
) -> dict[str, float]:
    """Embed, compare all with all, move; returns numbers for the log."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    net, (pictures, captions) = state.net.train(), batch
    with in_half(pictures):
        seen, texts = net.embed_pictures(pictures.float() / 255), net.embed_texts(captions)
    loss = contrast(seen.float(), texts.float(), net.scale())
    state.move(loss, 2.0, plan.ema)
    right = (seen @ texts.T).argmax(1) == torch.arange(len(seen), device=seen.device)
    return {"loss": loss.item(), "right": right.float().mean().item(), "scale": net.scale().item()}


def train(plan: Plan, state: State, scenes: Batches, folder: Path, report: Report = dict) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""

    def take_step(progress: float, batch: tuple[Tensor, list[str]]) -> dict[str, float]:
        return train_step(plan, state, progress, batch)

    train_course(plan, state, scenes, take_step, folder, report)


@torch.no_grad()
def ask(net: Examiner, sheets: Sequence[tuple[Tensor, list[str]]]) -> float:
    """Share of scenes whose own caption is the nearest on their sheet."""
    found = []
    for pictures, captions in sheets:
        nearness = net.embed_pictures(pictures.float() / 255) @ net.embed_texts(captions).T
        found.append((nearness.argmax(1) == torch.arange(len(captions))).float().mean())
    return torch.stack(found).mean().item()


def export(net: Examiner, folder: Path, tower: str = TOWER) -> None:
    """Write config and half-precision weights, as `load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"tower": tower, "width": net.look.out_features}))
    write_weights(net.state_dict(), folder / WEIGHTS)


def load(folder: Path) -> Examiner:
    """Read an exported examiner."""
    config = json.loads((folder / CONFIG).read_text())
    net = Examiner(config["tower"], config["width"])
    fill(net, folder / WEIGHTS)
    return net.eval().requires_grad_(False)
