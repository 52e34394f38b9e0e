"""Make app/examples: the three sounds that the Listen tab offers, synthesised by ourselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from training.synth import RATE, chord_music, synthesise

FOLDER = Path(__file__).parent.parent / "app" / "examples"
_STEP = 64  # of 32,768: rain is all chance, and every bit of it that is kept makes the file longer
_EDGE = 0.05  # seconds in which the music fades at its end


def sounds() -> dict[str, NDArray[np.float64]]:
    """(samples,) at RATE for each name; with these seeds each comes out clear."""
    music = chord_music(np.random.default_rng(2), 5.0, minor=False, tempo=120)
    music[-round(_EDGE * RATE) :] *= np.linspace(1, 0, round(_EDGE * RATE), dtype=np.float32)
    return {
        "rain": synthesise("rain", np.random.default_rng(2), 3.5),
        "duck": synthesise("duck", np.random.default_rng(4), 3.5),
        "music": music,
    }


def main() -> None:
    """Write each as FLAC."""
    FOLDER.mkdir(exist_ok=True)
    for name, wave in sounds().items():
        path = FOLDER / f"{name}.flac"
        samples = np.round(wave * 0.7 * 32_767 / _STEP) * _STEP
        soundfile.write(path, samples.astype(np.int16), RATE)


if __name__ == "__main__":
    main()
