"""CLIP through open_clip: words and pictures become unit vectors in one space.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
Every CLIP is a folder as open_clip writes it, the one that ships with the project included.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from generators.base import Image
from guidance import clip_fast, lexicon
from guidance.calibrate import unrelated_pictures

Embedding = Tensor  # (n, d), unit length

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


class Clip:
    """A frozen CLIP: words and views become unit vectors, with gradients through the views."""

    def __init__(
        self,
        model: Any,  # an open_clip CLIP or CustomTextCLIP
        tokenizer: open_clip.SimpleTokenizer,
        *,
        space: str,
        mean: Sequence[float],
        std: Sequence[float],
        precision: torch.dtype = torch.float32,
        readings: Callable[[str], str] = str,
    ) -> None:
        """Freeze a loaded model. `space` names its embedding space: vectors of two do not mix.

        `mean` and `std` of the three colours, as the model was trained with. `readings`: texts are
        read as this says.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer, self.space, self.precision = tokenizer, space, precision
        self.readings = readings
        side = self.model.visual.image_size
        self.side: int = side if isinstance(side, int) else side[0]  # pixels of a view
        self.tower = clip_fast.arrange(self.model.visual, precision)
        self.mean, self.std = self._channel(mean), self._channel(std)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Embedding:
        """Words -> (n, d), unit length. Words beyond the context are not read: see `unread`."""
        tokens = self._tokens(texts)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    @torch.no_grad()
    def embed_phrases(self, texts: Sequence[str], at_once: int = 256) -> Embedding:
        """Many short texts -> (n, d), as `embed_text` but for rounding, and several times faster.

        Attention looks back alone, so the padding behind a text changes nothing: it is left out.
        """
        if not isinstance(self.model, open_clip.CLIP):  # another text tower
            return self.embed_text(list(texts))
        found = []
        for start in range(0, len(texts), at_once):
            tokens = self._tokens(texts[start : start + at_once])
            longest = int(tokens.argmax(dim=1).max()) + 1  # the mark of the end has the largest id
            features = _reading(self.model, longest).encode_text(tokens[:, :longest])
            found.append(F.normalize(features.float(), dim=-1))
        return torch.cat(found)

    def embed_image(self, views: Image) -> Embedding:
        """(n, 3, side, side), 0..1 -> (n, d), unit length, differentiable."""
        seen = ((views - self.mean) / self.std).to(self.precision)
        return F.normalize(self.tower(seen).float(), dim=-1)

    def unread(self, text: str) -> str:
        """The end of a text that does not fit into the context; empty when all of it is read."""
        tokens = self.tokenizer.encode(text)
        room = self.tokenizer.context_length - 2  # its start and end markers
        return self.tokenizer.decode(tokens[room:]).strip()

    @torch.no_grad()
    def unrelated_angle(self, embedding: Embedding) -> float:
        """Median angle (radians) of a (1, d) vector to pictures that have nothing to do with it.

        The median, so that one picture that happens to be related does not count.
        """
        return (self._unrelated @ embedding[0]).clamp(-1, 1).acos().median().item()

    @functools.cached_property
    def _unrelated(self) -> Embedding:
        size = (self.side, self.side)
        tiles = F.interpolate(unrelated_pictures(), size, mode="bicubic", antialias=True)
        return torch.cat(
            [self.embed_image(tile) for tile in tiles.clamp(0, 1).to(self.device).split(4)]
        )

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return self.tokenizer([self.readings(text) for text in texts]).to(self.device)

    def _channel(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=self.device).view(1, -1, 1, 1)


def _reading(model: open_clip.CLIP, length: int) -> open_clip.CLIP:
    """The same network, weights and all, that reads so many tokens; the given one is untouched."""
    short = copy.copy(model)
    short._parameters, short._buffers = dict(model._parameters), dict(model._buffers)
    place = model.positional_embedding[:length]
    short.positional_embedding = nn.Parameter(place, requires_grad=False)
    short.attn_mask = model.attn_mask[:length, :length]
    return short


def load(
    path: Path,
    device: str = "cpu",
    precision: torch.dtype = torch.float32,
    *,
    quick_gelu: bool = False,
    space: str = "",
) -> Clip:
    """Load a folder that holds `open_clip_config.json` and `open_clip_model.safetensors`.

    `space` names the embedding space, the folder's name by default. Raises ValueError when the
    folder's quick-GELU flag is not the expected one (weights run with the other activation give
    wrong embeddings and no error), or when the weights do not fit.
    """
    config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    if config["model_cfg"].get("quick_gelu", False) != quick_gelu:
        raise ValueError(
            f"The CLIP in {path} says quick_gelu={not quick_gelu}, its row in the catalog says "
            f"{quick_gelu}. One of them is wrong."
        )
    model = build(config["model_cfg"])
    weights = {key: value.float() for key, value in load_file(path / WEIGHTS).items()}
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"The weights in {path} belong to another CLIP: {error}") from error
    seen = config.get("preprocess_cfg", {})
    return Clip(
        model.to(device),
        open_clip.get_tokenizer(f"local-dir:{path}"),
        space=space or path.name,
        mean=seen.get("mean", open_clip.OPENAI_DATASET_MEAN),
        std=seen.get("std", open_clip.OPENAI_DATASET_STD),
        precision=precision,
        readings=lexicon.readings(path),
    )


def build(config: Mapping[str, Any]) -> nn.Module:
    """The open_clip model of a `model_cfg`, with random weights.

    Built here because `open_clip.create_model` would fetch a missing tower's weights, and open
    whatever pickle lies beside ours.
    """
    config = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()
    }
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    return kind(**config)
