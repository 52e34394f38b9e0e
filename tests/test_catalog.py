"""The catalog: every row says what it is, where it comes from and under which licence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import open_clip
import pytest

from app.catalog import CLIPS, GENERATORS, SOUNDS, TABLES, Entry, ModelError, always_there, find
from app.convert import KEEP, ROOT
from app.fetching import SHAPES, address
from app.models import LOADERS, TRIALS
from generators import vqgan

ROWS = [entry for table in TABLES.values() for entry in table.values()]
FETCHED = [entry for entry in ROWS if entry.files]
SHIPPED = [entry for entry in ROWS if entry.folder]
CARRIED = [entry for entry in ROWS if entry.package]
VQGANS = [entry for entry in FETCHED if entry.kind == "generator"]
OPEN_CLIPS = [entry for entry in FETCHED if entry.kind == "clip"]


def by_name(entry: Entry) -> str:
    return f"{entry.kind}-{entry.name}"


@pytest.mark.parametrize("entry", ROWS, ids=by_name)
def test_every_row_has_a_licence_a_note_and_a_loader(entry: Entry) -> None:
    assert entry.licence
    assert entry.note
    assert entry.loader in LOADERS
    assert TABLES[entry.kind][entry.name] is entry


HEADINGS = ("Source", "Licence", "Hash", "Size", "Training data", "Intended use", "Limits")


@pytest.mark.parametrize("entry", FETCHED, ids=by_name)
def test_every_fetched_row_has_a_card_that_says_what_is_known(entry: Entry) -> None:
    card = (ROOT / entry.card).read_text(encoding="utf-8")
    assert all(f"**{heading}.**" in card for heading in HEADINGS)
    assert entry.licence in card
    for file in entry.files:
        assert (file.sha256 or "Not known") in card
        assert (f"{file.bytes:,} bytes" if file.bytes else "Not known before") in card
        assert all(source.repo in card for source in file.sources)
    assert ("**Not verified.**" in card) is not entry.verified


@pytest.mark.parametrize("entry", FETCHED, ids=by_name)
def test_every_file_has_a_format_that_is_understood_and_an_encrypted_address(entry: Entry) -> None:
    for file in entry.files:
        assert file.format in SHAPES
        assert Path(file.name).suffix in (".safetensors", ".bin", ".json", ".txt")
        assert file.name.endswith(".safetensors") == (file.format in ("safetensors", "ckpt"))
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert all(address(source).startswith("https://") for source in file.sources)
        assert file.format != "ckpt" or entry.loader in KEEP
    assert entry.loader in TRIALS


@pytest.mark.parametrize("entry", FETCHED, ids=by_name)
def test_a_verified_row_has_bytes_and_hash(entry: Entry) -> None:
    known = all(file.bytes and file.sha256 for file in entry.files)
    assert known or not entry.verified


@pytest.mark.parametrize("entry", SHIPPED, ids=by_name)
def test_what_ships_is_there_with_a_card_and_a_licence(entry: Entry) -> None:
    assert (ROOT / entry.card).is_file()
    assert any((ROOT / entry.folder).glob("*.safetensors"))
    licences = (ROOT / "weights" / "LICENSES.md").read_text(encoding="utf-8")
    assert f"`{Path(entry.folder).name}/`" in licences


@pytest.mark.parametrize("entry", CARRIED, ids=by_name)
def test_what_a_package_carries_is_pinned_file_by_file_and_has_a_card(entry: Entry) -> None:
    assert entry.package is not None
    card = (ROOT / entry.card).read_text(encoding="utf-8")
    assert all(f"**{heading}.**" in card for heading in HEADINGS)
    assert f"{entry.package.name} {entry.package.version}" in card
    assert entry.licence in card
    for file in entry.package.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.sha256 in card
        assert f"{file.bytes:,}" in card


@pytest.mark.parametrize("entry", CARRIED, ids=by_name)
def test_the_package_that_carries_it_is_required_in_the_same_version(entry: Entry) -> None:
    assert entry.package is not None
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"\n{entry.package.name}=={entry.package.version}" in f"\n{required}"


def test_what_ships_is_at_most_a_hundred_megabytes() -> None:
    files = [path for path in (ROOT / "weights").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 100e6


def test_what_was_never_fetched_by_us_says_so() -> None:
    assert not any(entry.verified for entry in FETCHED)


def test_the_known_hash_of_imagenet_16384_is_there() -> None:
    (file,) = GENERATORS["imagenet_16384"].files
    assert file.sha256 is not None
    assert file.sha256.startswith("845a68805098cb66")
    assert file.bytes == 980_092_370


@pytest.mark.parametrize("entry", OPEN_CLIPS, ids=by_name)
def test_quick_gelu_is_as_open_clip_says(entry: Entry) -> None:
    assert entry.open_clip is not None
    model, tag = entry.open_clip
    config, weights = open_clip.get_model_config(model), open_clip.get_pretrained_cfg(model, tag)
    assert entry.quick_gelu == config.get("quick_gelu", False)
    assert entry.quick_gelu == weights.get("quick_gelu", False)


@pytest.mark.parametrize("entry", OPEN_CLIPS, ids=by_name)
def test_a_clip_comes_from_where_open_clip_takes_it(entry: Entry) -> None:
    assert entry.open_clip is not None
    (file,) = entry.files
    assert file.sources[0].repo == open_clip.get_pretrained_cfg(*entry.open_clip)["hf_hub"].strip(
        "/"
    )


@pytest.mark.parametrize("entry", OPEN_CLIPS, ids=by_name)
def test_no_clip_needs_a_tokenizer_that_is_not_here(entry: Entry) -> None:
    assert entry.open_clip is not None
    assert "hf_tokenizer_name" not in open_clip.get_model_config(entry.open_clip[0])["text_cfg"]


@pytest.mark.parametrize("entry", VQGANS, ids=by_name)
def test_a_vqgan_says_which_network_it_is(entry: Entry) -> None:
    assert entry.network is not None
    params = entry.network["model"]["params"]
    assert entry.network["model"]["target"].rpartition(".")[2] in ("VQModel", "GumbelVQ")
    assert params["embed_dim"] == 256
    assert params["n_embed"] in (1_024, 8_192, 16_384)
    assert set(params["ddconfig"]) == set(vqgan._NETWORK)


def test_pocket_clip_agrees_with_its_own_folder() -> None:
    config = ROOT / CLIPS["pocket"].folder / "open_clip_config.json"
    flag = json.loads(config.read_text(encoding="utf-8"))["model_cfg"].get("quick_gelu", False)
    assert CLIPS["pocket"].quick_gelu == flag


def test_each_clip_speaks_of_a_space_of_its_own() -> None:
    spaces = [entry.space for entry in CLIPS.values()]
    assert all(spaces)
    assert len(set(spaces)) == len(spaces)


@pytest.mark.parametrize("entry", SOUNDS.values(), ids=by_name)
def test_a_sound_encoder_speaks_the_space_of_a_clip_we_have(entry: Entry) -> None:
    assert entry.space in [clip.space for clip in CLIPS.values()]


def test_an_unknown_name_lists_what_there_is() -> None:
    for kind, table in TABLES.items():
        with pytest.raises(ModelError) as told:
            find(kind, "../../etc/passwd")
        assert all(name in str(told.value) for name in table)
        assert str(told.value).count("\n") == 0


def test_names_are_matched_as_they_are_written() -> None:
    with pytest.raises(ModelError):
        find("generator", "POCKET")


def test_what_works_offline_is_what_has_no_files() -> None:
    said = always_there()
    assert all((entry.name in said) == (not entry.files) for entry in GENERATORS.values())
    assert "pocket" in said


def test_what_is_told_to_work_offline_is_no_empty_list() -> None:
    said = always_there()
    assert "the speech models tiny.en" in said
    assert "models  and" not in said
    assert not said.endswith("models ")
