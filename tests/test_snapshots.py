"""A run goes on from its file as if it had never stopped; a bad file is refused in one sentence."""

from __future__ import annotations

import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as as_bytes
from torch import Tensor

from app.errors import Refused
from app.snapshots import load, load_latest, save, save_in
from generators.base import Image
from generators.pixels import Pixels
from guidance.objectives import named
from guidance.optimise import OPTIMISERS, Descent, Plateau, Snapshot, Step, optimise

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=150)

META = {
    "request": {
        "prompt": "ein Apfel 🍎",
        "seed": 2**63 - 1,
        "step_size": None,
        "clips": ["pocket"],
    },
    "versions": {"torch": torch.__version__},
    "hash": "f884",
}
LATENT = torch.linspace(0, 1, 48).reshape(1, 3, 4, 4)
SNAPSHOT = Snapshot(3, LATENT, LATENT, LATENT + 1, {"step": torch.tensor(3.0), "exp_avg": -LATENT})


def same(one: Snapshot, other: Snapshot) -> bool:
    """Every bit of it."""
    return _plain(one) == _plain(other)


def _plain(snapshot: Snapshot) -> dict[str, Any]:
    latents = {name: getattr(snapshot, name) for name in ("latent", "anchor", "average")}
    bits = {name: _bits(value) for name, value in {**latents, **snapshot.optimiser}.items()}
    return {**vars(snapshot), **bits, "optimiser": sorted(snapshot.optimiser)}


def _bits(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    return tensor.dtype, tensor.shape, flat.numpy().tobytes()


def steps(optimiser: str, resume: Snapshot | None = None) -> list[tuple[Step, Snapshot]]:
    """A short run whose objective draws from chance, as views do."""

    def blotchy(image: Image) -> Tensor:
        return (image - torch.rand(image.shape)).square().mean() * 10

    generator = Pixels()
    descent = Descent(8, optimiser=optimiser, ema=0.9, pull=0.1, patience=50)
    start = generator.start((8, 8), seed=1)
    run = optimise(generator, [named("blotchy", 1, blotchy)], start, descent, seed=7, resume=resume)
    return [(step, step.snapshot()) for step in run]


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_run_goes_on_from_its_file_bit_for_bit(optimiser: str, tmp_path: Path) -> None:
    whole = steps(optimiser)
    for at in (0, 5):
        path = save(whole[at][1], tmp_path / "run.safetensors", META)
        rest = steps(optimiser, load(path)[0])
        assert [step.index for step, _ in rest] == list(range(at, 9))
        for (step, _), (again, _) in zip(whole[at:], rest, strict=True):
            assert torch.equal(step.image, again.image)
            assert step.losses == again.losses


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_an_optimisers_memory_comes_back_the_same(optimiser: str, tmp_path: Path) -> None:
    snapshot = steps(optimiser)[4][1]
    assert snapshot.optimiser  # else nothing is tested
    found, meta = load(save(snapshot, tmp_path / "a.safetensors", META))
    assert same(found, snapshot)
    assert meta == META


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16, torch.int64])
def test_every_kind_of_number_comes_back_the_same(kind: torch.dtype, tmp_path: Path) -> None:
    latent = torch.tensor([[0.1, -0.0, 3e-5], [1.0, 7.0, 250.0]]).to(kind).T  # not contiguous
    if kind.is_floating_point:
        latent[0, 0] = math.nan
    memory = {"nothing": torch.zeros(0, 3), "one": torch.tensor(2, dtype=kind)}
    snapshot = Snapshot(0, latent, latent, latent[:1], memory)
    assert same(load(save(snapshot, tmp_path / "a.safetensors", {}))[0], snapshot)


def test_a_plateau_not_yet_begun_is_infinite_still(tmp_path: Path) -> None:
    for plateau in (Plateau(), Plateau(0.1 + 0.2, -math.inf, 12), Plateau(5e-324, 1e308, 0)):
        snapshot = Snapshot(1, LATENT, LATENT, LATENT, plateau=plateau, halvings=2)
        assert same(load(save(snapshot, tmp_path / "a.safetensors", {}))[0], snapshot)


def test_what_is_loaded_does_not_hang_on_the_file(tmp_path: Path) -> None:
    path = save(SNAPSHOT, tmp_path / "a.safetensors", META)
    found, _ = load(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(found, SNAPSHOT)
    found.latent.zero_()  # nor does the anchor on the latent
    assert torch.equal(found.anchor, LATENT)


def test_the_same_snapshot_makes_the_same_file(tmp_path: Path) -> None:
    one, two = (save(SNAPSHOT, tmp_path / name, META).read_bytes() for name in "ab")
    assert one == two


def test_saving_leaves_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        save(SNAPSHOT, tmp_path / "a.safetensors", META)
    assert os.listdir(tmp_path) == ["a.safetensors"]


# ---- bad files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write to, again and again."""
    return tmp_path_factory.mktemp("snapshots") / "a.safetensors"


WHOLE = as_bytes({"a": LATENT})
FOREIGN = {
    "nothing": (b"", "snapshot.damaged"),
    "text": (b"A red apple on a blue background.", "snapshot.damaged"),
    "other weights": (WHOLE, "snapshot.foreign"),
    "weights with notes": (as_bytes({"a": LATENT}, {"format": "pt"}), "snapshot.foreign"),
    "no hash": (as_bytes({"a": LATENT}, {"synesthete": "{}"}), "snapshot.damaged"),
    "a wrong hash": (
        as_bytes({"a": LATENT}, {"synesthete": f"{'0' * 64} {{}}"}),
        "snapshot.damaged",
    ),
    "a header of 2^60 bytes": (b"\0" * 7 + b"\x10" + b"{}", "snapshot.damaged"),
}


@pytest.mark.parametrize(("content", "code"), FOREIGN.values(), ids=list(FOREIGN))
def test_what_is_no_snapshot_is_refused(content: bytes, code: str, place: Path) -> None:
    place.write_bytes(content)
    with pytest.raises(Refused, match=r"\.$") as refused:
        load(place)
    assert (refused.value.code, refused.value.field) == (code, "resume")


@pytest.mark.parametrize("path", ["none.safetensors", "."])
def test_a_missing_snapshot_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as refused:
        load(path)
    assert refused.value.code == "snapshot.missing"


def forge(record: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """A file that proves itself whole, whatever it says."""
    from app.snapshots import _digest

    text = json.dumps(record)
    return as_bytes(tensors, {"synesthete": f"{_digest(text, tensors)} {text}"})


RECORD = {
    "format": 1,
    "index": 3,
    "halvings": 0,
    "plateau": {"level": "inf", "best": "inf", "waited": 0},
    "meta": {},
}
LATENTS = {name: LATENT.clone() for name in ("latent", "anchor", "average")}


def test_the_forger_of_these_tests_knows_the_trade(place: Path) -> None:
    place.write_bytes(forge(RECORD, LATENTS))
    assert same(load(place)[0], Snapshot(3, LATENT, LATENT, LATENT))


@pytest.mark.parametrize(
    "change",
    [
        {"index": "many"},
        {"plateau": {}},
        {"plateau": [1, 2, 3]},
        {"plateau": {"level": "x", "best": "inf", "waited": 0}},
        {"meta": [1, 2]},
        {"format": "one"},
    ],
    ids=str,
)
def test_a_forged_record_is_refused(change: dict[str, Any], place: Path) -> None:
    place.write_bytes(forge({**RECORD, **change}, LATENTS))
    with pytest.raises(Refused, match="damaged"):
        load(place)


def test_a_snapshot_without_its_latent_is_refused(place: Path) -> None:
    place.write_bytes(forge(RECORD, {"anchor": LATENT}))
    with pytest.raises(Refused, match="damaged"):
        load(place)


def test_a_snapshot_of_a_newer_version_asks_for_an_update(place: Path) -> None:
    place.write_bytes(forge({**RECORD, "format": 2}, LATENTS))
    with pytest.raises(Refused, match="newer version") as refused:
        load(place)
    assert refused.value.code == "snapshot.newer"


@pytest.fixture(scope="module")
def content(place: Path) -> bytes:
    """A good snapshot, as it is on the disk."""
    return save(SNAPSHOT, place, META).read_bytes()


@repeatable
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_spoiled_snapshot_is_never_another(
    at: float, bit: int, cut: bool, place: Path, content: bytes
) -> None:
    position = int(at * len(content))
    spoiled = bytearray(content)
    spoiled[position] ^= 1 << bit
    place.write_bytes(bytes(spoiled[:position] if cut else spoiled))
    with pytest.raises(Refused) as refused:
        load(place)
    assert refused.value.code in ("snapshot.damaged", "snapshot.foreign")


# ---- the folder of a run -------------------------------------------------------------------------


def at_step(index: int) -> Snapshot:
    """A snapshot of some step."""
    return Snapshot(index, LATENT, LATENT, LATENT)


def test_the_newest_two_stay(tmp_path: Path) -> None:
    for index in (10, 20, 30, 40):
        save_in(tmp_path, at_step(index), META)
        assert len(os.listdir(tmp_path)) == min(2, index // 10)
        assert load_latest(tmp_path)[0].index == index
    assert load(sorted(tmp_path.iterdir())[0])[0].index == 30


def test_the_newest_is_the_one_written_last(tmp_path: Path) -> None:
    for index in (80, 90, 50):  # whoever goes on from an older one, may choose so
        save_in(tmp_path, at_step(index), META)
    assert load_latest(tmp_path)[0].index == 50


@pytest.mark.parametrize("left", [0, 100, -1])
def test_the_older_one_helps_when_the_newest_is_damaged(
    left: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_in(tmp_path, at_step(1), META)
    newest = save_in(tmp_path, at_step(2), META)
    newest.write_bytes(newest.read_bytes()[:left])
    with caplog.at_level(logging.WARNING):
        snapshot, meta = load_latest(tmp_path)
    assert (snapshot.index, meta) == (1, META)
    assert "Going on from the one before" in caplog.text
    save_in(tmp_path, at_step(3), META)
    assert load_latest(tmp_path)[0].index == 3


def test_two_damaged_ones_are_refused(tmp_path: Path) -> None:
    for index in (1, 2):
        save_in(tmp_path, at_step(index), META).write_bytes(b"")
    with pytest.raises(Refused) as refused:
        load_latest(tmp_path)
    assert refused.value.code == "snapshot.damaged"


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    others = ["snapshot-best.safetensors", "model.safetensors", "snapshot-000001.png", ".x.part"]
    for name in others:
        (tmp_path / name).write_text("mine")
    for index in range(4):
        save_in(tmp_path, at_step(index), META)
    assert load_latest(tmp_path)[0].index == 3
    assert all((tmp_path / name).read_text() == "mine" for name in others)


def test_a_folder_without_snapshots_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(Refused, match="no snapshot in") as refused:
            load_latest(folder)
        assert refused.value.code == "snapshot.none"
