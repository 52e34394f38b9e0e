"""What no training may see: held-out names, sets, drawings and photographs, kept in splits.json."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SPLITS = Path(__file__).with_name("splits.json")
HELD_OUT_SETS = ("fxemoji", "tuxpaint-stamps-default")


@dataclass(frozen=True)
class Splits:
    """Lists of held-out things; whatever is in no list may be trained on."""

    sets: frozenset[str]
    names: frozenset[str]
    clipart: frozenset[str]
    photographs: frozenset[str]

    def holds_out(self, source: str, key: str, name: str) -> bool:
        """Say whether a picture (of which set, file and name) must stay unseen."""
        return source in self.sets or key in self.clipart or self.mentions(name)

    def mentions(self, text: str) -> bool:
        """Say whether a text names a held-out object, as whole words, singular or plural."""
        words = re.findall(r"[a-z0-9']+", text.lower())
        spans = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, i + 5)}
        return not self.names.isdisjoint(spans | {s.removesuffix("s") for s in spans})


def one_in(n: int, key: str) -> bool:
    """Pick about one key in n, always the same ones, by the key's SHA-256."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % n == 0


def plain(name: str) -> str:
    """Lower case words alone, so that names of different sets compare equal."""
    return " ".join(re.findall(r"[a-z0-9']+", name.lower()))


def draw_splits(names: Iterable[str], clipart: Iterable[str], photographs: Iterable[str]) -> Splits:
    """Hold out a tenth of the names and drawings and a sixth of the photographs, by hash."""
    return Splits(
        sets=frozenset(HELD_OUT_SETS),
        names=frozenset(n for n in map(plain, names) if one_in(10, n)),
        clipart=frozenset(c for c in clipart if one_in(10, c)),
        photographs=frozenset(p for p in photographs if one_in(6, p)),
    )


def save_splits(splits: Splits, path: Path = SPLITS) -> None:
    """Write the lists, sorted, so that a change shows as a small difference."""
    lists = {key: sorted(getattr(splits, key)) for key in Splits.__dataclass_fields__}
    path.write_text(json.dumps(lists, indent=0, ensure_ascii=False) + "\n")


def load_splits(path: Path = SPLITS) -> Splits:
    """Read the committed lists."""
    lists = json.loads(path.read_text())
    return Splits(**{key: frozenset(values) for key, values in lists.items()})
