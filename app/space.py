"""What a Space of Hugging Face tells by its environment, and what follows from it for the studio.

No torch at the top: `app.py` asks this before anything else is loaded.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.executors import Executor
    from app.worker import Worker

BUCKET = Path("/data")  # where storage is attached, if any is
PASS = "x-ip-token"  # the header by which Hugging Face says whose GPU time is used

_TRUE = ("1", "t", "true")
_MOST_PASSES = 1000
_FORGETS = (
    "**This Space forgets.** Its disk is emptied whenever it starts again, and your history with "
    "it: download what you want to keep. A picture carries its recipe: dropped into History, it "
    "opens again."
)
_BORROWED = (
    "A GPU is borrowed for each picture. How much of it you may use in a day, Hugging Face "
    "decides: more if you are logged in there."
)


@dataclass(frozen=True)
class Space:
    """Where we run. `name` is "owner/space", or empty where that is no Space."""

    name: str = ""
    host: str = ""  # by which browsers reach it
    zero_gpu: bool = False  # a GPU is lent for as long as a picture takes

    @classmethod
    def told_by(cls, environment: Mapping[str, str]) -> Space:
        """What the environment says."""
        said = environment.get("SYSTEM") == "spaces"
        name = environment.get("SPACE_ID", "a Space" if said else "")
        zero_gpu = environment.get("SPACES_ZERO_GPU", "").lower() in _TRUE
        return cls(name, environment.get("SPACE_HOST", ""), bool(name) and zero_gpu)

    def __bool__(self) -> bool:
        """Whether it is one."""
        return bool(self.name)

    @property
    def notice(self) -> str:
        """What visitors have to know, in Markdown; nothing on a machine of one's own."""
        told = [_FORGETS] if self else []
        return " ".join([*told, *([_BORROWED] if self.zero_gpu else [])])


def here() -> Space:
    """Where this process runs."""
    return Space.told_by(os.environ)


# --- before the studio is loaded -------------------------------------------------------------


def prepare(environment: MutableMapping[str, str], bucket: Path = BUCKET) -> None:
    """On a Space, say in the environment where things may be written, unless somebody said so.

    The list of jobs always lies on the machine's own disk: SQLite's journal is not for storage
    that is attached over a network. Pictures go to such storage, if there is any. With ZeroGPU
    its library is loaded, which has to come before anything that touches CUDA.
    """
    space = Space.told_by(environment)
    if not space:
        return
    home = Path(environment.get("HOME", "/"))
    has_home = _is_writable(home)
    own = (home if has_home else Path(tempfile.gettempdir())) / "synesthete"
    kept = bucket / "synesthete" if _is_writable(bucket) else own
    environment.setdefault("SYNESTHETE_DATA", str(own / "data"))
    environment.setdefault("SYNESTHETE_MODELS", str(own / "models"))
    environment.setdefault("SYNESTHETE_RESULTS", str(kept / "pictures"))
    if not has_home:
        environment.setdefault("XDG_CACHE_HOME", str(own / "cache"))
    if space.zero_gpu:
        import spaces  # type: ignore[import-not-found]  # noqa: F401  # the Space brings it


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made there: permissions alone do not tell, least of all root."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


# --- the studio of a Space -------------------------------------------------------------------


def open_worker() -> Worker:
    """The worker of a Space: less may wait there, and with ZeroGPU pictures are made elsewhere."""
    from app.jobs import Limits
    from app.worker import Worker

    worker = Worker(executor=_borrower()) if here().zero_gpu else Worker()
    # Many people share it, and few of them will wait for ten minutes.
    worker.store.limits = Limits(queue_seconds=480.0, owner_seconds=120.0, owner_jobs=4)
    return worker


def _borrower() -> Executor:
    from app.zero import executor

    return executor()


def report() -> None:
    """Tell ZeroGPU what there is to lend a GPU for, before anybody comes.

    Its library does that in Gradio's `launch`, which we do not use (see `app.edge`).
    """
    if here().zero_gpu:
        from spaces.zero import startup  # type: ignore[import-not-found]

        import app.zero  # noqa: F401  # there it is

        startup()


class Passes:
    """By which pass each visitor was let in last: a GPU is lent on their account, not on ours."""

    def __init__(self) -> None:
        """Nobody was here yet."""
        self._passes: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, owner: str, headers: Mapping[str, str]) -> None:
        """Somebody came; their pass, if they had one, is good for some minutes."""
        if owner and (found := headers.get(PASS)):
            with self._lock:
                self._passes[owner] = found
                self._passes.move_to_end(owner)
                while len(self._passes) > _MOST_PASSES:
                    self._passes.popitem(last=False)

    def headers(self, owner: str) -> dict[str, str]:
        """What their requests would say now."""
        found = self._passes.get(owner)
        return {PASS: found} if found else {}


passes = Passes()  # in memory alone: no job, no file and no log holds one
