"""The Models tab without a browser: what is listed, fetched, stopped, gone on with and deleted."""

from __future__ import annotations

import asyncio
import html
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import inventory, models, stock, tabs
from app.catalog import GENERATORS, TABLES, Entry, File, ModelError, Source
from app.errors import Refused
from app.files import MIB
from app.inventory import Download, Downloads
from app.tabs import model_list
from app.tabs import models as tab
from app.tabs.common import Change
from app.tabs.models import ACTS, KINDS, View
from tests.hub import HURRY, Request, Server, cut, old_checkpoint, status

TINY = "generator/tiny"


@pytest.fixture(autouse=True)
def alone(online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody shares this studio."""
    for name in tabs.SHARED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny(tiny_vqgan: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a small VQGAN that the server holds as an old checkpoint, which nobody checked."""
    entry = old_checkpoint(tiny_vqgan, server)
    monkeypatch.setitem(GENERATORS, "tiny", entry)
    return entry


@pytest.fixture
def downloads() -> Downloads:
    return Downloads(HURRY)


def press(downloads: Downloads, act: Any, model: Any = TINY, **more: Any) -> Change:
    """Press a button of the list, as somebody who has looked at it."""
    given = {"kind": "generator", "view": View(), **more}
    pressed = {"act": act, "model": model, "trust": more.get("trust", False)}
    return tab.do(downloads, {**given, "pressed": pressed})


def look(downloads: Downloads, view: View | None = None, kind: str = "generator") -> Change:
    return tab.tick(downloads, {"kind": kind, "view": view or View()})


def row(change: Change, model: str = TINY) -> str:
    """What the list says of a model, without its markup."""
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", _markup(change, model))).split())


def buttons(change: Change, model: str = TINY) -> list[str]:
    """What can be done with a model."""
    return re.findall('data-act="([a-z]+)"', _markup(change, model))


def _markup(change: Change, model: str) -> str:
    return change["list"].split(f'data-key="{model}">')[1].split("</li>")[0]


def said(change: Change) -> str:
    return html.unescape(re.sub("<[^>]*>", "", change.get("status", "")))


def until(happens: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.01)


def gate(server: Server, at: int) -> threading.Event:
    """From now on the server sends so many bytes, and the rest when the event is set."""
    opened = threading.Event()

    def slowly(request: Request, shop: Server) -> None:
        begun = request.headers.get("Range", "bytes=0-")
        first = int(begun.removeprefix("bytes=").rstrip("-"))
        whole = len(shop.content)
        span = {"Content_Range": f"bytes {first}-{whole - 1}/{whole}"} if first else {}
        request.head(206 if first else 200, whole - first, ETag=shop.tag, **span)
        request.wfile.write(shop.content[first:at])
        request.wfile.flush()
        opened.wait(10)
        request.wfile.write(shop.content[max(first, at) :])

    server.always = slowly
    return opened


def patient() -> Downloads:
    """Downloads that do not mind if the server says nothing for a while."""
    return Downloads(replace(HURRY, silence=10, window=10))


# --- the list --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
def test_every_model_stands_there_with_licence_and_whether_we_checked_it(
    kind: str, downloads: Downloads
) -> None:
    change = look(downloads, kind=kind)
    for name, entry in TABLES[kind].items():
        told = row(change, f"{kind}/{name}")
        assert entry.licence in told
        assert ("checked by us" in told) is entry.verified
        assert ("never fetched by us" in told) is not entry.verified


def test_what_ships_is_here_and_has_no_buttons(downloads: Downloads) -> None:
    change = look(downloads)
    for name in ("pocket", "fourier"):
        assert f"{name} here" in row(change, f"generator/{name}")
        assert buttons(change, f"generator/{name}") == []


def test_what_can_be_had_says_how_large_it_is_or_that_nobody_knows(downloads: Downloads) -> None:
    change = look(downloads)
    assert "can be had" in row(change, "generator/imagenet_16384")
    assert "980.1 MB to download" in row(change, "generator/imagenet_16384")
    assert "size unknown" in row(change, "generator/faceshq")
    assert buttons(change, "generator/imagenet_16384") == ["download"]


def test_the_disk_is_told(downloads: Downloads, tmp_path: Path) -> None:
    assert f"would lie in {tmp_path}/models" in look(downloads)["disk"]
    place = stock.home(GENERATORS["coco"])
    place.mkdir(parents=True)
    (place / "model.ckpt.bad").write_bytes(bytes(2_500_000))
    change = look(downloads)
    assert f"take 2.5 MB in {tmp_path}/models" in change["disk"]
    assert buttons(change, "generator/coco") == ["download", "delete"]


def test_words_are_never_markup(downloads: Downloads, tiny: Entry) -> None:
    assert "small &amp; &lt;b&gt;new&lt;/b&gt;" in look(downloads)["list"]


def test_a_look_at_what_is_as_it_was_sends_no_list(downloads: Downloads) -> None:
    view = look(downloads)["view"]
    assert look(downloads, view) == {"view": view}


# --- downloading -----------------------------------------------------------------------------


def test_what_we_never_fetched_asks_for_trust_and_is_here_after_that(
    downloads: Downloads, server: Server, tiny: Entry
) -> None:
    change = press(downloads, "download")
    assert "never fetched tiny ourselves" in row(change)
    assert "Its hash is not known" in row(change)
    assert "pickle" in row(change)
    assert 'type="checkbox"' in change["list"]
    with pytest.raises(Refused, match="Tick the box"):
        press(downloads, "trust", view=change["view"])
    assert server.asked == []
    change = press(downloads, "trust", view=change["view"], trust=True)
    assert "tiny is on its way" in said(change)
    until(lambda: not downloads.underway())
    change = look(downloads, change["view"])
    assert "tiny is here and can be used" in said(change)
    assert "tried out on this machine" in row(change)
    assert buttons(change) == ["delete"]
    assert ("tiny: small & <b>new</b>", "tiny") in tab.choices("generator")


def test_a_known_hash_is_told_of(downloads: Downloads) -> None:
    change = press(downloads, "download", "generator/coco")
    assert "Its hash is known" in row(change, "generator/coco")


def test_progress_is_told_in_bytes_speed_and_time(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, MIB // 2)
    whole = len(server.content)
    assert whole > MIB // 2
    downloads.start(tiny, trust=True)
    (download,) = downloads.underway()
    until(lambda: download.done == MIB // 2)
    told = row(look(downloads))
    assert f"{MIB // 2 // 1000} kB of {tab.amount(whole)}" in told
    assert f'value="{MIB // 2}" max="{whole}"' in look(downloads)["list"]
    opened.set()
    assert download.over.wait(20)
    assert download.error == ""


def test_speed_and_time_left_are_those_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(inventory.time, "monotonic", lambda: now[0])
    download = Download(GENERATORS["coco"])
    download.tell(50_000_000, 296_000_000)  # these were here before
    assert download.seconds_left is None
    for second in range(1, 31):
        now[0] = float(second)
        download.tell(50_000_000 + second * 2_000_000, 296_000_000)
    assert download.speed == pytest.approx(2_000_000)
    assert download.seconds_left == pytest.approx(93)
    assert model_list._pace(download) == ("110.0 MB of 296.0 MB", "2.0 MB/s", "1 min 33 s left")
    now[0] = 60.0
    assert model_list._pace(download)[1] == "waiting for the server"


def test_stop_keeps_what_has_arrived_and_go_on_takes_it_up(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, MIB // 2)
    change = press(downloads, "trust", trust=True)
    (download,) = downloads.underway()
    until(lambda: download.done == MIB // 2)
    assert buttons(look(downloads)) == ["stop"]
    change = press(downloads, "stop", view=change["view"])
    assert "is kept: Go on takes it up" in said(change)
    assert downloads.underway() == []
    opened.set()  # the next piece comes, and the thread sees that it is to stop
    assert download.over.wait(10)
    change = look(downloads)
    assert "partly here" in row(change)
    assert "have arrived and are kept" in row(change)
    assert "Go on" in row(change)
    press(downloads, "download")  # nobody is asked again
    until(lambda: not downloads.underway())
    assert tiny in stock.installed()
    begun = int(server.asked[-1][1].removeprefix("bytes=").rstrip("-"))
    assert begun >= MIB // 2


def test_a_pause_between_two_tries_can_be_stopped(server: Server, tiny: Entry) -> None:
    server.always = status(500)
    downloads = Downloads(replace(HURRY, pause=60))
    download = downloads.start(tiny, trust=True)
    until(lambda: server.asked)
    assert downloads.stop(tiny)
    assert download.over.wait(5)
    assert not downloads.stop(tiny)


def test_two_visitors_who_press_download_get_one(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, 1000)
    with ThreadPoolExecutor(8) as visitors:
        begun = set(visitors.map(lambda _: downloads.start(tiny, trust=True), range(8)))
    assert len(begun) == 1
    opened.set()
    assert begun.pop().over.wait(20)
    assert len(server.asked) == 1


def test_a_reload_finds_it_again_whatever_it_looks_at(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, 1000)
    press(downloads, "trust", trust=True)
    for kind in ("generator", "clip"):
        change = look(downloads, View(), kind)
        assert "tiny on its way" in row(change)
        assert buttons(change) == ["stop"]
        assert change["view"].underway == (TINY,)
        assert change["timer"]["value"] == tab._TICK
    opened.set()
    until(lambda: not downloads.underway())


@pytest.mark.parametrize(
    ("fault", "told"),
    [(404, "answers 404"), (500, "answers 500"), (0, "cannot be reached, is this machine")],
)
def test_what_went_wrong_is_told_to_everybody_until_it_goes_well(
    fault: int, told: str, server: Server, tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = Downloads(replace(HURRY, tries=2))
    server.always = status(fault or 500)
    if not fault:  # nobody is there
        nowhere = (replace(tiny.files[0], sources=(Source("http://127.0.0.1:9/m"),)),)
        monkeypatch.setitem(GENERATORS, "tiny", replace(tiny, files=nowhere))
    change = press(downloads, "trust", trust=True)
    until(lambda: not downloads.underway())
    assert told in said(look(downloads, change["view"]))
    assert told in row(look(downloads, View()))
    assert buttons(look(downloads)) == ["download"]


def test_a_full_disk_is_told_before_anything_is_asked(
    downloads: Downloads, server: Server, tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = (replace(tiny.files[0], bytes=300 * MIB),)
    monkeypatch.setitem(GENERATORS, "tiny", replace(tiny, files=known))
    usage = type("Usage", (), {"free": 100 * MIB})
    monkeypatch.setattr(stock.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match=r"tiny needs 364 MB, and .* has 100 MB free"):
        press(downloads, "trust", trust=True)
    assert server.asked == []
    assert downloads.underway() == []


def test_more_than_two_at_a_time_are_refused(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, 1000)
    others = [replace(tiny, name=name) for name in ("one", "two", "three")]
    for entry in others[:2]:
        downloads.start(entry, trust=True)
    with pytest.raises(Refused, match="one and two are on their way"):
        downloads.start(others[2], trust=True)
    for entry in others[:2]:
        downloads.stop(entry)
    opened.set()
    downloads.start(others[2], trust=True)
    until(lambda: not downloads.underway())


def test_a_bug_does_not_leave_anybody_waiting(
    downloads: Downloads, tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the sky")

    monkeypatch.setattr(models, "install", fall)
    download = downloads.start(tiny, trust=True)
    assert download.over.wait(10)
    assert "ZeroDivisionError: the sky" in row(look(downloads))


def test_several_files_are_told_as_one(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    files = [File(f"{n}.bin", (Source(server.address),), "json", bytes=n * 100) for n in (1, 2, 3)]
    for file, tell in models._in_turn(files, lambda *now: told.append(now)):
        tell(50, file.bytes)
        tell(file.bytes or 0, file.bytes)
    assert [done for done, _ in told] == [50, 100, 150, 300, 350, 600]
    assert {total for _, total in told} == {600}


def test_a_killed_process_leaves_a_piece_that_is_seen(downloads: Downloads, tiny: Entry) -> None:
    place = stock.home(tiny)
    place.mkdir(parents=True)
    (place / "model.ckpt.999999.part").write_bytes(bytes(3_000_000))
    (place / "model.ckpt.999999.part.tag").write_text("one")
    (place / "model.ckpt.bad").write_bytes(bytes(1_000_000))
    change = look(downloads)
    assert "partly here" in row(change)
    assert "3.0 MB have arrived" in row(change)


# --- deleting --------------------------------------------------------------------------------


def test_delete_asks_first_and_what_comes_back_needs_no_trust_again(
    downloads: Downloads, server: Server, tiny: Entry
) -> None:
    downloads.start(tiny, trust=True).over.wait(20)
    change = press(downloads, "delete")
    assert "Delete tiny?" in row(change)
    assert "become free" in row(change)
    assert tiny in stock.installed()
    kept = press(downloads, "keep", view=change["view"])
    assert "Delete tiny?" not in row(kept)
    change = press(downloads, "remove", view=change["view"])
    assert re.search(r"tiny is deleted: \d+ kB|tiny is deleted: [\d.]+ MB", said(change))
    assert not stock.home(tiny).exists()
    assert "can be had" in row(change)
    press(downloads, "download")  # its hash is pinned
    until(lambda: not downloads.underway())
    assert tiny in stock.installed()


def test_what_ships_or_is_on_its_way_is_not_deleted(server: Server, tiny: Entry) -> None:
    downloads, opened = patient(), gate(server, 1000)
    with pytest.raises(ModelError, match="part of the program"):
        press(downloads, "remove", "generator/pocket")
    press(downloads, "trust", trust=True)
    with pytest.raises(Refused, match="tiny is on its way"):
        press(downloads, "remove")
    opened.set()
    until(lambda: not downloads.underway())
    assert tiny in stock.installed()


def test_a_piece_can_be_deleted(downloads: Downloads, server: Server, tiny: Entry) -> None:
    server.always = cut(1000)
    downloads.start(tiny, trust=True).over.wait(20)
    assert "Delete what has arrived of tiny?" in row(press(downloads, "delete"))
    press(downloads, "remove")
    assert not stock.home(tiny).exists()


# --- where it cannot be done -------------------------------------------------------------------


def test_offline_says_why_and_what_to_do(
    downloads: Downloads, server: Server, tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.start(tiny, trust=True).over.wait(20)
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    change = look(downloads)
    assert "SYNESTHETE_OFFLINE switches the network off" in change["list"]
    assert "copy the folder of models" in change["list"]
    assert buttons(change) == ["delete"]
    assert buttons(change, "generator/coco") == []
    with pytest.raises(ModelError, match="switches the network off"):
        press(downloads, "trust", "generator/coco", trust=True)


@pytest.mark.parametrize("name", tabs.SHARED)
def test_visitors_of_a_shared_studio_look_and_change_nothing(
    name: str, downloads: Downloads, server: Server, tiny: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads.start(tiny, trust=True).over.wait(20)
    asked = len(server.asked)
    monkeypatch.setenv(name, "somebody/synesthete")
    change = look(downloads)
    assert "This studio is shared" in change["list"]
    assert "<button" not in change["list"]
    for act in ACTS:
        with pytest.raises(Refused, match="visitors cannot download or delete"):
            press(downloads, act, trust=True)
    assert len(server.asked) == asked
    assert tiny in stock.installed()


@pytest.mark.parametrize(
    "pressed",
    [
        None,
        [],
        "download",
        {},
        {"act": "download"},
        {"act": ["download"], "model": TINY},
        {"act": "explode", "model": TINY},
        {"act": "remove", "model": "../../etc"},
        {"act": "download", "model": "generator/../pocket", "trust": True},
        {"act": "download", "model": 7, "trust": True},
    ],
)
def test_whatever_a_page_sends_is_refused_in_words(pressed: Any, downloads: Downloads) -> None:
    given = {"kind": "generator", "view": View(), "pressed": pressed}
    with pytest.raises((Refused, ModelError), match=r"That button|No generator called"):
        tab.do(downloads, given)


def test_only_a_tick_is_a_tick(downloads: Downloads, server: Server, tiny: Entry) -> None:
    pressed = {"act": "trust", "model": TINY, "trust": "no"}
    with pytest.raises(Refused, match="Tick the box"):
        tab.do(downloads, {"kind": "generator", "view": View(), "pressed": pressed})
    assert server.asked == []


def test_a_damaged_list_of_pins_is_told_on_the_page(downloads: Downloads) -> None:
    stock.folder().mkdir(parents=True)
    (stock.folder() / "pins.json").write_text("{")
    shelf, given = tab.Shelf(lambda: downloads), {"kind": "clip", "view": View()}

    async def watch() -> tuple[list[Change], str]:
        seen, problem = [], ""
        try:
            async for change in tab.course(shelf, tab.arrive, given):
                seen.append(change)
        except gr.Error as error:
            problem = error.message
        return seen, problem

    with ThreadPoolExecutor(1) as pool:  # the browser tests leave a loop running in this thread
        (first, last), problem = pool.submit(asyncio.run, watch()).result()
    assert "Looking" in said(first)
    assert "is damaged" in said(last)
    assert "is damaged" in problem


# --- menus -----------------------------------------------------------------------------------


def test_menus_offer_what_is_here_and_keep_what_was_chosen() -> None:
    offered = tab.choices("generator")
    assert [name for _, name in offered] == ["pocket", "fourier", "pyramid", "pixels"]
    assert [name for _, name in tab.choices("clip")] == ["pocket"]
    assert tab.offer(offered, "pixels") == gr.update(choices=offered)
    assert tab.offer(offered, "was deleted") == gr.update(choices=offered, value="pocket")


def test_every_kind_has_a_title() -> None:
    assert set(KINDS) == set(TABLES)
    assert all(entry.kind == kind for kind, table in TABLES.items() for entry in table.values())
