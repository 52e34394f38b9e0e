"""Speech becomes words: Whisper is asked only where somebody speaks, and believed only if sure.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv 2212.04356, as
faster-whisper runs it. A Whisper writes something whatever it is given, so there are three gates:
loudness; a network that tells speech from other sounds (Silero's, which comes with faster-whisper);
and what Whisper itself thinks of its words. The limits were chosen with the tiny English Whisper:
on 66 spoken names of animals, and on 210 sounds of animals, things, music and noise. What they let
through is told in model_cards/whisper-tiny.en.md.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.vad import VadOptions, get_speech_timestamps

from guidance.audio import Wave

RATE = 16_000  # Hz
FILES = ("model.bin", "config.json", "tokenizer.json")  # and a vocabulary

_BEAM, _MOST_TOKENS = 5, 200
_THREADS = 2  # fixed: sums of floats depend on how they are shared out
_MARGIN = 0.5  # seconds of silence before and after: a short word at the very edge is misheard
_LONGEST = 28.0  # seconds of speech at a time; a Whisper looks at thirty

_QUIET = -50.0  # dB below full scale, of the loudest tenth of a second
_SPEECH = VadOptions(
    threshold=0.5,
    min_speech_duration_ms=150,
    min_silence_duration_ms=700,
    max_speech_duration_s=_LONGEST,
    speech_pad_ms=200,
)
_LEAST_LIKELY = -1.3  # mean log-probability of a token
_MOST_SILENT = 0.5  # probability that nobody speaks
_MOST_REPEATED = 2.4  # how far the text can be compressed: more is a loop
_LEAST_SURE = 0.03  # probability of the first word, on which the others hang

# What a throat does that is no word; each letter once. A growl is often written down as one.
_CRIES = frozenset("oh ah uh ha haha hm m um sh ow ugh argh wo".split())


@dataclass(frozen=True)
class Word:
    """A word, when it was said and how sure that is."""

    text: str
    start: float  # seconds
    end: float
    probability: float  # 0..1, as it is written here: another spelling counts as another word


@dataclass(frozen=True)
class Transcript:
    """What was said; or, in one sentence, why there are no words."""

    words: tuple[Word, ...]
    reason: str = ""

    @property
    def text(self) -> str:
        """The words in a row."""
        return " ".join(word.text for word in self.words)

    @property
    def confidence(self) -> float:
        """0..1: the mean probability of a letter, each as sure as its word; 0 without words."""
        letters = sum(len(word.text) for word in self.words)
        return sum(len(word.text) * word.probability for word in self.words) / max(letters, 1)


@dataclass(frozen=True)
class Guess:
    """What a Whisper makes of a stretch of sound, before anyone asks whether it is true."""

    words: tuple[Word, ...]
    likelihood: float  # mean log-probability of its tokens, <= 0
    silence: float  # 0..1: the probability that nobody speaks


class Speech:
    """A Whisper that hears English; if it knows other languages, it puts them into English."""

    rate = RATE

    def __init__(self, model: WhisperModel) -> None:
        """Take a loaded model."""
        self.model = model

    def hear(self, wave: Wave, *, check: Callable[[], None] = lambda: None) -> Transcript:
        """(samples,) at `rate`, -1..1 -> its words, the same every time.

        `check` is called before each stretch of at most 28 s; it may raise to stop.
        """
        level = loudness(wave)
        if level < _QUIET:
            return Transcript((), f"It is too quiet to hear words ({level:.0f} dB at its loudest).")
        wave = wave * np.float32(0.5 / np.abs(wave).max())
        words: list[Word] = []
        doubts = []
        for start, end in spoken(wave):
            check()
            guess = self.guess(wave[round(start * RATE) : round(end * RATE)])
            doubts.append(doubt(guess))
            if not doubts[-1]:
                words += (_later(word, start) for word in guess.words)
        if not doubts:
            return Transcript((), "Nobody seems to speak in it.")
        return Transcript(tuple(words), "" if words else doubts[0])

    def guess(self, wave: Wave) -> Guess:
        """At most 29 s at `rate` -> the likeliest words, whether there are any or not."""
        silence = np.zeros(round(_MARGIN * RATE), np.float32)
        seen = self.model.feature_extractor(np.concatenate((silence, wave, silence)))
        frames = self.model.feature_extractor.nb_max_frames
        encoded = self.model.encode(pad_or_trim(seen, frames))
        tokenizer = self._tokenizer(encoded)
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        found = self.model.model.generate(
            encoded,
            [prompt],
            beam_size=_BEAM,
            max_length=_MOST_TOKENS,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        tokens = [token for token in found.sequences_ids[0] if token < tokenizer.eot]
        timed = self.model.find_alignment(tokenizer, [tokens], encoded, min(seen.shape[-1], frames))
        words = tuple(
            Word(
                each["word"],
                max(0.0, float(each["start"]) - _MARGIN),
                max(0.0, float(each["end"]) - _MARGIN),
                float(each["probability"]),
            )
            for each in (timed[0] if timed else [])
        )
        # the score is a mean over the text alone; the end that follows it counts as a token, too
        likelihood = found.scores[0] * len(found.sequences_ids[0])
        likelihood /= len(found.sequences_ids[0]) + 1
        return Guess(_whole(words), likelihood, found.no_speech_prob)

    def _tokenizer(self, encoded: object) -> Tokenizer:
        model = self.model
        if not model.model.is_multilingual:
            return Tokenizer(model.hf_tokenizer, False, task="transcribe", language="en")
        token = model.model.detect_language(encoded)[0][0][0]  # "<|de|>", the likeliest
        return Tokenizer(model.hf_tokenizer, True, task="translate", language=token[2:-2])


def loudness(wave: Wave) -> float:
    """Root mean square of the loudest tenth of a second, in dB below full scale."""
    step = RATE // 10
    parts = np.pad(wave, (0, -len(wave) % step)).reshape(-1, step)
    loudest = float(np.square(parts, dtype=np.float64).mean(axis=1).max(initial=0.0))
    return 10 * float(np.log10(loudest + 1e-20))


def spoken(wave: Wave) -> list[tuple[float, float]]:
    """Where somebody speaks: start and end of each stretch, in seconds; none longer than 28 s."""
    return [
        (each["start"] / RATE, each["end"] / RATE) for each in get_speech_timestamps(wave, _SPEECH)
    ]


def doubt(guess: Guess) -> str:
    """Why a guess is not to be believed, in one sentence; empty when it is."""
    text = " ".join(word.text for word in guess.words)
    if not text:
        return "Somebody may speak in it, but no word could be made out."
    if all(_is_cry(word) for word in guess.words):
        return f"It sounds like a cry (“{text}”), not like words."
    packed = len(text.encode()) / len(zlib.compress(text.encode()))
    if packed > _MOST_REPEATED:
        return "Somebody may speak in it, but the words only went round in circles."
    unsure = (
        guess.likelihood < _LEAST_LIKELY
        or guess.silence > _MOST_SILENT
        or guess.words[0].probability < _LEAST_SURE
    )
    return (
        f"Somebody may speak in it, but no word is sure enough: “{text}” is a guess."
        if unsure
        else ""
    )


def _is_cry(word: Word) -> bool:
    letters = re.sub(r"[^a-z]", "", word.text.lower())
    return re.sub(r"(.)\1+", r"\1", letters) in _CRIES


def _later(word: Word, seconds: float) -> Word:
    return replace(word, start=round(word.start + seconds, 2), end=round(word.end + seconds, 2))


def _whole(parts: tuple[Word, ...]) -> tuple[Word, ...]:
    """Lay signs that stand alone to the word before them; their probability does not count."""
    words: list[Word] = []
    for part in parts:
        text = part.text.strip()
        if re.search(r"\w", text):
            words.append(replace(part, text=text))
        elif words:
            words[-1] = replace(words[-1], text=words[-1].text + text)
    return tuple(words)


def load(folder: Path, device: str = "cpu") -> Speech:
    """Load a Whisper that CTranslate2 has stored in a folder.

    Raises ValueError when a file is missing or is no such model.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:  # the library would ask the network for what it lacks
        raise ValueError(f"{folder} holds no Whisper: {', '.join(missing)} is missing.")
    where = torch.device(device)
    on_gpu = where.type == "cuda"
    try:
        model = WhisperModel(
            str(folder),
            device="cuda" if on_gpu else "cpu",
            device_index=where.index or 0,
            compute_type="float16" if on_gpu else "int8",
            cpu_threads=_THREADS,
        )
    except RuntimeError as error:
        raise ValueError(f"The weights in {folder} are no Whisper: {error}") from error
    return Speech(model)
