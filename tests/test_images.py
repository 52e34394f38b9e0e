"""A fair file of any kind becomes the same pixels, and pixels become tensors of any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageCms, PngImagePlugin

from app import images
from app.errors import Failed, Refused
from app.images import Canonical, decode, fit, open_picture, to_pixels, to_tensor
from tests.pictures import GREY, PHOTO, as_file, chunk, frames, repeatable

ROOT = Path(__file__).parent.parent


# ---- good files, made the same -------------------------------------------------------------------


def far(one: NDArray[Any], other: NDArray[Any]) -> int:
    """The largest difference in levels."""
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("JPEG", 12), ("WEBP", 20), ("GIF", 40)],
)
def test_every_format_we_name_is_read(kind: str, tolerance: int) -> None:
    assert kind in images.FORMATS
    found = decode(as_file(PHOTO, kind))
    assert far(found.pixels, PHOTO) <= tolerance
    assert found.alpha is None
    assert found.notes == ()


def test_a_png_without_its_end_is_accepted() -> None:  # I5
    assert far(decode(as_file(PHOTO)[:-12]).pixels, PHOTO) == 0


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of sRGB, so that distances are about what eyes see."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    t = linear @ np.array(to_xyz).T / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def delta_e(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The largest colour difference (CIE 1976); 2.3 is just noticeable."""
    return float(np.linalg.norm(lab(one) - lab(other), axis=-1).max())


@pytest.mark.parametrize(
    ("ink", "seen"),
    [
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 128), (127, 127, 127)),
        ((0, 0, 0, 0), (255, 255, 255)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])  # a JPEG's inks are inverted, as Adobe does
def test_cmyk_keeps_its_colours(ink: tuple[int, ...], seen: tuple[int, ...], kind: str) -> None:
    found = decode(as_file(Picture.new("CMYK", (16, 16), ink), kind))  # I11
    assert delta_e(found.pixels, np.full((16, 16, 3), seen, np.uint8)) < 2.3
    assert found.notes == ("CMYK colours turned into RGB",)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_brightness(kind: str) -> None:  # I12
    deep = np.linspace(0, 65_535, 32 * 32).astype(np.uint16).reshape(32, 32)
    found = decode(as_file(deep, kind))
    assert found.pixels.mean() == pytest.approx(127.5, abs=0.6)
    assert np.array_equal(found.pixels[..., 1], deep >> 8)
    assert found.notes == ("16 bits of grey reduced to 8",)


def test_16_bit_grey_can_have_a_transparent_level() -> None:
    deep = np.full((16, 16), 0x1234, np.uint16)
    deep[:4] = 0x1235
    found = decode(as_file(deep, transparency=0x1234))
    assert np.array_equal(found.alpha, np.where(deep == 0x1234, 0, 255))
    assert found.pixels[0, 0, 0] == 0x12
    assert found.pixels[-1, 0, 0] == 255


@pytest.mark.parametrize(
    ("scale", "offset", "note"),
    [
        (1 / 255, 0, "32 bits of grey reduced to 8"),
        (1, 0, "32 bits of grey reduced to 8"),
        (257, 0, "32 bits of grey reduced to 8"),
        (3, -100, "values from -100 to 665 stretched from black to white"),
        (1e30, 5, "values from 5 to 2.55e+32 stretched from black to white"),
    ],
)
def test_a_tiff_of_floats_is_scaled_by_its_range(scale: float, offset: float, note: str) -> None:
    levels = np.arange(256, dtype=np.float32).reshape(16, 16)  # I13
    found = decode(as_file((levels * scale + offset).astype(np.float32), "TIFF"))
    assert far(found.pixels[..., 0], levels) == 0
    assert found.notes == (note,)


def test_a_float_picture_of_one_value_is_read() -> None:
    assert (decode(as_file(np.full((16, 16), -3, np.float32), "TIFF")).pixels == 0).all()


def test_a_transparent_palette_colour_shows_white() -> None:  # I14
    picture = Picture.new("P", (16, 16), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(0, (0, 0, 8, 16))
    found = decode(as_file(picture, transparency=0))
    assert found.pixels[0, 0].tolist() == [255, 255, 255]
    assert found.pixels[0, 15].tolist() == [0, 0, 255]
    assert found.alpha is not None
    assert found.alpha[0, [0, 15]].tolist() == [0, 255]
    assert found.notes == ("transparent parts shown on white",)


def test_a_transparent_colour_of_an_rgb_png_shows_white() -> None:
    pixels = np.full((16, 16, 3), 9, np.uint8)
    pixels[:8] = (1, 2, 3)
    found = decode(as_file(pixels, transparency=(1, 2, 3)))
    assert found.pixels[0, 0].tolist() == [255, 255, 255]
    assert found.pixels[15, 0].tolist() == [9, 9, 9]


def test_colours_under_full_transparency_stay_hidden() -> None:  # I15
    found = decode(as_file(Picture.new("RGBA", (16, 16), (200, 10, 10, 0))))
    assert (found.pixels == 255).all()
    assert found.notes == ("all of it is transparent, so only white is left",)


def test_half_transparency_is_mixed_with_white() -> None:
    found = decode(as_file(Picture.new("RGBA", (16, 16), (0, 0, 0, 128))))
    assert found.pixels[0, 0].tolist() == [127, 127, 127]


def test_an_opaque_alpha_channel_is_no_news() -> None:
    found = decode(as_file(Picture.new("RGBA", (16, 16), (1, 2, 3, 255))))
    assert found.alpha is None
    assert found.notes == ()


@pytest.mark.parametrize(
    ("picture", "kind", "seen"),
    [
        (Picture.new("LA", (16, 16), (90, 255)), "PNG", (90, 90, 90)),
        (Picture.new("1", (16, 16), 1), "PNG", (255, 255, 255)),
        (Picture.new("L", (16, 16), 77), "TIFF", (77, 77, 77)),
        (Picture.new("I", (16, 16), 40_000), "TIFF", (156, 156, 156)),
        (Picture.new("YCbCr", (16, 16), (76, 85, 255)), "JPEG", (254, 0, 0)),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_odd_kinds_of_colour_become_rgb(
    picture: Picture.Image, kind: str, seen: tuple[int, ...]
) -> None:  # I16
    found = decode(as_file(picture, kind)).pixels
    assert far(found, np.full((16, 16, 3), seen, np.uint8)) <= 3


def test_lab_becomes_the_colours_it_was_made_from() -> None:  # I16
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    colours = np.array([[200, 60, 40], [40, 160, 60], [60, 80, 200], [128, 128, 128]], np.uint8)
    squares = np.repeat(np.repeat(colours[None], 16, axis=0), 8, axis=1)
    picture = ImageCms.applyTransform(Picture.fromarray(squares), to_lab)
    found = decode(as_file(picture, "TIFF"))
    assert delta_e(found.pixels, squares) < 5
    assert found.notes == ("LAB colours turned into RGB",)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:  # I17
    found = decode(frames(kind, **({} if kind == "GIF" else {"lossless": True})))
    assert far(found.pixels, PHOTO) <= (40 if kind == "GIF" else 0)
    assert found.notes == ("first frame of an animation used",)


def test_frames_are_not_counted() -> None:  # I17
    content = frames("GIF", duration=100)
    second = content.rindex(b"\x21\xf9\x04")
    many = content[:-1] + content[second:-1] * 10_000 + b"\x99 no frame at all"
    found = decode(many[: images.MOST_BYTES])
    assert found.notes == ("first frame of an animation used",)


UNDONE = {  # how to spoil a picture so that its tag says how to mend it
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", UNDONE)
def test_a_photo_stands_upright(value: int, kind: str) -> None:  # I18
    exif = Picture.Exif()
    exif[0x0112] = value
    spoiled = np.ascontiguousarray(UNDONE[value](PHOTO))
    found = decode(as_file(spoiled, kind, exif=exif))
    assert far(found.pixels, PHOTO) <= 20
    assert found.notes == (() if value == 1 else ("rotated by its EXIF tag",))


def test_transparency_turns_with_the_picture() -> None:
    exif = Picture.Exif()
    exif[0x0112] = 6
    picture = Picture.new("RGBA", (32, 16), (5, 5, 5, 255))
    picture.paste((5, 5, 5, 0), (0, 0, 4, 16))
    found = decode(as_file(picture, exif=exif))
    assert found.alpha is not None
    assert found.alpha.shape == found.pixels.shape[:2] == (32, 16)
    assert (found.alpha[:4] == 0).all()
    assert (found.pixels[:4] == 255).all()


def test_an_orientation_that_comes_after_the_pixels_counts() -> None:
    exif = Picture.Exif()
    exif[0x0112] = 6
    content = as_file(np.ascontiguousarray(np.rot90(PHOTO)))
    late = content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:]
    assert far(decode(late).pixels, PHOTO) == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0no tags at all",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",  # 99
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x02\0\xff\xff\xff\xff\x63\0\0\0",
    ],
    ids=["nonsense", "orientation 99", "cut short"],
)
def test_broken_exif_is_ignored(kind: str, exif: bytes) -> None:  # I19
    found = decode(as_file(PHOTO, kind, exif=exif))
    assert far(found.pixels, PHOTO) <= 20
    assert found.notes == ()


def test_a_second_view_in_a_jpeg_is_left_alone() -> None:
    found = decode(frames("MPO"))
    assert far(found.pixels, PHOTO) <= 12
    assert found.notes == ()


def test_texts_and_what_hangs_behind_are_dropped() -> None:  # I24, I25
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "<script>alert(1)</script>")
    found = decode(as_file(PHOTO, pnginfo=texts) + b"PK\x03\x04<html>")
    plain = decode(as_file(PHOTO))
    assert np.array_equal(found.pixels, plain.pixels)
    assert found.sha256 == plain.sha256
    assert "script" not in repr(found)


@pytest.mark.parametrize("name", ["x.gif", "..\\..\\a", "n" * 255, "CON", "a\u202egpj.exe", "ü 🎨"])
def test_only_what_is_inside_a_file_matters(tmp_path: Path, name: str) -> None:  # I26
    path = tmp_path / name
    path.write_bytes(as_file(PHOTO))
    assert np.array_equal(open_picture(str(path)).pixels, PHOTO)
    path.write_bytes(b"")
    with pytest.raises(Refused, match="empty") as refused:
        open_picture(path)
    assert "\u202e" not in str(refused.value)  # it would turn the message round


IN_CHILD = {
    "PNG": as_file(PHOTO),
    "PNG of 16 bits": as_file(PHOTO[..., 0].astype(np.uint16) * 300),
    "PNG with holes": as_file(np.dstack([PHOTO, 5 * GREY])),
    "JPEG of CMYK": as_file(Picture.fromarray(PHOTO).convert("CMYK"), "JPEG"),
    "WEBP": as_file(PHOTO, "WEBP"),
    "GIF": frames("GIF"),
    "BMP": as_file(PHOTO, "BMP"),
    "TIFF": as_file(PHOTO, "TIFF", compression="tiff_lzw"),
    "TIFF of LAB": as_file(Picture.new("LAB", (20, 16), (150, 30, 200)), "TIFF"),
}


@pytest.mark.parametrize("kind", IN_CHILD)
def test_a_child_that_can_open_nothing_reads_the_same(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "apple.png"
    path.write_bytes(IN_CHILD[kind])
    here, there = open_picture(path), open_picture(path, in_child=True)
    assert here.sha256 == there.sha256
    assert here.notes == there.notes
    assert (here.alpha is None) == (there.alpha is None)
    assert here.alpha is None or np.array_equal(here.alpha, there.alpha)


def test_reading_pictures_needs_no_torch() -> None:
    code = "import sys, app.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_hash_is_that_of_pixels_and_size_for_ever() -> None:
    """Recipes name pictures by it: when this number changes, old recipes find nothing."""
    known = "f88427b9a60507deab51c2447be22a8afee7ba09d9ff73cfb5ea0eeefb19479a"
    assert decode(as_file(PHOTO)).sha256 == known
    assert decode(as_file(PHOTO, "TIFF")).sha256 == known
    reshaped = Canonical(PHOTO.reshape(40, 24, 3))
    assert reshaped.sha256 != known


# ---- pixels and tensors --------------------------------------------------------------------------


def test_pixels_go_in_and_come_out_the_same() -> None:
    levels = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
    image = to_tensor(levels)
    assert image.shape == (1, 3, 16, 16)
    assert image.dtype == torch.float32
    assert 0 == image.min() < image.max() == 1
    assert np.array_equal(to_pixels(image), levels)
    assert torch.equal(to_tensor(decode(as_file(PHOTO))), to_tensor(PHOTO))


def test_halves_are_rounded_up_and_the_rest_is_cut_off() -> None:
    values = torch.tensor([-1.0, 0.4999 / 255, 0.5 / 255, 1.5 / 255, 254.6 / 255, 1.0, 9.0])
    image = values.expand(1, 3, 1, 7)
    assert to_pixels(image)[0, :, 0].tolist() == [0, 0, 1, 2, 255, 255, 255]
    assert to_pixels(torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16)).min() == 128


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_picture_of_no_numbers_is_not_turned_into_black(value: float) -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    image[0, 1, 2, 3] = value
    with pytest.raises(Failed) as failed:
        to_pixels(image)
    assert failed.value.code == "picture.not_finite"


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (np.full((16, 16, 3), np.nan), "image.not_finite"),
        (np.full((16, 16, 3), 0.5), "image.array"),
        (np.zeros((16, 16), np.uint8), "image.array"),
        (np.zeros((16, 16, 4), np.uint8), "image.array"),
        (np.zeros((0, 16, 3), np.uint8), "image.array"),
        (np.zeros((16, 16, 3), np.int64), "image.array"),
    ],
)
def test_an_array_of_another_kind_is_refused(array: NDArray[Any], code: str) -> None:  # I28
    with pytest.raises(Refused) as refused:
        to_tensor(array)
    assert refused.value.code == code


def test_a_picture_that_fits_is_not_changed() -> None:
    image = to_tensor(PHOTO)
    assert torch.equal(fit(image, (24, 40)), image)


@repeatable
@given(*[st.integers(16, 90)] * 2, *[st.integers(1, 90)] * 2, st.floats(0, 1, width=32))
def test_any_size_can_be_had_and_an_even_colour_stays(
    h: int, w: int, height: int, width: int, colour: float
) -> None:
    found = fit(torch.full((1, 3, h, w), colour), (height, width))
    assert found.shape == (1, 3, height, width)
    assert (found - colour).abs().max() < 1e-5


def test_the_middle_is_kept_and_nothing_is_distorted() -> None:
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(120), indexing="ij")
    disc = ((rows - 29.5) ** 2 + (columns - 59.5) ** 2 < 20**2).float().expand(1, 3, 60, 120)
    found = fit(disc, (30, 30))[0, 0]
    assert found.sum().item() * 4 == pytest.approx(disc[0, 0].sum().item(), rel=0.01)  # areas
    assert (found - found.T).abs().max() < 1e-4  # still round, still in the middle
    assert (found - found.flip(0, 1)).abs().max() < 1e-4


def test_shrinking_looks_at_every_pixel() -> None:
    stripes = (torch.arange(256) % 2).float().expand(1, 3, 256, 256)
    inside = fit(stripes, (32, 32))[..., 4:-4]
    assert (inside - 0.5).abs().max() < 0.02  # grey, not stripes of its own
