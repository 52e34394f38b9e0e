"""An edit instruction becomes a plan, by grammar: "make the car green" recolours the car.

A table of English forms is tried from top to bottom. Nothing is learned and nothing is fetched.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from guidance.emoji import spell_out
from guidance.prompt import clean

KINDS = ("recolour", "replace", "add", "remove", "restyle", "weather", "free")
MOST_CHARACTERS = 300
HELP = (
    'Try "make the car green", "replace the cat with a dog", "add snow", "remove the cup" or '
    '"as a pencil drawing".'
)

Colour = tuple[int, int, int]  # sRGB, 0..255

_PLAIN: dict[str, Colour] = {
    "red": (220, 35, 35),
    "orange": (245, 135, 25),
    "yellow": (250, 215, 45),
    "green": (45, 165, 65),
    "blue": (45, 95, 220),
    "purple": (140, 65, 190),
    "violet": (115, 60, 200),
    "pink": (245, 135, 190),
    "brown": (125, 78, 42),
    "black": (22, 22, 22),
    "white": (250, 250, 250),
    "gray": (130, 130, 130),
    "grey": (130, 130, 130),
    "teal": (25, 150, 150),
    "turquoise": (60, 205, 195),
    "cyan": (40, 220, 235),
    "magenta": (225, 40, 170),
    "gold": (215, 170, 50),
    "golden": (215, 170, 50),
    "silver": (190, 192, 198),
    "beige": (235, 220, 185),
    "navy": (20, 30, 85),
    "lime": (160, 225, 45),
    "maroon": (120, 25, 40),
    "olive": (120, 125, 45),
}


def _mix(colour: Colour, other: int, share: float) -> Colour:
    red, green, blue = (round(c + (other - c) * share) for c in colour)
    return red, green, blue


# Every colour that has a name: the plain ones, and each of them light and dark ("dark green").
COLOURS: dict[str, Colour] = {
    **_PLAIN,
    **{f"light {name}": _mix(colour, 255, 0.55) for name, colour in _PLAIN.items()},
    **{f"dark {name}": _mix(colour, 0, 0.5) for name, colour in _PLAIN.items()},
}
# Ways to draw, by their names in guidance/styles.py, and words for them; the first stands in plans.
# In all tables "color" is spelled "colour"; both are read.
STYLES: dict[str, tuple[str, ...]] = {
    "pencil": ("pencil drawing", "pencil sketch", "sketch", "drawing", "line drawing", "pencil"),
    "coloured_pencil": ("coloured pencil drawing", "coloured pencil", "coloured pencils"),
    "oil": ("oil painting", "oil paint", "oil", "oils", "painting"),
    "watercolour": ("watercolour painting", "watercolour", "watercolours", "aquarelle"),
    "pixel_art": ("pixel art", "pixel", "pixels", "pixelated", "8-bit", "8 bit"),
    "blueprint": ("blueprint", "technical drawing", "construction drawing"),
    "neon": ("neon sign", "neon lights", "neon light", "neon"),
}
# Weather and times of day, by their names there, and words for them; the first stands in plans.
WEATHERS: dict[str, tuple[str, ...]] = {
    "snow": ("snow", "snowy", "snowing", "snowfall", "snowstorm", "blizzard", "winter", "wintry"),
    "rain": ("rain", "rainy", "raining", "drizzle", "storm", "stormy", "thunderstorm"),
    "fog": ("fog", "foggy", "mist", "misty", "haze", "hazy"),
    "night": ("night", "nighttime", "midnight", "dark", "darkness", "starry night", "moonlight"),
    "sunset": ("sunset", "sunrise", "dusk", "dawn", "twilight", "golden hour", "evening"),
    "sunny": ("sunshine", "sunny", "sunlight", "bright daylight", "daylight", "day", "summer"),
}


@dataclass(frozen=True)
class Plan:
    """What an instruction asks for."""

    kind: str  # one of KINDS
    before: str  # what is there now, "a car"; "" when nobody knows
    after: str  # what shall be there, "a red bus"; "" for remove
    region: str  # where, "car"; "" is everywhere
    how: str = ""  # a name of COLOURS, STYLES or WEATHERS, as the kind asks

    def __str__(self) -> str:
        """In plain words, as a sentence."""
        whole = f"the {self.region}" if self.region else "everything"
        place = f" to the {self.region}" if self.region else ""
        weather = f"Add {self.after}{place or ' everywhere'}."
        if self.how in ("night", "sunset"):
            weather = f"Make it {self.after} {f'at {whole}' if self.region else 'everywhere'}."
        return {
            "recolour": f"Recolour {whole} {self.how}.",
            "replace": f"Replace {whole} with {self.after}.",
            "add": f"Add {self.after}{place}.",
            "remove": f"Remove {whole}.",
            "restyle": f"Redraw {whole} as {self.after}.",
            "weather": weather,
            "free": f'Change {whole} towards "{self.after}".',
        }[self.kind]


class NotUnderstood(ValueError):
    """An instruction that makes no plan; the text says why and which forms work."""


# --- Words ------------------------------------------------------------------------------------


def _any(words: Iterable[str] | str) -> str:
    """Match any one of some words, the longest first."""
    every = words.split(", ") if isinstance(words, str) else words
    return f"(?:{'|'.join(sorted(every, key=len, reverse=True))})"


_STYLE_NAMES = {word: name for name, words in STYLES.items() for word in words}
_WEATHER_NAMES = {word: name for name, words in WEATHERS.items() for word in words}
PAIRS = {  # two words for one colour
    "baby blue": "light blue",
    "forest green": "dark green",
    "hot pink": "magenta",
    "lime green": "lime",
    "navy blue": "navy",
    "neon green": "lime",
    "olive green": "olive",
    "royal blue": "blue",
    "sky blue": "light blue",
}
_NO_ARTICLE = frozenset(  # masses, and plurals without an s
    "snow rain fog water grass sand smoke ice bread rice butter cheese hair fur lightning sunshine "
    "furniture clothing milk coffee tea juice wine lemonade honey garlic popcorn spaghetti pasta "
    "chocolate meat soap wood mud moss money seaweed art mist darkness corn salt ginger "
    "people men women children mice geese feet teeth cattle".split()
)
_POLITE = re.compile(
    r"(?:(?:hello|hi|hey|ok|okay|now|then|and|just|maybe|please|pls|kindly|let's|lets|let us|"
    r"(?:can|could|would|will) you|i(?:'d like|'d love| would like| would love| want| wish| need)"
    r"(?: (?:you )?to(?: see| have)?)?|(?:how|what) about|(?:what|as) if|show me|give me|try to) )*"
    r"(?P<words>.*?)(?: (?:please|pls|thanks|thank you|instead|now|for me|too))*"
)
_IT = r"(?:it|this|that|one|them|these|those|him|her|(?:the |its )?colour|the (?:thing|object))"
_ALL = (
    r"(?:(?:the |this |my )?(?:whole |entire )?(?:picture|image|photo|photograph|scene|view|style|"
    r"weather|season|day|night|time of day)|the whole thing|everything|all(?: of it)?)"
)
_POINTS = re.compile(f"{_IT}|{_ALL}")
_ARTICLES = re.compile(
    r"^(?:(?:a|an|the|some|any|this|that|these|those|my|your|his|her|its|our|their|all|every|each|"
    r"another|both|of) )+"
)
_NUMBERS = re.compile(r"^(?:\d+|two|three|four|five|six|many|several|few) ")
_PLACE = re.compile(
    r" (?:on|in|at|by|near|next to|behind|beside|below|above|under|over|inside|around|between|"
    r"with|without|from|to|that|which|who|wearing|holding) .*"
)
_SIDE = re.compile(r"(?:the )?(?:\w+ )?(?:left|right|top|bottom|middle|cent(?:er|re)|corner|side)")
_AT = _any(
    "to, on, onto, in, into, at, above, over, under, below, behind, beside, next to, near, around, "
    "inside, between, in front of, on top of, to the left of, to the right of"
)
_INTO = _any("into, to, to be, to become, as, like, look like, to look like, in the style of")
_LINKS = re.compile(
    rf"^(?:(?:{_INTO}|in|with|at|during|under|by|look|be|become|appear|painted|drawn|all|very|"
    r"really|completely|entirely|totally|it is|it's|it was) )+"
)
_THING_LINKS = re.compile(rf"^(?:(?:{_INTO}|be|become) )+")
_LOOK_LINKS = re.compile(r"^(?:(?:look|be|become|appear|a bit|a little|a lot) )+")
_ADJECTIVES = re.compile(r"(?:(?:very|really|much|more|less) )*[\w-]+(?: and [\w-]+)?")
_COLOUR_WORD = re.compile(rf"(?<![\w-]){_any(COLOURS)}(?![\w-])")
_COLOUR = re.compile(
    rf"(?:an? |the )?(?:colour |shade of )?(?P<name>{_any(COLOURS)})(?: (?:colour|tint|tone|one))?"
)
_STYLE = re.compile(
    rf"(?:an? |the )?(?P<word>{_any(_STYLE_NAMES)})(?: (?:style|look|effect|version|picture))?"
    r"(?: of (?P<of>.+))?"
)
_WEATHER = re.compile(
    r"(?:(?:an?|the|some|more|lots|lot|bit|of|heavy|light|thick|dense|deep|fresh|falling|covered|"
    rf"in) )*(?P<word>{_any(_WEATHER_NAMES)})(?: (?:time|day|weather|scene|sky|season|light))?"
)
_VERB = _any(
    "make, turn, change, convert, transform, paint, repaint, colour, recolour, dye, tint, spray, "
    "draw, redraw, sketch, render, show, set, switch, let, put, have"
)
_ADD = _any("add, insert, include, put, put on, place, hang, there should be, let there be")
_REMOVE = _any("remove, delete, erase, take away, take out, get rid of, hide, without, no, no more")
_SAY_NOTHING = frozenset(
    re.findall(
        r"\w+", f"{_VERB}{_ADD}{_REMOVE}{_INTO} replace swap with look please thanks hello hi now"
    )
) | {"it", "this", "that", "a", "an", "the", "in"}
_TWO = re.compile(
    r".* (?:and|then)(?: then| also)? (?:make|turn|add|remove|replace|paint|put) .*|"
    rf".* {_any(COLOURS)} and the .*"
)
_CANNOT = re.compile(
    r"(?:don't|do not|never|undo|move|shift|rotate|flip|crop|zoom|resize|what|why|who|how|where|"
    r"when|is|are)(?: .*)?"
)


@cache
def things() -> tuple[str, ...]:
    """Everyday things one can draw, singular and sorted: words for a CLIP to choose from."""
    text = Path(__file__).with_name("things.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(things())


_ENDINGS = (
    *(("", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", "")),
    *(("mice", "mouse"), ("geese", "goose"), ("feet", "foot"), ("teeth", "tooth")),
)


def _single(noun: str) -> str:
    """The singular, if it is a thing of the list; else the noun as it is."""
    tried = (noun.removesuffix(many) + one for many, one in _ENDINGS if noun.endswith(many))
    return next((word for word in tried if word in _vocabulary()), noun)


def _listed(noun: str) -> bool:
    return _single(noun) in _vocabulary()


def ends_in_thing(words: str) -> bool:
    """Say whether words end in a thing of the list: "an old red bus", "three cats"."""
    last = words.split()[-3:]
    return any(_listed(" ".join(last[start:])) for start in range(len(last)))


def article(words: str) -> str:
    """Put "a" or "an" before a thing: "an old car"; plurals and masses have none."""
    head = (_PLACE.sub("", words).split(" of ")[0].split() or [""])[-1]
    plural = head.endswith("s") and not re.search(r"(?:ss|us|is|'s|os|gas|lens|canvas)$", head)
    if not words or plural or head in _NO_ARTICLE or _NUMBERS.match(words):
        return words
    vowel = re.match(r"(?!uni|uku|use|ute|eu|ewe|one)[aeiou]|hour|x-ray|8|11|18", words)
    return f"{'an' if vowel else 'a'} {words}"


@dataclass(frozen=True)
class _Thing:
    """What a few words name, without articles, numbers and places."""

    words: str = ""  # "old dark blue car"
    noun: str = ""  # "old car"
    colour: str = ""  # "dark blue"

    def painted(self, colour: str) -> str:
        """The thing in another colour: "an old green car"."""
        words = self.words if self.colour else f"{colour} {self.words}"
        words = _COLOUR_WORD.sub(colour, words, count=1) if self.colour else words
        return article(words) if self.noun else colour


def _thing(text: str) -> _Thing:
    words = _NUMBERS.sub("", _PLACE.sub("", _ARTICLES.sub("", text)))
    found = None if _listed(words) else _COLOUR_WORD.search(words)  # "orange juice" is no colour
    colour = found.group() if found else ""
    noun = _COLOUR_WORD.sub("", words, count=1) if found else words
    return _Thing(words, " ".join(noun.split()), colour)


def _where(text: str, seen: _Thing) -> _Thing:
    """The thing that words point at: "it" is what is seen, "the red" its red part."""
    if not _POINTS.fullmatch(text):
        text = re.sub(r"^(?:the )?colour of |(?:'s)? colour$", "", text)
    if _POINTS.fullmatch(text):
        return seen if re.fullmatch(_IT, text) else _Thing()
    thing = _thing(text)
    words = f"{thing.colour} {seen.noun}".strip()
    return thing if thing.noun else _Thing(words, seen.noun, thing.colour)


def _colour(text: str) -> str:
    found = _COLOUR.fullmatch(text)
    is_fruit = re.match(r"an? ", text) and _listed(_ARTICLES.sub("", text))  # "an orange"
    return found["name"] if found and not is_fruit else ""


def _weather(text: str) -> str:
    found = _WEATHER.fullmatch(_LINKS.sub("", text))
    return _WEATHER_NAMES[found["word"]] if found else ""


def _same(noun: str, seen: str) -> bool:
    """Say whether a noun can mean what is seen: "bus" a school bus, "old bus" a bus."""
    one, other = _single(noun), _single(seen)
    wider = one.endswith(f" {other}") and not _listed(one)  # but a hot dog is no dog
    return bool(seen) and (one == other or other.endswith(f" {one}") or wider)


def _is_thing(text: str) -> bool:
    """Say whether words name a thing: "a wombat", "red bus"; not "a bit older", "spooky"."""
    words = _thing(text).words.split()
    if not words or _PLACE.match(f" {text}") or _POINTS.match(f"the {words[-1]}"):
        return False
    if re.match(r"an? (?!bit |little |lot )", text):
        return True
    if re.search(r" (?:the|an?|my|it) ", " ".join(words)):  # "brighten the sky"
        return False
    known = any(_listed(" ".join(words[-n:])) for n in (1, 2, 3))
    return (
        known and len(words) <= 4 and words[0] not in ("it", "more", "less", "too", "very", "not")
    )


# --- Plans ------------------------------------------------------------------------------------


def _refuse(reason: str) -> NotUnderstood:
    return NotUnderstood(f"{reason} {HELP}")


def _recolour(place: _Thing, colour: str) -> Plan:
    return Plan("recolour", article(place.words), place.painted(colour), place.noun, colour)


def _remove(seen: _Thing, where: str, what: str) -> Plan:
    place = _where(where, seen)
    if re.fullmatch(_ALL, where):
        raise _refuse("Something shall be removed, but which thing?")
    return Plan("remove", article(place.words), "", place.noun)


def _add(seen: _Thing, where: str, what: str) -> Plan | None:
    place = _Thing() if not where or _SIDE.fullmatch(where) else _where(where, seen)
    before = article(place.words or seen.words)
    if re.fullmatch(_IT, what):
        return None
    if colour := _colour(what):
        return _recolour(place if where else seen, colour)
    if how := _weather(what):
        return Plan("weather", before, WEATHERS[how][0], place.noun, how)
    return Plan("add", before, article(_ARTICLES.sub("", what)), place.noun)


def _look(seen: _Thing, where: str, what: str) -> Plan | None:
    """Give a place a colour, a style or a weather."""
    place, look = seen if _weather(where) else _where(where, seen), _LINKS.sub("", what)
    before = article(place.words or seen.words)
    region = "" if _POINTS.fullmatch(where) or _weather(where) else place.noun
    if colour := _colour(look):
        return _recolour(place, colour)
    if style := _STYLE.fullmatch(look):
        of = _where(style["of"], seen) if style["of"] else _Thing()
        if not of.noun or not place.noun or _same(of.noun, place.noun):
            how, before = _STYLE_NAMES[style["word"]], article(of.words) or before
            return Plan("restyle", before, article(STYLES[how][0]), region, how)
    how = _weather(what)
    if how and not (region and look == "dark"):  # a dark door is no night
        return Plan("weather", before, WEATHERS[how][0], region, how)
    return None


def _change(seen: _Thing, where: str, what: str) -> Plan | None:
    """Give a place a look, or put a thing there, as the words say."""
    thing = _THING_LINKS.sub("", what)
    return _look(seen, where, what) or (_swap(seen, where, thing) if _is_thing(thing) else None)


def _replace(seen: _Thing, where: str, what: str) -> Plan | None:
    """Put a thing in a place; "a painting" is a thing here, "red" and "snow" are not."""
    look = None if _STYLE.fullmatch(what) else _look(seen, where, what)
    return look or _swap(seen, where, what)


def _swap(seen: _Thing, where: str, what: str) -> Plan:
    place, thing, words = _where(where, seen), _thing(what), _ARTICLES.sub("", what)
    before, after, region = article(place.words), article(words), place.noun
    narrower = place.noun.endswith(f" {thing.noun}")  # a bus, where a school bus is seen
    if _same(thing.noun, place.noun):
        if thing.colour:
            after = place.painted(thing.colour) if narrower else after
            return Plan("recolour", before, after, region, thing.colour)
        if how := _weather(words[len(thing.words) :].strip()):
            return Plan("weather", before, WEATHERS[how][0], "", how)
        if words != place.words and not narrower:
            return Plan("free", before, after, region)
    return Plan("replace", before, after, region)


def _cuts(words: str) -> list[tuple[str, str]]:
    """Cut words in two at each of the last spaces: "the car dark", "green" comes last."""
    spaces = [i for i, char in enumerate(words) if char == " "][-12:]
    return [(words[:i], words[i + 1 :]) for i in spaces]


_OPEN = re.compile(  # a place does not end like this
    r"(?:.* )?(?:an?|the|my|to|into|in|as|like|be|look|very|more|less|bit|and|of|with|at|on)"
)


def _look_in(seen: _Thing, where: str, what: str) -> Plan | None:
    """Find a place and its look with nothing between; best where the place is a known thing."""
    found = [
        (bool(_POINTS.fullmatch(place)) or _listed(_where(place, seen).noun), plan)
        for place, look in _cuts(what)
        if not _OPEN.fullmatch(place) and (plan := _look(seen, place, look))
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _half(seen: _Thing, where: str, what: str) -> None:
    if _POINTS.fullmatch(where) or _listed(_thing(where).noun):
        raise _refuse(f'It says to change "{where}", but not into what.')


def _free(what: str, seen: _Thing) -> Plan:
    """Take any other words as the goal, and a thing that they name as the place."""
    if all(word in _SAY_NOTHING for word in what.split()):
        raise _refuse(f'"{what}" names nothing to change, and no colour or style.')
    if _PLACE.match(f" {what}"):  # "in a forest"
        return Plan("free", article(seen.words), f"{article(seen.words)} {what}".strip(), "")
    for place, look in reversed(_cuts(re.sub(rf"^{_VERB} ", "", what))):
        thing, look = _where(place, seen), _LOOK_LINKS.sub("", look)
        points = _POINTS.fullmatch(place)
        if points or (_listed(thing.noun) and place != thing.words and not look.startswith("and ")):
            if look.endswith("s") and _is_thing(look):  # "make the cats dogs"
                return _swap(seen, place, look)
            after = f"{article(thing.words)} {look}".strip()
            if thing.words and _ADJECTIVES.fullmatch(look):
                after = article(f"{look} {thing.words}")
            before = article(thing.words or seen.words)
            return Plan("free", before, after, "" if points else thing.noun)
    parts = what.split()
    spans = (" ".join(parts[i : i + n]) for n in (3, 2, 1) for i in range(len(parts)))
    region = next((span for span in spans if _listed(span) and span not in COLOURS), "")
    return Plan("free", article(region or seen.words), what, region)


_THING = r"(?P<what>(?:an?|some) .+)"
_ON = rf"(?: {_AT} (?P<where>.+))?"
# Tried from top to bottom, against all words. A form without "where" is about it, what is seen. A
# builder that returns None leaves the words to the next row; what no row takes is `_free`.
_FORMS: tuple[tuple[Callable[[_Thing, str, str], Plan | None], str], ...] = (
    (_remove, rf"{_REMOVE} (?P<where>.+?)(?: (?:from|off|out of) .+)?"),
    (_remove, r"take (?P<where>.+?) (?:away|out|off)"),
    (
        _replace,
        r"(?:replace|swap(?: out)?|switch|exchange|trade) (?P<where>.+?) (?:with|by|for) "
        r"(?P<what>.+)",
    ),
    (_replace, r"substitute (?P<what>.+?) for (?P<where>.+)"),
    (
        _replace,
        r"(?:(?:use|put|draw) )?(?P<what>.+?) (?:instead of|rather than|in place of) (?P<where>.+)",
    ),
    (_add, rf"{_ADD} (?P<what>.+?)(?: on)?{_ON}"),
    (_add, rf"(?:make it |let it )?(?P<what>{_any(_WEATHER_NAMES)}) {_AT} (?P<where>.+)"),
    (_add, rf"(?:draw|paint|sketch) (?P<what>(?:an?|some) .+?) {_AT} (?P<where>.+)"),
    (_add, rf"with (?P<what>(?!{_any(_STYLE_NAMES)}$).+?){_ON}"),
    (_add, r"(?:wearing|holding|carrying) (?P<what>.+)"),
    (_look, r"give (?P<where>.+?) (?P<what>(?:an?|the) [\w ]+ (?:look|colour|tint|tone))"),
    (_add, rf"give (?P<where>.+?) {_THING}"),
    (_add, r"(?:cover|fill|decorate) (?P<where>.+?) (?:with|in) (?P<what>.+)"),
    (
        _add,
        r"(?:make |let )?(?P<where>.+?) (?:(?:should|must|to) )?(?:wear|hold|have) (?P<what>.+)",
    ),
    (_look, r"(?P<what>sketch) (?:it|this)"),
    (_change, r"(?:can|could|should) (?P<where>.+?) (?:be|become|look) (?P<what>.+)"),
    (_change, rf"{_VERB} (?P<where>.+?) (?P<what>{_INTO} .+)"),
    (
        _change,
        r"(?P<where>.+?) (?:should|shall|must|needs? to|has to|is|are|was|were|becomes?|"
        r"to(?= (?:be|look))) (?P<what>.+)",
    ),
    (_look_in, rf"(?:{_VERB} |(?=(?:the|my|it|this|everything) ))(?P<what>.+)"),
    (_change, rf"{_VERB} (?P<where>{_IT}) (?P<what>.+)"),
    (_change, rf"{_VERB} (?P<where>.+?) (?P<what>an? .+)"),
    (_half, r"(?:replace|swap|change|turn|convert|repaint|paint|colour|dye|tint) (?P<where>.+)"),
    (_look, rf"{_VERB} (?P<what>.+)"),
    (
        _change,
        r"(?:(?:make|draw|paint|sketch|show|create|generate) (?=an? ))?"
        rf"(?!{_VERB} (?:the|my|it|this) )(?P<what>.+)",
    ),
)
_ROWS = tuple((build, re.compile(pattern)) for build, pattern in _FORMS)


def _plain(text: str) -> str:
    """Lower case words with single spaces; emoji spelled out, colours by their names."""
    text = spell_out(clean(text)).lower().replace("’", "'").replace("color", "colour")
    text = " ".join(re.sub(r"[^\w' -]|_|(?<!\w)['-]|['-](?!\w)", " ", text).split())
    next_colour = rf"[ -](?={_any(_PLAIN)}\b)"
    text = re.sub(rf"\b(?:light|lighter|pale|paler|pastel){next_colour}", "light ", text)
    text = re.sub(rf"\b(?:dark|darker|deep|deeper){next_colour}", "dark ", text)
    text = re.sub(rf"\b(?:bright|vivid){next_colour}", "", text)
    # "make the sky blue" means a sky that shall be blue
    pair = rf"(?<!the )\b{_any(PAIRS)}\b|\b{_any(PAIRS)}\b(?= \w)"
    return re.sub(pair, lambda found: PAIRS[found.group()], text)


def _read(instruction: str) -> str:
    """Find the words that ask for something; refuse what cannot be one change in English."""
    text = "" if len(instruction) > MOST_CHARACTERS else _plain(instruction)
    letters = [unicodedata.name(char, "") for char in text if char.isalpha()]
    if max(len(instruction), len(text)) > MOST_CHARACTERS:
        raise _refuse(f"That is too long: {MOST_CHARACTERS} characters at most.")
    if not letters:
        raise _refuse("There are no words in it." if instruction.strip() else "Nothing was typed.")
    if not all(name.startswith("LATIN") for name in letters):
        raise _refuse("Only English words are understood.")
    found = _POLITE.fullmatch(text)
    words = (found["words"] if found else "") or text
    if _TWO.fullmatch(words):
        raise _refuse(f'"{words}" is more than one change; ask for one after the other.')
    if _CANNOT.fullmatch(words):
        raise _refuse(f'"{words}" does not say what shall look different.')
    return words


def understand(instruction: str, sees: str = "") -> Plan:
    """Make a plan of an instruction such as "make it green"; `NotUnderstood` says what works.

    `sees`: what the picture shows ("bus"), used where the instruction does not say.
    """
    words, seen = _read(instruction), _thing(_plain(sees[:MOST_CHARACTERS]))
    for build, pattern in _ROWS:
        if found := pattern.fullmatch(words):
            groups = found.groupdict()
            plan = build(seen, groups.get("where", "it") or "", groups.get("what") or "")
            if plan:
                return plan
    return _free(words, seen)
