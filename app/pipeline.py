"""A request becomes a stream of steps. No page, no files, no network: values in, pictures out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from app.catalog import Kind, find
from app.errors import Refused
from app.images import fit, to_pixels, to_tensor
from app.request import DRAFT, Given, Picture, Request, Sound, Vector
from app.sounds import at_rate
from app.stage import DRAWN, Mask, Scene, Stage, prepare
from generators.base import Generator, Image, Latent, Size
from generators.starts import STARTS, flat, uniform
from guidance.audio import AudioEncoder, Wave, whole
from guidance.augment import Views, whole_frame
from guidance.clip import Clip
from guidance.draft import Draft, Drafted, Thing
from guidance.emoji import spell_out
from guidance.interrupt import interruptible
from guidance.judge import Judge
from guidance.layout import BESIDE, Place, lay_out
from guidance.objectives import (
    DISTANCES,
    Match,
    Objective,
    Target,
    Turn,
    named,
    palette,
    smoothness,
    symmetry,
)
from guidance.optimise import Descent, Snapshot, Step, optimise
from guidance.phrases import in_learned_colours, is_place, to_draw, undress
from guidance.prompt import Prompt, parse
from guidance.retouch import restyle

_NEGATIVE = -0.5  # a negative prompt pushes half as strongly as a prompt pulls
_WRITING = "written text, letters, a caption, a watermark"
DRAFTER = "pocket"  # the row of the catalog that a start from a draft uses
JUDGE = "pocket"  # the row of the catalog that says which of several pictures is best
DRAFT_PULL = 4.0  # holds what a draft shows, and its quiet grounds, while details take shape
_LOOSE_PULL = 1.0  # of a draft of something else than was asked for: it must be free to change
_UNSURE, _SURE = 0.60, 0.64  # fits (cosines) of drafts of things never seen, and of known ones
# Coarse-to-fine: from which part of the way on, and what the size is divided by until the next.
_COARSE_TO_FINE = ((0.0, 4), (0.25, 2), (0.5, 1))


class Models(Protocol):
    """Where loaded models come from (see `app.models`)."""

    def generator(self, name: str, precision: str) -> Generator:
        """Load once, by its name in the catalog."""
        ...

    def clip(self, name: str, precision: str) -> Clip:
        """Load once, by its name in the catalog."""
        ...

    def draft(self, name: str) -> Draft:
        """Load once, by its name in the catalog."""
        ...

    def judge(self, name: str) -> Judge:
        """Load once, by its name in the catalog."""
        ...

    def sound(self, name: str) -> AudioEncoder:
        """Load once, by its name in the catalog."""
        ...


@dataclass(frozen=True)
class Inputs:
    """What a request only names by hash.

    Pictures (1, 3, h, w) in 0..1 and the alpha, (h, w), that some of them have; embeddings (1, d);
    masks (h, w) in 0..255; sounds (samples,) at `app.sounds.RATE`, the part that was chosen.
    """

    pictures: Mapping[str, Image] = field(default_factory=dict)
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Mapping[str, Mask] = field(default_factory=dict)
    alphas: Mapping[str, Mask] = field(default_factory=dict)
    sounds: Mapping[str, Wave] = field(default_factory=dict)


def run(
    request: Request,
    models: Models,
    inputs: Inputs | None = None,
    *,
    stage: Stage | None = None,
    resume: Snapshot | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Step]:
    """Make the picture a request asks for, one step at a time.

    The request must be settled: chunk, threads and precision decided (`app.planner.settle`). An
    edit needs its `stage`; its steps show the window, which `Stage.paste` puts back.
    `check` may raise, in the middle of a step too, to end the run. Raises `Refused` when an input
    is missing or an embedding belongs to no CLIP of the request.
    """
    inputs = listen(request, models, inputs or Inputs())
    torch.set_num_threads(request.threads or torch.get_num_threads())
    generator = models.generator(request.generator, request.precision)
    clips = {guide.name: models.clip(guide.name, request.precision) for guide in request.clips}
    with interruptible([generator, *clips.values()], check):
        objectives = [*match(request, clips, inputs, stage), *regularisers(request)]
        drafted = draft(request, models, generator.factor, inputs) if is_drafted(request) else None
        descent = plan_descent(request, generator.factor, drafted)
        if stage and request.edit:
            device = clips[request.clips[0].name].device
            generator = held = stage.hold(generator, request.edit, request.seed, device)
            latent = held.first
        elif resume:
            latent = resume.latent
        else:
            latent = start(request, generator, drafted, inputs)
        yield from optimise(
            generator, objectives, latent, descent, seed=request.seed, resume=resume, check=check
        )


def listen(request: Request, models: Models, inputs: Inputs) -> Inputs:
    """The same inputs with an embedding of each sound, by its hash and who listened."""
    heard = {_key(s): _heard(models.sound(s.encoder), _wave(s, inputs)) for s in request.sounds}
    return replace(inputs, embeddings={**inputs.embeddings, **heard}) if heard else inputs


def _heard(encoder: AudioEncoder, wave: Wave) -> Tensor:
    return encoder.recall(whole(encoder, at_rate(wave, encoder.rate)))


def _key(sound: Sound) -> str:
    return f"{sound.encoder}/{sound.sha256}"


def vectors(request: Request) -> list[Vector]:
    """All that steers by an embedding: those that were given, and what is heard in sounds."""
    heard = [
        Vector.model_construct(
            sha256=_key(sound),
            space=find("sound", sound.encoder).space,
            name=sound.name,
            weight=sound.weight,
            stop=sound.stop,
        )
        for sound in request.sounds
    ]
    return [*request.embeddings, *heard]


def stage(request: Request, models: Models, inputs: Inputs) -> Stage | None:
    """What the loop sees of an edit; None for a request that is none."""
    edit = request.edit
    if edit is None or request.init is None:
        return None
    pixels = to_pixels(_picture(request.init, inputs))
    mask = _mask(edit.mask, inputs) if edit.mask else np.full(pixels.shape[:2], 255, np.uint8)
    thing = _mask(edit.thing, inputs) if edit.thing else mask
    drawing = cutout(request, models) if edit.kind in DRAWN else None
    soft, gone = (m.astype(np.float32) / np.float32(255) for m in (mask, thing))
    alpha = inputs.alphas.get(request.init.sha256)
    scene = Scene(pixels, soft, gone, drawing, edit, request.seed, alpha)
    return prepare(request, scene, mask)


def networks(request: Request) -> list[tuple[Kind, str]]:
    """The kind and name of every row of the catalog that a request uses."""
    used: list[tuple[Kind, str]] = [("generator", request.generator)]
    used += [("clip", guide.name) for guide in request.clips]
    used += [("sound", sound.encoder) for sound in request.sounds]
    if is_drafted(request) or (request.edit and request.edit.kind in DRAWN):
        used += [("draft", DRAFTER), ("clip", find("draft", DRAFTER).space)]
    return list(dict.fromkeys(used))


def sizes(request: Request, factor: int) -> list[tuple[int, Size]]:
    """(from step, (height, width)) of each size of a run, as near as the generator can make it."""
    stages = _COARSE_TO_FINE if request.coarse_to_fine else ((0.0, 1),)

    def nearest(side: int) -> int:
        return max(factor, (side + factor // 2) // factor * factor)

    return [
        (round(part * request.steps), (nearest(request.height // by), nearest(request.width // by)))
        for part, by in stages
    ]


def plan_descent(request: Request, factor: int, drafted: Drafted | None) -> Descent:
    """How the loop goes down; a draft holds it as firmly as it fits."""
    pull = request.regularise.pull
    if pull is None:
        pull = firmness(drafted.fit) if drafted else 0.0
    return Descent(
        steps=request.steps,
        step_size=request.step_size,
        optimiser=request.optimiser,
        schedule=request.schedule,
        ema=request.ema,
        pull=pull,
        patience=request.patience,
        grow=tuple(sizes(request, factor)[1:]),
    )


def firmness(fit: float) -> float:
    """How strongly a draft that fits so well is to hold: firmly, or loosely when it hardly does."""
    sure = min(1.0, max(0.0, (fit - _UNSURE) / (_SURE - _UNSURE)))
    return _LOOSE_PULL + sure * (DRAFT_PULL - _LOOSE_PULL)


def start(
    request: Request, generator: Generator, drafted: Drafted | None, inputs: Inputs
) -> Latent:
    """The latent to begin with: of a picture, given, drafted, plain or noisy, or random codes."""
    _, size = sizes(request, generator.factor)[0]
    picture: Image | None
    if request.init:
        given = fit(_picture(request.init, inputs), size)
        picture = torch.lerp(given, uniform(size, request.seed), request.init_noise)
    elif drafted:
        picture = drafted.picture
    else:
        draw = flat if request.start == DRAFT else STARTS[request.start]
        picture = draw(size, request.seed) if draw else None
    return generator.project(generator.start(size, seed=request.seed, init=picture))


def is_drafted(request: Request) -> bool:
    """Whether the run begins with a draft: it was given no picture, and words or sounds pull."""
    return request.start == DRAFT and not request.init and any(_pulling(request))


def _pulling(request: Request) -> tuple[list[Prompt], list[Vector]]:
    """What a draft is drawn of: words, and embeddings in the space that the drafter reads.

    What pulls less than half as strongly as the strongest (a mood) is left to the loop: a draft
    shows things.
    """
    space = find("draft", DRAFTER).space
    words = parse(request.prompt)
    others = [vector for vector in vectors(request) if vector.space == space]
    strengths = [*(word.weight for word in words), *(other.weight for other in others)]
    least = max(strengths, default=0.0) / 2
    return (
        [prompt for prompt in words if prompt.weight > 0 and prompt.weight >= least],
        [vector for vector in others if vector.weight > 0 and vector.weight >= least],
    )


def draft(request: Request, models: Models, factor: int, inputs: Inputs) -> Drafted:
    """A first picture of the words and sounds that pull, in one pass."""
    _, size = sizes(request, factor)[0]
    drafter, reader = _drafter(models)
    words, others = _pulling(request)
    said = [to_draw(prompt.text) for prompt in words]
    heard = [_embedding(vector, reader, inputs) for vector in others]
    toned = [in_learned_colours(text) for text in said]
    goal = _sum([*words, *others], [*(embed_words(reader, one.text) for one in toned), *heard])
    things = _things(reader, said, heard)
    ground = toned[0].ground if len(toned) == 1 else None
    drawn = drafter.start(goal, reader, size, request.seed, things, ground)
    if (
        things and len(things) > 1
    ):  # they fit the sum of their words less than one does: no reason to doubt
        drawn = drawn._replace(fit=1.0)
    style, _ = undress(request.prompt)
    if not style:
        return drawn
    styled = to_tensor(restyle(to_pixels(drawn.picture), style, 1.0, request.seed))
    return drawn._replace(picture=styled)


def _things(reader: Clip, said: list[str], heard: list[Tensor]) -> list[Thing] | None:
    """What stands where, and in which colour, as far as grammar tells of a prompt; else None.

    Something said and something heard stand side by side; nothing else tells of several prompts.
    """
    if len(said) != 1 or len(heard) > 1:
        return None
    if heard:
        return [_thing(reader, said[0], BESIDE[0]), Thing(heard[0], BESIDE[1])]
    if is_place(said[0]):
        return []
    if layout := lay_out(said[0]):
        parts = zip(layout.things, layout.places, strict=True)
        return [_thing(reader, words, place) for words, place in parts]
    alone = _thing(reader, said[0])
    return [alone] if alone.colour else None  # all else the words themselves tell the drafter


def _thing(reader: Clip, words: str, place: Place | None = None) -> Thing:
    toned = in_learned_colours(words)
    return Thing(embed_words(reader, toned.text), place, toned.thing)


def cutout(request: Request, models: Models) -> Tensor:
    """(1, 4, 64, 64): what the words that pull name, alone, colours times alpha and alpha."""
    drafter, reader = _drafter(models)
    words, _ = _pulling(request)
    toned = [in_learned_colours(to_draw(prompt.text)) for prompt in words]
    goal = _sum(words, [embed_words(reader, one.text) for one in toned])
    colour = toned[0].thing if len(toned) == 1 else None
    drawn = drafter.draw(goal, [Thing(goal, colour=colour)])
    chosen, _ = drafter.choose(drawn, goal, reader, request.seed)
    return drafter.cutouts(goal, colour)[chosen][None]


def _drafter(models: Models) -> tuple[Draft, Clip]:
    """Who drafts, and who reads for it.

    In full precision: with less, two manners that fit alike could swap from machine to machine.
    """
    drafter = models.draft(DRAFTER)
    return drafter, models.clip(drafter.space, "float32")


def best(request: Request, models: Models, pictures: Sequence[Tensor]) -> int | None:
    """Which of several pictures, each (1, 3, h, w) in 0..1, shows the words that pull best.

    Says the judge, which never guides; None where no words pull, or there is nothing to choose.
    """
    words = [prompt for prompt in parse(request.prompt) if prompt.weight > 0]
    if request.edit or not words or len(pictures) < 2:
        return None
    judge = models.judge(JUDGE)
    reader = models.clip(judge.space, "float32")
    goal = _sum(words, [embed_words(reader, prompt.text) for prompt in words])
    marks = torch.cat([judge.marks(picture, goal) for picture in pictures])
    return int(marks.argmax())


def _sum(weighted: Sequence[Prompt | Vector], embedded: list[Tensor]) -> Tensor:
    """(1, d), unit length: where all of them pull together."""
    parts = [one.weight * goal for one, goal in zip(weighted, embedded, strict=True)]
    return torch.nn.functional.normalize(torch.stack(parts).sum(dim=0), dim=-1)


def match(
    request: Request, clips: Mapping[str, Clip], inputs: Inputs, stage: Stage | None = None
) -> list[Objective]:
    """Objectives for each CLIP of the ensemble, its share of the whole weight in them.

    An edit is matched with its words, and turned from what was there to what is wanted.
    """
    whole = sum(guide.weight for guide in request.clips)
    found: list[Objective] = []
    for guide in request.clips:
        clip, share = clips[guide.name], guide.weight / whole
        if stage and request.edit and request.edit.after:
            found += [
                _match(request, clip, share / 2, inputs),
                _turn(request, clip, share / 2, stage),
            ]
        else:
            found.append(_match(request, clip, share, inputs))
    return found


def _turn(request: Request, clip: Clip, share: float, stage: Stage) -> Objective:
    views = Views(request.views, clip.side, request.method, request.augment, request.noise)
    chunk = request.chunk or request.views
    return Turn(clip, stage.picture, direction(request, clip), views, weight=share, chunk=chunk)


def _match(request: Request, clip: Clip, share: float, inputs: Inputs) -> Objective:
    views = Views(request.views, clip.side, request.method, request.augment, request.noise)
    chunk = request.chunk or request.views
    if request.distance == "directional" and request.init:
        before = _picture(request.init, inputs)
        return Turn(clip, before, direction(request, clip), views, weight=share, chunk=chunk)
    return Match(clip, targets(request, clip, inputs), views, request.distance, share, chunk)


def direction(request: Request, clip: Clip) -> Tensor:
    """(1, d): from the words for what is there to the weighted words for what is wanted."""
    wanted = parse(request.prompt)
    weights = torch.tensor([[prompt.weight] for prompt in wanted], device=clip.device)
    after = (weights * clip.embed_text([prompt.text for prompt in wanted])).sum(dim=0, keepdim=True)
    return after / weights.abs().sum() - clip.embed_text([spell_out(request.before)])


def targets(request: Request, clip: Clip, inputs: Inputs) -> list[Target]:
    """Words, pictures and embeddings as directions in one CLIP's space, calibrated."""
    found: list[tuple[str, Tensor, Prompt | Picture | Vector]] = [
        *[(prompt.text, embed_words(clip, prompt.text), prompt) for prompt in words(request)],
        *[(p.name, embed_picture(clip, _picture(p, inputs)), p) for p in request.pictures],
        *[(v.name, _embedding(v, clip, inputs), v) for v in vectors(request)],
    ]
    slope_at = DISTANCES[request.distance][1]
    return [
        Target(name, goal, given.weight, given.stop, slope_at(clip.unrelated_angle(goal)))
        for name, goal, given in found
        if given.weight
    ]


def words(request: Request) -> tuple[Prompt, ...]:
    """All prompts of a request: those that pull, the negative ones, and text-off."""
    pushed = [
        Prompt(prompt.text, _NEGATIVE * prompt.weight, prompt.stop)
        for prompt in parse(request.negative)
    ]
    writing = request.regularise.text_off
    return (
        *parse(request.prompt),
        *pushed,
        *([Prompt(_WRITING, -writing)] if writing else []),
    )


def embed_words(clip: Clip, text: str) -> Tensor:
    """(1, d), unit length."""
    return clip.embed_text([text])


@torch.no_grad()
def embed_picture(clip: Clip, picture: Image) -> Tensor:
    """(1, d), unit length: the whole frame and its mirror image, so that no chance is in it."""
    frame = whole_frame(picture.to(clip.device), clip.side)
    both = clip.embed_image(torch.cat([frame, frame.flip(-1)]))
    return torch.nn.functional.normalize(both.mean(dim=0, keepdim=True), dim=-1)


def regularisers(request: Request) -> Sequence[Objective]:
    """The objectives that look at the picture alone, those with a weight."""
    wanted = request.regularise
    colours = torch.tensor([_rgb(colour) for colour in request.palette])
    table = {
        "smoothness": (wanted.smoothness, smoothness),
        "symmetry": (wanted.symmetry, symmetry),
        "palette": (wanted.palette, lambda image: palette(image, colours)),
    }
    return [named(name, weight, measure) for name, (weight, measure) in table.items() if weight]


def _rgb(colour: str) -> list[float]:
    """#rrggbb -> three numbers, 0..1."""
    return [part / 255 for part in bytes.fromhex(colour[1:])]


def _picture(given: Given, inputs: Inputs) -> Image:
    if given.sha256 not in inputs.pictures:
        raise Refused(
            "input.missing",
            f"This needs a picture called {given.name!r} (its hash begins {given.sha256[:8]}). "
            "Give that picture again.",
        )
    return inputs.pictures[given.sha256]


def _mask(given: Given, inputs: Inputs) -> Mask:
    if given.sha256 not in inputs.masks:
        raise Refused("input.missing", "This edit needs its mask. Give it again.")
    return inputs.masks[given.sha256]


def _wave(given: Sound, inputs: Inputs) -> Wave:
    if given.sha256 not in inputs.sounds:
        raise Refused("input.missing", f"The sound {given.name!r} is missing. Give it again.")
    return inputs.sounds[given.sha256]


def _embedding(given: Vector, clip: Clip, inputs: Inputs) -> Tensor:
    if given.space != clip.space:
        raise Refused(
            "input.space",
            f"{given.name!r} belongs to the CLIP {given.space!r} and cannot steer "
            f"{clip.space!r}. Choose the CLIP {given.space!r}, or use words instead.",
        )
    if given.sha256 not in inputs.embeddings:
        raise Refused("input.missing", f"The embedding {given.name!r} is missing. Give it again.")
    return inputs.embeddings[given.sha256].to(clip.device)
