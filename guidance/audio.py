"""Sounds in a CLIP's space: what every sound encoder offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from guidance.clip import Embedding

Wave = NDArray[np.float32]  # (samples,), mono, -1..1


class AudioEncoder(Protocol):
    """Stretches of a sound become unit vectors beside those of words and pictures."""

    rate: int  # Hz it wants
    space: str  # the CLIP whose embeddings it speaks

    def embed(self, wave: Wave) -> Embedding:
        """Sound at `rate` -> (windows, d), unit length, one for each window."""
        ...

    def windows(self, wave: Wave) -> list[tuple[float, float]]:
        """Start and end of each window, in seconds."""
        ...
