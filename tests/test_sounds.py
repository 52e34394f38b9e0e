"""Any sound file people may give becomes one fair wave, or one clear sentence."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from app import sounds
from app.errors import Refused
from app.media import MIB, Limits, decode
from app.sounds import FORMATS, RATE, Sound, at_rate, open_sound, save_wav, spoken

Samples = NDArray[np.float32]  # (frames, channels)


def steps(seconds: float = 4, rate: int = RATE, channels: int = 1) -> Samples:
    """A tone that goes up by 200 Hz at each half of a second: every place sounds different."""
    time = np.arange(round(seconds * rate)) / rate
    pitch = 300 + 200 * np.floor(2 * time)
    one = 0.4 * np.sin(2 * np.pi * pitch * time)
    return np.repeat(one[:, None], channels, axis=1).astype(np.float32)


def by_libsndfile(samples: Any, kind: str, coding: str | None = None, rate: int = RATE) -> bytes:
    """The bytes of a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=coding)
    return buffer.getvalue()


def by_ffmpeg(
    samples: Samples, container: str, codec: str, rate: int = RATE, **options: str
) -> bytes:
    """The bytes of a sound file of one or two channels, with HTML as its title.

    What comes first is silence: the 1,024 samples an AAC encoder takes to come in are not marked.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "mono" if samples.shape[1] == 1 else "stereo"
        file.metadata["title"] = "<script>alert(1)</script>"
        wanted = stream.codec_context.codec.audio_formats[0].name
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate = rate
        turned = av.AudioResampler(wanted, stream.layout.name, rate)
        waiting = av.AudioFifo()
        for piece in turned.resample(frame):
            waiting.write(piece)
        while piece := waiting.read(stream.codec_context.frame_size or 1024, partial=True):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., Sound]:
    """Give `given(content, start=2)`: the sound in a file of these bytes, of a name that lies."""

    def read(content: bytes, **section: float) -> Sound:
        path = tmp_path / "song.wav"
        path.write_bytes(content)
        return open_sound(path, **section)

    return read


def opened(content: bytes, start: float = 0.0, seconds: float = 30.0) -> Sound:
    """Do the same within this process, which saves half a second each time."""
    found = sounds.decode(io.BytesIO(content), "'song.wav'", start=start, seconds=seconds)
    return sounds._sound(*found, start)


def likeness(one: NDArray[Any], other: NDArray[Any], late: Collection[int] = (0,)) -> float:
    """Correlation of two waves, 1 for the same, at the best of some shifts in samples."""
    length = min(len(one) - max(late), len(other))
    shifted = (one[shift : shift + length] for shift in late)
    return max(float(np.corrcoef(piece, other[:length])[0, 1]) for piece in shifted)


def middle(samples: Samples, kind: str, coding: str | None = None) -> bytes:
    """The first half of a file."""
    content = by_libsndfile(samples, kind, coding)
    return content[: len(content) // 2]


def header(rate: int, channels: int, said: int, held: bytes, bits: int = 16) -> bytes:
    """A WAV by hand: it says that it holds `said` bytes of sound."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width % (1 << 32), width % 65536, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", said)
    return b"RIFF" + struct.pack("<I", min(said + 36, (1 << 32) - 1)) + b"WAVE" + chunks + held


def checksum(content: bytes, polynomial: int, bits: int) -> int:
    """CRC of `bits` bits, as FLAC has it: from the highest bit on, beginning with 0."""
    value, top = 0, 1 << (bits - 1)
    for byte in content:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & ((1 << bits) - 1)
    return value


SIZE = 65_535  # frames of sound in one frame of FLAC, the most there can be


def flac(frames: list[bytes], total: int = 0) -> bytes:
    """A stereo FLAC of 44.1 kHz and 16 bits by hand, after RFC 9639. It claims `total` frames."""
    about = 44_100 << 44 | 1 << 41 | 15 << 36 | total
    info = struct.pack(">HH", SIZE, SIZE) + bytes(6) + about.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + b"\x80" + len(info).to_bytes(3, "big") + info + b"".join(frames)


def two_hours_of_silence() -> list[bytes]:
    """Frames of FLAC, 68 kB in all: they hold 317 million frames of sound, 2.5 GB of floats."""
    frames = []
    for number in range(2 * 3600 * 44_100 // SIZE + 1):
        # chr() writes numbers as the format does: like the letters of UTF-8
        head = b"\xff\xf8\x79\x18" + chr(number).encode() + struct.pack(">H", SIZE - 1)
        frame = head + bytes([checksum(head, 0x07, 8)]) + bytes(6)  # two channels that stay at 0
        frames.append(frame + struct.pack(">H", checksum(frame, 0x8005, 16)))
    return frames


# ---- what is refused -----------------------------------------------------------------------------

WAV = by_libsndfile(steps(), "WAV", "PCM_16")
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
BROKEN = steps()
BROKEN[9_999] = np.nan
ENDLESS = steps()
ENDLESS[9_999] = np.inf

REFUSED = {
    "A2 a header alone": (by_libsndfile(steps(0), "WAV"), "audio.empty"),
    "A2 a FLAC of no frames": (flac([]), "audio.empty"),
    "A3 one sample": (by_libsndfile(np.ones((1, 1)), "WAV"), "audio.short"),
    "A3 a tenth of a second": (by_libsndfile(steps(0.1), "WAV"), "audio.short"),
    "A3 just too short": (by_libsndfile(steps(0.249), "FLAC"), "audio.short"),
    "A5 NaN": (by_libsndfile(BROKEN, "WAV", "FLOAT"), "audio.not_finite"),
    "A5 infinity": (by_libsndfile(ENDLESS, "WAV", "FLOAT"), "audio.not_finite"),
    "A5 NaN at another rate": (by_libsndfile(BROKEN, "WAV", "DOUBLE", 44_100), "audio.not_finite"),
    "A8 one sample a second": (header(1, 1, 200, bytes(200)), "audio.rate"),
    "A8 no samples a second": (header(0, 1, 200, bytes(200)), "audio.corrupt"),
    "A8 far too many": (header((1 << 32) - 1, 1, 200, bytes(200)), "audio.corrupt"),
    "A8 a little too many": (header(384_001, 1, 9**6, bytes(9**6)), "audio.rate"),
    "A9 60,000 channels": (header(RATE, 60_000, 9**6, bytes(9**6)), "audio.corrupt"),
    "A9 33 channels": (by_libsndfile(np.zeros((9_000, 33)), "WAV"), "audio.channels"),
    "A11 a WAV cut short": (WAV[:2_000], "audio.short"),
    "A11 a FLAC cut short": (by_libsndfile(steps(), "FLAC")[:3_000], "audio.short"),
    "A11 an MP3 cut short": (by_libsndfile(steps(), "MP3")[:1_200], "audio.short"),
    "A11 an M4A without its end": (
        by_ffmpeg(steps(), "ipod", "aac")[:20_000],
        "audio.corrupt",
    ),
    "A13 a codec that we do not read": (by_ffmpeg(steps(), "matroska", "ac3"), "audio.format"),
    "A13 a codec that nobody knows": (
        by_ffmpeg(steps(), "webm", "libopus").replace(b"A_OPUS", b"A_NONE"),
        "audio.format",
    ),
    "A14 text": (b"A red apple on a blue background.\n" * 20, "audio.format"),
    "A14 a playlist": (PLAYLIST, "audio.format"),
    "A14 a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "audio.format"),
    "A14 AIFF": (by_libsndfile(steps(), "AIFF"), "audio.format"),
    "A14 a beginning alone": (b"RIFF", "audio.format"),
    "A14 noise after a beginning": (b"fLaC" + bytes(range(256)) * 9, "audio.corrupt"),
    "A14 noise after another": (b"\x1aE\xdf\xa3" + bytes(range(256)) * 9, "audio.corrupt"),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=list(REFUSED))
def test_a_bad_file_is_refused_with_one_sentence(content: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        opened(content)
    assert refused.value.code == code
    assert str(refused.value).startswith("'song.wav' ")
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


def test_an_empty_file_is_refused(given: Callable[..., Sound]) -> None:  # A1
    with pytest.raises(Refused, match=r"^'song.wav' is empty \(0 bytes\)\.") as refused:
        given(b"")
    assert refused.value.code == "audio.empty"


def test_who_gives_something_else_hears_what_works() -> None:
    with pytest.raises(Refused) as refused:
        opened(PLAYLIST)
    assert all(name in str(refused.value) for name in FORMATS)


def test_after_a_bad_file_the_next_good_one_is_read(given: Callable[..., Sound]) -> None:
    with pytest.raises(Refused) as refused:
        given(REFUSED["A9 33 channels"][0])
    assert refused.value.code == "audio.channels"
    assert given(WAV).seconds == 4


@pytest.mark.parametrize(
    ("section", "code"),
    [
        ({"start": -1}, "audio.section"),
        ({"start": float("nan")}, "audio.section"),
        ({"start": float("inf")}, "audio.section"),
        ({"seconds": 121}, "audio.section"),
        ({"seconds": 0.2}, "audio.section"),
        ({"seconds": float("nan")}, "audio.section"),
        ({"start": 4}, "audio.section"),
        ({"start": 1e300}, "audio.section"),
        ({"start": 3.9}, "audio.short"),
    ],
)
def test_a_section_outside_a_sound_is_refused(
    given: Callable[..., Sound], section: dict[str, float], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        given(WAV, **section)
    assert refused.value.code == code


# ---- good files, made the same -------------------------------------------------------------------

LIVE = {"live": "1"}  # as a browser's recorder writes: no length
AAC_IS_LATE = (0, 1_024, 1_115)  # samples; the last are 1,024 of 44.1 kHz
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}

GOOD = {  # A12, A13
    "WAV": (WAV, 0.9999),
    "WAV of 8 bits": (by_libsndfile(steps(), "WAV", "PCM_U8"), 0.999),  # A16
    "WAV of 24 bits": (by_libsndfile(steps(), "WAVEX", "PCM_24"), 0.9999),
    "WAV of doubles": (by_libsndfile(steps(), "WAV", "DOUBLE"), 0.9999),
    "RF64": (by_libsndfile(steps(), "RF64", "PCM_16"), 0.9999),
    "FLAC": (by_libsndfile(steps(), "FLAC", "PCM_16"), 0.9999),
    "FLAC, stereo of 44.1 kHz": (by_libsndfile(steps(4, 44_100, 2), "FLAC", rate=44_100), 0.9999),
    "WAV of 8 kHz": (by_libsndfile(steps(4, 8_000), "WAV", rate=8_000), 0.999),
    "WAV of 192 kHz": (by_libsndfile(steps(4, 192_000), "WAV", rate=192_000), 0.9999),  # A6
    "OGG": (by_libsndfile(steps(), "OGG", "VORBIS"), 0.99),
    "OPUS": (by_libsndfile(steps(), "OGG", "OPUS"), 0.99),
    "MP3": (by_libsndfile(steps(), "MP3"), 0.99),
    "M4A": (by_ffmpeg(steps(4, 44_100, 2), "ipod", "aac", 44_100), 0.99),
    "M4A without loss": (by_ffmpeg(steps(), "ipod", "alac"), 0.9999),
    "MP4 in pieces": (by_ffmpeg(steps(), "mp4", "aac", **FRAGMENTS), 0.99),
    "WEBM": (by_ffmpeg(steps(), "webm", "libopus"), 0.99),
    "WEBM of a recorder": (by_ffmpeg(steps(4, RATE, 2), "webm", "libopus", **LIVE), 0.99),
}


@pytest.mark.parametrize(("content", "least"), GOOD.values(), ids=list(GOOD))
def test_every_format_we_name_is_read(content: bytes, least: float) -> None:
    found = opened(content)
    late = AAC_IS_LATE if b"mp4a" in content else (0,)
    assert found.wave.dtype == np.float32
    assert found.wave.ndim == 1
    assert found.seconds == pytest.approx(4, abs=0.05)
    assert found.whole == pytest.approx(4, abs=0.05)
    assert found.notes == ()
    assert likeness(found.wave, steps()[:, 0], late) > least
    assert found.wave.std() == pytest.approx(steps().std(), rel=0.03)


def test_raw_aac_is_read() -> None:
    """Nothing in it says how much silence its encoder put first, so it comes a little late."""
    found = opened(by_ffmpeg(steps(), "adts", "aac"))
    assert found.seconds == pytest.approx(4, abs=0.05)
    assert likeness(found.wave[1024:], steps()[:, 0]) > 0.99
    part = opened(by_ffmpeg(steps(), "adts", "aac"), start=2.6, seconds=1)
    assert likeness(part.wave, found.wave[round(2.6 * RATE) :]) > 0.999


READERS = ("WAV", "FLAC", "OGG", "OPUS", "MP3", "M4A", "WEBM")


@pytest.mark.parametrize("row", READERS)
def test_a_child_that_can_open_nothing_reads_the_same(
    given: Callable[..., Sound], row: str
) -> None:
    content, _ = GOOD[row]
    there, here = given(content, start=1, seconds=2), opened(content, start=1, seconds=2)
    assert there.sha256 == here.sha256
    assert (there.start, there.whole, there.notes) == (here.start, here.whole, here.notes)


@pytest.mark.parametrize("start", [0.25, 2.6])
@pytest.mark.parametrize("content", [row[0] for row in GOOD.values()], ids=list(GOOD))
def test_a_section_is_that_part_of_the_whole(content: bytes, start: float) -> None:
    part, whole = opened(content, start=start, seconds=1), opened(content)
    assert part.seconds == pytest.approx(1, abs=1 / RATE)
    assert part.start == start
    assert part.whole == pytest.approx(4, abs=0.05)
    assert likeness(part.wave, whole.wave[round(start * RATE) :], range(RATE // 1000 + 1)) > 0.999
    assert part.notes == (f"Only 1 s are used of 4 s, from {start:.2g} s on.",)


def test_the_same_sound_in_another_file_is_the_same() -> None:
    whole = (steps(channels=2) * 32_767).astype(np.int16)
    found = [
        opened(by_libsndfile(whole, "WAV", "PCM_16")),
        opened(by_libsndfile(whole, "FLAC", "PCM_16")),
        opened(by_libsndfile(whole[:, :1], "FLAC", "PCM_24")),
        opened(by_libsndfile(whole / 32_768, "WAV", "FLOAT")),
    ]
    assert len({sound.sha256 for sound in found}) == 1
    parts = [opened(WAV, start=start, seconds=1) for start in (0, 1)]
    assert len({sound.sha256 for sound in [found[0], *parts]}) == 3


def test_silence_is_a_sound() -> None:  # A4: later code says "silent"
    found = opened(by_libsndfile(np.zeros((RATE, 2)), "FLAC"))
    assert not found.wave.any()
    assert found.seconds == 1
    assert found.notes == ()


def test_channels_are_mixed_evenly() -> None:  # A7
    samples = np.zeros((RATE, 8))
    samples[:, 5] = 0.8
    found = opened(by_libsndfile(samples, "WAV", "FLOAT"))
    assert np.allclose(found.wave, 0.1)
    assert found.notes == ("8 channels mixed into one.",)


def test_clipped_and_shifted_sounds_stay_as_they_are() -> None:  # A16
    samples = np.clip(steps() * 9, -1, 1) * 0.5 + 0.5
    found = opened(by_libsndfile(samples, "WAV", "FLOAT"))
    assert np.allclose(found.wave, samples[:, 0])
    assert found.notes == ()


@pytest.mark.parametrize(("scale", "notes"), [(2.6, 0), (1e5, 1), (1e38, 1)])
def test_what_is_louder_than_full_scale_is_turned_down(scale: float, notes: int) -> None:
    found = opened(by_libsndfile(steps() * np.float32(scale), "WAV", "FLOAT"))
    assert np.abs(found.wave).max() == pytest.approx(1)
    assert likeness(found.wave, steps()[:, 0]) > 0.9999
    assert len(found.notes) == notes


def test_a_wav_that_claims_4_gb_is_as_long_as_it_is() -> None:  # A10
    held = (steps()[:16_384, 0] * 32_767).astype("<i2").tobytes()
    found = opened(header(RATE, 1, (1 << 32) - 16, held))
    assert len(found.wave) == 16_384
    assert found.whole == pytest.approx(16_384 / RATE)
    assert found.notes == ()  # a writer to a pipe cannot know better


CUT = {  # A11; OGG, raw AAC and recorders' WEBM say nowhere how long they should be
    "WAV": middle(steps(), "WAV", "PCM_16"),
    "FLAC": middle(steps(8), "FLAC"),
    "MP3": middle(steps(), "MP3"),
    "MP4": by_ffmpeg(steps(), "mp4", "aac", **FRAGMENTS)[:20_000],
}


@pytest.mark.parametrize("content", CUT.values(), ids=list(CUT))
def test_of_a_cut_file_what_is_there_is_used_and_said(content: bytes) -> None:
    found = opened(content)
    assert 0.5 < found.seconds < 5
    assert found.whole == pytest.approx(found.seconds)
    assert likeness(found.wave[: RATE // 2], steps()[:, 0], AAC_IS_LATE) > 0.97
    (note,) = found.notes
    assert note.startswith("The file is cut off or damaged: it says that it has ")
    assert opened(content, seconds=0.5).notes[0].startswith("Only the first 0.5 s")


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
def test_of_a_cut_ogg_what_is_there_is_used(kind: str) -> None:
    found = opened(middle(steps(9), "OGG", kind))
    assert 1 < found.seconds < 8
    assert likeness(found.wave[: RATE // 2], steps()[:, 0]) > 0.97


def test_titles_are_not_read() -> None:  # A18
    tagged = by_ffmpeg(steps(), "mp3", "libmp3lame")
    assert b"<script>" in tagged
    assert tagged[:3] == b"ID3"
    found = opened(tagged)
    assert found.seconds == pytest.approx(4, abs=0.05)
    assert found.notes == ()
    spoilt = by_ffmpeg(steps(), "ipod", "aac").replace(b"<script>", b"\xff\xfe\xfd\xfc\xfb\xfa\0\0")
    assert opened(spoilt).notes == ()


def test_a_sound_with_pictures_is_a_sound() -> None:
    """The film is not even decoded: its codec is not among those that we read."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        film = file.add_stream("libx264", rate=4, options={"threads": "1"})
        film.width = film.height = 32
        film.pix_fmt = "yuv420p"
        track = file.add_stream("aac", rate=RATE, layout="mono")
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8), "rgb24")
            file.mux(film.encode(frame))
        file.mux(film.encode(None))
        for at in range(0, 2 * RATE, 1024):
            piece = steps(3)[at : at + 1024].T
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), "fltp", "mono")
            sound.sample_rate, sound.pts = RATE, at
            file.mux(track.encode(sound))
        file.mux(track.encode(None))
    found = opened(buffer.getvalue())
    assert found.seconds == pytest.approx(2, abs=0.05)
    assert likeness(found.wave, steps()[:, 0]) > 0.99


# ---- two hours -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of silence."""
    path = tmp_path_factory.mktemp("long") / "long.flac"
    frames = two_hours_of_silence()
    path.write_bytes(flac(frames, total=len(frames) * SIZE))
    return path


@pytest.mark.parametrize("start", [0.0, 6_000.0])
def test_two_hours_cost_no_more_than_half_a_minute(long: Path, start: float) -> None:  # A15, T4
    assert soundfile.info(long).duration == pytest.approx(7200, abs=2)
    tight = Limits(memory=448 * MIB)  # 2.5 GB would be the whole
    found = decode("sound", long, limits=tight, start=start, seconds=30.0)
    assert found.numbers["wave"].shape == (30 * RATE,)


def test_people_hear_that_only_the_first_half_minute_is_used(long: Path) -> None:
    found = open_sound(long)
    assert found.seconds == 30
    assert found.whole == pytest.approx(7200, abs=2)
    assert found.notes == ("Only the first 30 s are used of 2 h 0 min.",)
    later = open_sound(long, start=3_700, seconds=5)
    assert later.notes == ("Only 5 s are used of 2 h 0 min, from 1 h 1 min on.",)


def test_a_flac_that_does_not_say_how_long_it_is() -> None:
    found = opened(flac(two_hours_of_silence()[:9]), seconds=2)
    assert found.seconds == 2
    assert found.notes == ("Only the first 2 s are used.",)


# ---- out -----------------------------------------------------------------------------------------


def test_at_rate_keeps_pitch_and_length() -> None:
    wave = np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE).astype(np.float32)
    less = at_rate(wave, 16_000)
    assert less.dtype == np.float32
    assert less.shape == (16_000,)
    expected = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    assert np.abs(less - expected)[500:-500].max() < 1e-3
    assert at_rate(wave, RATE) is wave


def test_at_rate_lets_nothing_fold_back() -> None:
    high = np.sin(2 * np.pi * 15_000 * np.arange(RATE) / RATE).astype(np.float32)
    assert np.abs(at_rate(high, 16_000)[500:-500]).max() < 1e-3


def test_a_saved_wave_is_read_back(tmp_path: Path) -> None:
    wave = steps()[:, 0]
    path = save_wav(tmp_path / "tone.wav", wave)
    assert np.abs(open_sound(path).wave - wave).max() < 1 / 30_000
    other = save_wav(tmp_path / "tone.wav", wave * 5, 16_000)
    assert other != path
    assert soundfile.info(other).samplerate == 16_000
    assert np.abs(soundfile.read(other)[0]).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (2.4, "2.4 s"),
        (12.4, "12 s"),
        (59.6, "1 min 0 s"),
        (65, "1 min 5 s"),
        (7_200, "2 h 0 min"),
    ],
)
def test_lengths_are_spoken_as_people_do(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
