"""Sheets of `benchmarks.listen`: sounds beside their pictures, and one for a blind reader."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as Picture
from PIL import ImageDraw

from app.images import Pixels
from benchmarks.faithful import draw_sheet
from guidance import audio_net
from guidance.audio import Wave
from training.recordings import Recording

_CELL, _COLUMNS, _LINE = 160, 4, 18  # pixels


def spectrogram(wave: Wave, side: int = _CELL) -> Pixels:
    """(side, side, 3): time to the right, pitch upwards (mel), the loudest bright; 60 dB deep."""
    bell = torch.hann_window(512)
    padded = torch.from_numpy(np.pad(wave, (0, max(0, 512 - len(wave)))))
    bins = torch.stft(padded, 512, 160, window=bell, center=False, return_complex=True)
    power = audio_net.mel_filters() @ bins.abs().square()
    level = 10 * (power / power.max().clamp(min=1e-12)).clamp(min=1e-6).log10()  # -60..0 dB
    grey = ((level / 60 + 1) * 255).byte().numpy()[::-1]
    large = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(cv2.applyColorMap(large, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def show(
    out: Path, folder: Path, chosen: Sequence[Recording], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Sounds.png: each spectrogram beside its picture, what it is and what was heard."""
    width, height = 2 * _CELL + 8, _CELL + 2 * _LINE
    lines = -(-len(chosen) // _COLUMNS)
    sheet = Picture.new("RGB", (_COLUMNS * width, lines * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (one, row) in enumerate(zip(chosen, rows, strict=True)):
        left, top = number % _COLUMNS * width, number // _COLUMNS * height
        heard = ", ".join(f"{name} {chance:.0%}" for name, chance in row["names"][:2])
        pen.text((left + 4, top + 3), f"{number} {one.label} ({one.key})"[:50], fill="black")
        pen.text((left + 4, top + _LINE + 3), f"heard: {heard}"[:50], fill="black")
        sheet.paste(Picture.fromarray(spectrogram(one.wave)), (left, top + 2 * _LINE))
        picture = Picture.open(folder / f"{number:02}.png").convert("RGB").resize((_CELL, _CELL))
        sheet.paste(picture, (left + _CELL, top + 2 * _LINE))
    sheet.save(out / "sounds.png", optimize=True)


def hide(
    out: Path,
    folder: Path,
    labels: Sequence[str],
    real: Sequence[tuple[str, Picture.Image]],
    seed: int = 5,
) -> None:
    """Blind.png, shuffled and with nothing but numbers, and key/blind.json, not for the reader.

    `real`: names and pictures of true drawings, to check the reader.
    """
    cells = [(label, Picture.open(folder / f"{n:02}.png")) for n, label in enumerate(labels)]
    cells += [(f"real {name}", image) for name, image in real]
    order = np.random.default_rng(seed).permutation(len(cells)).tolist()
    draw_sheet(cells[n][1] for n in order).save(out / "blind.png")
    key = [{"sheet": 0, "cell": cell, "shows": cells[n][0]} for cell, n in enumerate(order)]
    (out / "key").mkdir(exist_ok=True)
    (out / "key" / "blind.json").write_text(json.dumps(key, indent=0) + "\n")
