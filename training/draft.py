"""Training of the draft network, a memory of drawings that words lead to.

Most of it has a closed form. Captions of every thing, in many colours and on many grounds, tell how
their embeddings are spread; linear discriminants (Fisher 1936) then read name, colour and ground
from a caption nobody wrote before. The drawings are kept as their principal components. What those
lose, a small network learns to mend by gradients: what rings becomes clean, what is blurred crisp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from guidance import draft
from guidance.draft import SIDE
from training.captions import COLOURS, PAINTS, choose, describe, frame, has_colour, on, with_colour
from training.course import Course, Report, State, adamw, in_half, pace, set_rates, write_weights
from training.course import train as train_course
from training.data import Library, Picture
from training.imagenet import Features
from training.scenes import Studio, solid
from training.settings import PHRASES, SETTINGS, rgb
from training.words import ICON_SETS, nouns

MANNERS = (*ICON_SETS, "openclipart-png")
GROUNDS = ("", *COLOURS, *SETTINGS)  # what nobody named is white

SHOWN = (
    "a red apple on a blue background",
    "a sunflower",
    "a blue car",
    "a cat",
    "a yellow smiley face",
    "a house in the snow",
    "a teapot",
    "a green umbrella",
    "a kitten",  # a word that no caption has
    "a pizza",  # a thing that no training shows
)
_NEVER = 1e4  # a chance of nothing, as half precision can hold it
Embed = Callable[[Sequence[str]], Tensor]  # captions to (n, d), unit length


@dataclass(frozen=True)
class Plan(Course):
    """How much to remember, and how long and how hard to train what cleans it."""

    warm_up: int = 100
    captions: int = 24  # of each thing
    shrink: float = 0.03  # towards equal spread in all directions, where captions are few
    codes: int = 384  # principal components of a drawing; 4 % of the variance is lost
    batch: int = 48
    perceptual_weight: float = 0.15
    blend: float = 0.3  # most that another drawing shows through
    rate: float = 2e-3
    decay: float = 0.01
    ema: float = 0.998


@dataclass(frozen=True)
class Said:
    """A caption, and what it says as rows of the tables: name, colour (0: none), ground."""

    caption: str
    name: int
    colour: int
    ground: int


def say(rng: Generator, name: int, pictures: Sequence[Picture]) -> Said:
    """Caption a thing, now and then in a colour and somewhere."""
    picture, colour, ground = choose(rng, pictures), "", ""
    if rng.random() < 0.35 and not has_colour(picture.name):
        colour = choose(rng, PAINTS)
    caption, chance = frame(rng, describe(rng, picture, "*" if colour else "")), rng.random()
    if chance < 0.4:
        ground = choose(rng, tuple(COLOURS))
        caption = on(rng, caption, ground)
    elif chance < 0.55:
        ground = choose(rng, tuple(SETTINGS))
        caption = f"{caption} {choose(rng, PHRASES[ground][0])}"
    if colour:
        caption = with_colour(caption, colour)
    return Said(caption, name, 1 + PAINTS.index(colour) if colour else 0, GROUNDS.index(ground))


def discriminate(
    embeddings: Tensor, labels: Tensor, kinds: int, shrink: float
) -> tuple[Tensor, Tensor]:
    """Weights (kinds, d) and biases (kinds,) whose softmax is the chance of each label.

    Linear discriminant analysis: each label's embeddings (n, d), centred as a whole, are a
    Gaussian, and all Gaussians have one covariance.
    """
    count = torch.bincount(labels, minlength=kinds)
    sums = embeddings.new_zeros(kinds, embeddings.shape[1]).index_add_(0, labels, embeddings)
    means = sums / count.clamp(min=1)[:, None]
    spread = torch.cov((embeddings - means[labels]).T)
    spread += shrink * spread.trace() / len(spread) * torch.eye(len(spread))
    weights = torch.linalg.solve(spread, means.T).T
    biases = -(weights * means).sum(dim=1) / 2
    return weights, biases.masked_fill(count == 0, -_NEVER)


class Album:
    """The drawings to remember: one of each thing in each manner."""

    def __init__(self, library: Library) -> None:
        """Sort them; things are told apart by their names.

        Of clip art, whose titles are anything ("don't panic"), only what WordNet has a word for.
        """
        chosen: dict[tuple[str, str], int] = {}
        known = nouns()
        for row, picture in enumerate(library.pictures):
            if picture.source in ICON_SETS or (picture.source in MANNERS and picture.name in known):
                chosen.setdefault((picture.name, picture.source), row)
        rows = list(chosen.values())
        pictures = [library.pictures[row] for row in rows]
        self.names = sorted({picture.name for picture in pictures})
        place = {name: number for number, name in enumerate(self.names)}
        self.shows = torch.tensor([place[picture.name] for picture in pictures])
        self.manner = torch.tensor([MANNERS.index(picture.source) for picture in pictures])
        self.called: list[list[Picture]] = [[] for _ in self.names]
        for picture in pictures:
            self.called[place[picture.name]].append(picture)
        self.drawings = torch.cat([_shrunk(library.rgba[row], SIDE) for row in rows])

    def captions(self, count: int, seed: int) -> list[Said]:
        """Several captions of each thing."""
        rng = np.random.default_rng(seed)
        return [say(rng, n, self.called[n]) for n in range(len(self.names)) for _ in range(count)]


def _shrunk(rgba: np.ndarray, side: int) -> Tensor:
    """(1, 4, side, side) as bytes: colours times alpha, and alpha."""
    picture = torch.from_numpy(rgba).permute(2, 0, 1)[None].float()
    picture[:, :3] *= picture[:, 3:] / 255
    return F.interpolate(picture, (side, side), mode="area").round().byte()


def embed_all(said: Sequence[Said], embed: Embed, part: int = 256) -> Tensor:
    """(n, d): captions as the CLIP reads them."""
    parts = [said[start : start + part] for start in range(0, len(said), part)]
    return torch.cat([embed([one.caption for one in few]) for few in parts])


def remember(plan: Plan, album: Album, embed: Embed, studio: Studio) -> draft.Network:
    """A memory of an album, but for what cleans it."""
    said = album.captions(plan.captions, plan.seed)
    embeddings = embed_all(said, embed)
    shape = draft.Shape(
        words=embeddings.shape[1],
        names=len(album.names),
        drawings=len(album.drawings),
        manners=len(MANNERS),
        paints=len(PAINTS),
        grounds=len(GROUNDS),
        plain=1 + len(COLOURS),
        codes=min(plan.codes, len(album.drawings)),
    )
    net = draft.Network(shape)
    with torch.no_grad():
        _learn_words(plan, net, said, embeddings)
        _learn_drawings(net, album)
        net.paints.copy_(torch.from_numpy(np.stack([rgb(*COLOURS[c]) for c in PAINTS])))
        plain = [solid(SIDE, rgb(*COLOURS[name or "white"])) for name in ("", *COLOURS)]
        places = [studio.settings[name][0] for name in SETTINGS]
        net.grounds.copy_(torch.from_numpy(np.stack([*plain, *places])).permute(0, 3, 1, 2))
    return net


def _learn_words(plan: Plan, net: draft.Network, said: Sequence[Said], embeddings: Tensor) -> None:
    net.centre.copy_(embeddings.mean(dim=0))
    centred = embeddings - net.centre
    for head, rows in (
        (net.name, [s.name for s in said]),
        (net.colour, [s.colour for s in said]),
        (net.ground, [s.ground for s in said]),
    ):
        weights, biases = discriminate(centred, torch.tensor(rows), head.out_features, plan.shrink)
        head.weight.copy_(weights)
        head.bias.copy_(biases)


def _learn_drawings(net: draft.Network, album: Album) -> None:
    """Principal components of the drawings, in the order of their weight."""
    net.shows.copy_(album.shows)
    net.manner.copy_(album.manner)
    side = int((net.basis.out_features / 4) ** 0.5)
    small = F.interpolate(album.drawings.float() / 255, (side, side), mode="area").flatten(1)
    mean, codes = small.mean(dim=0), net.shape.codes
    torch.manual_seed(0)  # the components are sought by chance
    _, _, components = torch.svd_lowrank(small - mean, q=min(2 * codes, len(small)), niter=4)
    components = components[:, :codes]
    net.codes.copy_((small - mean) @ components)
    net.basis.weight.copy_(components)
    net.basis.bias.copy_(mean)


def read_back(net: draft.Network, said: Sequence[Said], embeddings: Tensor) -> dict[str, float]:
    """How often captions nobody learned from are read as they were meant."""
    centred = embeddings - net.centre
    heads = {"name": net.name, "colour": net.colour, "ground": net.ground}
    return {
        what: (head(centred).argmax(dim=1) == torch.tensor([getattr(s, what) for s in said]))
        .float()
        .mean()
        .item()
        for what, head in heads.items()
    }


class Recollections(torch.utils.data.Dataset[tuple[Tensor, Tensor, Tensor, Tensor]]):
    """Batch number t depends on the seed and on t alone: what to recall, and how it should look."""

    def __init__(self, album: Album, plan: Plan) -> None:
        """Remember what to draw from."""
        self.album, self.plan = album, plan

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows of drawings (n,), of others (n,), the others' share (n,), drawings (n, 4, s, s)."""
        rng = np.random.default_rng((self.plan.seed, step))
        rows, others = rng.integers(len(self.album.drawings), size=(2, self.plan.batch))
        share = rng.uniform(0, self.plan.blend, self.plan.batch) * rng.integers(2, size=len(rows))
        goal = self.album.drawings[torch.from_numpy(rows)]
        return torch.from_numpy(rows), torch.from_numpy(others), torch.from_numpy(share), goal


def new_state(net: draft.Network, plan: Plan) -> State:
    """Begin with what cleans a memory; the memory itself is there already."""
    clean = net.to(plan.device).clean.to(memory_format=torch.channels_last)
    return State(clean, adamw(clean, plan.rate, plan.decay))


def train_step(
    plan: Plan,
    state: State,
    net: draft.Network,
    progress: float,
    batch: tuple[Tensor, Tensor, Tensor, Tensor],
    features: Features,
) -> dict[str, float]:
    """Recall, clean, compare on a ground of any colour, move; returns numbers for the log."""
    set_rates(state.optimiser, pace(progress, state.step, plan.warm_up))
    chance = torch.Generator().manual_seed(plan.seed * 1_000_003 + state.step)
    rows, others, share, goal = batch
    with torch.no_grad():
        codes = torch.lerp(net.codes[rows], net.codes[others], share.float()[:, None])
        recalled = net.picture(codes).contiguous(memory_format=torch.channels_last)
    with in_half(recalled):
        drawn = state.net(recalled)
    drawn, goal = drawn.float(), goal.float() / 255
    ground = torch.rand((len(goal), 3, 1, 1), generator=chance).to(goal)
    ours, theirs = (
        (x[:, :3] + ground * (1 - x[:, 3:])).contiguous(memory_format=torch.channels_last)
        for x in (drawn, goal)
    )
    likeness = features.distance(ours[::2], theirs[::2])  # half of them: it is the dearest part
    absolute, alpha = F.l1_loss(ours, theirs), F.l1_loss(drawn[:, 3:], goal[:, 3:])
    state.move(absolute + alpha + plan.perceptual_weight * likeness, 1.0, plan.ema)
    return {"l1": absolute.item(), "alpha": alpha.item(), "perceptual": likeness.item()}


def train(
    plan: Plan,
    state: State,
    net: draft.Network,
    recollections: Recollections,
    folder: Path,
    features: Features,
    report: Report = dict,
) -> None:
    """Train until the plan is done; write log.jsonl and checkpoint.pt into the folder."""
    features = features.to(plan.device)

    def take_step(
        progress: float, batch: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> dict[str, float]:
        return train_step(plan, state, net, progress, batch, features)

    train_course(plan, state, recollections, take_step, folder, report)


def export(net: draft.Network, folder: Path, space: str) -> None:
    """Write config and half-precision weights, as `guidance.draft.load` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    draft.save_config(net, folder, space)
    write_weights(net.state_dict(), folder / draft.WEIGHTS)


def sheet(net: draft.Network, embed: Embed, captions: Sequence[str]) -> Image.Image:
    """A row for each caption, drawn in every manner."""
    rows = [draft.Draft(net, space="").draw(embed([caption])) for caption in captions]
    pixels = torch.cat([torch.cat(list(row), -1) for row in rows], 1).permute(1, 2, 0)
    return Image.fromarray((pixels * 255).round().byte().numpy())
