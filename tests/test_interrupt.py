"""A step can be stopped in its middle, and everything is usable afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generators import vqgan
from guidance import clip
from guidance.interrupt import interruptible


class Enough(Exception):
    """What the check raises."""


def test_a_check_is_asked_in_every_layer_forwards_and_backwards(tiny_vqgan: Path) -> None:
    generator = vqgan.load(tiny_vqgan)
    latent = generator.start((32, 32), seed=0).requires_grad_()
    asked: list[str] = []
    with interruptible([generator], lambda: asked.append("layer")):
        image = generator.decode(latent)
        forward = len(asked)
        image.sum().backward()
    assert forward > 20
    assert len(asked) > 1.5 * forward
    asked.clear()
    generator.decode(latent)
    assert not asked  # outside nobody is asked


@pytest.mark.parametrize("after", [1, 15, 60])
def test_raising_leaves_the_models_as_they_were(
    after: int, tiny_clip: Path, tiny_vqgan: Path
) -> None:
    generator, seer = vqgan.load(tiny_vqgan), clip.load(tiny_clip)
    latent = generator.start((32, 32), seed=0).requires_grad_()

    def step() -> torch.Tensor:
        loss = seer.embed_image(generator.decode(latent)).sum()
        (gradient,) = torch.autograd.grad(loss, latent)
        return gradient

    expected, left = step(), [after]

    def check() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Enough

    with pytest.raises(Enough), interruptible([generator, seer], check):
        step()
    assert torch.equal(step(), expected)
