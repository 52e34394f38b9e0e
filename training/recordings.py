"""Recordings of known things, from packages, with captions by hand.

Trained on: Tux Paint's stamps, sound-icons and the system sounds that are under the same licence.
Kept apart as another source, for tests alone: GCompris' sounds and the other system sounds.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.data import fetch_debian
from training.synth import RATE, Wave

PACKAGES = (
    "tuxpaint-stamps-default",
    "sound-icons",
    "sound-theme-freedesktop",
    "gcompris-qt-data",
)
_STAMPS = "usr/share/tuxpaint/stamps"
_ICONS, _SYSTEM = "usr/share/sounds/sound-icons", "usr/share/sounds/freedesktop/stereo"
_GCOMPRIS = "usr/share/gcompris-qt/rcc"  # of it only these two files are opened
_INSTRUMENTS, _MEMORY = "instruments.rcc", "memory-sound.rcc"
_SPOKEN = 400  # of the many thousand recordings of somebody speaking

SPEECH = "a person speaking"

# label: recordings of Tux Paint, without ".ogg"; the label is what a picture of it is called
STAMPS: dict[str, tuple[str, ...]] = {
    "frog": ("animals/amphibians/frog",),
    "blackbird": ("animals/birds/blackbird",),
    "crow": ("animals/birds/crow",),
    "cuckoo bird": ("animals/birds/cuckoo",),
    "duck": ("animals/birds/duck", "animals/birds/drake"),
    "goose": ("animals/birds/gander",),
    "hen": ("animals/birds/hen",),
    "heron": ("animals/birds/heron_greatblue_flying",),
    "bird": ("animals/birds/lark",),
    "ostrich": ("animals/birds/nandou",),
    "owl": ("animals/birds/owl",),
    "penguin": ("animals/birds/penguin",),
    "parrot": ("animals/birds/quetzal", "animals/birds/tucan"),
    "rooster": ("animals/birds/rooster",),
    "seagull": ("animals/birds/seagull",),
    "turkey": ("animals/birds/turkey",),
    "vulture": ("animals/birds/vulture",),
    "bee": ("animals/insects/bee", "animals/insects/hornet"),
    "cricket": ("animals/insects/grasshopper",),
    "mosquito": ("animals/insects/mosquito",),
    "monkey": ("animals/mammals/apes/chimp",),
    "gorilla": ("animals/mammals/apes/gorilla",),
    "dolphin": ("animals/mammals/aquatic/dolphin", "animals/mammals/aquatic/orca"),
    "seal": ("animals/mammals/aquatic/sea_lion",),
    "whale": ("animals/mammals/aquatic/whale",),
    "badger": ("animals/mammals/badger",),
    "bear": ("animals/mammals/bears/bear",),
    "bison": ("animals/mammals/bovines/bison",),
    "ox": ("animals/mammals/bovines/bull",),
    "cow": ("animals/mammals/bovines/cow", "animals/mammals/bovines/cow_white"),
    "goat": ("animals/mammals/bovines/goat", "animals/mammals/bovines/mountaingoat"),
    "sheep": ("animals/mammals/bovines/sheep", "animals/mammals/bovines/ram"),
    "lamb": ("animals/mammals/bovines/sheep_lamb",),
    "camel": ("animals/mammals/camel/camel", "animals/mammals/camel/dromedary"),
    "lion": ("animals/mammals/cats/lion",),
    "tiger": ("animals/mammals/cats/tiger",),
    "deer": (
        "animals/mammals/deer/deer",
        "animals/mammals/deer/caribou",
        "animals/mammals/deer/doe",
    ),
    "dog": ("animals/mammals/dogs/dog",),
    "fox": ("animals/mammals/dogs/fox",),
    "elephant": ("animals/mammals/elephant",),
    "donkey": ("animals/mammals/equines/donkey",),
    "horse": ("animals/mammals/equines/horse",),
    "zebra": ("animals/mammals/equines/zebra",),
    "giraffe": ("animals/mammals/giraffe",),
    "hippopotamus": ("animals/mammals/hippopotamus",),
    "pig": (
        "animals/mammals/pig",
        "animals/mammals/pig_golden",
        "animals/mammals/pig_golden2",
    ),
    "beaver": ("animals/mammals/rodents/beaver",),
    "mouse": ("animals/mammals/rodents/mouse",),
    "rabbit": ("animals/mammals/rodents/rabbit",),
    "squirrel": ("animals/mammals/rodents/squirrel",),
    "koala": ("animals/marsupials/koala",),
    "cat": ("seasonal/halloween/blackcat",),
    "bat": ("seasonal/halloween/bat_left",),
    "camera": ("hobbies/camera_35mm",),
    "cymbal": ("hobbies/music/percussion/cymbal_crash",),
    "drum": (
        "hobbies/music/percussion/drum_tomtom_floor",
        "hobbies/music/percussion/drumkit",
    ),
    "cello": ("hobbies/music/string/cello",),
    "violin": ("hobbies/music/string/violin",),
    "trumpet": ("military/final-roll-call",),
    "glass of water": ("household/dishes/glass",),
    "kettle": ("household/kettle",),
    "vacuum cleaner": ("household/vacuum_cleaner",),
    "toilet": ("household/toilet",),
    "scissors": (
        "household/arttools/scissors_small_closed",
        "household/arttools/scissors_small_open",
    ),
    "hammer": ("household/tools/hammer", "household/tools/mallet_metal"),
    "saw": ("household/tools/saw",),
    "thunder": ("naturalforces/lightningbolt",),
    "fireworks": ("seasonal/newyears/fireworks",),
    "siren": ("vehicles/emergency/firetruck",),
    "apple": ("food/fruit/apple_red",),
}
ICONS: dict[str, tuple[str, ...]] = {
    "bird": ("canary-long.wav",),
    "piano": ("piano-3.wav", "electric-piano-3.wav", "klavichord-4.wav", "cembalo-1.wav"),
    "guitar": ("guitar-12.wav", "guitar-13.wav"),
    "trumpet": ("trumpet-1.wav", "trumpet-12.wav"),
    "cello": ("violoncello-7.wav",),
    "xylophone": ("xylofon.wav",),
    "cymbal": ("cymbaly-1.wav",),
    "drum": ("percussion-12.wav", "percussion-28.wav", "percussion-50.wav"),
    "glass of water": ("glass-water-1.wav",),
}
SYSTEM: dict[str, tuple[str, ...]] = {
    "telephone": ("phone-incoming-call.oga", "phone-outgoing-calling.oga"),
}
# Never trained on: another microphone, another dog.
TESTED_SYSTEM: dict[str, tuple[str, ...]] = {
    "alarm clock": ("alarm-clock-elapsed.oga",),
    "camera": ("camera-shutter.oga",),
}
TESTED: dict[str, dict[str, tuple[str, ...]]] = {
    _INSTRUMENTS: {
        "drum": ("snare_drum.ogg", "drum_kit.ogg", "bongo.ogg", "timpani.ogg"),
        "harmonica": ("harmonica.ogg",),
        "violin": ("violin.ogg",),
        "cello": ("cello.ogg",),
        "accordion": ("accordion.ogg",),
        "guitar": ("guitar.ogg", "electric_guitar.ogg"),
        "banjo": ("banjo.ogg",),
        "trumpet": ("trumpet.ogg", "horn.ogg", "trombone.ogg"),
        "piano": ("piano.ogg",),
        "cymbal": ("cymbal.ogg",),
        "harp": ("harp.ogg",),
        "saxophone": ("saxophone.ogg",),
        "clarinet": ("clarinet.ogg",),
        "organ": ("organ.ogg",),
        "flute": ("flute_traversiere.ogg",),
        "tambourine": ("tambourine.ogg",),
        "triangle": ("triangle.ogg",),
        "maracas": ("maracas.ogg",),
        "tuba": ("tuba.ogg",),
        "castanets": ("castanets.ogg",),
    },
    _MEMORY: {
        "car": ("LRStartAndStopCarEngine1LACut.ogg",),
        "bell": ("LRBuddhist_gong_05_LA.ogg",),
        "guitar": ("guitar_melody.ogg",),
        "dog": ("LRBark_1_LA_cut.ogg", "LRBark_3_LA_cut.ogg"),
        "applause": ("LRApplauses_1_LA_cut.ogg",),
        "heartbeat": ("LRHeart_beat_01_LA.ogg",),
        "frog": ("LRFrogsInPondDuringStormLACut.ogg",),
        "rain": ("LRRain_in_garden_01_LA_cut.ogg",),
        "train": ("LRTrain_slowing_down_01_LA_cut.ogg",),
    },
}


@dataclass(frozen=True, eq=False)
class Recording:
    """A wave, what it is of, and whose it is."""

    label: str
    source: str
    key: str
    wave: Wave


def trained_on(cache: Path) -> Iterator[Recording]:
    """Every recording that trains; somebody speaking among them, so that speech is no animal."""
    stamps, icons, system, _ = (fetch_debian(cache, package) for package in PACKAGES)
    yield from _files(stamps / _STAMPS, PACKAGES[0], STAMPS, ".ogg")
    yield from _files(icons / _ICONS, PACKAGES[1], ICONS)
    yield from _files(system / _SYSTEM, PACKAGES[2], SYSTEM)
    spoken = sorted((stamps / _STAMPS).glob("**/*_desc*.ogg"))
    for path in spoken[:: max(1, len(spoken) // _SPOKEN)]:
        yield Recording(SPEECH, PACKAGES[0], path.stem, _read(path.read_bytes()))


def tested_on(cache: Path) -> Iterator[Recording]:
    """Recordings from other sources, which never train."""
    system, gcompris = (fetch_debian(cache, package) for package in PACKAGES[2:])
    yield from _files(system / _SYSTEM, PACKAGES[2], TESTED_SYSTEM)
    for archive, table in TESTED.items():
        files = dict(qt_resource((gcompris / _GCOMPRIS / archive).read_bytes()))
        for label, names in table.items():
            for name in names:
                yield Recording(label, PACKAGES[3], name, _read(files[name]))


def names_spoken(cache: Path) -> Iterator[tuple[str, Wave]]:
    """The names that Tux Paint speaks in English, and somebody saying them."""
    folder = fetch_debian(cache, PACKAGES[0]) / _STAMPS
    for path in sorted(folder.glob("**/*_desc.ogg")):
        caption = path.with_name(path.stem.removesuffix("_desc") + ".txt")
        if caption.exists():
            yield caption.read_text("utf-8").splitlines()[0], _read(path.read_bytes())


def _files(
    folder: Path, source: str, table: dict[str, tuple[str, ...]], suffix: str = ""
) -> Iterator[Recording]:
    for label, keys in table.items():
        for key in keys:
            yield Recording(label, source, key, _read((folder / f"{key}{suffix}").read_bytes()))


def _read(encoded: bytes) -> Wave:
    """Mono, at our rate, as loud as it may be."""
    wave, rate = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    mono = soxr.resample(wave.mean(axis=1), rate, RATE).astype(np.float32)
    return mono / max(1e-6, float(np.abs(mono).max()))


def qt_resource(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in Qt's binary resource format (.rcc, big-endian).

    "qres", a version, then where the tree of nodes, the data and the names begin. Raises
    ValueError for anything else.
    """
    if blob[:4] != b"qres":
        raise ValueError("This is no Qt resource file.")
    version, tree, data, names = struct.unpack(">4I", blob[4:20])
    length = 14 if version < 2 else 22  # of a node

    def name(at: int) -> str:
        (letters,) = struct.unpack_from(">H", blob, names + at)
        return blob[names + at + 6 :][: 2 * letters].decode("utf-16-be")

    def walk(node: int) -> Iterator[tuple[str, bytes]]:
        label, is_folder = struct.unpack_from(">IH", blob, tree + node * length)
        if is_folder & 2:
            many, first = struct.unpack_from(">II", blob, tree + node * length + 6)
            for child in range(first, first + many):
                yield from walk(child)
        else:
            (at,) = struct.unpack_from(">I", blob, tree + node * length + 10)
            (size,) = struct.unpack_from(">I", blob, data + at)
            yield name(label), blob[data + at + 4 :][:size]

    return walk(0)
