"""The pocket CLIP as it is trained: an open_clip model and a head for its teacher's vectors."""

import json
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.course import in_half, write_weights
from training.imagenet import efficientnet_lite
from training.teacher import WIDTH

POCKET: dict[str, Any] = {
    "embed_dim": 384,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": 96,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 6},
}
PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
MAX_SCALE = 100.0  # of the logits, as in CLIP


def with_tower(name: str) -> dict[str, Any]:
    """The pocket CLIP's config with another EfficientNet as its image tower: lite0, lite1 ..."""
    vision = {**POCKET["vision_cfg"], "timm_model_name": f"tf_efficientnet_{name}"}
    return {**POCKET, "vision_cfg": vision}


class Pupil(nn.Module):
    """An open_clip model, and a small head that brings the teacher's vectors into its space."""

    def __init__(self, config: dict[str, Any] = POCKET) -> None:
        """Build from an open_clip model config; weights are random at first."""
        super().__init__()
        self.config = config
        self.clip = open_clip.model.CLIP(**config)
        quicken(self.clip.visual)
        width = config["embed_dim"]
        self.skip = nn.Linear(WIDTH, width, bias=False)
        self.bend = nn.Sequential(nn.Linear(WIDTH, 768), nn.GELU(), nn.Linear(768, width))
        nn.init.eye_(self.skip.weight)
        nn.init.zeros_(self.bend[2].weight)
        nn.init.zeros_(self.bend[2].bias)

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """(n, 3, s, s) in 0..1 to unit vectors (n, d)."""
        with in_half(pictures):
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            features = self.clip.visual.trunk(pictures * 2 - 1)
        return F.normalize(self.clip.visual.head(features.float()), dim=-1)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """(n, t) token numbers, cut to the longest text, to unit vectors (n, d)."""
        clip, length = self.clip, tokens.shape[1]
        with in_half(tokens):
            x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
            with sdpa_kernel(SDPBackend.MATH):  # for texts this short the plain way is quicker
                x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
            x = clip.ln_final(x)
        last = x[torch.arange(len(x)), tokens.argmax(-1)]  # the end token has the highest number
        return F.normalize(last.float() @ clip.text_projection, dim=-1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Texts to unit vectors (n, d)."""
        return self.embed_tokens(tokenizer(self)(texts))

    def lift(self, sentences: Tensor) -> Tensor:
        """The teacher's unit vectors (n, 384) to unit vectors (n, d) of the common space."""
        x = sentences * 5  # entries of about a quarter, a comfortable size for the head
        return F.normalize(self.skip(x) + self.bend(x), dim=-1)

    def scale(self) -> Tensor:
        """The learned inverse temperature."""
        return self.clip.logit_scale.exp().clamp(max=MAX_SCALE)


def quicken(tower: nn.Module) -> None:
    """Arrange an EfficientNet so that it trains quickly in bfloat16."""
    tower.to(memory_format=torch.channels_last)
    for module in tower.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = MethodType(in_float32, module)  # type: ignore[method-assign]


def in_float32(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Run a depthwise convolution in full precision.

    oneDNN has no fast way back through one in bfloat16 (672 channels, 5 x 5, stride 2: 490 ms
    against 35 in float32); it would take four fifths of each step. A GPU has one.
    """
    if x.device.type != "cpu":
        return type(conv).forward(conv, x)
    with torch.autocast(x.device.type, enabled=False):
        return type(conv).forward(conv, x.float()).to(x.dtype)


def trim(tokens: Tensor) -> Tensor:
    """Cut (n, t) tokens to the longest text among them; beyond its end token is only padding."""
    return tokens[:, : int(tokens.argmax(1).max()) + 1]


def tokenizer(net: Pupil) -> Callable[[list[str]], Tensor]:
    """Texts to tokens (n, t) as the net reads them."""
    encode = open_clip.SimpleTokenizer(context_length=net.clip.context_length)
    return lambda texts: trim(encode(texts))


def start_from_imagenet(net: Pupil) -> Tensor:
    """Fill the tower from its EfficientNet's ImageNet weights; return its classifier's rows.

    They are (1000, 1280), scaled to about the length of the tower's features.
    """
    tower: str = net.config["vision_cfg"]["timm_model_name"]
    whole = efficientnet_lite(tower.removeprefix("tf_efficientnet_"))
    rows = whole.classifier.weight.detach().clone()
    whole.reset_classifier(0)
    net.clip.visual.trunk.load_state_dict(whole.state_dict())
    return F.normalize(rows, dim=-1) * 15


@torch.no_grad()
def start_projection(net: Pupil, rows: Tensor, vectors: Tensor) -> None:
    """Begin where the classifier stands: a picture lies where the classes it resembles lie.

    projection = V'R, the sum over classes of (class vector) x (classifier row), both centred.
    """
    lifted = F.normalize(net.lift(vectors), dim=-1)
    product = (lifted - lifted.mean(0)).T @ (rows - rows.mean(0))
    net.clip.visual.head.proj.weight.copy_(
        product / product.norm(dim=1).mean() * 0.1 * 1280**0.5 / 36
    )


def load_exported(folder: Path) -> Pupil:
    """Read the model of an exported folder back; the teacher's head stays untrained."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    net = Pupil(config)
    net.clip.load_state_dict(load_file(folder / "open_clip_model.safetensors"), strict=True)
    return net.eval()


def export(net: Pupil, folder: Path) -> None:
    """Write an open_clip folder (``local-dir:``): config and half-precision weights."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"model_cfg": net.config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(whole, indent=2) + "\n")
    write_weights(net.clip.state_dict(), folder / "open_clip_model.safetensors")
