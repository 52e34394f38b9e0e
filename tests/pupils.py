"""A tiny CLIP to be trained in tests, and a teacher of its own."""

import zlib
from collections.abc import Sequence

import torch

from training.teacher import WIDTH

TINY = {
    "embed_dim": 32,
    "vision_cfg": {
        "timm_model_name": "test_efficientnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 32,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def teach(texts: Sequence[str]) -> torch.Tensor:
    """A teacher of its own: each word is a random direction, a text is the sum of its words."""

    def word(w: str) -> torch.Tensor:
        return torch.randn(WIDTH, generator=torch.Generator().manual_seed(zlib.crc32(w.encode())))

    plain = [text.replace(":", " ").replace(",", " ").split() for text in texts]
    sums = torch.stack([sum((word(w) for w in t), torch.zeros(WIDTH)) for t in plain])
    return torch.nn.functional.normalize(sums, dim=-1)
