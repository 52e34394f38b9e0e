"""Fetch openly licensed pictures by package name and keep them as one array with their names."""

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.splits import SPLITS, Splits, draw_splits, load_splits, plain, save_splits

CACHE = Path("~/.cache/synesthete-training").expanduser()
SIDE = 128  # px, of each object's picture
BACKDROP = (192, 288)  # px, height and width of each photograph

ICON_SETS = (
    "noto",
    "twemoji",
    "fluent-emoji",
    "fluent-emoji-flat",
    "emojione",
    "noto-v1",
    "fxemoji",
    "flat-color-icons",
)
NPM = (*(f"@iconify-json/{name}" for name in ICON_SETS), "emojilib", "emojibase-data")
DEBIAN = (
    "openclipart-png",
    "tuxpaint-stamps-default",
    "plasma-workspace-wallpapers",
    "gnome-backgrounds",
    "mate-backgrounds",
)
WALLPAPERS = DEBIAN[2:]
GROUPS = ("smileys", "people", "components", "animals", "food", "travel", "activities", "objects")
CLIPART_FOLDERS = (
    "animals buildings containers education electronics food geography/astronomy office people "
    "plants recreation science tools transportation computer/hardware "
    "signs_and_symbols/weather signs_and_symbols/clocks"
).split()
CLIPART_DROPPED = (
    "games/cards aiga-symbols roadsigns stickmen smilies office/telephone/icon archit _arch_ ital"
).split()
# Emoji names that nobody says, and what people say instead.
PLAINER = {
    "automobile": "car",
    "oncoming automobile": "front of a car",
    "evergreen tree": "fir tree",
    "hot beverage": "cup of coffee",
    "lady beetle": "ladybug",
    "spiral shell": "seashell",
    "high voltage": "lightning bolt",
    "t-rex": "tyrannosaurus",
    "couch and lamp": "couch",
    "beer mug": "beer",
    "droplet": "water drop",
    "sailboat": "sailing boat",
    "woman's hat": "sun hat",
    "woman's clothes": "blouse",
    "soft ice cream": "ice cream cone",
    "spiral notepad": "notepad",
    "wrapped gift": "gift",
    "ear of corn": "corn",
    "cut of meat": "steak",
    "person biking": "cyclist",
    "locomotive": "steam train",
    "white large square": "white square",
    "black large square": "black square",
    "large blue diamond": "blue diamond",
    "large orange diamond": "orange diamond",
}
# Words of a name that say that the picture is mostly writing.
TEXT_LIKE = re.compile(
    r"\b(keycap|button|letters?|input|digit|regional|flags?|o'clock|oclock|thirty|alphabet|sign|"
    r"symbol|arrow|ideograph|squared|latin|tm|registered|copyright|trade mark|family|arrows)\b"
)
SKIN = re.compile(r"skin|-tone\d")
SHADE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)$")


@dataclass(frozen=True)
class Picture:
    """Where a picture comes from and what it shows; ``words`` are other words for it."""

    source: str
    key: str
    name: str
    words: tuple[str, ...] = ()
    group: str = ""
    held_out: bool = False


@dataclass(frozen=True)
class Library:
    """All pictures: rgba (n, 128, 128, 4) and backdrops (m, 192, 288, 3), both uint8."""

    pictures: tuple[Picture, ...]
    rgba: NDArray[np.uint8]
    photographs: tuple[Picture, ...]
    backdrops: NDArray[np.uint8]

    def part(self, keep: Callable[[Picture], bool]) -> "Library":
        """Keep only the pictures and photographs that pass a test."""
        shown = [i for i, p in enumerate(self.pictures) if keep(p)]
        behind = [i for i, p in enumerate(self.photographs) if keep(p)]
        return Library(
            tuple(self.pictures[i] for i in shown),
            self.rgba[shown],
            tuple(self.photographs[i] for i in behind),
            self.backdrops[behind],
        )


def prepare(cache: Path = CACHE) -> None:
    """Fetch every package, render every picture, and write the cache that `load` reads."""
    fetch(cache)
    icons = list(list_icons(cache))
    clipart = list(list_clipart(cache))
    stamps = list(list_stamps(cache))
    walls = list(list_wallpapers(cache))
    if not SPLITS.exists():
        save_splits(
            draw_splits(
                names=(p.name for p, _ in icons if p.group in GROUPS),
                clipart=(p.key for p, _ in clipart),
                photographs=(p.key for p, _ in walls),
            )
        )
    splits = load_splits()
    write(cache, "pictures", [*icons, *clipart, *stamps], draw_icon_or_file, splits)
    write(cache, "backdrops", walls, draw_backdrop, splits)


def load(cache: Path = CACHE) -> Library:
    """Read what `prepare` wrote; the big arrays stay on disk until they are touched."""
    if not (cache / "backdrops.npy").exists():
        raise FileNotFoundError(f"No pictures in {cache}. Run `python -m training data` first.")
    pictures, photographs = (
        tuple(
            Picture(**{**row, "words": tuple(row["words"])})
            for row in json.loads((cache / f"{name}.json").read_text())
        )
        for name in ("pictures", "backdrops")
    )
    arrays = (np.load(cache / f"{name}.npy", mmap_mode="r") for name in ("pictures", "backdrops"))
    rgba, backdrops = arrays
    return Library(pictures, rgba, photographs, backdrops)


# --- Packages ---------------------------------------------------------------------------------


def fetch(cache: Path) -> None:
    """Fetch npm and Debian packages that are missing, unpack them, and note their SHA-256."""
    cache.mkdir(parents=True, exist_ok=True)
    missing = [p for p in NPM if not (cache / "node_modules" / p).exists()]
    if missing:
        run_tool(["npm", "install", "--no-audit", "--no-fund", *missing], cache)
    for package in tqdm(DEBIAN, desc="Debian packages"):
        fetch_debian(cache, package)
    (cache / "sha256.json").write_text(json.dumps(dict(hashes(cache)), indent=1))


def fetch_debian(cache: Path, package: str) -> Path:
    """Fetch a Debian package if it is not there yet; return the folder where its files lie."""
    home = cache / "deb" / package
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)  # dpkg makes the last folder only
        if not list(cache.glob(f"{package}_*.deb")):
            run_tool(["apt-get", "download", package], cache)
        archive = str(next(cache.glob(f"{package}_*.deb")))
        run_tool(["dpkg", "-x", archive, str(home)], cache)
    return home


def run_tool(command: list[str], folder: Path) -> None:
    """Run a package tool, or say plainly that it is missing or what it answered."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is needed to fetch the data. Install it first.")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def hashes(cache: Path) -> Iterator[tuple[str, str]]:
    """Name every archive and icon file with its SHA-256."""
    files = [*cache.glob("*.deb"), *cache.glob("node_modules/@iconify-json/*/icons.json")]
    for file in sorted(files):
        yield str(file.relative_to(cache)), hashlib.sha256(file.read_bytes()).hexdigest()


# --- Names ------------------------------------------------------------------------------------

Source = str | Path  # SVG text, or a picture file
Item = tuple[Picture, Source]


def list_icons(cache: Path) -> Iterator[Item]:
    """List the icons of all sets with the names and keywords of the emoji they draw."""
    known = emoji_names(cache)
    for source in ICON_SETS:
        folder = cache / "node_modules" / "@iconify-json" / source
        icons = json.loads((folder / "icons.json").read_text())
        characters = json.loads((folder / "chars.json").read_text())
        codes = {name: code for code, name in characters.items()}
        for key, icon in icons["icons"].items():
            label, words, group = (
                known.get(squeeze(key))
                or known.get(codes.get(key, "").replace("-fe0f", ""))
                or (key.replace("-", " "), (), "")
            )
            unknown = source == "fxemoji" and not group  # its names have no spaces to split at
            if not unknown and not is_variant(key, icons["icons"]) and not is_text(label, group):
                yield Picture(source, f"{source}/{key}", label, words, group), svg(icon, icons)


def squeeze(name: str) -> str:
    """Letters and digits alone: 'Honey-Bee' and 'honeybee' meet."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def emoji_names(cache: Path) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Map squeezed names and code points to (label, keywords, group) of each emoji."""
    emoji = json.loads((cache / "node_modules/emojibase-data/en/data.json").read_text())
    more = json.loads((cache / "node_modules/emojilib/dist/emoji-en-US.json").read_text())
    known: dict[str, tuple[str, tuple[str, ...], str]] = {}
    for e in emoji:
        words = [*e.get("tags", []), *(w.replace("_", " ") for w in more.get(e["emoji"], []))]
        label = e["label"].lower().replace(":", "").replace("’", "'")
        group = e.get("group")
        name = PLAINER.get(label, label)
        entry = (
            name,
            tuple(w for w in dict.fromkeys([label, *words]) if is_word(w) and w != name),
            (*GROUPS, "symbols", "flags")[group] if group is not None else "symbols",
        )
        aliases = [label, *(w for w in more.get(e["emoji"], [])[:1])]
        for alias in (*map(squeeze, aliases), e["hexcode"].lower().replace("-fe0f", "")):
            known.setdefault(alias, entry)
    return known


def is_word(word: str) -> bool:
    """Keep keywords made of letters; smileys like :) and very long ones go."""
    return bool(re.fullmatch(r"[a-z][a-z' -]{1,24}", word))


def is_variant(key: str, icons: dict[str, Any]) -> bool:
    """Find skin-tone variants; 'boy-dark' is one, 'traffic-light' is not."""
    shade = SHADE.search(key)
    return bool(SKIN.search(key)) or (
        shade is not None and f"{key[: shade.start()]}-medium-light" in icons
    )


def is_text(label: str, group: str) -> bool:
    """Find writing, flags, arrows and families, which teach a picture model nothing here."""
    return group in ("flags", "components") or bool(TEXT_LIKE.search(label.lower()))


def svg(icon: dict[str, Any], icons: dict[str, Any]) -> str:
    """Wrap an Iconify body as an SVG file."""
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{SIDE}" height="{SIDE}">{icon["body"]}</svg>'
    )


def list_clipart(cache: Path) -> Iterator[Item]:
    """List Openclipart's drawings of things, with cleaned titles."""
    root = cache / "deb/openclipart-png/usr/share/openclipart/png"
    files = [f for f in sorted(root.rglob("*.png")) if wanted(str(f.relative_to(root)))]
    titles = {f: Image.open(f).info.get("Title", "") for f in files}
    common = {t for t, n in Counter(titles.values()).items() if n > 3}
    for file in tqdm(files, desc="Openclipart titles"):
        title = clean_title("" if titles[file] in common else titles[file], file.stem)
        folder = file.parent.name.replace("_", " ")
        if title:
            key = f"openclipart/{file.relative_to(root)}"
            yield Picture("openclipart-png", key, title, (folder,), "clipart"), file


def wanted(path: str) -> bool:
    """Keep folders that show things, not signs, cards or patterns."""
    return path.startswith(tuple(f"{f}/" for f in CLIPART_FOLDERS)) and not any(
        word in path for word in CLIPART_DROPPED
    )


def clean_title(title: str, stem: str) -> str:
    """Make a caption of a title, or of a file name without its author and number; '' if neither."""
    title = title.split(" - ")[-1] if title.startswith("Clipart by") else title
    text = title or re.sub(r"(_[a-z]{1,14})?(_\d+|\d+)$", "", stem)
    text = re.sub(r"\((b and w|bw)\)|\b(bw|clip ?art|icon|v?\d+)\b|[_()\d]", " ", text.lower())
    text = " ".join(re.findall(r"[a-z'-]+", text)).strip(" -'")
    return text if 3 <= len(text) <= 45 and not TEXT_LIKE.search(text) else ""


def list_stamps(cache: Path) -> Iterator[Item]:
    """List Tux Paint's stamps (held out) with the first line of their descriptions."""
    root = cache / "deb/tuxpaint-stamps-default/usr/share/tuxpaint/stamps"
    for file in sorted(root.rglob("*.png")):
        note = file.with_suffix(".txt")
        folder = str(file.relative_to(root))
        if note.exists() and not folder.startswith("symbols") and "_mirror" not in file.stem:
            lines = note.read_text(errors="ignore").splitlines() or [""]
            name = re.sub(r"^(an?|the|some) ", "", lines[0].strip(" .!").lower())
            if 2 < len(name) < 40:
                key = f"tuxpaint/{file.relative_to(root)}"
                yield Picture("tuxpaint-stamps-default", key, name, (), "stamps"), file


def list_wallpapers(cache: Path) -> Iterator[Item]:
    """List each photograph or wallpaper once, in its largest landscape size."""
    for package in WALLPAPERS:
        root = cache / "deb" / package / "usr/share"
        files = [
            f
            for f in sorted(root.rglob("*"))
            if f.suffix in (".jpg", ".png", ".webp") and "screenshot" not in f.name
        ]
        best: dict[str, Path] = {}
        for file in files:
            title = file.parts[-4] if "contents" in file.parts else re.split(r"_\d", file.stem)[0]
            title += "-dark" if "images_dark" in file.parts else ""
            if title not in best or file.stat().st_size > best[title].stat().st_size:
                best[title] = file
        for title, file in best.items():
            yield Picture(package, f"{package}/{title}", title), file


# --- Pictures ---------------------------------------------------------------------------------


def draw_icon_or_file(source: Source) -> NDArray[np.uint8] | None:
    """Render to (128, 128, 4) bytes, whole and centred; None if it is broken or empty."""
    try:
        image = fit(render(source) if isinstance(source, str) else Image.open(source))
    except (OSError, ValueError, RuntimeError):
        return None
    rgba = np.asarray(image)
    covered = (rgba[..., 3] > 20).mean()
    return rgba if covered > 0.04 else None


def render(text: str) -> Image.Image:
    """Draw an SVG text with resvg."""
    import resvg_py  # only this program needs it

    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=text))))


def fit(image: Image.Image) -> Image.Image:
    """Crop to what is opaque and fit it, with a thin margin, into the square."""
    image = image.convert("RGBA")
    image.thumbnail((4 * SIDE, 4 * SIDE))  # big files only
    image = image.crop(image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = (SIDE - 4) / max(image.size)
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    image = image.convert("RGBa").resize(size, Image.Resampling.BICUBIC).convert("RGBA")
    canvas = Image.new("RGBA", (SIDE, SIDE))
    canvas.paste(image, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
    return canvas


def draw_backdrop(source: Source) -> NDArray[np.uint8] | None:
    """Scale a photograph to cover (192, 288), centred; None if it is all one tone."""
    height, width = BACKDROP
    Image.MAX_IMAGE_PIXELS = 300_000_000  # in this worker: some wallpapers are that large
    file = Image.open(source)
    file.draft("RGB", (4 * width, 4 * height))  # decode big JPEGs at a fraction of their size
    image = file.convert("RGB")
    scale = max(width / image.width, height / image.height)
    image = image.resize((round(image.width * scale + 0.5), round(image.height * scale + 0.5)))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return pixels if pixels.std() > 8 else None  # a flat wallpaper is no photograph


def write(
    cache: Path,
    name: str,
    items: Iterable[Item],
    draw: Callable[[Source], NDArray[np.uint8] | None],
    splits: Splits,
) -> None:
    """Draw every item on all cores; write an array and, row by row, what each picture shows."""
    pictures, sources = zip(*items, strict=True)
    with ProcessPoolExecutor() as pool:
        drawn = list(
            tqdm(
                pool.map(draw, sources, chunksize=16), desc=name, total=len(sources), mininterval=2
            )
        )
    kept = [(p, rgba) for p, rgba in zip(pictures, drawn, strict=True) if rgba is not None]
    rows = [{**asdict(p), "held_out": is_held_out(p, splits)} for p, _ in kept]
    np.save(cache / f"{name}.npy", np.stack([rgba for _, rgba in kept]))
    (cache / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False))
    counts = Counter((row["source"], row["held_out"]) for row in rows)
    for (source, held_out), n in sorted(counts.items()):
        sys.stdout.write(f"{source:28} {'held out' if held_out else 'trained on':10} {n:6}\n")


def is_held_out(picture: Picture, splits: Splits) -> bool:
    """Apply the splits to one picture or photograph."""
    if picture.key in splits.photographs:
        return True
    return splits.holds_out(picture.source, picture.key, plain(picture.name))
