"""Every device gives the gradients that the CPU gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from generators import vqgan
from guidance import clip
from guidance.augment import Views
from guidance.objectives import Match, Target

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
