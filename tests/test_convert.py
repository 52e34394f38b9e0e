"""The converter: honest checkpoints come through bit for bit, the others hurt nobody."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from safetensors.torch import load_file
from torch import Tensor

from app.catalog import ModelError
from app.convert import ROOT, Refused, Storage, Unpickler, View, convert, tensor
from app.files import GIB, MIB, digest

Weights = dict[str, Tensor]


class ModelCheckpoint:
    """Stands for a class of the library that trained the weights; the converter never sees it."""

    def __init__(self) -> None:
        self.best = torch.arange(3)


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(0)
    return {
        "encoder.conv_in.weight": torch.randn(4, 3, 3, 3),
        "encoder.transposed": torch.randn(5, 7).t(),
        "decoder.part": torch.randn(10, 4)[2:6],
        "decoder.scalar": torch.tensor(2.5),
        "quantize.embedding.weight": torch.randn(8, 4, dtype=torch.float64),
        "quant_conv.half": torch.randn(6).half(),
        "post_quant_conv.brain": torch.randn(6).bfloat16(),
        "post_quant_conv.trained": torch.nn.Parameter(torch.randn(2, 2)),
    }


def as_lightning(weights: Weights) -> dict[str, Any]:
    """A file as Lightning 1.0 wrote it: a class as key, numpy numbers, and networks of the loss."""
    junk = {"loss.discriminator.weight": torch.randn(50), "loss.count": torch.arange(2)}
    return {
        "epoch": 3,
        "global_step": np.float64(7.0),
        "state_dict": collections.OrderedDict({**weights, **junk}),
        "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "x": np.arange(3)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.randn(9)}}, "param_groups": [{}]}],
        "hyper_parameters": ModelCheckpoint(),
        "nothing_we_know": torch.randn(2, dtype=torch.complex64),
    }


def legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


FORMATS: dict[str, Callable[[object, Path], None]] = {"zip": torch.save, "legacy": legacy}


def bits(value: Tensor) -> Tensor:
    return value.detach().reshape(-1).view(torch.uint8)


def equal(target: Path, weights: Weights) -> bool:
    """Same names, dtypes, shapes and bits."""
    found = load_file(target)
    return found.keys() == weights.keys() and all(
        found[name].dtype == value.dtype
        and found[name].shape == value.shape
        and torch.equal(bits(found[name]), bits(value))
        for name, value in weights.items()
    )


# --- honest files ----------------------------------------------------------------------------


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_a_lightning_checkpoint_comes_through_bit_for_bit(
    save: Callable[[object, Path], None], weights: Weights, tmp_path: Path
) -> None:
    source, target = tmp_path / "last.ckpt", tmp_path / "model.safetensors"
    del (content := as_lightning(weights))["nothing_we_know"]
    save(content, source)
    report = convert(source, target)
    assert equal(target, weights)
    assert report == json.loads(target.with_suffix(".json").read_text())
    assert report["source_sha256"] == digest(source)
    assert report["sha256"] == digest(target)
    assert report["converter"] == 1


def test_numbers_of_an_unknown_kind_are_no_matter_where_they_are_dropped(
    weights: Weights, tmp_path: Path
) -> None:
    torch.save(as_lightning(weights), tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors")
    assert equal(tmp_path / "model.safetensors", weights)


def test_a_bare_table_of_weights_comes_through(weights: Weights, tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "pytorch_model.bin")
    convert(tmp_path / "pytorch_model.bin", tmp_path / "model.safetensors")
    assert equal(tmp_path / "model.safetensors", weights)


def test_of_a_transformer_only_its_first_stage_is_kept(weights: Weights, tmp_path: Path) -> None:
    inside = {f"first_stage_model.{name}": value for name, value in weights.items()}
    others = {"transformer.head.weight": torch.randn(3), "encoder.conv_in.weight": torch.zeros(1)}
    torch.save({"state_dict": {**inside, **others}}, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors")
    assert equal(tmp_path / "model.safetensors", weights)


def test_two_views_of_one_storage_come_through(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    views = {"encoder.top": whole[:3], "encoder.left": whole[:, :2], "encoder.whole": whole}
    torch.save(views, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors")
    assert equal(tmp_path / "model.safetensors", views)


def test_the_child_sees_no_secrets(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of ours that shouted on import would have to be on a path from the environment."""
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    torch.save(weights, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()


# --- files that are damaged, or made to do harm ----------------------------------------------


class Evil:
    """What a pickle may be: a call of any function."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def zipped(table: bytes, data: dict[str, bytes] | None = None, **how: Any) -> bytes:
    """A checkpoint of a handmade pickle and handmade records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        archive.writestr("archive/data.pkl", table)
        for key, numbers in (data or {}).items():
            archive.writestr(f"archive/data/{key}", numbers)
    return buffer.getvalue()


def table(offset: Any, shape: Any, stride: Any, *, length: Any = 4, kind: str = "Float") -> bytes:
    """A pickle of one tensor, of whatever description, over the record "0"."""
    parts = [
        b"\x80\x02}X\x0e\x00\x00\x00encoder.weightctorch._utils\n_rebuild_tensor_v2\n((",
        pickle.dumps("storage", 2)[2:-1],
        f"ctorch\n{kind}Storage\n".encode(),
        *(pickle.dumps(value, 2)[2:-1] for value in ("0", "cpu", length)),
        b"tQ",
        *(pickle.dumps(value, 2)[2:-1] for value in (offset, shape, stride, False)),
        b"ccollections\nOrderedDict\n)RtRs.",
    ]
    return b"".join(parts)


def one_tensor(
    *description: Any, numbers: bytes = b"\0" * 16, key: str = "1", **more: Any
) -> bytes:
    return zipped(table(*description, **more), {"0": numbers, key: b""})


def calls(module: str, name: str, argument: bytes) -> bytes:
    """A pickle that calls a function and hangs the result into a table of weights."""
    return (
        b"\x80\x02}X\x09\x00\x00\x00encoder.x" + f"c{module}\n{name}\n".encode() + argument + b"Rs."
    )


def honest_table() -> Weights:
    return {"encoder.weight": torch.arange(64.0)}


def honest() -> bytes:
    buffer = io.BytesIO()
    torch.save(honest_table(), buffer)
    return buffer.getvalue()


def old(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def flipped() -> bytes:
    """One bit of a number: torch.load would not notice."""
    content = bytearray(honest())
    content[content.index(struct.pack("<3f", 30, 31, 32)) + 5] ^= 1
    return bytes(content)


def deep() -> bytes:
    """A key nested so deep that taking its hash overflows the stack of the process."""
    return zipped(b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.")


def endless() -> bytes:
    """A key whose hash takes 2^60 steps: each of 60 tuples holds the last one twice."""
    return zipped(b"\x80\x02})" + b"q\0h\0\x86" * 60 + b"K\x01s.")


def big_endian() -> bytes:
    content = bytearray(old(honest_table()))
    content[content.index(b"little_endian") + len(b"little_endian") + 2] = 0x89  # True, made False
    return bytes(content)


def overlapping() -> bytes:
    """Two records that lie upon each other: more content than file."""
    content = bytearray(zipped(table(0, (4,), (1,)), {"0": b"\0" * 16, "1": b"\0" * 16}))
    end = content.rindex(b"PK\x05\x06")
    (start,) = struct.unpack_from("<I", content, end + 16)
    for _ in range(2):  # central directory: size at 20 and 24, offset at 42
        sizes = struct.unpack_from("<HHH", content, start + 28)
        struct.pack_into("<II", content, start + 20, 1 << 20, 1 << 20)
        start += 46 + sum(sizes)
    return bytes(content)


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"m/{name}", pickle.dumps({}))
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "does not begin like a checkpoint"),
    "html": (lambda: b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "json": (lambda: b'{"error": "not found"}', "a web page or a message"),
    "text": (lambda: b"hello", "does not begin like a checkpoint"),
    "truncated": (lambda: honest()[:-40], "cut short"),
    "half": (lambda: honest()[: len(honest()) // 2], "cut short"),
    "flipped bit": (flipped, "damaged .its checksum"),
    "other pickle": (lambda: pickle.dumps([1, 2], 2), "damaged or no checkpoint"),
    "torchscript": (torchscript, "TorchScript"),
    "no table": (lambda: zipped(pickle.dumps([1], 2)), "no table of weights"),
    "no key of ours": (
        lambda: zipped(pickle.dumps({"x": 1}, 2)),
        "holds no vqgan: its weights are x",
    ),
    "no tensor": (lambda: zipped(pickle.dumps({"encoder.x": 1}, 2)), "encoder.x is no tensor"),
    "compressed": (
        lambda: zipped(table(0, (4,), (1,)), {"0": b"\0" * 16}, compression=zipfile.ZIP_DEFLATED),
        "compressed records",
    ),
    "zip bomb": (
        lambda: zipped(b"\0" * 50_000_000, compression=zipfile.ZIP_DEFLATED),
        "compressed records",
    ),
    "overlapping": (overlapping, "lie upon each other"),
    "large table": (lambda: zipped(b"\0" * (9 * MIB)), "larger than 8 MB"),
    "missing record": (lambda: zipped(table(0, (4,), (1,))), "missing or has the wrong length"),
    "short record": (lambda: one_tensor(0, (4,), (1,), numbers=b"\0" * 12), "the wrong length"),
    "zero stride": (lambda: one_tensor(0, (10**6, 10**6), (0, 0)), "odd shape or stride"),
    "overlap": (lambda: one_tensor(0, (3, 2), (1, 1)), "reaches beyond"),
    "too large": (lambda: one_tensor(0, (5,), (1,)), "reaches beyond"),
    "offset": (lambda: one_tensor(1, (4,), (1,)), "reaches beyond"),
    "negative": (lambda: one_tensor(-1, (4,), (1,)), "odd shape or stride"),
    "float shape": (lambda: one_tensor(0, (4.0,), (1,)), "odd shape or stride"),
    "dimensions": (lambda: one_tensor(0, (1,) * 30, (1,) * 30), "odd number of dimensions"),
    "list": (lambda: one_tensor(0, [4], [1]), "odd number of dimensions"),
    "integers": (lambda: one_tensor(0, (4,), (1,), kind="Int"), "no tensor of floating-point"),
    "nan": (
        lambda: one_tensor(0, (4,), (1,), numbers=struct.pack("<4f", 0, 1, float("nan"), 2)),
        "infinite or not numbers",
    ),
    "infinity": (
        lambda: one_tensor(0, (4,), (1,), numbers=struct.pack("<4f", 0, 1, float("-inf"), 2)),
        "infinite or not numbers",
    ),
    "half infinity": (
        lambda: one_tensor(0, (4,), (1,), kind="Half", numbers=struct.pack("<4e", 0, 1, 2, np.inf)),
        "infinite or not numbers",
    ),
    "bytearray bomb": (
        lambda: zipped(calls("builtins", "bytearray", b"\x8a\x05\x00\x00\x00\x00\x10\x85")),
        "encoder.x is no tensor",
    ),
    "declared bomb": (  # an opcode of protocol 5 that asks for 64 GiB before it reads them
        lambda: zipped(b"\x80\x05}\x8c\x01x\x96" + struct.pack("<Q", 64 * GIB) + b"s."),
        "more memory than a checkpoint may|damaged",
    ),
    "memo bomb": (  # an index that makes the list of remembered objects 34 GB long
        lambda: zipped(b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."),
        "more memory than a checkpoint may|damaged",
    ),
    "two of a name": (
        lambda: one_tensor(0, (4,), (1,)).replace(b"archive/data/1", b"archive/data/0"),
        "two records of one name",
    ),
    "outside": (
        lambda: one_tensor(0, (4,), (1,)).replace(b"archive/data/0", b"archive/../x/0"),
        "a record outside its folder",
    ),
    "two tables": (
        lambda: one_tensor(0, (4,), (1,), key="x.pkl").replace(
            b"archive/data/x.pkl", b"different/data.pkl"
        ),
        "holds 2 tables of weights",
    ),
    "legacy cut short": (lambda: old(honest_table())[:-20], "cut short|wrong length"),
    "legacy cut in its table": (lambda: old(honest_table())[:300], "damaged or no checkpoint"),
    "legacy big-endian": (big_endian, "big-endian"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    make, reason = BAD[name]
    source, target = tmp_path / "bad.ckpt", tmp_path / "model.safetensors"
    source.write_bytes(make())
    with pytest.raises(ModelError, match=reason) as told:
        convert(source, target, seconds=30, memory=GIB)
    assert str(told.value).startswith("bad.ckpt cannot be used: ")
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("place", ["state_dict", "callbacks"])
def test_code_in_a_file_does_not_run(
    save: Callable[[object, Path], None], place: str, weights: Weights, tmp_path: Path
) -> None:
    mark, source = tmp_path / "ran", tmp_path / "evil.ckpt"
    content: dict[str, Any] = {"state_dict": dict(weights), "callbacks": {}}
    content[place]["optimizer"] = Evil(mark)
    save(content, source)
    torch.load(source, weights_only=False)
    assert mark.exists()  # the file does what it is made for
    mark.unlink()
    convert(source, tmp_path / "model.safetensors")
    assert not mark.exists()
    assert equal(tmp_path / "model.safetensors", weights)


def test_code_in_place_of_a_tensor_does_not_run(tmp_path: Path) -> None:
    mark, source = tmp_path / "ran", tmp_path / "evil.ckpt"
    torch.save({"encoder.weight": Evil(mark)}, source)
    with pytest.raises(ModelError, match="no tensor"):
        convert(source, tmp_path / "model.safetensors")
    assert not mark.exists()


@pytest.mark.parametrize(("make", "seconds"), [(deep, 30), (endless, 1)])
def test_a_file_that_breaks_its_reader_breaks_only_the_child(
    make: Callable[[], bytes], seconds: int, tmp_path: Path
) -> None:
    (tmp_path / "bad.ckpt").write_bytes(make())
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"broke the converter|took longer|damaged"):
        convert(tmp_path / "bad.ckpt", tmp_path / "model.safetensors", seconds=seconds)
    assert time.monotonic() - began < 20
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


def test_memory_is_limited(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(64 * MIB // 4)}, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match="more memory"):
        convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors", memory=32 * MIB)
    convert(tmp_path / "a.ckpt", tmp_path / "model.safetensors", memory=512 * MIB)


def test_what_was_converted_before_stays_when_a_new_file_is_refused(
    weights: Weights, tmp_path: Path
) -> None:
    target = tmp_path / "model.safetensors"
    torch.save(weights, tmp_path / "a.ckpt")
    convert(tmp_path / "a.ckpt", target)
    (tmp_path / "b.ckpt").write_bytes(flipped())
    with pytest.raises(ModelError):
        convert(tmp_path / "b.ckpt", target)
    assert equal(target, weights)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        convert(tmp_path / "none.ckpt", tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "deed",
    [
        "import socket; socket.socket()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "open('x', 'w')",
        "import os; os.remove('x')",
        "import ctypes; ctypes.CDLL(None)",
    ],
)
def test_a_confined_process_may_not(deed: str) -> None:
    setup = "from app.convert import confine; confine(1 << 30, 10)"
    ended = subprocess.run(
        [sys.executable, "-c", f"{setup}\ntry:\n    {deed}\nexcept PermissionError:\n    exit(7)"],
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 7


@pytest.mark.skipif(sys.platform != "linux", reason="the limits differ elsewhere")
def test_a_confined_process_has_little_memory_and_time() -> None:
    setup = "import resource as r; from app.convert import confine; confine(1 << 28, 9)"
    asked = "r.getrlimit(r.RLIMIT_AS)[0], r.getrlimit(r.RLIMIT_CPU)[0], r.getrlimit(r.RLIMIT_CORE)"
    ended = subprocess.run(
        [sys.executable, "-c", f"{setup}; print(*({asked}))"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    memory, seconds, *core = ended.stdout.split()
    assert int(memory) < 4 * GIB
    assert int(seconds) < 30
    assert core == ["(0,", "0)"]


@pytest.mark.parametrize("seed", range(10))
def test_a_damaged_byte_is_seen_or_changes_nothing(seed: int, tmp_path: Path) -> None:
    chance = np.random.default_rng(seed)
    content = bytearray(honest())
    content[chance.integers(len(content))] ^= 1 << chance.integers(8)
    source, target = tmp_path / "a.ckpt", tmp_path / "model.safetensors"
    source.write_bytes(content)
    try:
        convert(source, target, seconds=30)
    except ModelError:
        assert not target.exists()
    else:
        assert equal(target, honest_table())


# --- single parts ----------------------------------------------------------------------------


sizes = some.lists(some.integers(-1, 5), max_size=3).map(tuple)


@given(some.integers(-1, 30), sizes, sizes)
def test_a_view_is_refused_or_is_the_one_torch_makes(
    offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    storage = torch.arange(24.0)
    view = View(Storage("0", "FloatStorage", 24), offset, shape, stride)
    try:
        found = tensor("x", view, lambda _: storage.numpy().tobytes())
    except Refused:
        return
    expected = torch.as_strided(storage, shape, stride, offset).numpy()
    assert np.array_equal(found.view(np.float32), expected)


@given(some.binary(max_size=200))
def test_any_bytes_build_only_harmless_things(content: bytes) -> None:
    """Whatever a pickle says, what it builds is of the few kinds we allow, or it is refused."""
    try:
        built = Unpickler(io.BytesIO(b"\x80\x02" + content + b".")).load()
    except Exception:
        return
    assert type(built).__module__ in ("builtins", "collections", "app.convert")


@pytest.mark.parametrize("name", ["os\nsystem", "builtins\neval", "posix\nsystem", "torch\nload"])
def test_names_are_never_looked_up(name: str) -> None:
    built = Unpickler(io.BytesIO(f"\x80\x02c{name}\n.".encode("latin-1"))).load()
    assert built.__module__ == "app.convert"
