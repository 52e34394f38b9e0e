"""How long does Stop take, in the middle of a step of the real layer sizes?

    python -m benchmarks.cancel --shots 20

Each shot asks to stop at a random moment of a step and measures until the loop has ended.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from app.stopping import Stopped
from benchmarks.speed import Work, engine
from guidance.interrupt import interruptible
from guidance.optimise import Descent, optimise


def delays(work: Work, shots: int, seed: int = 0) -> list[float]:
    """Seconds from the wish to stop to the end of the work, for each shot."""
    generator, match = engine(work, torch.bfloat16)
    latent = generator.start((work.size, work.size), seed=0)
    moments, found, deadline = np.random.default_rng(seed), [], float("inf")

    def check() -> None:
        if time.perf_counter() >= deadline:
            raise Stopped

    def run(steps: int) -> None:
        stream = optimise(generator, [match], latent, Descent(steps), seed=0, check=check)
        with interruptible([generator, match.clip], check):
            for _ in stream:
                pass

    run(1)  # warm-up
    began = time.perf_counter()
    run(1)
    step = (time.perf_counter() - began) / 2  # a run of one step looks twice
    for _ in range(shots):
        deadline = time.perf_counter() + moments.uniform(0, 2 * step)
        try:
            run(1000)
        except Stopped:
            found.append(time.perf_counter() - deadline)
    return found


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel", description=__doc__)
    parser.add_argument("--shots", type=int, default=20)
    found = sorted(delays(Work(), parser.parse_args().shots))
    told = {"shots": len(found), "median": statistics.median(found), "most": found[-1]}
    print(json.dumps({**told, "threads": torch.get_num_threads()}, indent=1))


if __name__ == "__main__":
    main()
