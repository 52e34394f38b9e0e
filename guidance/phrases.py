"""What a prompt says of a draft beside its things: before what, in which colour and which style.

By grammar: a memory of drawings that is asked for a pencil drawing of a silver fish on a lake would
draw half of a pencil, of a medal and of a lake.
"""

from __future__ import annotations

import re
from math import dist
from typing import NamedTuple

from guidance.emoji import is_name
from guidance.instruct import COLOURS, PAIRS, STYLES, Colour, article

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


# --- what a thing only has -----------------------------------------------------------------------

_LIMBS = "eyes?|eyebrows|nose|mouth|lips|teeth|tongue|ears?|cheeks|arms?|hands?|legs?|feet|tail"
_OWN = (
    f"(?:{_LIMBS}|hair|beard|moustache|mustache|mane|wings|horns?|antlers|tusks|trunk|beak|fins|"
    "skin|fur|wool|feathers|scales|petals|leaves|branches|roots|thorns|stem|roof|windows?|doors?|"
    "chimney|walls|wheels?|sails?|handle|lid)"
)
_WORN = (
    "(?:glasses|sunglasses|scarf|dress|shirt|t-shirt|sweater|jacket|coat|raincoat|skirt|pants|"
    "trousers|jeans|socks|shoes|boots|gloves|uniform)"
)
_HOLDERS = frozenset(  # of what others have or wear
    "table bottle tray basket shelf box bag closet wardrobe drawer rack counter bar shop store "
    "wall garden room street".split()
)
_COUNTED = "two|three|four|five|six|some|many"
_WORD = rf"(?!(?:and|or|of|in|on|with|{_COUNTED})\b)[\w-]+ "
_ITEM = rf"(?:{_WORD}){{0,3}}?(?:{_OWN}|{_WORN})"
_END = (
    r"(?=$|,| (?:and|or|but|on|in|at|by|under|over|above|below|beneath|behind|before|next|beside|"
    r"near|against|with|who|that|which|from|to|through|while|\w+ing)\b)"
)
_HAS = re.compile(
    rf"(?<!face) (?:(?:with|wearing) {_ITEM}(?:(?:,| and|, and) {_ITEM})*|"
    rf"in (?:{_WORD}){{0,3}}?{_WORN}){_END}",
    re.IGNORECASE,
)
_PART = re.compile(rf"(?:{_OWN}|{_WORN})(?: (?:on|in|at) .+)?$", re.IGNORECASE)
_OF_IT = re.compile(
    r"\b(?:that|who|which) (?:has|have|wears?)"
    rf"(?= (?:{_WORD}){{0,3}}?(?:{_OWN}|{_WORN}|hats?|caps?|crowns?)\b)",
    re.IGNORECASE,
)
_ON_ITSELF = re.compile(
    r" (?:on|over|around) (?:his|her|its|their) (?:head|face|neck|nose|back|shoulders?)\b",
    re.IGNORECASE,
)
_LAID = re.compile(rf" with (?:his|her|its) (?:[\w-]+ )?(?:{_LIMBS})$", re.IGNORECASE)
# how a thing looks by what it has, if nothing else is said of it
_PLAIN = rf"(?!(?:and|with|of|in|on|{_COUNTED}|{'|'.join(COLOURS)})\b)[\w-]+"
_SIMPLE = re.compile(rf"(?:an?|the) (?P<thing>(?:{_PLAIN} )*{_PLAIN})", re.IGNORECASE)
_COAT = re.compile(
    rf"(?P<colour>{'|'.join(sorted(COLOURS, key=len, reverse=True))}) "
    r"(?P<coat>fur|wool|feathers|scales|petals|leaves)(?=$|,| and\b)",
    re.IGNORECASE,
)
_BEARD = re.compile(r"\bbeard(?=$|,| and\b)", re.IGNORECASE)
_BEARDED = frozenset("man guy gentleman person grandpa grandfather".split())
_COATED = {
    "petals": frozenset("flower rose tulip daisy lily sunflower orchid hibiscus blossom".split()),
    "leaves": frozenset(("tree",)),
}


def is_part(words: str) -> bool:
    """Whether words end in something that others only have: "her long hair"."""
    return bool(_PART.search(words))


def bare(text: str) -> tuple[str, tuple[str, ...]]:
    """A text without what things in it only have, and what that was: too small for a draft.

    "A cat with green eyes" is a cat; but one with white fur is a white cat, and a man with a beard
    is a bearded man, of whom there are drawings.
    """
    if is_name(text):
        return text, ()
    text = _OF_IT.sub("with", _ON_ITSELF.sub("", text))
    kept, had, start = "", [], 0
    for found in _HAS.finditer(text):
        kept, start, what = kept + text[start : found.start()], found.end(), found.group()
        owner = (kept.split() or [""])[-1].casefold()
        laid = _LAID.match(what) and re.match(r" (?:on|in|at)\b", text[start:])
        if laid or owner in _HOLDERS:  # "with his feet on a table", "a table with two glasses"
            kept += what
            continue
        looks = _looks(kept, owner, what)
        kept = looks or kept
        if not looks or " and " in what:
            had.append(what.strip())
    return kept + text[start:], tuple(had)


def _looks(said: str, owner: str, what: str) -> str:
    """The owner as what it has makes it look; "" if that is not to be drawn."""
    if not (simple := _SIMPLE.fullmatch(said)):
        return ""
    if _BEARD.search(what) and owner in _BEARDED:
        return f"a bearded {owner}"
    coat = _COAT.search(what)
    if coat and owner in _COATED.get(coat["coat"].casefold(), {owner}):
        return article(f"{coat['colour']} {simple['thing']}")
    return ""


def to_draw(text: str) -> str:
    """The words of which a draft is drawn: without a style, with a place that drafts can show."""
    return in_known_place(bare(undress(text)[1])[0])
