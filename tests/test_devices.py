"""Every device gives what the CPU gives; for a GPU a stand-in answers where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from app import editing, generate, pipeline, planner
from app.images import Pixels
from app.models import Models
from app.request import make_request
from generators import vqgan
from guidance import clip
from guidance.augment import Views
from guidance.objectives import Match, Target
from tests.commands import in_process
from tests.elsewhere import elsewhere
from tests.test_editing import propose
from tests.test_pipeline import HASH, SMALL, SOUND, given_inputs

HERE = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}


def gradient(device: str, tiny_vqgan: Path, tiny_clip: Path) -> Tensor:
    """Of one look at one picture through the same views, in full precision."""
    generator, seer = vqgan.load(tiny_vqgan, device), clip.load(tiny_clip, device)
    targets = [Target("a fox", seer.embed_text(["a fox"]))]
    latent = generator.start((64, 64), seed=0).to(device).requires_grad_()
    torch.manual_seed(0)  # views are drawn on the CPU
    Match(seer, targets, Views(6, seer.side))(generator.decode(latent)).total.backward()
    assert latent.grad is not None
    return latent.grad.cpu()


@pytest.mark.gpu
@pytest.mark.parametrize("device", HERE)
def test_the_gradient_is_the_cpus(device: str, tiny_vqgan: Path, tiny_clip: Path) -> None:
    if not HERE[device]():
        pytest.skip(f"There is no {device} here.")
    ours = gradient(device, tiny_vqgan, tiny_clip)
    theirs = gradient("cpu", tiny_vqgan, tiny_clip)
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999
    assert ours.norm() / theirs.norm() == pytest.approx(1, abs=0.01)


def test_on_a_gpu_published_networks_have_the_same_gradient(
    tiny_vqgan: Path, tiny_clip: Path
) -> None:
    with elsewhere():
        ours = gradient("cuda", tiny_vqgan, tiny_clip)
    theirs = gradient("cpu", tiny_vqgan, tiny_clip)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


PICTURE = {"sha256": HASH}
ASKED: dict[str, dict[str, Any]] = {
    "words": {"prompt": "a red apple on a blue background"},
    "in halves": {"precision": "bfloat16"},
    "a sound": {"sounds": (SOUND,)},
    "a picture": {"prompt": "a boat | fog::-1", "pictures": (PICTURE,), "start": "codes"},
    "to begin with": {"init": PICTURE, "init_noise": 0.3, "ema": 0.9},
    "a direction": {"init": PICTURE, "distance": "directional", "before": "a house"},
    "from coarse to fine": {"coarse_to_fine": True, "steps": 4, "start": "fractal"},
    "pixels": {"generator": "pixels"},
    "fourier": {"generator": "fourier", "init": PICTURE},
    "pyramid": {"generator": "pyramid", "init": PICTURE},
    "all augmentations": {
        "augment": ("Af", "Pe", "Ro", "Hf", "Ji", "Sh", "Et", "Ts", "Cr", "Er", "Re", "Gn")
    },
    "all regularisers": {
        "regularise": {"text_off": 0.1, "smoothness": 0.1, "symmetry": 0.2, "palette": 0.3},
        "palette": ("#ff0000", "#00ff00"),
    },
}


@pytest.mark.parametrize("what", ASKED)
def test_on_a_gpu_the_same_request_gives_the_same_picture(what: str, pocket_models: Models) -> None:
    small = {**SMALL, "generator": "pocket", "width": 64, "height": 64, "views": 6}
    request = make_request({**small, **ASKED[what]})

    def make(models: Models) -> tuple[Tensor, int | None]:
        *_, last = pipeline.run(request, models, given_inputs())
        picture = last.settled().cpu()
        pictures = [picture, 1 - picture, picture.flip(-1)]
        return picture, pipeline.best(request, models, pictures)

    with elsewhere():
        ours, chosen = make(Models("cuda"))
    theirs, best = make(pocket_models)
    assert (ours - theirs).abs().max() < (0.02 if request.precision == "float32" else 0.1)
    assert chosen == best


def test_what_was_begun_on_the_cpu_goes_on_on_a_gpu(pocket_models: Models) -> None:
    request = make_request({**SMALL, "generator": "pocket", "steps": 4})
    whole = list(pipeline.run(request, pocket_models, given_inputs()))
    begun = next(pipeline.run(request, pocket_models, given_inputs())).snapshot()
    with elsewhere():
        there = begun.to("cuda")
        *_, last = pipeline.run(request, Models("cuda"), given_inputs(), resume=there)
        ours = last.settled().cpu()
    assert (ours - whole[-1].settled()).abs().max() < 0.02


@pytest.mark.parametrize("words", ["green", "as a pencil drawing", "replace it with a cat"])
def test_on_a_gpu_the_same_edit_gives_the_same_picture(words: str, pocket_models: Models) -> None:
    def make(models: Models) -> Pixels:
        proposal = propose(models.clip("pocket", "float32"), words)
        order = editing.order(proposal, quality="draft", seed=7, steps=3)
        asked = {"chunk": 4, "threads": 2, "precision": "float32"}
        request = order.requests[0].model_copy(update=asked)
        *_, last = planner.make(request, models, order.inputs)
        return last.pixels()

    with elsewhere():
        ours = make(Models("cuda"))
    theirs = make(pocket_models)
    assert np.abs(ours.astype(int) - theirs).max() <= 3  # grey levels


def test_on_a_gpu_the_command_line_makes_and_keeps_what_it_makes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generate, "_is_there", lambda device: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (8 << 30, 8 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setenv("SYNESTHETE_RESULTS", str(tmp_path))
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(np.arange(32_000) / 8), 16_000)
    small = "--size 64 --views 2 --steps 2 --seed 7 --threads 2".split()
    with elsewhere():
        made = in_process("generate", "a red apple", *small, "--count", "2")
        assert made.exit_code == 0, made.stderr
        assert "on cuda" in made.stderr
        assert "the judge likes" in made.stderr
        apple, _ = made.stdout.split()
        edit = ["edit", apple, "green", *small[4:]]
        listen = ["listen", tmp_path / "hum.wav", "--no-speech", *small]
        for words in (edit, listen):
            made = in_process(*words)
            assert made.exit_code == 0, made.stderr
            assert Path(made.stdout.strip()).exists()
