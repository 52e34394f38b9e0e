"""A film of the way: what every browser plays, of a length one watches, whole or not at all."""

from __future__ import annotations

import os
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import Failed, Refused
from app.video import Timelapse, pace


def picture(colour: tuple[int, int, int], height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """All of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def film_of(
    path: Path, pictures: list[NDArray[np.uint8]], size: tuple[int, int] = (48, 64), **more: Any
) -> Path:
    """Make a film."""
    film = Timelapse(path, size, **{"pictures": len(pictures), **more})
    for one in pictures:
        film.add(one)
    made = film.close()
    assert made is not None
    return made


def shown(path: Path) -> list[NDArray[np.uint8]]:
    """Decode all frames to RGB."""
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


GREYS = [picture((level, level, level)) for level in range(0, 250, 10)]


def test_a_film_is_what_browsers_play(tmp_path: Path) -> None:
    path = film_of(tmp_path / "a.mp4", GREYS)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it starts while it still loads
    with av.open(str(path)) as file:
        assert "mp4" in file.format.name
        (stream,) = file.streams
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height) == (64, 48)


def test_every_picture_is_shown_once_and_the_last_for_a_second(tmp_path: Path) -> None:
    path = film_of(tmp_path / "a.mp4", GREYS)
    levels = [frame.mean() for frame in shown(path)]
    fps, _ = pace(len(GREYS))
    assert len(levels) == len(GREYS) + fps
    assert np.abs(np.array(levels[: len(GREYS)]) - range(0, 250, 10)).max() < 3
    assert np.abs(np.array(levels[len(GREYS) :]) - 240).max() < 3
    with av.open(str(path)) as file:
        assert file.duration / av.time_base == pytest.approx(len(levels) / fps, abs=0.05)
        times = [frame.time for frame in file.decode(video=0)]
    assert np.allclose(times, np.arange(len(levels)) / fps, atol=0.001)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 200, 0), (30, 60, 250), (250, 240, 10)])
def test_colours_stay_what_they_were(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    path = film_of(tmp_path / "a.mp4", [picture(colour)] * 3)
    assert np.abs(shown(path)[1].astype(int) - colour).max() <= 6
    with av.open(str(path)) as file:  # said, so that players need not guess
        coder = file.streams.video[0].codec_context
        assert (coder.colorspace, coder.color_primaries, coder.color_trc) == (1, 1, 1)
        assert coder.color_range == 1


@pytest.mark.parametrize("size", [(47, 64), (48, 63), (47, 63), (17, 33)])
def test_odd_sizes_repeat_their_last_row_or_column(tmp_path: Path, size: tuple[int, int]) -> None:
    one = picture((40, 40, 40), *size)
    one[-1], one[:, -1] = 220, 220
    frame = shown(film_of(tmp_path / "a.mp4", [one] * 3, size))[0]
    assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert frame[-1].mean() == pytest.approx(220, abs=12)
    assert frame[:, -1].mean() == pytest.approx(220, abs=12)


def test_a_picture_that_grows_fills_the_film_all_the_time(tmp_path: Path) -> None:
    halves = []
    for factor in (1, 2, 4):
        one = picture((20, 20, 20), 12 * factor, 16 * factor)
        one[:, 8 * factor :] = 230
        halves.append(one)
    frames = shown(film_of(tmp_path / "a.mp4", halves))
    for frame in frames:
        assert frame.shape == (48, 64, 3)
        assert frame[:, :24].mean() == pytest.approx(20, abs=6)
        assert frame[:, 40:].mean() == pytest.approx(230, abs=6)


@pytest.mark.parametrize("pictures", [20, 51, 121, 270, 271, 301, 500, 2_001])
def test_a_film_takes_six_to_ten_seconds(pictures: int) -> None:
    fps, every = pace(pictures)
    shown = len(range(0, pictures, every))
    assert 4 <= fps <= 30
    assert 5.9 <= shown / fps + 1 <= 10.1


@pytest.mark.parametrize("pictures", [0, 1, 2, 10])
def test_few_pictures_make_a_short_film_and_lose_none(pictures: int) -> None:
    assert pace(pictures) == (4, 1)


def test_of_very_many_pictures_some_are_left_out_but_never_the_last(tmp_path: Path) -> None:
    pictures = [picture((level, 0, 0), 16, 16) for level in np.linspace(0, 250, 600).astype(int)]
    film = Timelapse(tmp_path / "a.mp4", (16, 16), pictures=600)
    assert film.every == 3
    for one in pictures:
        film.add(one)
    path = film.close()
    assert path is not None
    frames = shown(path)
    assert len(frames) == 200 + film.fps
    assert frames[-1][..., 0].mean() == pytest.approx(250, abs=5)


def test_only_the_last_picture_is_kept(tmp_path: Path) -> None:
    film = Timelapse(tmp_path / "a.mp4", (128, 128), pictures=200)
    one = picture((9, 9, 9), 128, 128)
    film.add(one)
    tracemalloc.start()
    for _ in range(100):
        film.add(one.copy())
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    film.close()
    assert kept < 4 * one.nbytes  # of the 100 that were added


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    film = Timelapse(tmp_path / "a.mp4", (48, 64), pictures=2)
    film.add(GREYS[0])
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".part")] == []
    assert film.close() == tmp_path / "a.mp4"
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert film.close() is None  # twice does no harm


def test_a_stopped_run_leaves_the_film_so_far(tmp_path: Path) -> None:
    def run() -> None:
        with Timelapse(tmp_path / "a.mp4", (48, 64), pictures=100) as film:
            for one in GREYS[:5]:
                film.add(one)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(shown(tmp_path / "a.mp4")) == 5 + pace(100)[0]


def test_no_picture_no_film(tmp_path: Path) -> None:
    with Timelapse(tmp_path / "a.mp4", (48, 64), pictures=9):
        pass
    assert os.listdir(tmp_path) == []


def test_an_older_film_is_not_written_over(tmp_path: Path) -> None:
    first, second = (film_of(tmp_path / "a.mp4", GREYS[:3]) for _ in range(2))
    assert (first.name, second.name) == ("a.mp4", "a-2.mp4")


def test_the_same_pictures_make_the_same_film(tmp_path: Path) -> None:
    one, two = (film_of(tmp_path / name, GREYS).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert one == two


def test_odd_names_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file:b").mkdir()
    path = film_of(Path("file:b") / "ä %03d 🎞.mp4", GREYS[:3])
    assert len(shown(path)) == 3 + 4


def test_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        Timelapse(tmp_path / "none" / "a.mp4", (48, 64), pictures=9)
    assert refused.value.code == "output.missing"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    noisy = [np.roll(noise, 5 * turn, axis=0) for turn in range(40)]

    def run() -> None:
        with Timelapse(tmp_path / "a.mp4", (128, 128), pictures=40) as film:
            for one in noisy:
                film.add(one)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # as if there were no more room
    try:
        with pytest.raises(Failed, match="disk is full") as failed:
            run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.code == "disk.full"
    assert os.listdir(tmp_path) == []
