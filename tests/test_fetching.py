"""Fetching over a bad line from a server that lies."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from safetensors.torch import save

from app import fetching, stock
from app.catalog import (
    File,
    ModelError,
    Source,
)
from app.convert import ROOT
from app.fetching import fetch
from app.files import MIB
from tests.hub import (
    CONTENT,
    HASH,
    HURRY,
    Fault,
    Request,
    Server,
    cut,
    deaf,
    deaf_and_cut,
    disguised_page,
    drip,
    elsewhere,
    endless,
    honest,
    known,
    loop,
    only,
    page,
    promise,
    serving,
    spoilt,
    stall,
    status,
    unknown,
    wrong_part,
)

pytestmark = pytest.mark.usefixtures("online")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some" / "model.safetensors"


def get(file: File, target: Path, **more: Any) -> str:
    return fetch(file, target, patience=HURRY, **more)


# --- a bad line ------------------------------------------------------------------------------


@pytest.mark.parametrize("describe", [known, unknown])
def test_a_file_arrives(describe: Callable[[Server], File], server: Server, target: Path) -> None:
    assert get(describe(server), target) == HASH
    assert target.read_bytes() == CONTENT
    assert only(target, "model.safetensors")


def test_a_file_that_is_there_is_not_fetched_again(server: Server, target: Path) -> None:
    get(known(server), target)
    assert get(known(server), target) == HASH
    assert len(server.asked) == 1


@pytest.mark.parametrize("at", [0, 1, 1000, len(CONTENT) - 1])
@pytest.mark.parametrize("describe", [known, unknown])
def test_a_cut_line_is_taken_up_where_it_was_cut(
    describe: Callable[[Server], File], at: int, server: Server, target: Path
) -> None:
    server.faults = [cut(at)]
    assert get(describe(server), target) == HASH
    assert target.read_bytes() == CONTENT
    assert server.asked[1][1] == (f"bytes={at}-" if at else "")


def test_a_line_that_is_cut_again_and_again_still_brings_the_file(
    server: Server, target: Path
) -> None:
    server.content = bytes(range(256)) * (8 * MIB // 256)
    server.faults = [cut(megabytes * MIB + 1000) for megabytes in range(1, 8)]
    assert len(server.faults) > HURRY.tries
    file = known(server, bytes=8 * MIB, sha256=sha256(server.content).hexdigest())
    get(file, target)
    assert target.read_bytes() == server.content


GOOD_IN_THE_END: dict[str, list[Fault]] = {
    "500": [status(500)],
    "503, 429": [status(503), status(429)],
    "range ignored": [cut(1000), deaf],
    "range ignored and cut": [cut(2000), deaf_and_cut],
    "another part": [cut(1000), wrong_part],
    "part not asked for": [wrong_part],
    "416": [cut(1000), status(416)],
    "stall": [stall],
    "drip": [drip],
    "spoilt once": [spoilt],
}


@pytest.mark.parametrize("name", GOOD_IN_THE_END)
def test_a_fault_that_passes_is_survived(name: str, server: Server, target: Path) -> None:
    server.faults = list(GOOD_IN_THE_END[name])
    assert get(known(server), target) == HASH
    assert target.read_bytes() == CONTENT


NEVER_GOOD: dict[str, tuple[Fault, str]] = {
    "500": (status(500), "answers 500"),
    "404": (status(404), "answers 404.*no longer"),
    "401": (status(401), "answers 401"),
    "cut": (cut(1000), "after 4 tries"),
    "stall": (stall, "after 4 tries"),
    "page": (page, "a web page"),
    "disguised page": (disguised_page, "offers 26 bytes; the file has"),
    "too short": (promise(len(CONTENT) - 1), "the file has"),
    "too long": (promise(len(CONTENT) + 1), "the file has"),
    "redirect loop": (loop, "leads nowhere"),
    "redirect to a file": (elsewhere, "leads nowhere"),
    "spoilt": (spoilt, "another file than expected"),
    "endless": (endless, "more than it said"),
}


@pytest.mark.parametrize("name", NEVER_GOOD)
def test_a_fault_that_stays_is_told_in_plain_words(name: str, server: Server, target: Path) -> None:
    server.always, reason = NEVER_GOOD[name]
    with pytest.raises(ModelError, match=reason) as told:
        get(known(server), target)
    assert "\n" not in str(told.value)
    assert not target.exists()


def test_a_hash_that_the_hub_states_is_checked(server: Server, target: Path) -> None:
    def hub(request: Request, shop: Server) -> None:
        if "?" in request.path:
            spoilt(request, shop)
        else:
            request.head(302, 0, Location=f"{shop.address}?", X_Linked_Etag=f'"{HASH}"')

    server.always = hub
    with pytest.raises(ModelError, match="another file than expected"):
        get(unknown(server), target)
    server.faults = [hub, honest]
    assert get(unknown(server), target) == HASH


UNKNOWN_NEVER_GOOD: dict[str, tuple[Fault, str]] = {
    "disguised page": (disguised_page, "no whole safetensors file"),
    "too short": (promise(len(CONTENT) - 1), "no whole safetensors file"),
    "too long": (promise(len(CONTENT) + 1), "after 4 tries"),
    "too much": (endless, "no whole safetensors file"),
}


@pytest.mark.parametrize("name", UNKNOWN_NEVER_GOOD)
def test_a_file_we_know_nothing_of_must_at_least_be_whole(
    name: str, server: Server, target: Path
) -> None:
    server.always, reason = UNKNOWN_NEVER_GOOD[name]
    with pytest.raises(ModelError, match=reason):
        get(unknown(server), target)
    assert not target.exists()


def test_nobody_there(target: Path) -> None:
    file = File("m", (Source("http://127.0.0.1:9/m"),), "safetensors")
    with pytest.raises(ModelError, match=r"after 4 tries.*pocket.*fourier"):
        get(file, target)


def test_a_second_source_helps_when_the_first_fails(server: Server, target: Path) -> None:
    gone = Source(f"http://127.0.0.1:{server.server_port}/gone")
    server.faults = [status(404)]
    file = known(server)
    assert get(replace(file, sources=(gone, *file.sources)), target) == HASH


def test_a_spoilt_file_is_set_aside(server: Server, target: Path) -> None:
    server.always = spoilt
    with pytest.raises(ModelError, match=r"model.safetensors.bad"):
        get(known(server), target)
    assert only(target, "model.safetensors.bad")
    assert len(server.asked) == 2


def test_a_file_spoilt_on_disk_is_fetched_again(server: Server, target: Path) -> None:
    get(known(server), target)
    target.write_bytes(b"spoilt")
    assert get(known(server), target) == HASH
    assert target.with_name("model.safetensors.bad").read_bytes() == b"spoilt"


def test_a_file_that_changes_on_the_way_is_begun_anew(server: Server, target: Path) -> None:
    """Half of one version and half of another must not become one file."""

    def changed(request: Request, shop: Server) -> None:
        shop.content, shop.tag = save({"y": torch.zeros(50_000)}), '"two"'
        honest(request, shop)

    server.faults = [cut(100_000), changed]
    get(unknown(server), target)
    assert target.read_bytes() == server.content


def test_a_server_without_tags_is_never_continued(server: Server, target: Path) -> None:
    server.tag = 'W/"much the same"'
    server.faults = [cut(1000)]
    get(known(server), target)
    assert [asked for _, asked in server.asked] == ["", ""]


def test_a_full_disk_is_told_before_anything_is_fetched(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 10 * MIB})
    monkeypatch.setattr(stock.shutil, "disk_usage", lambda _: free)
    with pytest.raises(ModelError, match=r"10 MB free.*SYNESTHETE_MODELS"):
        get(known(server), target)


def test_a_folder_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelError, match="Cannot write"):
        get(known(server), tmp_path / "file" / "model.safetensors")


def test_progress_is_told_from_nothing_to_everything(server: Server, target: Path) -> None:
    told: list[tuple[int, int | None]] = []
    get(known(server), target, progress=lambda *now: told.append(now))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("format", "content", "says"),
    [
        ("ctranslate2", b"\x06\0\0\0 something else", "no Whisper"),
        ("json", b'{"a": 1', "no whole JSON"),
        ("text", b"\xff\xfe", "no text"),
        ("text", b" \n", "an empty file"),
    ],
)
def test_what_is_plainly_another_kind_of_file_is_refused(
    format: Any, content: bytes, says: str, server: Server, target: Path
) -> None:
    server.content = content
    with pytest.raises(ModelError, match=says):
        fetch(File(target.name, (Source(server.address),), format), target, patience=HURRY)
    assert not target.exists()


# --- stopping and going on -------------------------------------------------------------------


def test_a_download_that_was_stopped_goes_on_later(server: Server, target: Path) -> None:
    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(known(server), target, progress=stop)
    assert not target.exists()
    assert get(known(server), target) == HASH
    assert server.asked[1][1].startswith("bytes=")
    assert only(target, "model.safetensors")


def dead_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_process_left_is_used(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    part = target.with_name(f"{target.name}.{dead_process()}.part")
    part.write_bytes(CONTENT[:70_000])
    part.with_name(f"{part.name}.tag").write_text(server.tag)
    target.with_name(f"{target.name}.lock").write_text(f"{dead_process()}@{platform.node()}")
    assert get(known(server), target) == HASH
    assert server.asked == [("/model.safetensors", "bytes=70000-")]
    assert only(target, "model.safetensors")


def test_a_piece_that_was_complete_is_not_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.{dead_process()}.part").write_bytes(CONTENT)
    assert get(known(server), target) == HASH
    assert server.asked == []


def test_without_locks_one_goes_on(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may refuse what a lock needs; each process has pieces of its own then."""
    real = os.open

    def refuse(path: Any, flags: int, *more: Any) -> int:
        if flags & os.O_EXCL:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)
    assert get(known(server), target) == HASH


def test_two_processes_fetch_once(server: Server, target: Path) -> None:
    def slow(request: Request, shop: Server) -> None:
        time.sleep(1.5)
        honest(request, shop)

    server.always = slow
    program = (
        "import sys; from pathlib import Path; from app.catalog import File, Source; "
        "from app.fetching import fetch; "
        "print('ready', flush=True); sys.stdin.read(1); "
        f"file = File('m', (Source({server.address!r}),), 'safetensors', None, {HASH!r}); "
        f"print(fetch(file, Path({str(target)!r})))"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("x")
        other.stdin.flush()
        assert fetch(known(server), target) == HASH
        assert other.communicate(timeout=60)[0] == f"{HASH}\n"
    assert len(server.asked) == 1
    assert only(target, "model.safetensors")


# Every fault that passes quickly, at any place in a file of any size, in any order.
QUICK = some.one_of(
    some.sampled_from(
        [deaf, deaf_and_cut, wrong_part, page, disguised_page, loop, spoilt, endless]
    ),
    some.sampled_from([404, 416, 429, 500]).map(status),
    some.integers(0, 3000).map(cut),
    some.integers(0, 3000).map(promise),
)


@given(
    faults=some.lists(QUICK, max_size=6), numbers=some.sampled_from([1, 600]), tell=some.booleans()
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_a_file_is_right_or_not_there(
    faults: list[Fault], numbers: int, tell: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("any") / "model.safetensors"
    content = save({"x": torch.arange(float(numbers))})
    with serving() as shop:
        # of a file we know nothing of, a wrong byte cannot be told from a right one
        shop.content = content
        shop.faults = [fault for fault in faults if tell or fault is not spoilt]
        told = {"bytes": len(content), "sha256": sha256(content).hexdigest()} if tell else {}
        file = File(target.name, (Source(shop.address),), "safetensors", **told)
        try:
            get(file, target)
        except ModelError:
            assert not target.exists()
        else:
            assert target.read_bytes() == content


# --- offline ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fetching.OFFLINE)
def test_offline_says_what_works_without(
    name: str, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ModelError, match=rf"{name}.*pocket.*fourier.*pyramid.*pixels"):
        get(known(server), target)
    assert server.asked == []


def test_offline_uses_what_is_there(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(known(server), target)
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    assert get(known(server), target) == HASH


def test_offline_can_be_said_to_be_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "false")
    assert fetching.offline() == ""


def test_addresses_on_the_hub() -> None:
    found = fetching.address(Source("owner/name", "a folder/file.ckpt", "abc"))
    assert found == "https://huggingface.co/owner/name/resolve/abc/a%20folder/file.ckpt"
