"""Processes that die: by kill -9 at random moments, by SIGTERM, while people keep ordering."""

from __future__ import annotations

import io
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from scripts.reliability.audit import compare, half_files, parts, pixels
from scripts.reliability.ledger import Entry, Ledger
from scripts.reliability.report import Found, quantile
from scripts.reliability.studio import PATIENCE, SMALL, Studio, TooLong, Visitor, wait_for

Order = dict[str, Any]
Say = Callable[[str], None]

# What visitors wish for: quick, longer than the pause between two snapshots, and with a picture.
WISHES: dict[str, Order] = {
    "quick": SMALL,
    "long": {**SMALL, "prompt": "a blue boat", "steps": 100, "seed": 8},
    "with a start": {**SMALL, "prompt": "a green tree", "steps": 40, "seed": 9, "init": "START"},
    "waves": {**SMALL, "prompt": "the sea", "steps": 30, "seed": 10, "generator": "fourier"},
}
POCKET: dict[str, Order] = {
    "pocket": {"prompt": "a red apple", "quality": "draft", "steps": 40, "seed": 7},
    "pocket with a start": {
        "prompt": "a blue boat",
        "quality": "draft",
        "steps": 40,
        "seed": 8,
        "init": "START",
    },
}
MOMENTS = ("any", "running", "saving")  # when a kill happens
VICTIMS = ("worker", "web", "both")

_HASTE = 0.2  # of all orders are sent again because nobody waited for the answer
_OPEN = 2  # jobs that a visitor has under way at once
_AIM = 90.0  # seconds to wait for the moment, then any will do
_OLD = 7200.0  # seconds; what was begun longer ago is swept away
_WRITTEN = 0.002  # seconds between two looks for a picture that just appeared


def start_picture() -> bytes:
    """What "START" stands for in a wish: a small PNG."""
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    buffer, grey = io.BytesIO(), np.full((32, 32), 90, np.uint8)
    Picture.fromarray(np.stack([*np.meshgrid(ramp, ramp), grey], 2)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Plan:
    """How much of it, and by which chance."""

    count: int
    seed: int = 0
    seconds: float = 1800.0  # after that it stops, and says how far it came
    visitors: int = 3

    def until(self) -> float:
        """When it has to be over."""
        return time.monotonic() + self.seconds


class Load:
    """Visitors who keep ordering while the studio falls and rises; each has a thread."""

    def __init__(
        self, studio: Studio, wishes: Mapping[str, Order], plan: Plan, most: int | None = None
    ) -> None:
        """`most` orders of each visitor; None: until the block ends."""
        self.ledger, self.trouble = Ledger(), list[str]()
        self.visitors = [Visitor(studio.address) for _ in range(plan.visitors)]
        self._wishes, self._seed, self._most = wishes, plan.seed, most
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(who,), daemon=True)
            for who in range(plan.visitors)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def is_busy(self) -> bool:
        """Whether somebody still orders."""
        return any(thread.is_alive() for thread in self._threads)

    def _live(self, who: int) -> None:
        try:
            self._order(who)
        except Exception as error:  # an answer that should not have been
            self.trouble.append(f"visitor {who}: {error}")

    def _order(self, who: int) -> None:
        chance, visitor = random.Random(f"{self._seed} {who}"), self.visitors[who]
        open_jobs: list[str] = []
        for number in range(self._most or 10**6):
            if self._over.is_set():
                return
            what, key = chance.choice(sorted(self._wishes)), f"wish-{number}"
            wish = made(self._wishes[what], visitor)
            job = visitor.order(wish, key, hasty=chance.random() < _HASTE)
            self.ledger.note(Entry(who, key, what, job["id"]))
            open_jobs.append(job["id"])
            while len(open_jobs) >= _OPEN and not self._over.is_set():
                open_jobs = [id for id in open_jobs if visitor.job(id).get("state") != "done"]
                self._over.wait(0.2)

    def drain(self, until: float) -> None:
        """Wait until all that was promised is over."""
        for job, entry in self.ledger.jobs.items():
            try:
                self.visitors[entry.who].ended(job, max(1.0, until - time.monotonic()))
            except TooLong:
                return  # the ledger will tell


def made(wish: Order, visitor: Visitor) -> Order:
    """A wish with what it needs handed in."""
    if wish.get("init") != "START":
        return wish
    return started(wish, visitor.upload(start_picture(), "start.png"))


def started(wish: Order, file: str) -> Order:
    """The same, but it begins with a file that was handed in, and not as it said."""
    return {**{name: value for name, value in wish.items() if name != "start"}, "init": file}


def undisturbed(studio: Studio, wishes: Mapping[str, Order]) -> dict[str, NDArray[np.uint8]]:
    """The picture of each wish when nothing happens meanwhile."""
    visitor = Visitor(studio.address)
    found = {}
    for what, wish in wishes.items():
        job = visitor.ended(visitor.order(made(wish, visitor))["id"])
        found[what] = pixels(visitor.picture(job["id"]))
    return found


# --- kill -9 -------------------------------------------------------------------------------------


def kills(
    studio: Studio,
    plan: Plan,
    say: Say,
    wishes: Mapping[str, Order] = WISHES,
    *,
    sweep: bool = True,
) -> Found:
    """Kill the worker, the web process or both, at moments of chance, while visitors order.

    `sweep`: see in the end, too, whether what the kills left is swept away; a restart more.
    """
    until, chance = plan.until(), random.Random(plan.seed)
    whole = undisturbed(studio, wishes)
    say(f"{len(whole)} pictures made without any trouble, to compare with")
    victims, moments = (_dealt(kinds, plan.count, chance) for kinds in (VICTIMS, MOMENTS))
    done: list[tuple[float, str]] = []  # when, and what
    with Load(studio, wishes, plan) as load:
        for whom, moment in zip(victims, moments, strict=True):
            if time.monotonic() > until:
                say("no more time: it stops here")
                break
            _wait_for_moment(studio, moment, chance)
            if whom != "web":
                wait_for(studio.somebody_works)
            studio.kill(whom)
            done.append((time.time(), f"{whom} ({moment})"))
            say(f"kill {len(done)} of {plan.count}: {done[-1][1]}, load {os.getloadavg()[0]:.1f}")
            studio.start()
    say(f"{len(load.ledger.jobs)} jobs were promised; now all come to their end")
    load.drain(time.monotonic() + PATIENCE)
    mix = ", ".join(f"{sum(whom in what for _, what in done)} of {whom}" for whom in VICTIMS)
    aimed = sum("saving" in what for _, what in done)
    found = Found(
        f"{len(done)} kills of {plan.count} that were planned ({mix}; {aimed} of them aimed at the "
        f"moment when a picture appears) under {plan.visitors} visitors"
    )
    _judge(found, studio, load, whole)
    _recovery(found, studio, [at for at, _ in done])
    if sweep:
        _sweep(found, studio)
    return found


def _dealt(kinds: tuple[str, ...], count: int, chance: random.Random) -> list[str]:
    """So many of them, each as often as the others, in an order of chance."""
    cards = [kinds[number % len(kinds)] for number in range(count)]
    chance.shuffle(cards)
    return cards


def _wait_for_moment(studio: Studio, moment: str, chance: random.Random) -> None:
    if moment == "any":
        time.sleep(chance.uniform(0, 8))
        return
    there = _pictures(studio)
    try:
        if moment == "running":
            wait_for(studio.running, _AIM)
            time.sleep(chance.uniform(0, 4))
        else:
            wait_for(lambda: _pictures(studio) > there, _AIM, _WRITTEN)
            time.sleep(chance.uniform(0, 0.05))
    except TooLong:
        pass  # then it is any moment


def _pictures(studio: Studio) -> int:
    try:
        return sum(entry.name.endswith(".png") for entry in os.scandir(studio.results))
    except OSError:
        return 0


def _judge(
    found: Found, studio: Studio, load: Load, whole: Mapping[str, NDArray[np.uint8]]
) -> None:
    """Whether all promises were kept."""
    jobs = load.ledger.jobs
    with studio.books() as db:
        books = compare(db, studio.results)
        hit = db.execute(
            "SELECT count(DISTINCT job) FROM events WHERE text = 'its worker is gone'"
        ).fetchone()[0]
    found.tell("jobs acknowledged", len(jobs))
    found.tell("jobs that were hit while they were made", hit)
    lost = load.ledger.lost(books.states)
    found.none("acknowledged jobs lost", [f"{job} is {books.states.get(job)}" for job in lost])
    found.none("one order, two jobs", load.ledger.twice())
    found.none("pictures made twice, or nobody's", [*books.doubled, *books.strange])
    found.none("pictures that the list names and that are not there", books.missing)
    opened, halves = half_files(studio.folders)
    found.none(f"half files (of {opened} opened)", halves)
    compared, others = 0, []
    for job, entry in jobs.items():
        if books.states.get(job) == "done":
            compared += 1
            picture = pixels(load.visitors[entry.who].picture(job))
            if not np.array_equal(picture, whole[entry.what]):
                others.append(f"{job} ({entry.what})")
    found.none(f"pictures unlike the undisturbed ones (of {compared} compared)", others)
    found.none("answers that no visitor should get", load.trouble)


def _recovery(found: Found, studio: Studio, kills: list[float]) -> None:
    """Seconds from a kill until a job is taken again; where another kill came first, none."""
    with studio.books() as db:
        taken = [at for (at,) in db.execute("SELECT at FROM events WHERE what = 'running'")]
    waits = []
    for at, following in zip(kills, [*kills[1:], float("inf")], strict=True):
        later = min((other for other in taken if at < other < following), default=None)
        if later is not None:
            waits.append(later - at)
    if waits:
        middle, longest = quantile(waits, 0.5), max(waits)
        found.tell(
            f"seconds until work went on (median, longest of {len(waits)})",
            f"{middle:.1f}, {longest:.1f}",
        )


def _sweep(found: Found, studio: Studio) -> None:
    """What was begun and never became a file goes when it is old; here, it becomes old at once."""
    left = parts(studio.folders)
    found.tell("pieces of files that the kills left", len(left))
    for piece in left:
        _age(piece)
    studio.terminate()
    studio.start()
    studio.ready()
    time.sleep(1)
    found.none("of these, left after the sweep", parts(studio.folders, older=_OLD / 2))


def _age(path: Path) -> None:
    then = time.time() - _OLD
    os.utime(path, (then, then))


# --- SIGTERM -------------------------------------------------------------------------------------


def goodbyes(studio: Studio, plan: Plan, say: Say, wishes: Mapping[str, Order] = WISHES) -> Found:
    """SIGTERM in the middle of the work, as when a Space is restarted; then a new start."""
    until, chance = plan.until(), random.Random(plan.seed)
    whole = undisturbed(studio, wishes)
    found, took, statuses = Found(""), list[float](), list[int]()
    with Load(studio, wishes, plan) as load:
        for number in range(plan.count):
            if time.monotonic() > until:
                break
            wait_for(studio.running)
            time.sleep(chance.uniform(0, 6))
            seconds, status = studio.terminate()
            took.append(seconds)
            statuses.append(status)
            say(f"SIGTERM {number + 1} of {plan.count}: {seconds:.1f} s")
            studio.start()
    load.drain(time.monotonic() + PATIENCE)
    found.n = f"{len(took)} times SIGTERM under {plan.visitors} visitors"
    found.most("seconds until no process is left (longest)", max(took, default=0.0), 10.0)
    found.none("exits with another status than 0", [status for status in statuses if status])
    _judge(found, studio, load, whole)
    return found
