"""Each file is decoded in a child that cannot harm us: it may loop, crash, lie or eat memory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import media
from app.errors import Refused
from app.media import GIB, MIB, Decoded, Decoder, Limits

# Decoders that a child imports: each is given the open file and its name.
DECODERS = '''
import ctypes, os, signal, socket, sys, time
import numpy as np
from app.errors import Refused

def count(file, name, *, by=1):
    """The bytes of a file as two arrays."""
    content = np.frombuffer(file.read(), np.uint8)
    return {"bytes": content, "scaled": content.astype(np.float32) * by}, {"name": name}

def refuse(file, name):
    raise Refused("test.dull", f"{name} is dull.")

def loop(file, name):
    while True:
        pass

def sleep(file, name):
    time.sleep(1000)

def eat(file, name):
    return {"bytes": np.ones(4 << 30, np.uint8)}, {}

def nibble(file, name):
    kept = []
    while True:
        kept.append(bytes(1 << 20))

def crash(file, name):
    ctypes.string_at(0)

def leave(file, name):
    os._exit(0)

def stumble(file, name):
    raise KeyError(name)

def killed(file, name):
    os.kill(os.getpid(), signal.SIGKILL)

def chat(file, name):
    print("decoding", flush=True)
    os.write(1, b"still decoding")
    return {}, {"said": "well"}

def flood(file, name):
    return {"bytes": np.zeros(1 << 20, np.uint8)}, {}

def doubles(file, name):
    return {"bytes": np.zeros(3)}, {}

def tried(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

def reach(file, name):
    return {}, {
        "read": tried(lambda: open(__file__)),
        "write": tried(lambda: open("left-behind", "w")),
        "connect": tried(socket.socket),
        "copy": tried(lambda: os.dup(0)),
    }

def environment(file, name):
    return {}, {"environment": sorted(os.environ)}
'''
SOUNDS = """
import sys
import app.sounds

def loaded(file, name):
    return {}, {"modules": sorted(sys.modules)}
"""


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Decoded]:
    """Give `given("count", by=2)`: what a decoder of the table above makes of a small file."""
    (tmp_path / "decoders_of_this_test.py").write_text(DECODERS)
    (tmp_path / "sounds_of_this_test.py").write_text(SOUNDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "file.bin"
    path.write_bytes(b"\1\2\3")

    def decode(function: str, limits: Limits | None = None, **options: Any) -> Decoded:
        where = function if ":" in function else f"decoders_of_this_test:{function}"
        row = Decoder(where, "test", "Give a file", "Try another", most_bytes=1_000)
        monkeypatch.setitem(media.DECODERS, "test", row)
        return media.decode("test", path, limits=limits, **options)

    return decode


def code_of(work: Callable[[], object]) -> str:
    """The code of the one sentence that `work` ends with."""
    with pytest.raises(Refused) as refused:
        work()
    sentence = str(refused.value)
    assert sentence.startswith("'file.bin' ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return refused.value.code


def test_numbers_and_words_come_back_as_they_were(given: Callable[..., Decoded]) -> None:
    found = given("count", by=2)
    assert found.said == {"name": "'file.bin'"}
    assert found.numbers["bytes"].dtype == np.uint8
    assert found.numbers["bytes"].tolist() == [1, 2, 3]
    assert found.numbers["scaled"].dtype == np.float32
    assert found.numbers["scaled"].tolist() == [2, 4, 6]
    found.numbers["scaled"] += 1  # they are ours


def test_a_decoder_refuses_in_its_own_words(given: Callable[..., Decoded]) -> None:
    with pytest.raises(Refused, match=r"^'file.bin' is dull\.$") as refused:
        given("refuse")
    assert refused.value.code == "test.dull"


ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no process")


@pytest.mark.parametrize(
    ("function", "limits", "code"),
    [
        pytest.param("loop", Limits(processor=1), "test.slow", marks=ON_POSIX),
        ("sleep", Limits(patience=1.5), "test.slow"),
        pytest.param("eat", Limits(memory=GIB), "test.memory", marks=ON_POSIX),
        pytest.param("nibble", Limits(memory=512 * MIB), "test.memory", marks=ON_POSIX),
        pytest.param("killed", None, "test.memory", marks=ON_POSIX),  # as a full system does
        ("crash", None, "test.crashed"),
        ("leave", None, "test.crashed"),
        ("stumble", None, "test.crashed"),
        ("doubles", None, "test.crashed"),
        ("flood", Limits(answer=1_000), "test.crashed"),
    ],
)
def test_a_child_that_goes_wrong_is_one_sentence_and_the_next_one_works(
    given: Callable[..., Decoded], function: str, limits: Limits | None, code: str
) -> None:
    assert code_of(lambda: given(function, limits)) == code
    assert given("count").numbers["bytes"].tolist() == [1, 2, 3]


def test_what_went_wrong_in_the_child_is_there_for_the_log(given: Callable[..., Decoded]) -> None:
    with pytest.raises(Refused) as refused:
        given("stumble")
    assert "KeyError" in str(refused.value.__cause__)


def test_what_a_library_prints_is_not_taken_for_numbers(given: Callable[..., Decoded]) -> None:
    assert given("chat").said == {"said": "well"}


@ON_POSIX
def test_a_child_can_open_no_file_and_no_socket(given: Callable[..., Decoded]) -> None:
    tried = given("reach").said
    assert set(tried) == {"read", "write", "connect", "copy"}
    assert all(tried.values())
    assert not Path("left-behind").exists()


def test_a_child_sees_none_of_our_secrets(
    given: Callable[..., Decoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    seen = set(given("environment").said["environment"])
    ours = set(media._ENVIRONMENT) | set(media._ONE_THREAD)
    assert seen <= ours | {"LC_CTYPE"}  # which Python itself may set


def test_a_child_for_sounds_loads_nothing_heavy(given: Callable[..., Decoded]) -> None:
    loaded = set(given("sounds_of_this_test:loaded").said["modules"])
    assert {"app.sounds", "soundfile", "av"} <= loaded
    assert not {"torch", "gradio", "librosa", "scipy", "PIL", "guidance"} & loaded


HEADER = {"numbers": {"a": ["<f4", [2]]}, "said": {}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"no json\n",
        b"[1, 2]\n",
        b"{}\n",
        b"{" * 70_000 + b"\n",
        json.dumps(HEADER).encode() + b"\n" + bytes(7),
        json.dumps(HEADER).encode() + b"\n" + bytes(9),
        json.dumps(HEADER | {"numbers": {"a": ["|O", [1]]}}).encode() + b"\n" + bytes(8),
        json.dumps(HEADER | {"numbers": {"a": ["<f4", [-2]]}}).encode() + b"\n" + bytes(8),
        json.dumps(HEADER | {"numbers": {"a": ["<f4", [10**30]]}}).encode() + b"\n" + bytes(8),
        json.dumps(HEADER | {"numbers": [1]}).encode() + b"\n",
        json.dumps({"refused": ["only.one"]}).encode() + b"\n",
    ],
)
def test_a_garbled_answer_is_never_believed(content: bytes) -> None:
    row = media.DECODERS["sound"]
    code = code_of(lambda: media._understand(content, 0, "'file.bin'", row, row.limits))
    assert code == "audio.crashed"


def test_a_whole_answer_is_believed() -> None:
    content = json.dumps(HEADER).encode() + b"\n" + np.array([1, 2], "<f4").tobytes()
    row = media.DECODERS["sound"]
    found = media._understand(content, 0, "'file.bin'", row, row.limits)
    assert found.numbers["a"].tolist() == [1, 2]


# ---- before any child starts ---------------------------------------------------------------------


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """See that nothing was started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(media.subprocess, "Popen", started)


@pytest.mark.usefixtures("no_child")
def test_what_is_no_file_of_a_fair_size_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    assert code_of(lambda: media.decode("sound", path)) == "audio.missing"
    path.touch()
    assert code_of(lambda: media.decode("sound", path)) == "audio.empty"
    with path.open("wb") as file:
        file.truncate(media.DECODERS["sound"].most_bytes + 1)  # a hole: it takes no room
    assert code_of(lambda: media.decode("sound", path)) == "audio.too_big"
    path.unlink()
    path.mkdir()
    assert code_of(lambda: media.decode("sound", path)) == "audio.missing"


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("name", ["nul\0", "long" * 100])
def test_odd_names_are_missing_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused) as refused:
        media.decode("sound", tmp_path / name)
    assert refused.value.code == "audio.missing"


@ON_POSIX
@pytest.mark.usefixtures("no_child")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file.bin")
    assert code_of(lambda: media.decode("sound", tmp_path / "file.bin")) == "audio.missing"


@pytest.mark.usefixtures("no_child")
@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"abc")
    path.chmod(0)
    assert code_of(lambda: media.decode("sound", path)) == "audio.missing"
