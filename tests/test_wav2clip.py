"""Wav2CLIP: the published layout with random weights, and windows that leave each other alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from app.convert import convert
from guidance import wav2clip
from guidance.audio import Wave
from guidance.wav2clip import RATE, STRIDE, WINDOW, Network, Wav2Clip, standardised


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the published keys, counters and all, and random weights."""
    torch.manual_seed(0)
    weights = Network().state_dict()
    other = {"image_transform.sequential.0.weight": torch.randn(512, 512)}
    path = tmp_path_factory.mktemp("wav2clip") / "Wav2CLIP.pt"
    torch.save({**weights, **other}, path)
    return path


@pytest.fixture(scope="module")
def folder(published: Path) -> Path:
    """The same, converted."""
    convert(published, published.parent / "model.safetensors", keep="wav2clip")
    return published.parent


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Wav2Clip:
    return wav2clip.load(folder)


def sound(seconds: float, seed: int = 0) -> Wave:
    """Noise whose loudness and colour change, so that no two windows are alike."""
    noise = np.random.default_rng(seed).normal(0, 0.2, round(seconds * RATE))
    swell = np.sin(np.linspace(0, 9, len(noise))) ** 2
    return (noise * swell + 0.1 * np.sin(np.linspace(0, 900, len(noise)) ** 2)).astype(np.float32)


def test_the_published_layout_is_converted_and_loaded(published: Path, folder: Path) -> None:
    theirs, ours = torch.load(published, weights_only=True), load_file(folder / "model.safetensors")
    expected = {
        "audio_encoder.spectrogram.window": (512,),
        "audio_encoder.conv1.weight": (64, 1, 7, 7),
        "audio_encoder.bn1.running_var": (64,),
        "audio_encoder.layer1.0.conv1.weight": (64, 64, 3, 3),
        "audio_encoder.layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "audio_encoder.layer2.0.downsample.1.running_mean": (128,),
        "audio_encoder.layer4.1.bn2.bias": (512,),
        "audio_transform.sequential.0.weight": (512, 512),
        "audio_transform.sequential.3.bias": (512,),
    }
    assert {key: tuple(ours[key].shape) for key in expected} == expected
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert set(theirs) - set(ours) == {
        key for key in theirs if key.endswith("num_batches_tracked") or key.startswith("image_")
    }


def test_a_weight_too_few_or_too_many_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    window = weights.pop("audio_encoder.spectrogram.window")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"another network's: audio_encoder\.spectrogram\.window"):
        wav2clip.load(tmp_path)
    save_file(
        {**weights, "audio_encoder.spectrogram.window": window[:-1].clone()},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ValueError, match="another network's"):
        wav2clip.load(tmp_path)


def test_it_speaks_the_space_of_one_clip(encoder: Wav2Clip) -> None:
    seen = encoder.embed(sound(3))
    assert seen.shape == (1, 512)
    assert torch.allclose(seen.norm(dim=-1), torch.ones(1))
    assert encoder.space == "ViT-B-32-openai"
    assert encoder.rate == 16_000


def test_a_window_does_not_hear_its_neighbours(encoder: Wav2Clip) -> None:
    wave = sound(22)
    together = encoder.embed(wave)
    for (start, end), seen in zip(encoder.windows(wave), together, strict=True):
        alone = encoder.embed(wave[round(start * RATE) : round(end * RATE)])
        assert torch.allclose(alone, seen[None], atol=1e-5)
    louder = wave.copy()
    louder[12 * RATE :] *= 3
    assert torch.allclose(encoder.embed(louder)[0], together[0], atol=1e-5)
    assert not torch.allclose(encoder.embed(louder)[1], together[1], atol=1e-3)


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.01, 1), (1, 1), (WINDOW, 1), (12.3, 2), (20, 3), (22, 4)]
)
def test_each_window_has_a_vector_and_the_last_ends_with_the_sound(
    seconds: float, count: int, encoder: Wav2Clip
) -> None:
    wave = sound(seconds)
    windows = encoder.windows(wave)
    assert len(encoder.embed(wave)) == len(windows) == count
    assert windows[0][0] == 0
    assert windows[-1][1] == pytest.approx(len(wave) / RATE)
    assert all(end - start <= WINDOW for start, end in windows)
    apart = np.diff([start for start, _ in windows])
    assert (apart <= STRIDE + 1e-9).all()


def test_the_spectrogram_is_the_published_one() -> None:
    """Power, Hann window, centred, reflected at both ends: as torch's own stft does it."""
    wave = torch.from_numpy(sound(1))[None]
    theirs = (
        torch.stft(
            wave,
            512,
            353,
            window=torch.hann_window(512),
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        .abs()
        .square()
    )
    assert torch.allclose(wav2clip.Spectrogram()(wave), theirs, rtol=1e-4, atol=1e-6)


def test_one_sound_alone_is_standardised_as_published() -> None:
    """By the mean and deviation of all that is given at once: with one sound that is its own."""
    given = torch.log(wav2clip.Spectrogram()(torch.from_numpy(sound(1))[None]) + 1e-7)
    published = (given - torch.mean(given)) / (torch.std(given) + 1e-9)
    assert torch.allclose(standardised(given), published, atol=1e-5)


def test_silence_is_a_vector_like_any_other(encoder: Wav2Clip) -> None:
    seen = encoder.embed(np.zeros(RATE, np.float32))
    assert torch.allclose(seen.norm(dim=-1), torch.ones(1))


def test_loudness_hardly_counts(encoder: Wav2Clip) -> None:
    wave = sound(2)
    alike = F.cosine_similarity(encoder.embed(wave), encoder.embed(0.5 * wave))
    assert alike > 0.99
