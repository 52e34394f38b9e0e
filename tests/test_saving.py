"""Results appear whole or not at all, and never over one another."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.errors import Failed, Refused
from app.saving import check_folder, explained, free_name, write


def test_a_taken_name_is_never_written_over(tmp_path: Path) -> None:
    wanted = tmp_path / "apple.png"
    names = [write(wanted, content).name for content in (b"one", b"two", b"three")]
    assert names == ["apple.png", "apple-2.png", "apple-3.png"]
    assert wanted.read_bytes() == b"one"


def test_replacing_has_to_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "preview.jpg"
    write(path, b"old")
    assert write(path, b"new", replace=True) == path
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["preview.jpg"]


def test_a_free_name_steps_over_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    assert free_name(tmp_path / "a.png") == tmp_path / "a-2.png"


def test_runs_at_the_same_moment_get_names_of_their_own(tmp_path: Path) -> None:
    contents = [str(n).encode() for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda content: write(tmp_path / "a.txt", content), contents))
    assert len(set(paths)) == 40
    assert [path.read_bytes() for path in paths] == contents
    assert len(os.listdir(tmp_path)) == 40


def test_without_hard_links_names_are_still_free_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert write(tmp_path / "a", b"1").name == "a"
    assert write(tmp_path / "a", b"2").name == "a-2"
    assert sorted(os.listdir(tmp_path)) == ["a", "a-2"]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("replace", [False, True])
def test_a_full_disk_leaves_no_half_file_and_keeps_the_old_one(
    tmp_path: Path, replace: bool
) -> None:
    path = write(tmp_path / "a.bin", b"whole")
    with room_for(100), pytest.raises(Failed, match="disk is full") as refused:
        write(path, bytes(10_000), replace=replace)
    assert refused.value.code == "disk.full"
    assert os.listdir(tmp_path) == ["a.bin"]
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOENT, Refused, "output.missing"),
        (errno.EROFS, Refused, "output.read_only"),
        (errno.EACCES, Refused, "output.read_only"),
        (errno.ENAMETOOLONG, Refused, "output.name"),
        (errno.ENOSPC, Failed, "disk.full"),
        (errno.EIO, Failed, "output.failed"),
    ],
)
def test_what_the_system_says_becomes_a_sentence(
    number: int, kind: type[Exception], code: str
) -> None:
    with pytest.raises(kind, match=r"\.$") as told, explained(Path("folder/apple.png")):
        raise OSError(number, os.strerror(number))
    assert told.value.code == code
    assert "folder" in str(told.value) or "apple.png" in str(told.value)


def test_a_missing_folder_is_refused_before_and_while_writing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no folder") as early:
        check_folder(tmp_path / "none")
    with pytest.raises(Refused, match="no folder") as late:
        write(tmp_path / "none" / "a.png", b"")
    assert early.value.code == late.value.code == "output.missing"
    assert early.value.field == "out"


def test_a_folder_one_may_not_write_to_is_refused_early(tmp_path: Path) -> None:
    check_folder(tmp_path)
    with pytest.raises(Refused) as refused:
        check_folder(Path("/sys"))  # not even root may
    assert refused.value.code == "output.read_only"
    assert list(tmp_path.iterdir()) == []
