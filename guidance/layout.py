"""What a prompt says of a draft beside its things: where, how many, which colour, which style.

By grammar: no pocket CLIP tells left from right, and a memory that is asked for a cat and a dog at
once would draw half of each, a pencil for a pencil drawing, and a medal for a silver fish.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import dist
from typing import NamedTuple

from guidance.instruct import COLOURS, PAIRS, STYLES, Colour, ends_in_thing


@dataclass(frozen=True)
class Place:
    """The middle of a thing, and its side: shares of a square frame."""

    x: float
    y: float
    side: float


@dataclass(frozen=True)
class Layout:
    """Words for each thing, and where it stands."""

    things: tuple[str, ...]
    places: tuple[Place, ...]


BESIDE = _LEFT, _RIGHT = Place(0.27, 0.5, 0.46), Place(0.73, 0.5, 0.46)
_HIGH, _LOW = Place(0.5, 0.27, 0.46), Place(0.5, 0.73, 0.46)
_THREE = (0.18, 0.7), (0.5, 0.7), (0.82, 0.7)
_ROWS = {
    2: (_LEFT, _RIGHT),
    3: (Place(0.5, 0.26, 0.42), Place(0.27, 0.72, 0.42), Place(0.73, 0.72, 0.42)),
    4: tuple(Place(x, y, 0.42) for y in (0.27, 0.73) for x in (0.27, 0.73)),
    5: tuple(Place(x, y, 0.32) for x, y in ((0.33, 0.3), (0.67, 0.3), *_THREE)),
    6: tuple(Place(x, y, 0.32) for x, y in ((0.18, 0.3), (0.5, 0.3), (0.82, 0.3), *_THREE)),
}
# in depth, those behind first
_CROWD = tuple(
    Place(x, y, side)
    for x, y, side in (
        *((0.19, 0.38, 0.29), (0.81, 0.38, 0.29), (0.5, 0.4, 0.32)),
        *((0.29, 0.7, 0.4), (0.72, 0.71, 0.4)),
    )
)
_UPON, _UNDER = Place(0.5, 0.3, 0.46), Place(0.5, 0.69, 0.54)  # they touch
# what a thing may be on without standing on top of it, and what it may look out of
_GROUNDS = (
    "grass|field|meadow|sand|beach|sea|water|ocean|lake|river|ice|snow|street|road|desert|mountains?|"
    "background|backdrop|ground|floor|wall|paper|page|screen|fire|circle|square|triangle|diamond|heart"
)
_OPEN = (
    "box|vase|cup|mug|bowl|basket|bucket|pot|bag|cart|boat|canoe|ship|car|truck|nest|bathtub|boot"
)
_HEAD = r"(?: (?:on|in|at|against) .+)?$"  # nothing but a ground comes after
# words between two things -> where the first and the second stand
_BETWEEN = {
    r"(?:to |on )?the left of|left of": (_LEFT, _RIGHT),
    r"(?:to |on )?the right of|right of": (_RIGHT, _LEFT),
    r"above|over": (_HIGH, _LOW),
    r"below|under|beneath": (_LOW, _HIGH),
    r"and|next to|beside|near|with": (_LEFT, _RIGHT),
    rf"on(?: top of)?(?= (?:an?|the) (?!(?:[\w-]+ ){{0,2}}(?:{_GROUNDS}){_HEAD}))": (_UPON, _UNDER),
    rf"in(?= (?:an?|the) (?:[\w-]+ ){{0,2}}(?:{_OPEN}){_HEAD})": (_UPON, _UNDER),
}
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6} | {str(n): n for n in _ROWS}
_MANY = re.compile(rf"(?P<count>{'|'.join(_COUNTS)}) (?P<thing>.+)")
_FLOCK = re.compile(
    r"(?:an? |the )?(?:[\w-]+ )?(?:flock|herd|school|shoal|swarm|fleet|colony|litter|group) of "
    r"(?P<thing>(?!(?:\w+ )?(?:people|men|women|children|kids|friends|girls|boys)\b).+)"
)
_GROUND = re.compile(r" (?:on|in|at|against) .+|,.+")


def lay_out(text: str) -> Layout | None:
    """Two things, two to six of a thing, or a crowd of them, and where they stand; or None."""
    words = " ".join(text.casefold().split())
    if (found := _MANY.fullmatch(words)) and _is_named(found["thing"]):
        count = _COUNTS[found["count"]]
        return Layout((found["thing"],) * count, _ROWS[count])
    if (found := _FLOCK.fullmatch(words)) and _is_named(found["thing"]):
        return Layout((_GROUND.sub("", found["thing"]),) * len(_CROWD), _CROWD)
    for between, places in _BETWEEN.items():
        for cut in re.finditer(rf" (?:{between}) ", words):
            things = words[: cut.start()], words[cut.end() :]
            if all(map(_is_named, things)):
                return Layout(things, places)
    return None


def _is_named(words: str) -> bool:
    """Whether words end in a thing that has a name, and no place, whatever ground is said after."""
    return ends_in_thing(_GROUND.sub("", words)) and not is_place(words)


# --- before what ---------------------------------------------------------------------------------

# a place in words that the pocket models have learned -> others for it, or for what looks like it
_PLACES = {
    "on snow": "ice, iceberg, glacier, frozen lake, frozen pond, ski slope, blizzard",
    "on the water": "lake, river, pond, pool, lagoon, stream, canal, harbour, harbor, bay, waves",
    "in a meadow": "garden, park, farm, farmyard, yard, backyard, pasture, prairie, hill, "
    "hillside, countryside, landscape, flowers",
    "on the street": "town, village, alley, pavement, sidewalk, parking lot, crossing",
    "in a forest": "wood, jungle, rainforest, woodland, grove, wilderness",
    "on the beach": "shore, seashore, coast, seaside, island",
    "in the mountains": "mountain, mountain top, valley, peak, cliff, alps",
    "in the sky": "air, heaven",
    "in outer space": "moon, planet, mars, universe, galaxy",
    "at night": "midnight, dark, moonlight, darkness",
    "at sunset": "dawn, dusk, sunrise, evening, twilight",
}
_LIKE = {word: place for place, words in _PLACES.items() for word in words.split(", ")}
_AT_PLACE = re.compile(
    r" (?:on|in|at) (?:(?:the|an?|some) )?(?:[\w-]+ )??"
    rf"(?P<word>{'|'.join(sorted(_LIKE, key=len, reverse=True))})$",
    re.IGNORECASE,
)


def in_known_place(text: str) -> str:
    """The same with a place that drafts can show: "a duck on a lake" is one on the water."""
    text = _spelled_out(text)
    if (alone := _OPEN_AIR.fullmatch(text.casefold())) and not alone["light"]:
        return _ALONE.get(alone["head"], text)
    found = _AT_PLACE.search(text)
    return f"{text[: found.start()]} {_LIKE[found['word'].casefold()]}" if found else text


# what is made of many things -> these
_PARTS = {
    "forest": "fir trees", "woods": "fir trees", "woodland": "trees", "grove": "trees",
    "orchard": "trees", "jungle": "palm trees", "rainforest": "palm trees", "village": "houses",
    "town": "houses", "city": "office buildings",
}  # fmt: skip
# how it is -> where they stand
_WEATHERED = {
    "snowy": "in the snow", "winter": "in the snow", "snow-covered": "in the snow",
    "dark": "at night", "moonlit": "at night",
}  # fmt: skip
_MADE_OF_MANY = re.compile(
    r"(?:(?:an?|the) )?(?:(?P<how>(?!(?:in|on|at|of|to|with)\b)[\w-]+) )?"
    rf"(?P<head>{'|'.join(_PARTS)})(?P<where> (?:in|at|on|by) .+)?(?: under .+)?"
)
_FIELD = re.compile(
    r"(?:(?:an?|the) )?(?:\w+ )?(?:field|meadow|garden) (?:of|full of) (?P<of>[\w -]+)"
)
_HIGH_LAKE = re.compile(r"(?:(?:an?|the) )?(?:\w+ )?(?:mountain|alpine) lake")


def _spelled_out(text: str) -> str:
    """What is made of many as these, and where: "a snowy forest" is trees in the snow."""
    if _HIGH_LAKE.fullmatch(text.casefold()):
        return "a lake in the mountains"  # of which the mountains are drawn
    if field := _FIELD.fullmatch(text.casefold()):
        return f"a group of {field['of']} in a meadow"
    if not (made := _MADE_OF_MANY.fullmatch(text.casefold())):
        return text
    how, where = made["how"] or "", (made["where"] or "").strip()
    if how in _WEATHERED:
        how, where = "", where or _WEATHERED[how]
    if made["head"] == "city" and not where:
        return text  # there are drawings of it
    parts = _PARTS[made["head"]]
    if how:  # "a birch forest" is of birch trees
        parts = f"{how} {parts.split()[-1]}"
    return f"a group of {parts} {where or 'in a meadow'}"


# how drafts know a place of which nothing else is said but what is above or about it
_ALONE = dict.fromkeys(("sea", "ocean", "lake", "river"), "the sea") | dict.fromkeys(
    ("meadow", "lawn"), "a green meadow"
)
_LIGHTS = "night|winter|snow|space|stars|sunset|dawn|dusk|sunrise|evening|mountains"
_ABOUT = "sky|clouds|sun|rain|sea|ocean|waves|sand|dunes|trees"
_OPEN_AIR = re.compile(
    r"(?:(?:an?|the|some) )?(?:(?!(?:at|by|from|in|near|of|on|over|to|under|with)\b)[\w-]+ ){0,2}"
    r"(?P<head>meadow|field|lawn|sea|ocean|lake|river|sky|landscape|dunes|desert|beach|"
    r"sunset|mountains)"
    r"(?: (?:under|over|at|in|before|behind|with|by) (?:[\w-]+ ){0,3}"
    rf"(?:(?P<light>{_LIGHTS})|{_ABOUT}))?"
)


def is_place(text: str) -> bool:
    """Whether words name a place and nothing in it: "a green meadow under a blue sky"."""
    return bool(_OPEN_AIR.fullmatch(text.casefold()))


_SHOWN = {*COLOURS} | set(
    "sky clouds sea water ocean grass meadow field lawn snow winter night stars beach sand street "
    "mountains road city desert forest woods space sunset background backdrop ground".split()
)
_LINK = "in|on|at|inside|behind"
_WHERE = re.compile(rf"\b(?:{_LINK}) (?:(?:an?|the) )?(?P<place>(?:(?!\b(?:{_LINK})\b)[\w -])+)$")


def left_out(text: str) -> str:
    """How a wish ends, "in the kitchen", if that says where and no draft can show it; else ""."""
    words = in_known_place(undress(text)[1]).casefold()
    if not (found := _WHERE.search(words, 1)):
        return ""
    stood_on = (layout := lay_out(words)) and found.group().endswith(layout.things[-1])
    shown = {found["place"], found["place"].split()[-1]} & _SHOWN
    return "" if shown or stood_on else found.group()


# --- in which colour -----------------------------------------------------------------------------

# what the pocket models call colours; the nearest of these is said for every other
_LEARNED = "red orange yellow green blue purple pink brown black white gray teal".split()
_TONES = {name: name for name in COLOURS if name not in {*_LEARNED, "grey"}} | PAIRS
_TONE = f"(?P<tone>{'|'.join(sorted(_TONES, key=len, reverse=True))})"
_BACKS = "background|backdrop|ground"
_LINKS = "and|or|on|in|at|with|to|of|by|under|over|above|below|beside|near|next|against|left|right"
_BACKED = re.compile(
    rf" (?:on|against|before) (?:(?:an?|the) )?{_TONE}(?: (?:{_BACKS}))?$", re.IGNORECASE
)
_TONED = re.compile(rf"\b{_TONE}(?= (?!(?:{_BACKS}|{_LINKS})\b)\w)", re.IGNORECASE)


class Toned(NamedTuple):
    """Words that name no colour but learned ones, and the colours that they named before."""

    text: str
    thing: Colour | None = None
    ground: Colour | None = None


def in_learned_colours(text: str) -> Toned:
    """The same in colours that the pocket models know by name: "a navy fish" is a black one."""
    ground = _BACKED.search(text)
    thing = _TONED.search(text, 0, ground.start() if ground else len(text))
    for found in filter(None, (ground, thing)):  # from the end on, so that places stay right
        text = f"{text[: found.start('tone')]}{_learned(found)}{text[found.end('tone') :]}"
    return Toned(text, thing and _tone(thing), ground and _tone(ground))


def _tone(found: re.Match[str]) -> Colour:
    return COLOURS[_TONES[found["tone"].casefold()]]


def _learned(found: re.Match[str]) -> str:
    """A dark green is a green; of any other the nearest: by hue, and half as much by lightness."""
    base = _TONES[found["tone"].casefold()].rpartition(" ")[2]
    return min(_LEARNED, key=lambda name: (name != base, dist(_seen(name), _seen(base))))


def _seen(name: str) -> tuple[float, float, float]:
    """As the eye compares: red with green, both with blue, light with dark."""
    red, green, blue = COLOURS[name]
    return red - green, (red + green) / 2 - blue, (red + green + blue) / 6


# --- in which style ------------------------------------------------------------------------------

_STYLE_OF = {word: name for name, words in STYLES.items() for word in words}
_WORDS = "|".join(sorted(map(re.escape, _STYLE_OF), key=len, reverse=True))
_STYLED = re.compile(
    rf"(?:an? |the )?(?:[\w-]+ )??(?P<word>{_WORDS})(?: style| drawing| picture)? of (?P<thing>.+)"
)
_BY = re.compile(r"(?: by (?:[A-Z][\w.-]*(?: da| van| von| de)? ?)+|,? trending on \w+)$")


def undress(text: str) -> tuple[str, str]:
    """A style and what is drawn in it: "a pencil sketch of a tree" is pencil, and "a tree".

    The style is '' when none is named. Who drew it, and where it trends, is left out.
    """
    plain = _BY.sub("", " ".join(text.split()))
    words = plain.casefold().replace("color", "colour")
    found = _STYLED.fullmatch(words)
    return (_STYLE_OF[found["word"]], found["thing"]) if found else ("", plain)
