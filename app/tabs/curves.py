"""The losses of a run as small curves, one for each target, drawn as SVG by ourselves."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.desk import Trace

_WIDTH, _HEIGHT, _EDGE = 240, 36, 3  # of a drawing, in its own units; it is stretched to its place

Point = tuple[int, float]  # a step, and a loss


def draw(trace: Trace, steps: int) -> str:
    """A curve for each target over all `steps`, with its first and newest loss in figures.

    Every curve has a scale of its own: where it falls is to be seen, not which target is larger.
    """
    curves = [
        _curve(
            name,
            [
                (step, loss)
                for step, loss in zip(trace.steps, losses, strict=True)
                if loss is not None
            ],
            steps,
        )
        for name, losses in trace.losses.items()
    ]
    if not any(curves):
        return ""
    return (
        '<figure class="studio-curves"><figcaption>How well each target is met: lower is '
        f"better.</figcaption><ul>{''.join(curves)}</ul></figure>"
    )


def _curve(name: str, points: Sequence[Point], steps: int) -> str:
    if not points:
        return ""
    first, newest = _figure(points[0][1]), _figure(points[-1][1])
    shown = html.escape(name)
    label = html.escape(f"{name}: {first} at step {points[0][0]}, {newest} at step {points[-1][0]}")
    return (
        f'<li><span title="{shown}">{shown}</span><b>{first} → {newest}</b>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}"><polyline points="{_line(points, steps)}"/></svg></li>'
    )


def _line(points: Sequence[Point], steps: int) -> str:
    """Where the points of a curve lie; a single one is a dot."""
    losses = [loss for _, loss in points]
    low, high = min(losses), max(losses)
    room, span = _HEIGHT - 2 * _EDGE, (high - low) or 1.0
    places = [
        (step / max(1, steps) * _WIDTH, _EDGE + (high - loss) / span * room)
        for step, loss in points
    ]
    places += places[-1:] * (len(places) == 1)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _figure(loss: float) -> str:
    return f"{loss:.3f}".replace("-", "−")
