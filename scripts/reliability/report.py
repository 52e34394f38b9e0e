"""What a part found: figures with what was wanted, kept as JSON, and told as a table."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_MOST_EXAMPLES = 5

Told = dict[str, Any]  # part -> what was found, as JSON holds it


@dataclass(frozen=True)
class Figure:
    """One figure. `wanted` in words, "" for what is only told; `examples` of what is wrong."""

    what: str
    value: str
    wanted: str = ""
    is_met: bool = True
    examples: tuple[str, ...] = ()


@dataclass
class Found:
    """All figures of one part; `n` says of how many what they are."""

    n: str
    figures: list[Figure] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        """Whether all is as wanted."""
        return all(figure.is_met for figure in self.figures)

    def tell(self, what: str, value: object) -> None:
        """Note a figure that nothing is wanted of."""
        self.figures.append(Figure(what, str(value)))

    def none(self, what: str, wrong: Sequence[object]) -> None:
        """Note how many there are of what must not be."""
        examples = tuple(str(one) for one in wrong[:_MOST_EXAMPLES])
        self.figures.append(Figure(what, str(len(wrong)), "0", not wrong, examples))

    def most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Note a figure that must not be above a limit."""
        said, wanted = (f"{_short(number)}{unit}" for number in (value, limit))
        self.figures.append(Figure(what, said, f"at most {wanted}", value <= limit))

    def all(self, what: str, count: int, of: int) -> None:
        """Note how many there are of what should be so many."""
        self.figures.append(Figure(what, f"{count} of {of}", "all", count == of))


def _short(number: float) -> str:
    return f"{number:.2f}" if isinstance(number, float) and number < 100 else f"{number:,.0f}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; 0 of none."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def keep(path: Path, part: str, found: Found, where: Mapping[str, Any]) -> Told:
    """Put what a part found into the file, in place of what it found before; return all of it."""
    told = load(path)
    told[part] = {"n": found.n, "met": found.is_met, "where": dict(where)}
    told[part]["figures"] = [asdict(figure) for figure in found.figures]
    return _save(path, told)


def remark(path: Path, part: str, sentence: str) -> Told:
    """Put a sentence of whoever ran it beside what a part found, until it is run again."""
    told = load(path)
    told[part]["remark"] = sentence
    return _save(path, told)


def _save(path: Path, told: Told) -> Told:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)
    return load(path)


HEAD = "\n".join(
    (
        "# Reliability",
        "",
        "Faults on purpose, against a studio started as people start it (`python app.py`), with "
        "its HTTP API as the",
        "client and the models that ship with the project. `make reliability` does all of it "
        "again,",
        "`.venv/bin/python -m scripts.reliability PART` one part. The script writes this page "
        "from `reliability.json`;",
        "a figure that is not as wanted stands here as it was.",
        "",
        "",
    )
)


def load(path: Path) -> Told:
    """What was found so far; nothing when there is no such file yet."""
    told: Told = json.loads(path.read_bytes()) if path.exists() else {}
    return told


def page(told: Told, titles: Mapping[str, str]) -> str:
    """The table in Markdown, in the order of `titles`: a section for each part that was run."""
    rows = [part for part in titles if part in told]
    return HEAD + "\n".join(_section(titles[part], part, told[part]) for part in rows)


def _section(title: str, part: str, found: Mapping[str, Any]) -> str:
    lines = [
        f"## {title} (`{part}`): {'as wanted' if found['met'] else 'NOT as wanted'}",
        "",
        f"{found['n']}. {_where(found['where'])}",
        *(["", f"Remark: {found['remark']}"] if "remark" in found else []),
        "",
        "| figure | found | wanted | |",
        "|---|--:|--:|---|",
        *(_row(figure) for figure in found["figures"]),
    ]
    return "\n".join(lines) + "\n"


def _row(figure: Mapping[str, Any]) -> str:
    mark = "" if not figure["wanted"] else "yes" if figure["is_met"] else "**no**"
    examples = "; ".join(figure["examples"]).replace("|", "/").replace("\n", " ")[:300]
    note = f"{mark}: {examples}" if examples else mark
    return f"| {figure['what']} | {figure['value']} | {figure['wanted']} | {note} |"


def _where(where: Mapping[str, Any]) -> str:
    loads = [f"{load:.1f}" for load in where["load"]]
    return (
        f"{where['when']}, commit {where['commit']}, {where['cpu']}, {where['cores']} cores, "
        f"load average {loads[0]} before and {loads[1]} after (other programs ran beside it), "
        f"{where['seconds']} s, seed {where['seed']}."
    )
