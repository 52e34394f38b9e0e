"""`python -m benchmarks`: measure, print the tables, write the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed import CONTENDERS, Figures, Work, agree_apart, race, scale

ROOT = Path(__file__).resolve().parent.parent
SIZES, COUNTS = [128, 256, 512], [8, 32, 64]


def main() -> None:
    """Measure what was asked for."""
    asked = _arguments()
    report: dict[str, Any] = {"where": where(), "work": "256 px, 32 views of 224 px"}
    for device in ["cpu", "cuda"]:
        report[device] = measure(Work(device=device), asked.steps) if _has(device) else None
        print(table(device, report[device]), end="\n\n", flush=True)
    if asked.scaling:
        report["scaling"] = []
        print(SCALING_HEAD)
        for size, count, found in scale(Work(), SIZES, COUNTS, asked.scaling):
            figures = {name: asdict(each) for name, each in found.items()}
            report["scaling"].append({"size": size, "views": count, **figures})
            print(scaling_row(size, count, found), flush=True)
    asked.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"\nAll figures: {asked.out}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="counted steps of each (default 5)")
    parser.add_argument(
        "--scaling",
        type=int,
        default=0,
        metavar="STEPS",
        help="also measure other sizes and numbers of views, with so many counted steps of each",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "speed.json")
    return parser.parse_args()


def measure(work: Work, steps: int) -> dict[str, Any]:
    """The race of all contenders, and how far ours keeps its direction in half precision."""
    found = race(list(CONTENDERS), work, steps)
    figures = {name: asdict(each) for name, each in found.items()}
    return {**figures, "gradient cosine": agree_apart(work)}


def where() -> dict[str, Any]:
    """What the figures depend on."""
    names = ("torch", "kornia", "open_clip_torch")
    load = os.getloadavg()[0]
    return {
        "commit": _commit(),
        "when": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load before": round(load, 2),
        "gpu": torch.cuda.get_device_name() if _has("cuda") else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _has(device: str) -> bool:
    return device == "cpu" or torch.cuda.is_available()


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), "unknown")


def table(device: str, found: Mapping[str, Any] | None) -> str:
    """A Markdown table of one device."""
    lines = [
        f"| {device} | s a step (IQR) | fastest | speed | peak GB | memory | GB above weights |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    if found is None:
        return "\n".join([*lines, *(f"| {name} | not measured | | | | | |" for name in CONTENDERS)])
    first = found["classic"]
    for name in CONTENDERS:
        one = found[name]
        lines.append(
            f"| {name} | {one['seconds']:.2f} ({one['spread']:.2f}) | {min(one['each']):.2f} "
            f"| {first['seconds'] / one['seconds']:.2f} x | {one['peak']:.2f} "
            f"| {one['peak'] / first['peak']:.2f} x | {one['above']:.2f} |"
        )
    cosine = found["gradient cosine"]
    return "\n".join([*lines, "", f"Gradient of ours: cosine {cosine:.4f} with full precision."])


SCALING_HEAD = (
    "| px | views | classic s | ours s | speed | classic GB | ours GB | memory |\n"
    "|--:|--:|--:|--:|--:|--:|--:|--:|"
)


def scaling_row(size: int, count: int, found: Mapping[str, Figures]) -> str:
    """One row of the scaling table."""
    first, ours = found["classic"], found["ours"]
    return (
        f"| {size} | {count} | {first.seconds:.2f} | {ours.seconds:.2f} "
        f"| {first.seconds / ours.seconds:.2f} x | {first.peak:.2f} | {ours.peak:.2f} "
        f"| {ours.peak / first.peak:.2f} x |"
    )


if __name__ == "__main__":
    main()
