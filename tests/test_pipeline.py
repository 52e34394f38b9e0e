"""A request becomes pictures: what was asked for is what steers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from app import pipeline, planner
from app.errors import Refused
from app.images import to_pixels
from app.pipeline import Inputs
from app.request import Request, make_request
from app.sounds import RATE, at_rate
from generators import vqgan
from generators.base import Generator
from generators.pixels import Pixels
from guidance import clip, draft
from guidance.audio import AudioEncoder, Wave, whole
from guidance.audio_net import Ear
from guidance.judge import Judge, Network

HASH, OTHER = "0" * 64, "1" * 64
SMALL: dict[str, Any] = {
    "prompt": "a fox", "seed": 1, "generator": "pixels", "width": 32, "height": 32, "steps": 2,
    "views": 4, "precision": "float32", "chunk": 4, "threads": 2,
}  # fmt: skip


class Tiny:
    """Models of a test: tiny, real, and loaded once."""

    def __init__(
        self, clip_folder: Path, vqgan_folder: Path, drafter: draft.Draft, ear: Ear
    ) -> None:
        """Load them."""
        self.seer = clip.load(clip_folder, space="pocket")
        self.network = vqgan.load(vqgan_folder)
        self.drafter, self.ear = drafter, ear

    def generator(self, name: str, precision: str) -> Generator:
        """Pixels, or the tiny VQGAN under the pocket's name."""
        return Pixels() if name == "pixels" else self.network

    def clip(self, name: str, precision: str) -> clip.Clip:
        """The tiny CLIP, whatever is asked for."""
        return self.seer

    def draft(self, name: str) -> draft.Draft:
        """A draft network that has learned nothing."""
        return self.drafter

    def judge(self, name: str) -> Judge:
        """One that likes what is bright."""
        network = Network(32, "test_efficientnet")
        network.forward = lambda pictures: pictures.mean(dim=(1, 2, 3))[:, None].expand(-1, 32)  # type: ignore[method-assign]
        return Judge(network, space="pocket")

    def sound(self, name: str) -> AudioEncoder:
        """A small ear, whatever is asked for."""
        return self.ear


@pytest.fixture(scope="module")
def models(tiny_clip: Path, tiny_vqgan: Path, tiny_drafter: draft.Draft, tiny_ear: Ear) -> Tiny:
    return Tiny(tiny_clip, tiny_vqgan, tiny_drafter, tiny_ear)


def _sound(seed: int) -> Wave:
    """Two seconds of a tone, as they come from a file."""
    time = np.arange(2 * RATE) / RATE
    return (0.3 * np.sin(2 * np.pi * 300 * (1 + seed) * time)).astype(np.float32)


def given_inputs() -> Inputs:
    pictures = {
        digest: torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(seed))
        for seed, digest in enumerate([HASH, OTHER])
    }
    vector = F.normalize(torch.ones(1, 32), dim=-1)
    return Inputs(pictures, {HASH: vector}, sounds={HASH: _sound(0), OTHER: _sound(4)})


def _picture(models: Tiny, **given: Any) -> torch.Tensor:
    *_, last = pipeline.run(make_request({**SMALL, **given}), models, given_inputs())
    return last.image


def test_the_same_request_gives_the_same_picture(models: Tiny) -> None:
    assert torch.equal(_picture(models), _picture(models))


def _first(models: Tiny, **given: Any) -> torch.Tensor:
    run = pipeline.run(make_request({**SMALL, **given}), models, given_inputs())
    return next(run).image


def test_a_run_begins_with_a_draft_of_its_words(models: Tiny) -> None:
    drafted, flat = _first(models), _first(models, start="flat")
    assert not torch.equal(drafted, flat)
    assert torch.equal(drafted, _first(models, start="draft"))
    assert not torch.equal(drafted, _first(models, prompt="a boat"))


def test_what_pulls_less_than_half_as_strongly_is_not_in_the_draft(models: Tiny) -> None:
    alone = _first(models, prompt="a fox")
    assert torch.equal(alone, _first(models, prompt="a fox | a calm picture::0.4"))
    assert not torch.equal(alone, _first(models, prompt="a fox | a boat::0.6"))


def test_without_words_that_pull_a_run_begins_on_paper(models: Tiny) -> None:
    by_picture = {"prompt": "fog::-1", "pictures": ({"sha256": HASH},)}
    assert torch.equal(_first(models, **by_picture), _first(models, start="flat"))


def test_the_judge_chooses_where_words_pull_and_there_is_a_choice(models: Tiny) -> None:
    def chosen(count: int, **given: Any) -> int | None:
        pictures = [torch.full((1, 3, 24, 30), shade) for shade in (0.2, 0.9, 0.5)[:count]]
        return pipeline.best(make_request({**SMALL, **given}), models, pictures)

    goal = models.seer.embed_text(["a fox"])
    assert chosen(3, prompt="a fox") == (1 if goal.sum() > 0 else 0)
    assert chosen(1, prompt="a fox") is None
    assert chosen(3, prompt="fog::-1", pictures=({"sha256": HASH},)) is None


def test_a_run_uses_the_draft_network_only_when_it_drafts() -> None:
    def kinds(**given: Any) -> list[tuple[str, str]]:
        return pipeline.networks(make_request({**SMALL, **given}))

    plain = [("generator", "pixels"), ("clip", "pocket")]
    assert kinds() == [*plain, ("draft", "pocket")]
    assert kinds(start="flat") == kinds(init={"sha256": HASH}) == plain
    assert kinds(prompt="", pictures=({"sha256": HASH},)) == plain
    heard = kinds(prompt="", sounds=(SOUND,))
    assert heard == [*plain, ("sound", "pocket"), ("draft", "pocket")]
    another = kinds(clips=({"name": "ViT-B-32-openai"},))
    assert another[1:] == [("clip", "ViT-B-32-openai"), ("draft", "pocket"), ("clip", "pocket")]


def test_an_image_target_does_not_depend_on_the_seed_or_the_state_of_chance(models: Tiny) -> None:
    def goals(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        request = make_request({**SMALL, "seed": seed, "pictures": ({"sha256": HASH},)})
        found = pipeline.targets(request, models.seer, given_inputs())
        return torch.cat([target.embedding for target in found])

    assert torch.equal(goals(1), goals(2))


def test_words_pictures_and_embeddings_become_targets_with_their_weights(models: Tiny) -> None:
    request = make_request({
        **SMALL, "prompt": "a fox::2 | fog::-1", "negative": "blur",
        "regularise": {"text_off": 0.1},
        "pictures": ({"sha256": HASH, "weight": 0.5, "stop": 0.2, "name": "cat.png"},),
        "embeddings": ({"sha256": HASH, "space": "pocket", "name": "rain"},),
    })  # fmt: skip
    found = pipeline.targets(request, models.seer, given_inputs())
    assert [(target.name, target.weight, target.stop) for target in found] == [
        ("a fox", 2, None), ("fog", -1, None), ("blur", -0.5, None),
        ("written text, letters, a caption, a watermark", -0.1, None),
        ("cat.png", 0.5, 0.2), ("rain", 1, None),
    ]  # fmt: skip


def _ratio(seer: clip.Clip, *, calibrated: bool) -> float:
    """How much more unrelated words pull than unrelated pictures: 1 is fair."""
    bank = seer._unrelated

    def pull(goal: torch.Tensor, others: torch.Tensor) -> float:
        slope = seer.unrelated_angle(goal) if calibrated else 1.0
        return (others @ goal[0]).clamp(-1, 1).acos().mean().item() / slope

    words = [pull(goal[None], bank) for goal in seer.embed_text(["a lighthouse", "a bicycle"])]
    pictures = [pull(bank[:1], bank[1:]), pull(bank[5:6], bank[6:])]
    return sum(words) / sum(pictures)


def test_equal_weights_of_words_and_pictures_pull_equally(models: Tiny, pocket_models: Any) -> None:
    """Without calibration a picture starts nearer to other pictures and pulls less."""
    assert _ratio(models.seer, calibrated=False) > 2
    assert 0.75 < _ratio(models.seer, calibrated=True) < 1.33
    assert 0.9 < _ratio(pocket_models.clip("pocket", "float32"), calibrated=True) < 1.1


def test_an_embedding_of_another_space_is_refused_with_the_way_out(models: Tiny) -> None:
    vector = {"sha256": HASH, "space": "vit-b-32", "name": "rain"}
    with pytest.raises(Refused, match=r"belongs to the CLIP 'vit-b-32'.* or use words instead"):
        _picture(models, embeddings=(vector,))


# --- sounds ----------------------------------------------------------------------------------

SOUND: dict[str, Any] = {"sha256": HASH, "name": "dog.wav"}


def test_a_sound_becomes_a_target_in_its_place_with_its_weight_and_stop(models: Tiny) -> None:
    request = make_request({
        **SMALL,
        "sounds": ({**SOUND, "weight": 0.5, "stop": 0.2}, {"sha256": OTHER, "weight": -1.0}),
        "embeddings": ({"sha256": HASH, "space": "pocket", "name": "rain"},),
    })  # fmt: skip
    inputs = pipeline.listen(request, models, given_inputs())
    found = pipeline.targets(request, models.seer, inputs)
    assert [(target.name, target.weight, target.stop) for target in found] == [
        ("a fox", 1, None), ("rain", 1, None), ("dog.wav", 0.5, 0.2), ("sound", -1, None),
    ]  # fmt: skip
    heard = models.ear.recall(whole(models.ear, at_rate(_sound(0), models.ear.rate)))
    assert torch.equal(found[2].embedding, heard)
    assert not torch.allclose(found[3].embedding, heard, atol=0.1)


def test_a_sound_pulls_beside_words_and_both_losses_are_to_be_seen(models: Tiny) -> None:
    request = make_request({**SMALL, "sounds": (SOUND,)})
    first = next(pipeline.run(request, models, given_inputs()))
    assert set(first.losses) == {"a fox", "dog.wav", "pull to the start"}
    assert not torch.equal(_picture(models, start="flat"), _picture(models, **_by(start="flat")))


def _by(sha256: str = HASH, **given: Any) -> dict[str, Any]:
    return {"sounds": ({**SOUND, "sha256": sha256},), **given}


def test_every_sound_pulls_elsewhere_and_the_same_one_to_the_same_place(models: Tiny) -> None:
    alone = {"prompt": "", "start": "flat"}
    one, again = (_picture(models, **_by(**alone)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, _picture(models, **_by(OTHER, **alone)))


def test_what_a_sound_is_called_steers_nothing(models: Tiny) -> None:
    renamed = {**SOUND, "name": "cat.wav"}
    assert torch.equal(
        _picture(models, **_by(prompt="")), _picture(models, prompt="", sounds=(renamed,))
    )


def test_a_stronger_sound_pulls_more_and_one_of_weight_0_not_at_all(models: Tiny) -> None:
    def made(weight: float) -> torch.Tensor:
        return _picture(models, start="flat", sounds=({**SOUND, "weight": weight},))

    plain = _picture(models, start="flat")
    assert torch.equal(made(0.0), plain)
    assert not torch.equal(made(0.5), plain)
    assert not torch.equal(made(0.5), made(5.0))


def test_a_sound_alone_begins_with_a_draft_of_what_it_is(models: Tiny) -> None:
    drafted = _first(models, **_by(prompt=""))
    assert not torch.equal(drafted, _first(models, **_by(prompt="", start="flat")))
    assert not torch.equal(drafted, _first(models, **_by(OTHER, prompt="")))
    heard = models.ear.recall(whole(models.ear, at_rate(_sound(0), models.ear.rate)))
    expected = models.drafter.start(heard, models.seer, (32, 32), SMALL["seed"])
    assert torch.allclose(drafted, expected.picture, atol=1e-3)


def test_what_is_said_and_what_is_heard_stand_side_by_side_in_the_draft(models: Tiny) -> None:
    words, heard = torch.ones(1, 32), torch.zeros(1, 32)
    said, other = pipeline._things(models.seer, ["a house"], [heard])
    assert said.place
    assert other.place
    assert said.place.x < other.place.x
    assert torch.equal(other.words, heard)
    assert not pipeline._things(models.seer, [], [heard])
    assert not pipeline._things(models.seer, ["a house"], [heard, words])
    both = _first(models, **_by())
    assert not torch.equal(both, _first(models))
    assert not torch.equal(both, _first(models, **_by(prompt="")))


@pytest.mark.parametrize("change", [{"weight": -1.0}, {"encoder": "wav2clip"}])
def test_what_cannot_be_drafted_begins_on_paper(change: dict[str, Any]) -> None:
    sounds = ({**SOUND, **change},)
    pictures = ({"sha256": HASH},)
    assert not pipeline.is_drafted(
        make_request({**SMALL, "prompt": "", "sounds": sounds, "pictures": pictures})
    )
    assert pipeline.is_drafted(make_request({**SMALL, "sounds": sounds}))


@pytest.mark.parametrize(
    ("fit", "pull"), [(-1, 1), (0.6, 1), (0.62, 2.5), (0.64, pipeline.DRAFT_PULL), (1, 4)]
)
def test_a_draft_holds_as_firmly_as_it_fits(fit: float, pull: float) -> None:
    assert pipeline.firmness(fit) == pytest.approx(pull)


def test_a_pull_that_was_asked_for_holds_whatever_the_draft(models: Tiny) -> None:
    def pulls(drafted: draft.Drafted | None, **given: Any) -> float:
        return pipeline.plan_descent(make_request({**SMALL, **given}), 1, drafted).pull

    poor, good = (draft.Drafted(torch.zeros(1, 3, 32, 32), fit) for fit in (0.0, 1.0))
    assert (pulls(poor), pulls(good), pulls(None)) == (1, 4, 0)
    asked = {"regularise": {"pull": 0.0}}
    assert [pulls(one, **asked) for one in (poor, good, None)] == [0, 0, 0]


def test_a_sound_of_another_space_is_refused_with_the_way_out(models: Tiny) -> None:
    with pytest.raises(
        Refused, match=r"'dog.wav' belongs to the CLIP 'ViT-B-32-openai' and cannot steer 'pocket'"
    ) as told:
        _picture(models, sounds=({**SOUND, "encoder": "wav2clip"},))
    assert "or use words instead" in str(told.value)


def test_a_missing_sound_is_asked_for_by_name(models: Tiny) -> None:
    with pytest.raises(Refused, match=r"The sound 'dog.wav' is missing. Give it again."):
        _picture(models, sounds=({**SOUND, "sha256": "2" * 64},))


def test_one_sound_may_be_heard_by_two(models: Tiny) -> None:
    """What each heard is kept apart, although the sound is the same."""
    both = (SOUND, {**SOUND, "encoder": "wav2clip"})
    request = make_request({**SMALL, "sounds": both})
    assert len(pipeline.listen(request, models, given_inputs()).embeddings) == 1 + 2
    assert [kind for kind, _ in pipeline.networks(request)].count("sound") == 2


def test_without_sounds_nobody_listens(models: Tiny) -> None:
    inputs = given_inputs()
    assert pipeline.listen(make_request(SMALL), models, inputs) is inputs


def test_a_missing_picture_is_asked_for_by_name(models: Tiny) -> None:
    with pytest.raises(
        Refused, match=r"needs a picture called 'cat.png' \(its hash begins 22222222\)"
    ):
        _picture(models, pictures=({"sha256": "2" * 64, "name": "cat.png"},))


def test_a_picture_to_start_from_is_where_it_starts(models: Tiny) -> None:
    request = make_request({**SMALL, "init": {"sha256": HASH}})
    first = next(pipeline.run(request, models, given_inputs()))
    assert torch.equal(first.image, pipeline.fit(given_inputs().pictures[HASH], (32, 32)))
    noisy = make_request({**SMALL, "init": {"sha256": HASH}, "init_noise": 0.5})
    assert not torch.equal(first.image, next(pipeline.run(noisy, models, given_inputs())).image)


def test_a_size_goes_to_the_nearest_the_generator_can_make() -> None:
    assert pipeline.sizes(make_request({**SMALL, "width": 250, "height": 333}), 16) == [
        (0, (336, 256))
    ]


def test_coarse_to_fine_grows_in_three_sizes(models: Tiny) -> None:
    request = make_request({**SMALL, "width": 64, "height": 64, "steps": 8, "coarse_to_fine": True})
    sides = [step.image.shape[-1] for step in pipeline.run(request, models)]
    assert sides == [16] * 2 + [32] * 2 + [64] * 5


def test_a_check_stops_a_run_in_the_middle_of_a_step(models: Tiny) -> None:
    class Enough(Exception):
        pass

    left = itertools.count(60, -1)

    def check() -> None:
        if next(left) == 0:
            raise Enough

    with pytest.raises(Enough):
        list(pipeline.run(make_request({**SMALL, "generator": "pocket"}), models, check=check))


def test_both_losses_of_two_prompts_are_to_be_seen(models: Tiny) -> None:
    request = make_request({**SMALL, "prompt": "a fox | snow", "regularise": {"smoothness": 0.1}})
    first = next(pipeline.run(request, models))
    assert set(first.losses) == {"a fox", "snow", "smoothness", "pull to the start"}


def test_a_plan_decides_what_was_left_open_the_same_way_every_time(models: Tiny) -> None:
    request = make_request({**SMALL, "precision": "auto", "chunk": None, "threads": None})
    settled = planner.settle(request)
    assert settled == planner.settle(request)
    assert settled.precision in ("float32", "bfloat16")
    assert settled.chunk == 4
    assert settled.threads >= 1


def test_a_plan_keeps_what_was_asked(models: Tiny) -> None:
    request, estimate = planner.plan(make_request(SMALL), models)
    assert request == make_request(SMALL)
    assert estimate.seconds > 0
    assert str(estimate).startswith("about ")


def test_more_work_is_predicted_to_take_longer_and_smaller_chunks_less_memory(models: Tiny) -> None:
    base = make_request({**SMALL, "generator": "pocket"})
    cost = planner.measure(base, models)

    def predict(**change: Any) -> planner.Estimate:
        return planner.estimate(base.model_copy(update=change), cost, 2, 32)

    assert predict(steps=20).seconds == pytest.approx(10 * predict().seconds)
    assert predict(width=64).seconds > predict().seconds
    assert predict(width=64).bytes > predict().bytes
    assert predict(chunk=1).bytes < predict().bytes
    assert predict(coarse_to_fine=True, steps=100).seconds < predict(steps=100).seconds


def test_predicted_memory_counts_what_autograd_keeps() -> None:
    weight = torch.rand(1000, requires_grad=True)
    seconds, kept = planner._probe(lambda: (weight.exp() * weight.sin()).sum())
    assert seconds > 0
    assert kept == 3 * 4000  # the results of exp and sin, and what sin was given


def test_too_little_memory_takes_smaller_chunks_then_refuses_with_a_size_that_fits(
    models: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = make_request(
        {**SMALL, "generator": "pocket", "width": 512, "height": 512, "views": 32, "chunk": 32}
    )
    cost = planner.measure(big, models)
    one = planner.estimate(big.model_copy(update={"chunk": 2}), cost, 2, 32).bytes
    monkeypatch.setattr(planner, "measure", lambda request, models: cost)
    monkeypatch.setattr(planner, "free_bytes", lambda device: one / 0.8)
    request, _ = planner.plan(big, models)
    assert request.chunk == 2
    monkeypatch.setattr(planner, "free_bytes", lambda device: one / 3)
    with pytest.raises(Refused, match=r"512x512 would need .* GB are free. \d+x\d+ would fit"):
        planner.plan(big, models)


class _Forgetful(Pixels):
    """A generator that runs out of memory once, at its third picture."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures = 0

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        self.pictures += 1
        if self.pictures == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().decode(latent)


def test_when_memory_runs_out_the_run_goes_on_with_half_the_chunk_and_says_so(
    models: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    request: Request = make_request({**SMALL, "steps": 4})
    calm = [made.step for made in planner.make(request, models, Inputs())]
    forgetful = _Forgetful()
    monkeypatch.setattr(models, "generator", lambda name, precision: forgetful)
    said: list[str] = []
    made = list(planner.make(request, models, Inputs(), tell=said.append))
    assert [one.step.index for one in made] == [0, 1, 1, 2, 3, 4]  # the last one comes again
    assert [one.request.chunk for one in made] == [4, 4, 2, 2, 2, 2]
    assert said == ["Memory ran out: going on with 2 views at a time instead."]
    assert (made[-1].step.image - calm[-1].image).abs().max() < 1e-4


def test_an_error_that_is_not_about_memory_is_not_swallowed(
    models: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, precision: str) -> Generator:
        raise RuntimeError("the disc is on fire")

    monkeypatch.setattr(models, "generator", broken)
    with pytest.raises(RuntimeError, match="on fire"):
        list(planner.make(make_request(SMALL), models, Inputs()))


def test_a_short_run_looks_as_it_did(pocket_models: Any, golden: Any) -> None:
    """With the models that ship, in full precision; views differ by their place alone."""
    asked = make_request(
        {
            "prompt": "a red apple on a blue background", "seed": 1, "steps": 10, "views": 4,
            "width": 64, "height": 64, "generator": "pyramid", "augment": (), "noise": 0.0,
            "precision": "float32", "chunk": 4, "threads": 2,
        }
    )  # fmt: skip
    for step in pipeline.run(asked, pocket_models):
        last = step
    # ten steps enlarge what another processor rounds: 1.1 was seen, and 9.7 for a view more
    golden("short-run", to_pixels(last.settled()), average=3)
