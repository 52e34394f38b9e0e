"""The border between sound files and waves: any file people may give, as one channel of numbers.

Outside: WAV, FLAC, OGG, MP3, M4A and the like. Inside: float `Wave`s of 48 kHz. What decodes
(`decode`) runs in a child (see `app/media.py`), so this file must stay light: no torch.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import av.subtitles.stream  # by itself it would, when the child can open no file any more
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from app import media, saving
from app.errors import Refused

if TYPE_CHECKING:
    from guidance.audio import Wave

RATE = 48_000  # Hz: what every sound is brought to; encoders take less
FORMATS = ("WAV", "FLAC", "OGG", "OPUS", "MP3", "M4A", "AAC", "WEBM")
LEAST_SECONDS, MOST_SECONDS = 0.25, 120.0  # of a section
SLOWEST, FASTEST = 4_000, 384_000  # Hz
MOST_CHANNELS = 32

_BLOCK = 4_096  # frames that are decoded at a time; of a broken file the last block is lost
_UNNOTICED = 0.1  # seconds that may be missing: some formats only estimate how long they are
_PRE_ROLL = 0.5  # seconds decoded before a section: codecs need some to come in
_NOT_SO_LOUD = 1.12  # 1 dB above full scale, which nobody hears, is turned down without a word


@dataclass(frozen=True, eq=False)
class Sound:
    """A section of a sound file as everything inside hears it, whatever the file was."""

    wave: Wave  # mono at RATE: the section that was chosen
    sha256: str  # of these very numbers: the same sound under another name has the same
    start: float  # seconds, where the section begins in the file
    whole: float  # seconds of the whole file
    notes: tuple[str, ...] = ()  # what is not exactly as given, as sentences for people

    @property
    def seconds(self) -> float:
        """How long the section is."""
        return len(self.wave) / RATE


def open_sound(path: Path | str, *, start: float = 0.0, seconds: float = 30.0) -> Sound:
    """Read a sound that someone gave us: at most `seconds` (.25 to 120) from `start` on.

    At most 200 MB, 4 to 384 kHz and 32 channels; all of this is known before anything is decoded,
    and only the section is. Channels are mixed evenly. Raises `Refused` for anything that is not
    a fair sound; silence is one. No title, name or other text in the file is read.
    """
    if not (math.isfinite(start) and start >= 0):
        message = f"A section cannot start at {start:g} s. Give 0 or more seconds."
        raise Refused("audio.section", message)
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        message = f"A section has {LEAST_SECONDS:g} to {MOST_SECONDS:g} s, not {seconds:g}."
        raise Refused("audio.section", message)
    found = media.decode("sound", path, start=float(start), seconds=float(seconds))
    return _sound(found.numbers, found.said, start)


def _sound(numbers: media.Numbers, said: Mapping[str, Any], start: float) -> Sound:
    wave = numbers["wave"]
    return Sound(
        wave=wave,
        sha256=hashlib.sha256(wave.astype("<f4").tobytes()).hexdigest(),
        start=float(start),
        whole=float(said["whole"]),
        notes=tuple(map(str, said["notes"])),
    )


def at_rate(wave: Wave, rate: int) -> Wave:
    """Bring a wave from RATE to `rate` Hz, by soxr (high quality, linear phase)."""
    return wave if rate == RATE else soxr.resample(wave, RATE, rate)


def save_wav(path: Path | str, wave: Wave, rate: int = RATE) -> Path:
    """Write a wave as 16 bit PCM and return the path: the next free name if taken.

    What lies beyond -1..1 is cut off. Raises as `saving.write` does.
    """
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="WAV", subtype="PCM_16")
    return saving.write(Path(path), buffer.getvalue())


def spoken(seconds: float) -> str:
    """A length of time as people say it: "12 s", "1 min 5 s", "2 h 0 min"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


# ---- in the child: a file becomes numbers --------------------------------------------------------


@dataclass(frozen=True)
class _Opened:
    """A sound of which the header has been read; nothing is decoded before `blocks` is walked."""

    rate: int  # Hz
    channels: int
    whole: float | None  # seconds that are there, as far as anybody knows without decoding
    promised: float | None  # seconds that there should be
    blocks: Callable[[float], Iterator[NDArray[Any]]]  # from a second on: (frames, channels)


def decode(
    file: BinaryIO, name: str, *, start: float, seconds: float
) -> tuple[media.Numbers, dict[str, Any]]:
    """Do the work of `open_sound` on an open file; `name` begins its messages."""
    try:
        opened = _reader(file, name)(file, name)
    except (soundfile.LibsndfileError, av.FFmpegError) as error:
        raise _unless_memory(error, _damaged(name)) from error
    if opened.whole and start >= opened.whole:
        message = f"{name} is {spoken(opened.whole)} long; a section cannot start at "
        raise Refused("audio.section", f"{message}{spoken(start)}. Start earlier.")
    wanted = round(seconds * opened.rate)
    mono, got = _gather(opened, start, wanted, name)
    if not got and not opened.whole:
        raise Refused("audio.empty", f"{name} holds no sound. Give another.")
    length = got / opened.rate
    if length < LEAST_SECONDS:
        rest = f"has only {spoken(length)} of sound" + (f" after {spoken(start)}" if start else "")
        message = f"{name} {rest}; at least {LEAST_SECONDS:g} s are needed. Give a longer one."
        raise Refused("audio.short", message)
    wave, loud = _within(mono, name)
    whole = start + length
    if got >= wanted and opened.whole is not None:
        whole = max(whole, opened.whole)
    notes = [*_section(opened, start, length, whole, wanted - got), *_mixed(opened), *loud]
    return {"wave": wave}, {"whole": whole, "notes": notes}


def _gather(opened: _Opened, start: float, wanted: int, name: str) -> tuple[Wave, int]:
    """At most `wanted` frames, mono at RATE, and how many they were before."""
    down = soxr.ResampleStream(opened.rate, RATE, 1, dtype="float32")
    pieces: list[Wave] = []
    got = 0
    for block in opened.blocks(start):
        mono = block[: wanted - got].mean(axis=1, dtype=np.float64).astype(np.float32)
        if not np.isfinite(mono).all():
            raise _not_finite(name)
        got += len(mono)
        pieces.append(mono if opened.rate == RATE else down.resample_chunk(mono))
        if got >= wanted:
            break
    if opened.rate != RATE:
        pieces.append(down.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate([np.zeros(0, np.float32), *pieces]), got


def _within(wave: Wave, name: str) -> tuple[Wave, list[str]]:
    """The wave within -1..1: what was louder than full scale is turned down, not cut off."""
    peak = float(np.abs(wave).max())
    if not math.isfinite(peak):
        raise _not_finite(name)
    if peak <= 1:
        return wave, []
    note = f"Turned down by {20 * math.log10(peak):.0f} dB: it was louder than full scale."
    return wave / np.float32(peak), [note] if peak > _NOT_SO_LOUD else []


def _section(
    opened: _Opened, start: float, length: float, whole: float, missing: int
) -> Iterator[str]:
    """What of the file was left out, and what was not there."""
    promised = opened.promised
    if missing > 0 and promised is not None and promised - whole > _UNNOTICED:
        yield (
            f"The file is cut off or damaged: it says that it has {spoken(promised)}, "
            f"and {spoken(whole)} can be read."
        )
    of = "" if opened.whole is None else f" of {spoken(whole)}"
    if start:
        yield f"Only {spoken(length)} are used{of}, from {spoken(start)} on."
    elif missing <= 0 and (opened.whole is None or whole - length > _UNNOTICED):
        yield f"Only the first {spoken(length)} are used{of}."


def _mixed(opened: _Opened) -> Iterator[str]:
    if opened.channels > 2:
        yield f"{opened.channels} channels mixed into one."


# ---- which reader: by what a file begins with, never by its name ---------------------------------

_Reader = Callable[[BinaryIO, str], _Opened]


def _reader(file: BinaryIO, name: str) -> _Reader:
    beginning = _beginning(file)
    file.seek(0)
    for pattern, reader in _READERS:
        if re.match(pattern, beginning, re.DOTALL):
            return reader
    message = f"{name} is no sound that we can read. We read {', '.join(FORMATS)}."
    raise Refused("audio.format", message)


def _beginning(file: BinaryIO) -> bytes:
    """The first bytes; those behind an ID3 tag, where there is one (ID3v2.4 structure, 3.1)."""
    head = file.read(64)
    if head[:3] == b"ID3" and len(head) > 10:
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(head[6:10])))
        file.seek(10 + size)
        head = file.read(64)
    return head


def _fair(rate: int, channels: int, name: str) -> None:
    if not SLOWEST <= rate <= FASTEST:
        message = f"{name} says that it has {rate:,} samples a second; "
        message += f"{SLOWEST:,} to {FASTEST:,} work. Save it with 48,000."
        raise Refused("audio.rate", message)
    if not 1 <= channels <= MOST_CHANNELS:
        message = f"{name} says that it has {channels:,} channels; at most {MOST_CHANNELS} work. "
        raise Refused("audio.channels", message + "Save it with one or two.")


def _damaged(name: str) -> Refused:
    message = f"{name} is damaged, or of a rare kind. Copy or download it again, or save it as WAV."
    return Refused("audio.corrupt", message)


def _not_finite(name: str) -> Refused:
    message = f"{name} holds values that are no numbers (NaN or infinite). Save it anew."
    return Refused("audio.not_finite", message)


def _unless_memory(error: Exception, refused: Refused) -> Exception:
    return error if isinstance(error, MemoryError) else refused


# ---- WAV, FLAC, OGG and MP3, by libsndfile -------------------------------------------------------

_MAJOR = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")  # it knows twenty more, old and rare
_UNKNOWN = 1 << 62  # frames of a FLAC that was written as a stream: there, the most there can be
_LESS_DATA = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


class _Straight(soundfile.SoundFile):  # type: ignore[misc]
    """One that does not seek after each block, to where it is: an MP3 would fall out of step."""

    def seekable(self) -> bool:
        """Say that it cannot be done; `seek` works all the same."""
        return False


def _by_libsndfile(file: BinaryIO, name: str) -> _Opened:
    sound = _Straight(file)
    if sound.format not in _MAJOR:
        message = f"{name} is {sound.format}, which is not read. We read {', '.join(FORMATS)}."
        raise Refused("audio.format", message)
    _fair(sound.samplerate, sound.channels, name)
    whole = sound.frames / sound.samplerate if sound.frames < _UNKNOWN else None
    promised = whole
    claim = _LESS_DATA.search(sound.extra_info)
    if whole and claim and int(claim[1]) <= media.DECODERS["sound"].most_bytes:
        promised = whole * int(claim[1]) / int(claim[2])  # more: a writer that did not know yet

    def blocks(start: float) -> Iterator[NDArray[Any]]:
        first = round(start * sound.samplerate)
        skip = min(first, round(_PRE_ROLL * sound.samplerate))
        try:
            if first > skip:
                sound.seek(first - skip)
            while len(block := sound.read(_BLOCK, "float32", always_2d=True)):
                yield block[skip:]
                skip = max(0, skip - len(block))
        except soundfile.LibsndfileError:  # it ends here, whatever it promised
            return

    return _Opened(sound.samplerate, sound.channels, whole, promised, blocks)


# ---- M4A, AAC, OPUS and WEBM, by FFmpeg, which is told what to open ------------------------------

_CODECS = "aac mp3 mp3float opus libopus vorbis libvorbis flac alac pcm_s16le pcm_f32le".split()
_CAGE = {"codec_whitelist": ",".join(_CODECS), "protocol_whitelist": "none"}
_SCALES = {"u1": (128, 128), "i2": (0, 1 << 15), "i4": (0, 1 << 31), "f4": (0, 1), "f8": (0, 1)}
_ESTIMATED = ("aac",)  # demuxers whose length is a guess from the first few kilobytes


def _by_ffmpeg(demuxer: str) -> _Reader:
    def opened(file: BinaryIO, name: str) -> _Opened:
        container, stream = _unpack(file, demuxer, name)
        rate, channels = stream.codec_context.sample_rate, stream.codec_context.channels
        _fair(rate, channels, name)
        promised = stream.duration and float(stream.duration * stream.time_base)
        if promised is None and container.duration:
            promised = container.duration / av.time_base
        whole = _walk(container, stream)
        known = None if demuxer in _ESTIMATED else promised

        def blocks(start: float) -> Iterator[NDArray[Any]]:
            container, stream = _unpack(file, demuxer, name)
            return _frames(container, stream, start, rate, name)

        return _Opened(rate, channels, whole, known, blocks)

    return opened


def _unpack(file: BinaryIO, demuxer: str, name: str) -> tuple[Any, Any]:
    """A container and its first track of sound. Texts that are no UTF-8 are nobody's business."""
    file.seek(0)
    container = av.open(file, format=demuxer, options=_CAGE, metadata_errors="ignore")
    if not container.streams.audio:
        raise Refused("audio.empty", f"{name} holds no sound. Give another.")
    stream = container.streams.audio[0]
    codec = stream.codec_context.name if stream.codec_context else "something else"
    if codec not in _CODECS:
        message = f"{name} holds sound as {codec}, which is not read. Save it as WAV or FLAC."
        raise Refused("audio.format", message)
    stream.codec_context.thread_count = 1
    return container, stream


def _walk(container: Any, stream: Any) -> float:
    """Seconds up to the end of the last packet; nothing is decoded. Many files do not say."""
    origin, end = None, 0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                origin = packet.pts if origin is None else origin
                end = max(end, packet.pts + (packet.duration or 0))
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
    return float((end - max(origin or 0, 0)) * stream.time_base)


def _frames(
    container: Any, stream: Any, start: float, rate: int, name: str
) -> Iterator[NDArray[Any]]:
    """(frames, channels) from `start` on; ends where decoding does."""
    origin = max(stream.start_time or 0, 0) * stream.time_base
    late = start > _PRE_ROLL
    try:
        if late:
            target = int((start - _PRE_ROLL + origin) / stream.time_base)
            container.seek(target, stream=stream)
        at: int | None = None if late else 0  # frames since the beginning
        for frame in container.decode(stream):
            if frame.sample_rate != rate:
                message = f"{name} changes its samples a second on the way. Save it as WAV."
                raise Refused("audio.rate", message)
            if at is None:
                at = round((float(frame.pts * frame.time_base) - float(origin)) * rate)
            block = _floats(frame)
            yield block[max(0, round(start * rate) - at) :]
            at += len(block)
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise


def _floats(frame: Any) -> NDArray[np.float32]:
    """(frames, channels), -1..1."""
    raw = frame.to_ndarray()
    raw = raw.T if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels)
    zero, one = _SCALES[raw.dtype.str[1:]]
    return ((raw.astype(np.float64) - zero) / one).astype(np.float32)


_READERS: tuple[tuple[bytes, _Reader], ...] = (
    (rb"(RIFF|RF64|RIFX).{4}WAVE", _by_libsndfile),
    (rb"fLaC", _by_libsndfile),
    (rb"OggS.{24}OpusHead", _by_ffmpeg("ogg")),  # of a cut one libsndfile opens nothing
    (rb"OggS", _by_libsndfile),
    (rb"\xff[\xf0\xf1\xf8\xf9]", _by_ffmpeg("aac")),  # ADTS: the layer's two bits are 0
    (rb"\xff[\xe2-\xe7\xea-\xef\xf2-\xf7\xfa-\xff]", _by_libsndfile),  # MPEG 1, 2, 2.5, any layer
    (rb".{4}ftyp", _by_ffmpeg("mov")),
    (rb"\x1aE\xdf\xa3", _by_ffmpeg("matroska")),
)
