"""Files by plain HTTP: what is refused, their names, how many there may be, and how long."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app import uploads
from app.errors import Failed, Refused
from app.tabs import Studio
from app.uploads import Limits, Uploads, safe_name
from tests.test_images_refused import REFUSED as BAD_PICTURES
from tests.test_sounds import REFUSED as BAD_SOUNDS
from tests.tiny_studio import SMALL, made, photo, send, upload
from tests.tiny_studio import address as address
from tests.tiny_studio import client as client
from tests.tiny_studio import models as models
from tests.tiny_studio import results as results
from tests.tiny_studio import studio as studio


@pytest.mark.parametrize(
    "row", ["I1 nothing", "I3 text", "I4 half a PNG", "I6 a flipped bit", "I7 50,000 x 50,000"]
)
def test_a_bad_picture_has_its_code(client: httpx.Client, row: str) -> None:
    content, code = BAD_PICTURES[row]
    if not content:  # it does not even come in
        told = client.post("/api/files", content=content)
        assert (told.status_code, told.json()["code"]) == (422, "upload.empty")
        return
    order = {key: value for key, value in SMALL.items() if key != "start"}
    told = send(client, {**order, "init": upload(client, content, "given.png")})
    assert (told.status_code, told.json()["code"]) == (422, code)
    assert "'given.png'" in told.json()["message"]


@pytest.mark.parametrize("row", ["A2 a header alone", "A5 NaN", "A14 a playlist"])
def test_a_bad_sound_has_its_code(client: httpx.Client, row: str) -> None:
    content, code = BAD_SOUNDS[row]
    sound = upload(client, content, "given.wav")
    told = send(client, {"kind": "listen", "sound": sound, "no_speech": True})
    assert (told.status_code, told.json()["code"]) == (422, code)


def test_after_bad_files_all_is_well(client: httpx.Client) -> None:
    assert made(client)["state"] == "done"


def test_a_form_is_not_taken_for_a_file(client: httpx.Client) -> None:
    told = client.post("/api/files", files={"file": photo()})
    assert (told.status_code, told.json()["code"]) == (422, "upload.form")


def test_a_file_that_breaks_off_leaves_nothing(client: httpx.Client, studio: Studio) -> None:
    def some() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise OSError("the cable is cut")

    folder = studio.worker().result().home.root / "uploads"
    before = sorted(folder.rglob("*"))
    with pytest.raises(OSError, match="the cable is cut"):
        client.post("/api/files", content=some())
    assert client.get("/healthz").status_code == 200
    for _ in range(100):
        if not [path for path in folder.rglob("*") if path.is_file() and path not in before]:
            break
    left = [path for path in folder.rglob("*") if path.is_file() and path not in before]
    assert left == []


NAMES = {
    "beach.jpg": "beach.jpg",
    "../../../evil.png": "evil.png",
    "..\\..\\evil.png": "evil.png",
    "/etc/passwd": "passwd",
    ".hidden": "hidden",
    "a\x00b\u202egpj.png": "abgpj.png",
    "": "file",
    "..": "file",
    "CON": "file-CON",
    "nul.txt": "file-nul.txt",
    "n" * 500 + ".jpeg": "n" * 75 + ".jpeg",
    "été à la plage.png": "été à la plage.png",
    "a::0.5.png": "a0.5.png",
    "🎨" * 200: "file",
    "林" * 200 + ".png": "林" * 76 + ".png",
}


@pytest.mark.parametrize(("given", "kept"), NAMES.items())
def test_a_file_gets_a_name_that_leads_nowhere_else(given: str, kept: str) -> None:
    assert safe_name(given) == kept
    assert len(kept.encode()) <= 255


OWNER, OTHER = "a" * 32, "b" * 32


def keep(folder: Uploads, size: int, owner: str = OWNER) -> uploads.Kept:
    """A file of so many bytes."""
    incoming = folder.begin(owner, "x.png")
    try:
        incoming.write(b"x" * size)
        return incoming.keep()
    except Refused:
        incoming.drop()
        raise


def test_one_owner_has_so_many_bytes_and_files(tmp_path: Path) -> None:
    folder = Uploads(tmp_path, Limits(file=50, owner=100, files=3))
    keep(folder, 50)
    keep(folder, 30)
    with pytest.raises(Refused) as told:
        keep(folder, 21)
    assert told.value.code == "upload.quota"
    keep(folder, 20)
    with pytest.raises(Refused, match="3 files here already"):
        keep(folder, 1)
    keep(folder, 50, OTHER)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 4


def test_one_file_has_so_many_bytes(tmp_path: Path) -> None:
    with pytest.raises(Refused) as told:
        keep(Uploads(tmp_path, Limits(file=1_000_000)), 1_000_001)
    assert told.value.code == "upload.too_big"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_all_together_have_so_many_bytes_and_leave_the_disk_its_own(tmp_path: Path) -> None:
    folder = Uploads(tmp_path, Limits(file=50, whole=100))
    for owner in (OWNER, OTHER):
        keep(folder, 50, owner)
    with pytest.raises(Failed, match="no room"):
        folder.begin("c" * 32, "x.png")
    with pytest.raises(Failed, match="no room"):
        Uploads(tmp_path, Limits(free=shutil.disk_usage(tmp_path).total)).begin(OWNER, "x.png")


def test_what_nobody_used_for_a_day_goes(tmp_path: Path) -> None:
    clock = [os.stat(tmp_path).st_mtime]
    folder = Uploads(tmp_path, clock=lambda: clock[0])
    old = keep(folder, 5)
    clock[0] += 86_000
    used = keep(folder, 5)
    path = folder.find(OWNER, used.id)
    os.utime(path.parent, (clock[0], clock[0]))
    clock[0] += 1_000
    keep(folder, 5, OTHER)
    assert folder.find(OWNER, used.id) == path
    with pytest.raises(Refused, match="no file"):
        folder.find(OWNER, old.id)


@pytest.mark.parametrize("file_id", ["", "..", "../" + OWNER, "0" * 31, "0" * 32, "A" * 32, "a\0b"])
def test_no_id_leads_elsewhere(tmp_path: Path, file_id: str) -> None:
    folder = Uploads(tmp_path)
    keep(folder, 5)
    with pytest.raises(Refused) as told:
        folder.find(OWNER, file_id, "init")
    assert (told.value.code, told.value.field) == ("input.missing", "init")
