"""Any file people may give becomes a fair picture or one clear sentence; recipes travel in PNGs."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageCms, ImageFile, PngImagePlugin

from app import images, media
from app.errors import Failed, Refused
from app.images import (
    Canonical,
    decode,
    fit,
    open_picture,
    preview_jpeg,
    read_recipe,
    save_jpeg,
    save_png,
    to_pixels,
    to_tensor,
)
from app.media import MIB, Limits

ROOT = Path(__file__).parent.parent

repeatable = settings(derandomize=True, database=None, deadline=None, max_examples=150)

# a soft gradient in three directions: every corner differs, and JPEG hardly changes it
ROWS, COLUMNS = np.mgrid[0:24, 0:40]
PHOTO = np.stack([ROWS * 10, COLUMNS * 6, (ROWS + COLUMNS) * 4], axis=-1).astype(np.uint8)
GREY = PHOTO[..., 0]


def as_file(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    picture = pixels if isinstance(pixels, Picture.Image) else Picture.fromarray(pixels)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One piece of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, bits: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand: its header, whatever else, a little data and the end."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def flipped(content: bytes, at: float, bit: int = 4) -> bytes:
    """The same bytes with one bit the other way round."""
    changed = bytearray(content)
    changed[int(len(content) * at)] ^= bit
    return bytes(changed)


def frames(kind: str, **options: Any) -> bytes:
    """Two different pictures in one file."""
    more = [Picture.fromarray(255 - PHOTO)]
    return as_file(PHOTO, kind, save_all=True, append_images=more, **options)


WHOLE = as_file(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
ENDLESS = b"a\0\0" + zlib.compress(bytes(5_000_000))

REFUSED = {
    "I1 nothing": (b"", "image.empty"),
    "I2 one byte": (b"\x89", "image.unreadable"),
    "I2 a signature": (b"\x89PNG\r\n\x1a\n", "image.unreadable"),
    "I3 text": (b"A red apple on a blue background.\n" * 20, "image.unreadable"),
    "I4 half a PNG": (WHOLE[: len(WHOLE) // 2], "image.truncated"),
    "I4 half a JPEG": (as_file(PHOTO, "JPEG")[:700], "image.truncated"),
    "I4 half a BMP": (as_file(PHOTO, "BMP")[:700], "image.truncated"),
    "I4 half a GIF": (as_file(PHOTO, "GIF")[:900], "image.truncated"),
    "I6 a flipped bit": (flipped(WHOLE, 0.5), "image.corrupt"),
    "I6 a broken WEBP": (as_file(PHOTO, "WEBP")[:60], "image.corrupt"),
    "I7 50,000 x 50,000": (png(50_000, 50_000), "image.too_many_pixels"),
    "I8 13,000 x 13,000 of one bit": (
        png(13_000, 13_000, bits=1, colour=0),
        "image.too_many_pixels",
    ),
    "I8 just above 40 megapixels": (png(8_000, 5_001), "image.too_many_pixels"),
    "I9 one pixel": (png(1, 1), "image.too_small"),
    "I9 15 pixels": (png(15, 40), "image.too_small"),
    "I10 a line": (png(20_000, 16), "image.aspect"),
    "I10 a little too long": (png(129, 16), "image.aspect"),
    "I13 NaN in a TIFF": (
        as_file(np.where(GREY > 50, np.nan, 0).astype(np.float32), "TIFF"),
        "image.not_finite",
    ),
    "I20 SVG": (
        b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "image.format",
    ),
    "I21 HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "image.format"),
    "I21 AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0" + bytes(200), "image.format"),
    "I22 EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "image.format"),
    "I22 PDF": (as_file(PHOTO, "PDF"), "image.format"),
    "I22 FITS": (b"SIMPLE  =                    T" + bytes(3000), "image.format"),
    "I22 PSD": (b"8BPS\0\1" + bytes(100), "image.format"),
    "I22 several pages": (frames("TIFF"), "image.pages"),
    "I22 JPEG 2000": (as_file(PHOTO, "JPEG2000"), "image.format"),
    "I22 ICO, which we do not read": (as_file(PHOTO, "ICO"), "image.unreadable"),
    "I23 a text bomb": (png(20, 20, chunk(b"zTXt", ENDLESS)), "image.metadata"),
    "I23 a profile bomb": (png(20, 20, chunk(b"iCCP", ENDLESS)), "image.metadata"),
}


@pytest.mark.parametrize(("content", "code"), REFUSED.values(), ids=list(REFUSED))
def test_a_bad_file_is_refused_with_one_sentence(content: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        decode(content, "'apple.png'")
    assert refused.value.code == code
    assert str(refused.value).startswith("'apple.png' ")
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("at", np.linspace(0.1, 0.95, 18))
def test_no_flipped_bit_among_the_pixels_of_a_png_goes_unseen(at: float) -> None:  # I6
    with pytest.raises(Refused):
        decode(flipped(WHOLE, at))


def test_after_a_bad_file_the_next_good_one_is_read() -> None:
    with pytest.raises(Refused):
        decode(REFUSED["I8 13,000 x 13,000 of one bit"][0])
    assert np.array_equal(decode(as_file(PHOTO)).pixels, PHOTO)


def test_limits_are_known_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(_: object) -> None:
        raise AssertionError("decoded a picture beyond the limits")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    for row in ("I7 50,000 x 50,000", "I8 just above 40 megapixels", "I9 one pixel", "I10 a line"):
        with pytest.raises(Refused) as refused:
            decode(REFUSED[row][0])
        assert refused.value.code == REFUSED[row][1]


def test_a_huge_webp_and_gif_are_refused_by_their_headers() -> None:
    gif = bytearray(as_file(PHOTO, "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    webp = bytearray(as_file(PHOTO, "WEBP", lossless=True))
    struct.pack_into("<I", webp, webp.index(b"VP8L") + 9, 16_382 | 16_382 << 14)
    for content in (gif, webp):
        with pytest.raises(Refused) as refused:
            decode(bytes(content))
        assert refused.value.code == "image.too_many_pixels"


def test_a_picture_of_endless_parts_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    many = png(20, 20, chunk(b"tEXt", b"") * (images.MOST_CHUNKS + 1))
    assert code_of(lambda: decode(many)) == "image.metadata"
    monkeypatch.setattr(images, "MOST_SECONDS", 0.1)
    jpeg = as_file(PHOTO, "JPEG")
    comments = jpeg[:2] + b"\xff\xfe\0\3x" * 1_000_000 + jpeg[2:]  # takes seconds otherwise
    assert code_of(lambda: decode(comments)) == "image.metadata"


def test_a_cut_picture_is_refused_even_where_others_allow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(Refused, match="ends too early"):
        decode(WHOLE[: len(WHOLE) // 2])


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


@pytest.mark.parametrize(
    "kind",
    ["I1 nothing", "I4 half a PNG", "I7 50,000 x 50,000", "I13 NaN in a TIFF", "I23 a text bomb"],
)
def test_a_child_refuses_with_the_same_code(tmp_path: Path, kind: str) -> None:
    content, code = REFUSED[kind]
    path = tmp_path / "apple.png"
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"^'apple.png' .*\.$") as refused:
        open_picture(path, in_child=True)
    assert refused.value.code == code


def test_a_child_says_of_a_large_file_what_a_picture_needs(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(images.MOST_BYTES + 1)
    with pytest.raises(Refused, match=r"has more than 25 MB. Save it smaller first.") as refused:
        open_picture(path, in_child=True)
    assert refused.value.code == "image.too_big"


def test_a_picture_that_needs_too_much_memory_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(as_file(Picture.new("RGBA", (5_000, 8_000), (1, 2, 3, 4))))
    with pytest.raises(Refused, match="memory") as refused:
        media.decode("picture", path, limits=Limits(memory=512 * MIB))
    assert refused.value.code == "image.memory"


def test_reading_pictures_needs_no_torch() -> None:
    code = "import sys, app.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("path", ["none.png", "", "a\0b.png", "x" * 5_000, "none/none.png"])
def test_a_path_that_leads_nowhere_is_refused(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as refused:
        open_picture(path)
    assert refused.value.code == "image.missing"


def test_folders_pipes_and_devices_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(Refused, match="is not a file") as refused:
            open_picture(path)
        assert refused.value.code == "image.missing"


def test_a_file_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(as_file(PHOTO))
        file.truncate(images.MOST_BYTES + 1)
    with pytest.raises(Refused, match="25 MB") as refused:
        open_picture(path)
    assert refused.value.code == "image.too_big"


def test_the_hash_is_that_of_pixels_and_size_for_ever() -> None:
    """Recipes name pictures by it: when this number changes, old recipes find nothing."""
    known = "f88427b9a60507deab51c2447be22a8afee7ba09d9ff73cfb5ea0eeefb19479a"
    assert decode(as_file(PHOTO)).sha256 == known
    assert decode(as_file(PHOTO, "TIFF")).sha256 == known
    reshaped = Canonical(PHOTO.reshape(40, 24, 3))
    assert reshaped.sha256 != known


FILES = {
    **{kind: as_file(PHOTO, kind) for kind in images.FORMATS},
    "transparent": as_file(Picture.new("RGBA", (16, 16), (1, 2, 3, 99))),
    "animated": frames("GIF"),
    "animated PNG": frames("PNG"),
    "deflated TIFF": as_file(PHOTO, "TIFF", compression="tiff_deflate"),
    "floats": as_file(GREY.astype(np.float32), "TIFF"),
    "pages": frames("TIFF"),
    "CMYK": as_file(Picture.new("CMYK", (16, 16), (9, 99, 0, 5)), "JPEG"),
}


def code_of(read: Callable[[], object]) -> str | None:
    """Under which code something is refused, if it is."""
    try:
        read()
    except Refused as refused:
        return refused.code
    return None


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8)


@repeatable
@given(st.sampled_from(sorted(FILES)), edits, st.floats(0, 1), st.binary(max_size=40))
def test_a_spoiled_file_is_read_or_refused(
    name: str, changes: list[tuple[float, int]], cut: float, tail: bytes
) -> None:
    content = bytearray(FILES[name])
    for at, value in changes:
        content[int(at * len(content))] = value
    spoiled = bytes(content[: int(len(content) * max(cut, 0.1))]) + tail
    code = code_of(lambda: decode(spoiled))
    if code is None:
        assert to_tensor(decode(spoiled)).shape[2:] >= (images.LEAST_SIDE,) * 2
    else:
        assert code.startswith("image.")


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


# ---- recipes -------------------------------------------------------------------------------------

RECIPE = {"request": {"prompt": "ein roter Apfel 🍎 | «x»::-0.5", "seed": 2**63 - 1}, "ema": 0.9}


def test_a_picture_and_its_recipe_come_back_the_same(tmp_path: Path) -> None:
    path = save_png(tmp_path / "apple.png", PHOTO, RECIPE)
    assert path == tmp_path / "apple.png"
    assert np.array_equal(open_picture(path).pixels, PHOTO)
    assert read_recipe(str(path)) == RECIPE


def test_other_programs_can_read_the_recipe_too(tmp_path: Path) -> None:
    with Picture.open(save_png(tmp_path / "apple.png", PHOTO, RECIPE)) as picture:
        picture.load()
        assert json.loads(picture.text["synesthete"]) == RECIPE
        assert len(picture.text) == 2  # the recipe and the line that says who made it


@pytest.mark.parametrize("recipe", [RECIPE, None])
def test_a_picture_says_that_a_model_made_it(tmp_path: Path, recipe: dict[str, Any] | None) -> None:
    with Picture.open(save_png(tmp_path / "a.png", PHOTO, recipe)) as picture:
        assert picture.info["xmp"].count(b"digitalsourcetype/trainedAlgorithmicMedia") == 1
    with Picture.open(io.BytesIO(preview_jpeg(PHOTO))) as preview:
        assert b"trainedAlgorithmicMedia" in preview.info["xmp"]


def test_saving_again_takes_another_name(tmp_path: Path) -> None:
    first = save_png(tmp_path / "a.png", PHOTO, RECIPE)
    second = save_png(tmp_path / "a.png", 255 - PHOTO, {})
    assert (first.name, second.name) == ("a.png", "a-2.png")
    assert read_recipe(first) == RECIPE
    assert read_recipe(second) == {}


texts = st.text(st.characters(), max_size=30)  # with NUL, and surrogates that stand alone
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    """Give `save(content)`: a file that is written over each time."""
    path = tmp_path_factory.mktemp("recipes") / "picture.png"

    def write(content: bytes) -> Path:
        path.write_bytes(content)
        return path

    return write


def with_text(data: bytes, *more: bytes) -> bytes:
    """A small PNG with an iTXt chunk of these bytes."""
    return png(20, 20, chunk(b"iTXt", data), *more)


@settings(repeatable, max_examples=60)  # each one waits for the disk
@given(recipe=st.dictionaries(texts, values, max_size=6))
def test_any_recipe_comes_back_the_same(
    recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = save_png(tmp_path_factory.getbasetemp() / "any.png", PHOTO, recipe)
    assert read_recipe(path) == recipe
    path.unlink()


HEAD = b"synesthete\0\0\0\0\0"
BAD_RECIPES = {
    "none": (as_file(PHOTO), "recipe.none"),
    "a JPEG": (as_file(PHOTO, "JPEG"), "recipe.format"),
    "an empty file": (b"", "recipe.format"),
    "two": (with_text(HEAD + b"{}", chunk(b"iTXt", HEAD + b"{}")), "recipe.many"),
    "no JSON": (with_text(HEAD + b"{'a': 1}"), "recipe.damaged"),
    "half": (with_text(HEAD + b'{"a": 1'), "recipe.damaged"),
    "no object": (with_text(HEAD + b"[1, 2]"), "recipe.damaged"),
    "NaN": (with_text(HEAD + b'{"a": NaN}'), "recipe.damaged"),
    "no UTF-8": (with_text(HEAD + b'{"a": "\xff"}'), "recipe.damaged"),
    "too long": (with_text(HEAD + json.dumps({"a": "x" * 65_536}).encode()), "recipe.damaged"),
    "too deep": (with_text(HEAD + b'{"a":' + b"[" * 60_000), "recipe.damaged"),
    "a bomb": (with_text(b"synesthete\0\x01\0\0\0" + zlib.compress(bytes(9**7))), "recipe.damaged"),
    "only a keyword": (with_text(b"synesthete\0"), "recipe.damaged"),
    "too many chunks": (
        with_text(HEAD + b"{}", chunk(b"tEXt", b"") * images.MOST_CHUNKS),
        "recipe.damaged",
    ),
    "another keyword": (with_text(b"synesthete2\0\0\0\0\0{}"), "recipe.none"),
    "a wrong checksum": (with_text(HEAD + b"{}").replace(b"{}", b"[]"), "recipe.none"),
    "cut in the middle": (with_text(HEAD + b'{"a": 123}')[:60], "recipe.none"),
}


@pytest.mark.parametrize(("content", "code"), BAD_RECIPES.values(), ids=list(BAD_RECIPES))
def test_a_recipe_that_is_not_whole_is_refused(
    content: bytes, code: str, save: Callable[[bytes], Path]
) -> None:
    with pytest.raises(Refused) as refused:
        read_recipe(save(content))
    assert refused.value.code == code
    assert str(refused.value).endswith(".")


def test_a_recipe_is_read_without_decoding_the_picture(save: Callable[[bytes], Path]) -> None:
    bomb = png(50_000, 50_000, chunk(b"iTXt", HEAD + b'{"seed": 7}'))
    assert read_recipe(save(bomb)) == {"seed": 7}


def test_a_recipe_beyond_all_limits_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 65,536 bytes"):
        save_png(tmp_path / "a.png", PHOTO, {"prompt": "x" * 70_000})
    assert os.listdir(tmp_path) == []


@repeatable
@given(data=st.binary(max_size=80), keyword=st.booleans())
def test_any_text_in_a_png_is_a_recipe_or_refused(
    data: bytes, keyword: bool, save: Callable[[bytes], Path]
) -> None:
    path = save(with_text(b"synesthete\0" * keyword + data))
    code = code_of(lambda: read_recipe(path))
    assert isinstance(read_recipe(path), dict) if code is None else code.startswith("recipe.")


@repeatable
@given(changes=edits, cut=st.floats(0, 1))
def test_a_spoiled_picture_never_gives_another_recipe(
    changes: list[tuple[float, int]], cut: float, save: Callable[[bytes], Path]
) -> None:
    content = bytearray(with_text(HEAD + json.dumps(RECIPE).encode()))
    for at, value in changes:
        content[int(at * len(content))] = value
    path = save(bytes(content[: int(len(content) * cut)]))
    code = code_of(lambda: read_recipe(path))
    assert read_recipe(path) == RECIPE if code is None else code.startswith("recipe.")


# ---- previews ------------------------------------------------------------------------------------


def test_a_preview_is_small_and_written_over_the_last(tmp_path: Path) -> None:
    path = tmp_path / "preview.jpg"
    save_jpeg(path, np.zeros((1024, 512, 3), np.uint8))
    assert save_jpeg(path, np.full((1024, 512, 3), 255, np.uint8)) == path
    with Picture.open(path) as picture:
        assert picture.size == (256, 512)
        assert picture.getpixel((9, 9)) == (255, 255, 255)
    assert os.listdir(tmp_path) == ["preview.jpg"]
    with Picture.open(io.BytesIO(preview_jpeg(PHOTO))) as small:
        assert small.size == (40, 24)  # never enlarged
