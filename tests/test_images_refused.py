"""A file that cannot be used is refused with one clear sentence, be it read here or in a child."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from PIL import ImageFile

from app import images, media
from app.errors import Refused
from app.images import decode, open_picture, to_tensor
from app.media import MIB, Limits
from tests.pictures import GREY, PHOTO, as_file, chunk, code_of, edits, frames, png, repeatable


def flipped(content: bytes, at: float, bit: int = 4) -> bytes:
    """The same bytes with one bit the other way round."""
    changed = bytearray(content)
    changed[int(len(content) * at)] ^= bit
    return bytes(changed)


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
        assert min(to_tensor(decode(spoiled)).shape[2:]) >= images.LEAST_SIDE
    else:
        assert code.startswith("image.")
