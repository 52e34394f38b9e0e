"""What a prompt says of the things in it: which, where, and how many.

By grammar: no pocket CLIP tells left from right, and a memory that is asked for a cat and a dog at
once would draw half of each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from guidance.emoji import is_name
from guidance.instruct import COLOURS, ends_in_thing
from guidance.phrases import is_place, only_had, to_draw


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
_ATOP = _UPON, _UNDER = Place(0.5, 0.3, 0.46), Place(0.5, 0.69, 0.54)  # they touch
_SEVERAL_UPON = {
    2: tuple(Place(x, 0.3, 0.4) for x in (0.3, 0.7)),
    3: tuple(Place(x, 0.33, 0.32) for x in (0.18, 0.5, 0.82)),
}
# what a thing may be on without standing on top of it, and what it may look out of
_GROUNDS = (
    "grass|field|meadow|sand|beach|sea|water|ocean|lake|river|ice|snow|street|road|desert|mountains?|"
    "background|backdrop|ground|floor|wall|paper|page|screen|fire|circle|square|triangle|diamond|heart"
)
_OPEN = (
    "box|vase|cup|mug|bowl|basket|bucket|pot|bag|cart|boat|canoe|ship|car|truck|nest|bathtub|boot"
)
_HATS = "hat|cap|crown|tiara|helmet|beret|turban|sombrero|bonnet|headdress"
_HEAD = r"(?: (?:on|in|at|against) .+)?$"  # nothing but a ground comes after
_ONE = r" (?:an?|the|his|her|its) (?:[\w-]+ ){0,2}"
# what is done with things of which no article is said
_HOLDS = (
    "(?:holding(?! hands)|carrying|eating|drinking|reading|feeding|watering|chasing|following|"
    "watching|pulling|pushing|playing|juggling|selling)"
    r"(?! (?:on|in|at|to|by|up|down|with|from|along|through)\b)"
)
# words between two things -> where the first and the second stand
_BETWEEN = {
    rf"(?:with|wearing|in)(?={_ONE}(?:{_HATS}){_HEAD})": (_UNDER, _UPON),
    rf"on(?: top of)?(?= (?:an?|the) (?!(?:[\w-]+ ){{0,2}}(?:{_GROUNDS}){_HEAD}))": _ATOP,
    rf"in(?= (?:an?|the) (?:[\w-]+ ){{0,2}}(?:{_OPEN}){_HEAD})": _ATOP,
    rf"(?:riding|driving)(?={_ONE})": _ATOP,
    _HOLDS: BESIDE,
    "(?:looking|staring|pointing|barking|waving) at|(?:talking|whispering|singing) to": BESIDE,
    rf"(?:who|that) (?!is|looks)[a-z]+s(?={_ONE})": BESIDE,
    rf"(?!wearing|having)[a-z]+ing(?={_ONE})": BESIDE,
    r"(?:to |on )?the left of|left of": (_LEFT, _RIGHT),
    r"(?:to |on )?the right of|right of": (_RIGHT, _LEFT),
    r"above|over": (_HIGH, _LOW),
    r"below|under|beneath": (_LOW, _HIGH),
    r"and|next to|beside|near|(?<!face )with": BESIDE,
}
_MOST_SPACES = 40  # in words that say of six things where they are
_LIST = re.compile(r",? and |, (?=(?:an?|the|some|two|three|four|five) )")
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6} | {str(n): n for n in _ROWS}
_MANY = re.compile(rf"(?P<count>{'|'.join(_COUNTS)}) (?P<thing>.+)")
_FLOCK = re.compile(
    r"(?:an? |the )?(?:[\w-]+ )?(?:flock|herd|school|shoal|swarm|fleet|colony|litter|group) of "
    r"(?P<thing>(?!(?:\w+ )?(?:people|friends)\b).+)"
)
_GROUND = re.compile(r" (?:on|in|at|against) .+|,.+")
# how it stands there, which no draft shows
_STILL = re.compile(
    " (?:(?:is|are) )?(?:sitting|standing|lying|sleeping|asleep|resting|waiting|perched|parked|"
    "playing|reading|knitting|working|hiding|hanging|smiling|laughing|singing|dancing|jumping|"
    "running|walking|flying|swimming|floating)"
    r"(?= (?:on|in|at|next|beside|near|under|beneath|below|above|over|to|with)\b)"
)
# where from or where to, which no draft shows
_WAY = re.compile(
    r" (?:from|out of|off|around|through|along|across|into) (?:an?|the|his|her|its) [\w' -]+$"
)
_DOING = re.compile(r" [a-z]+ing .+")
# people: drafts draw them, but no edit is asked whether it sees them
_PEOPLE = frozenset(
    "person man woman boy girl child kid baby toddler teenager lady gentleman guy friend mother "
    "father mom mum dad brother sister son daughter uncle aunt husband wife grandma grandpa "
    "grandmother grandfather king queen prince princess bride groom fairy elf dwarf mermaid merman "
    "genie wizard witch mage vampire zombie superhero supervillain knight warrior samurai ninja "
    "pirate cowboy astronaut pilot sailor soldier guard policeman officer detective judge lawyer "
    "doctor nurse scientist teacher student artist painter singer musician actor dancer ballerina "
    "clown farmer gardener fisherman cook chef baker butcher waiter waitress mechanic worker "
    "businessman fireman firefighter skier surfer swimmer runner golfer cyclist santa".split()
)
_SEVERAL = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "ladies": "lady",
    "babies": "baby",
}  # fmt: skip


def lay_out(text: str) -> Layout | None:
    """Two to six things, or a crowd of them, and where they stand; None for anything else."""
    words = _WAY.sub("", _STILL.sub("", " ".join(text.casefold().split())))
    if is_name(words) or words.count(" ") > _MOST_SPACES:  # there is one drawing of it, or none
        return None
    if (found := _FLOCK.fullmatch(words)) and _is_named(found["thing"]):
        return Layout((_each(_GROUND.sub("", found["thing"])),) * len(_CROWD), _CROWD)
    listed = _single_things(_LIST.split(words))
    if len(listed) in _ROWS and list(listed) != words.split(" and "):
        return Layout(listed, _ROWS[len(listed)])
    return _related(words)


@lru_cache(maxsize=1024)  # or a long chain would be read again for each of its parts
def _related(words: str) -> Layout | None:
    """Two things between which it is said where they stand; one of them may be several."""
    for between, places in _BETWEEN.items():
        for cut in re.finditer(rf" (?:{between}) ", words):
            things = words[: cut.start()], words[cut.end() :]
            if not all(map(_is_named, things)):
                continue
            if places == _ATOP:
                first, second = map(_related, things)
                if second or (first and first.places != BESIDE):  # "a cat on a chair near a dog"
                    continue
                above = _single_things(things[:1])
                if len(above) in _SEVERAL_UPON:
                    return Layout((*above, things[1]), (*_SEVERAL_UPON[len(above)], _UNDER))
            singles = _single_things(things) if places == BESIDE else ()
            if len(singles) in _ROWS:
                return Layout(singles, _ROWS[len(singles)])
            return Layout(things, places)
    return None


def _single_things(parts: Sequence[str]) -> tuple[str, ...]:
    """Each thing of some, "two cats" and "a dog" are three; () if one of them is no mere thing."""
    singles: list[str] = []
    for part in parts:
        found = _MANY.fullmatch(part)
        thing = found["thing"] if found else part
        inner = _related(thing)
        if found and not inner and _is_named(alone := _DOING.sub("", thing)):
            thing = alone  # "two ladies playing cards" are two ladies
        if not _is_named(thing) or (found and inner):
            return ()
        if inner and inner.places == BESIDE:  # "a rabbit drinking tea"
            singles += inner.things
        else:
            singles += [_each(thing)] * _COUNTS[found["count"]] if found else [thing]
    return tuple(singles)


def _is_named(words: str) -> bool:
    """Whether words end in somebody, or a thing with a name, whatever ground is said after."""
    head = _GROUND.sub("", words)
    somebody = _someone((head.split() or [""])[-1]) is not None
    return (somebody or ends_in_thing(head)) and not is_place(words)


def _someone(word: str) -> str | None:
    """The one of several people, or the same word; None if it names nobody."""
    tried = (word, _SEVERAL.get(word, ""), word.removesuffix("s"), word.removesuffix("es"))
    return next((one for one in tried if one in _PEOPLE), None)


def _each(several: str) -> str:
    """One of several people; things are read in the plural as well."""
    head = _GROUND.sub("", several)
    *others, last = head.split()
    one = _someone(last)
    return " ".join((*others, one)) + several[len(head) :] if one else several


_SHOWN = {*COLOURS} | set(
    "sky clouds sea water ocean grass meadow field lawn snow winter night stars beach sand street "
    "mountains road city desert forest woods space sunset background backdrop ground".split()
)
_LINK = "in|on|at|inside|behind"
_WHERE = re.compile(rf"\b(?:{_LINK}) (?:(?:an?|the) )?(?P<place>(?:(?!\b(?:{_LINK})\b)[\w -])+)$")


def left_out(text: str) -> str:
    """What no draft can show of a wish: what the thing only has, "with green eyes", or where it is.

    Of places those at the end, "in the kitchen"; "" if there is nothing of the kind.
    """
    if had := only_had(text):
        return had
    words = to_draw(text).casefold()
    if not (found := _WHERE.search(words, 1)):
        return ""
    stood_on = (layout := lay_out(words)) and found.group().endswith(layout.things[-1])
    shown = {found["place"], found["place"].split()[-1]} & _SHOWN
    return "" if shown or stood_on else found.group()
