"""The border between picture files and tensors, and the recipe that each picture carries.

Outside: PNG, JPEG and the like, from people. Inside: uint8 arrays (h, w, 3) and float `Image`s.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageCms, ImageFile, PngImagePlugin, UnidentifiedImageError

from app import media, saving
from app.errors import Failed, Refused

if TYPE_CHECKING:
    from generators.base import Image, Size

Picture.init()  # now: a child that decodes can open no file later, not even Pillow's own

Pixels = NDArray[np.uint8]  # (h, w, 3), RGB

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # the rare ones had the security holes
MOST_BYTES = 25_000_000
MOST_PIXELS = 40_000_000
LEAST_SIDE = 16
MOST_ASPECT = 8
MOST_CHUNKS = 50_000  # of a PNG; they cost time even when they are empty
MOST_SECONDS = 20  # for one file; the largest fair ones took 9 on a busy machine
MOST_RECIPE = 64 * 1024  # bytes; the longest request that our own limits allow takes about 60 kB
PREVIEW_SIDE = 512

# How formats that we do not read begin: so that people hear its name, and not "broken".
_FOREIGN = {
    "HEIC": rb".{4}ftyp(he|mif1|msf1)",
    "AVIF": rb".{4}ftypavi",
    "SVG": rb".{0,1000}<svg",
    "PDF": rb"%PDF",
    "EPS": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PSD": rb"8BPS",
    "FITS": rb"SIMPLE  =",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
}
_ORIENTATION = 0x0112  # the EXIF tag; what undoes each of its values:
_TURNS = {
    2: Picture.Transpose.FLIP_LEFT_RIGHT,
    3: Picture.Transpose.ROTATE_180,
    4: Picture.Transpose.FLIP_TOP_BOTTOM,
    5: Picture.Transpose.TRANSPOSE,
    6: Picture.Transpose.ROTATE_270,
    7: Picture.Transpose.TRANSVERSE,
    8: Picture.Transpose.ROTATE_90,
}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"synesthete"
# "made by a trained model", as the IPTC asks: https://cv.iptc.org/newscodes/digitalsourcetype/
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    " Iptc4xmpExt:DigitalSourceType="
    '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


@dataclass(frozen=True, eq=False)
class Canonical:
    """A picture as everything inside sees it, whatever the file was.

    `pixels` RGB (h, w, 3), `alpha` (h, w) where parts were transparent (they show white in
    `pixels`), `notes` what had to be done to get here, as plain sentences.
    """

    pixels: Pixels
    alpha: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Of size and pixels: the same picture in another file has the same hash."""
        height, width, _ = self.pixels.shape
        return hashlib.sha256(f"{width}x{height}:".encode() + self.pixels.tobytes()).hexdigest()


# ---- in: a file becomes pixels -------------------------------------------------------------------


def open_picture(path: Path | str, *, in_child: bool = False) -> Canonical:
    """Read a picture that someone gave us. Raises `Refused` for anything that is not a fair one.

    At most 25 MB, 40 megapixels and 8:1, at least 16 pixels a side; all of this is known before
    any pixel is decoded. Of an animation the first frame counts. `in_child`: where many people may
    give files, one that breaks its decoder breaks only a process of its own (see `app.media`).
    """
    path = Path(path)
    if not in_child:
        return decode(_read(path), repr(path.name))
    found = media.decode("picture", path)
    notes = tuple(map(str, found.said["notes"]))
    return Canonical(found.numbers["pixels"], found.numbers.get("alpha"), notes)


def decode_file(file: BinaryIO, name: str) -> tuple[media.Numbers, dict[str, Any]]:
    """Do the work of `open_picture` in the child."""
    found = decode(file.read(), name)
    alpha = {} if found.alpha is None else {"alpha": found.alpha}
    return {"pixels": found.pixels, **alpha}, {"notes": found.notes}


def decode(content: bytes, name: str = "The picture") -> Canonical:
    """Do the work of `open_picture` on the bytes of a file; `name` begins its messages."""
    with _bombs_are_errors():
        try:
            return _decode(content, name)
        except Refused:
            raise
        except Exception as error:  # decoders raise anything at all when a file is broken
            raise _diagnosis(error, content, name) from error


@contextmanager
def _bombs_are_errors() -> Iterator[None]:
    """Make Pillow's warning of a bomb an error; what else it mutters about a file is not told.

    One picture at a time: `catch_warnings` is not made for threads, and memory stays bounded.
    """
    with _alone, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Picture.DecompressionBombWarning)
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # some programs turn it on for all
        yield


_alone = threading.Lock()


def _read(path: Path) -> bytes:
    """The bytes of an ordinary file of a fair size."""
    name = repr(path.name)
    try:
        if not path.is_file():  # a folder, a device, a pipe that would wait for ever
            kind = "is not a file" if path.exists() else "does not exist"
            raise Refused("image.missing", f"{name} {kind}. Give the path of a picture.")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror}. Give the path of a picture."
        raise Refused("image.missing", message) from error
    if len(content) > MOST_BYTES:
        limit = MOST_BYTES // 1_000_000
        raise Refused("image.too_big", f"{name} has more than {limit} MB. Save it smaller first.")
    return content


def _decode(content: bytes, name: str) -> Canonical:
    if not content:
        raise Refused("image.empty", f"{name} is empty (0 bytes). Give a picture.")
    intact = _is_intact(content)
    picture: Picture.Image = Picture.open(_Patience(content), formats=FORMATS)
    _check_size(picture.width, picture.height, name)
    notes = _frames(picture, name)
    tagged = _orientation(picture)
    picture.load()
    if not intact:
        raise _corrupt(name)
    turn = _orientation(picture)  # a PNG may say so at its end; a TIFF has been turned by now
    if tagged in _TURNS or turn in _TURNS:
        notes.append("rotated by its EXIF tag")
    picture, more = _eight_bits(picture, name)
    if turn in _TURNS:
        picture = picture.transpose(_TURNS[turn])
    return _on_white(picture, (*notes, *more))


class _TooSlow(Exception):
    """A decoder has not come to an end in time."""


class _Patience(io.BytesIO):
    """A file that ends a decoder which asks it for small pieces without end."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._until = time.monotonic() + MOST_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        if time.monotonic() > self._until:
            raise _TooSlow
        return super().read(size)


def _is_intact(content: bytes) -> bool:
    """Whether the pixels of a PNG are those that were saved: decoding overlooks some changes."""
    if not content.startswith(_SIGNATURE):
        return True  # the other formats have no checksums
    return all([right for kind, _, right in _chunks(content) if kind == b"IDAT"])


def _check_size(width: int, height: int, name: str) -> None:
    what = f"{name} is {width:,} x {height:,} pixels"
    if width * height > MOST_PIXELS:
        limit = MOST_PIXELS // 1_000_000
        raise Refused(
            "image.too_many_pixels", f"{what}; at most {limit} megapixels. Save it smaller first."
        )
    if min(width, height) < LEAST_SIDE:
        message = f"{what}; each side needs at least {LEAST_SIDE}. Give a larger picture."
        raise Refused("image.too_small", message)
    if max(width, height) > MOST_ASPECT * min(width, height):
        message = f"{what}; one side may be at most {MOST_ASPECT} times the other. Crop it first."
        raise Refused("image.aspect", message)


def _frames(picture: Picture.Image, name: str) -> list[str]:
    """Of an animation the first frame will do; of a document nobody can say which page is meant.

    Frames are not counted: that would walk through all of a file.
    """
    if not getattr(picture, "is_animated", False) or picture.format == "MPO":
        return []  # MPO: a JPEG with a second view behind it, as some cameras write it
    if picture.format == "TIFF":
        message = f"{name} has several pages. Save the one you want as PNG or JPEG."
        raise Refused("image.pages", message)
    return ["first frame of an animation used"]


def _orientation(picture: Picture.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF says nothing; the picture itself may be fine
        return 1


def _eight_bits(picture: Picture.Image, name: str) -> tuple[Picture.Image, list[str]]:
    """The kinds that Pillow's own `convert` gets wrong, or not at all."""
    if picture.mode.startswith("I;16"):
        return _from_16_bits(picture), ["16 bits of grey reduced to 8"]
    if picture.mode in ("I", "F"):
        return _from_numbers(picture, name)
    if picture.mode == "LAB":
        return _from_lab(picture), ["LAB colours turned into RGB"]
    return picture, ["CMYK colours turned into RGB"] if picture.mode == "CMYK" else []


def _from_16_bits(picture: Picture.Image) -> Picture.Image:
    """The upper byte; `convert` would cut every brightness above 255."""
    deep = np.asarray(picture)
    shallow = Picture.fromarray((deep >> 8).astype(np.uint8))
    key = picture.info.get("transparency")
    if isinstance(key, int):
        shallow.putalpha(Picture.fromarray(np.where(deep == key, 0, 255).astype(np.uint8)))
    return shallow


def _from_numbers(picture: Picture.Image, name: str) -> tuple[Picture.Image, list[str]]:
    """32 bits a pixel: as 0..1, 0..255 or 0..65535 where they fit, else stretched."""
    numbers = np.asarray(picture, dtype=np.float32)
    if not np.isfinite(numbers).all():
        message = f"{name} holds values that are no numbers (NaN or infinite). Save it as PNG."
        raise Refused("image.not_finite", message)
    low, high = float(numbers.min()), float(numbers.max())
    top = next((top for top in (1, 255, 65535) if low >= 0 and high <= top), None)
    if top is not None:
        return _grey(numbers / top), ["32 bits of grey reduced to 8"]
    notes = [f"values from {low:g} to {high:g} stretched from black to white"]
    return _grey((numbers - low) / ((high - low) or 1)), notes


def _grey(numbers: NDArray[np.floating[Any]]) -> Picture.Image:
    return Picture.fromarray(np.floor(numbers * 255 + 0.5).astype(np.uint8))


def _from_lab(picture: Picture.Image) -> Picture.Image:
    """By the colour library's own profiles, for `convert` knows no LAB."""
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    turned = ImageCms.applyTransform(picture, ImageCms.buildTransform(lab, rgb, "LAB", "RGB"))
    assert turned is not None  # it is, only when working in place
    return turned


def _on_white(picture: Picture.Image, notes: tuple[str, ...]) -> Canonical:
    """RGB; whatever colour hides in transparent parts stays hidden."""
    if not picture.has_transparency_data:
        return Canonical(np.asarray(picture.convert("RGB")), None, notes)
    picture = picture.convert("RGBA")
    alpha = picture.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return Canonical(np.asarray(picture.convert("RGB")), None, notes)
    white = Picture.new("RGB", picture.size, "white")
    white.paste(picture, mask=alpha)
    said = "transparent parts shown on white"
    if alpha.getextrema() == (0, 0):
        said = "all of it is transparent, so only white is left"
    return Canonical(np.asarray(white), np.asarray(alpha), (*notes, said))


def _diagnosis(error: Exception, content: bytes, name: str) -> Refused:
    """What a decoder's error means to the person who gave the file."""
    if isinstance(error, MemoryError):
        message = f"{name} needs more memory to read than there is. Save it smaller first."
        return Refused("image.memory", message)
    said = str(error)
    readable = f"We read {', '.join(FORMATS)}"
    if isinstance(error, Picture.DecompressionBombError | Picture.DecompressionBombWarning):
        limit = MOST_PIXELS // 1_000_000
        message = f"{name} has far more than {limit} megapixels. Save it smaller first."
        return Refused("image.too_many_pixels", message)
    if isinstance(error, UnidentifiedImageError):
        for kind, beginning in _FOREIGN.items():
            if re.match(beginning, content, re.DOTALL):
                message = f"{name} is {kind}. {readable}: convert it to PNG or JPEG."
                return Refused("image.format", message)
        return Refused("image.unreadable", f"{name} is no picture that we can read. {readable}.")
    endless = any(words in said for words in ("too large", "Too much memory", "too many chunks"))
    if endless or isinstance(error, _TooSlow):
        message = f"{name} carries more texts, profiles or parts than any picture. Save it anew."
        return Refused("image.metadata", message)
    if "truncated" in said:
        return Refused("image.truncated", f"{name} ends too early. Copy or download it again.")
    return _corrupt(name)


def _corrupt(name: str) -> Refused:
    return Refused("image.corrupt", f"{name} is damaged. Copy, download or save it again.")


# ---- between: pixels and tensors -----------------------------------------------------------------


def to_tensor(picture: Canonical | Pixels) -> Image:
    """Bring pixels inside: (h, w, 3) uint8 -> (1, 3, h, w) float 0..1.

    Raises `Refused` for arrays of any other kind; NaN would silently turn black.
    """
    pixels = picture.pixels if isinstance(picture, Canonical) else np.asarray(picture)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        message = "The picture holds values that are no numbers (NaN or infinite). Give another."
        raise Refused("image.not_finite", message)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        message = f"The picture is an array of {pixels.dtype} {pixels.shape}; give uint8 (h, w, 3)."
        raise Refused("image.array", message)
    import torch

    return torch.tensor(pixels).permute(2, 0, 1)[None].contiguous() / 255


def to_pixels(image: Image) -> Pixels:
    """Bring a picture outside: (1, 3, h, w) float -> (h, w, 3) uint8, rounded to the nearest.

    What lies beyond 0..1 is cut off. A picture of one colour is fine: many runs start from one.
    Raises `Failed` for NaN or infinity, which would silently turn black.
    """
    (picture,) = image.detach().float().cpu()
    if not picture.isfinite().all():
        message = "The picture is not a number in places. Try a smaller step size."
        raise Failed("picture.not_finite", message)
    levels = (picture.clamp(0, 1) * 255 + 0.5).floor()
    return levels.byte().permute(1, 2, 0).contiguous().numpy()


def fit(image: Image, size: Size) -> Image:
    """Resize so that the picture covers (height, width) and cut off what juts out, evenly.

    Nothing is distorted, and at most one pair of opposite edges loses something. Lanczos, with
    its support widened when it shrinks, so that every pixel counts; float all the way.
    """
    import torch

    height, width = size
    _, _, h, w = image.shape
    scale = min(w / width, h / height)  # pixels of the old picture to one of the new
    left, top = max(0, w - width * scale) / 2, max(0, h - height * scale) / 2
    box = (left, top, min(w, left + width * scale), min(h, top + height * scale))
    channels = [
        Picture.fromarray(channel.numpy()).resize((width, height), Picture.Resampling.LANCZOS, box)
        for channel in image[0].detach().float().cpu()
    ]
    resized = np.stack([np.asarray(channel) for channel in channels])
    return torch.from_numpy(resized)[None].clamp(0, 1)  # Lanczos swings a little past edges


# ---- out: pixels become a file -------------------------------------------------------------------


def save_png(
    path: Path | str,
    pixels: Pixels,
    recipe: Mapping[str, Any] | None = None,
    alpha: NDArray[np.uint8] | None = None,
    note: Path | None = None,
) -> Path:
    """Write a picture with its recipe inside, and return the path: the next free name if taken.

    With a `note` it is written once, however often we crash (see `saving.write_once`).

    The recipe is JSON in one text chunk called "synesthete". It must hold no paths or user names:
    pictures travel. With or without it, the picture says (in XMP) that a model made it. Raises
    as `saving.write` does.
    """
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", _XMP)
    if recipe is not None:
        texts.add_itxt(_KEYWORD.decode(), _as_json(recipe))
    buffer = io.BytesIO()
    whole = pixels if alpha is None else np.dstack((pixels, alpha))
    Picture.fromarray(whole).save(buffer, "PNG", pnginfo=texts)
    content = buffer.getvalue()
    return (
        saving.write_once(Path(path), content, note) if note else saving.write(Path(path), content)
    )


def preview_jpeg(pixels: Pixels, side: int = PREVIEW_SIDE) -> bytes:
    """Return a small quick JPEG of at most `side` pixels."""
    picture = Picture.fromarray(pixels)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, xmp=_XMP.encode())
    return buffer.getvalue()


def save_jpeg(path: Path | str, pixels: Pixels) -> Path:
    """Write a preview over the one before it. Raises as `saving.write` does."""
    return saving.write(Path(path), preview_jpeg(pixels), replace=True)


def _as_json(recipe: Mapping[str, Any]) -> str:
    """Short and readable; lone surrogates, which no file can hold, are escaped."""
    text = json.dumps(dict(recipe), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    size = len(text.encode())
    if size > MOST_RECIPE:
        raise ValueError(f"A recipe has at most {MOST_RECIPE:,} bytes; this one has {size:,}.")
    return text


def read_recipe(path: Path | str) -> dict[str, Any]:
    """Return the recipe inside a PNG of ours, still unchecked (see `request.read_request`).

    No pixel is decoded. Raises `Refused` unless there is exactly one, whole, of JSON, with at
    most 64 kB.
    """
    path = Path(path)
    name, content = repr(path.name), _read(path)
    if not content.startswith(_SIGNATURE):
        raise Refused("recipe.format", f"{name} is no PNG, and only PNG pictures carry a recipe.")
    try:
        recipes = [_parse(text) for text in _recipes(content)]
    except (ValueError, RecursionError) as error:  # broken UTF-8 is a ValueError as well
        message = f"The recipe in {name} is damaged. Use the picture as it was first saved."
        raise Refused("recipe.damaged", message) from error
    if not recipes:
        raise Refused(
            "recipe.none",
            f"{name} carries no whole recipe: it was made elsewhere or without one, or another "
            "program dropped it when saving. Use the picture as it was first saved.",
        )
    if len(recipes) > 1:
        message = f"{name} carries {len(recipes)} recipes. Use a picture with one."
        raise Refused("recipe.many", message)
    return recipes[0]


def _recipes(content: bytes) -> Iterator[bytes]:
    for kind, data, right in _chunks(content):
        if kind == b"iTXt" and right and data.startswith(_KEYWORD + b"\0"):
            yield data


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """The whole chunks of a PNG: kind, data, and whether the checksum is right.

    Raises ValueError for more than anybody needs.
    """
    at = len(_SIGNATURE)
    for count in itertools.count():
        if at + 12 > len(content):
            return
        if count == MOST_CHUNKS:
            raise ValueError("too many chunks")
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end <= len(content):
            (checksum,) = struct.unpack_from(">I", content, end - 4)
            yield kind, content[at + 8 : end - 4], checksum == zlib.crc32(content[at + 4 : end - 4])
        at = end


def _parse(chunk: bytes) -> dict[str, Any]:
    """An iTXt chunk: keyword, 0, compressed?, method, language, 0, translated keyword, 0, JSON."""
    _, rest = chunk.split(b"\0", 1)
    if rest[:1] != b"\0":
        raise ValueError("compressed: we never write that")
    _, _, text = rest[2:].split(b"\0", 2)
    if len(text) > MOST_RECIPE:
        raise ValueError("too long")
    recipe = json.loads(text.decode(), parse_constant=_refuse_constant)
    if not isinstance(recipe, dict):
        raise ValueError("no table of settings")
    return recipe


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
