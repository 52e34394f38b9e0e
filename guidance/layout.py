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
from guidance.phrases import bare, in_known_place, is_part, is_place, undress


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
_ABOVE = _HIGH, _LOW = Place(0.5, 0.27, 0.46), Place(0.5, 0.73, 0.46)
_BELOW = _LOW, _HIGH
_ATOP = _UPON, _UNDER = Place(0.5, 0.3, 0.46), Place(0.5, 0.69, 0.54)  # they touch
_HATTED = _UNDER, _UPON
_STACK = Place(0.5, 0.2, 0.34), Place(0.5, 0.48, 0.34), Place(0.5, 0.79, 0.38)
_THREE = (0.18, 0.7), (0.5, 0.7), (0.82, 0.7)
_ROWS = {
    2: BESIDE,
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


def _row(count: int, place: Place) -> tuple[Place, ...]:
    """So many beside each other, standing where one would stand."""
    if count == 1:
        return (place,)
    side = min(place.side, 0.96 / count)
    y = place.y + (place.side - side) / 2
    return tuple(Place((k + 0.5) / count, y, side) for k in range(count))


# --- what is said between two things -------------------------------------------------------------

# what somebody does with something: they are drawn beside each other, for no drawing shows it
_DOES = (
    "holding(?! hands)|carrying|lifting|eating|biting|licking|drinking|sipping|reading|writing|"
    "watching|feeding|watering|chasing|following|catching|hunting|fighting|attacking|meeting|"
    "facing|greeting|hugging|kissing|petting|pulling|pushing|dragging|throwing|tossing|kicking|bouncing|"
    "juggling|playing|painting|drawing|cutting|chopping|cooking|baking|making|building|fixing|"
    "repairing|washing|cleaning|brushing|combing|walking|leading|guarding|rescuing|saving|"
    "stealing|selling|buying|opening|flying|steering|rowing|sharing|offering|giving|picking|"
    "planting|digging|visiting|using|wielding"
)
# how it stands or moves there, which no draft shows either
_STILL = re.compile(
    " (?:(?:is|are) )?(?:sitting|standing|lying|sleeping|asleep|resting|waiting|perched|parked|"
    "hiding|hanging|playing|reading|knitting|working|smiling|laughing|singing|looking|dancing|"
    "jumping|running|walking|flying|swimming|floating)(?= (?:on|in|next|beside|near|under|beneath|"
    r"below|above|over|around|through|along|across|down|up|off|out|into|to|with)\b)"
)
_FROM = re.compile(r" (?:from|out of|off) (?:an?|the|his|her|its) [\w' -]+$")
# on these a thing is and does not stand, and nobody stands on those
_FLAT = (
    "grass|field|meadow|sand|beach|sea|water|ocean|lake|river|ice|snow|street|road|desert|mountains?|"
    "background|backdrop|ground|floor|wall|paper|page|screen|fire|circle|square|triangle|diamond|"
    "heart|phone|telephone|computer|laptop|bus|train|plane|airplane|head|face"
)
_OPEN = (  # out of these it looks
    "box|vase|cup|mug|bowl|basket|bucket|pot|bag|cart|boat|canoe|ship|car|truck|nest|bathtub|boot"
)
_HATS = "(?:hat|cap|crown|tiara|helmet|beret|turban|sombrero|bonnet|headdress)s?"
_AN = r"(?:an?|the|his|her|its) "
_SOME = r"(?:(?!(?:and|or|of|with|in|on)\b)[\w-]+ ){0,2}"  # words that describe what follows
_LAST = r"(?: (?:on|in|at|against) [\w -]+)?$"  # the thing is the last one, but for its ground
# words between two things -> where the first and the second stand; what comes first is read first
_BETWEEN = {
    r"(?:to |on )?the left of|left of": BESIDE,
    r"(?:to |on )?the right of|right of": (_RIGHT, _LEFT),
    r"above|over": _ABOVE,
    r"below|under|beneath": _BELOW,
    rf"on(?: top of)?(?= (?:an?|the) (?!{_SOME}(?:{_FLAT})\b{_LAST}))": _ATOP,
    rf"in(?= (?:an?|the) {_SOME}(?:{_OPEN}){_LAST})": _ATOP,
    rf"(?:riding|driving)(?= {_AN})": _ATOP,
    rf"(?:with|wearing|in)(?= (?:{_AN})?{_SOME}{_HATS}{_LAST})": _HATTED,
    f"(?:{_DOES})": BESIDE,
    r"(?:looking|staring|pointing|barking|waving) at|(?:talking|whispering|singing) to": BESIDE,
    rf"(?:who|that) (?!(?:is|was|has|looks|likes|lives)\b)[a-z]+s(?= {_AN})": BESIDE,
    r"and|next to|beside|near|around|(?<!face )with": BESIDE,
}
_LIST = re.compile(r",? and |, (?=(?:an?|the|some|two|three|four|five) )")
_FRAME = re.compile(r"^(?:(?:an?|the) )?(?:photo|photograph|picture|portrait|image|icon) of ")
_REMARK = re.compile(r", (?!and\b|(?:an?|the|some|two|three|four|five) ).*")  # ", digital art"
_MOST_SPACES = 40  # of longer texts grammar tells nothing for certain
_COUNTS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6} | {str(n): n for n in _ROWS}
_MANY = re.compile(rf"(?P<count>{'|'.join(_COUNTS)}) (?P<thing>.+)")
_FLOCK = re.compile(
    r"(?:an? |the )?(?:[\w-]+ )?(?:flock|herd|school|shoal|swarm|fleet|colony|litter|group) of "
    r"(?P<thing>(?!(?:\w+ )?(?:people|friends)\b).+)"
)
_NO_THING = re.compile(r"(?:on|in|at|to|by|up|down|with|from|along|through|out|off|for|of)\b")
_GROUND = re.compile(r" (?:on|in|at|against) .+|,.+")
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
_ONE_OF = {
    "people": "person", "children": "child", "ladies": "lady", "babies": "baby", "birds": "bird",
}  # fmt: skip


def lay_out(text: str) -> Layout | None:
    """Two to six things, or a crowd of them, and where they stand; None for anything else."""
    words = _FRAME.sub("", _REMARK.sub("", _STILL.sub("", " ".join(text.casefold().split()))))
    if is_name(words) or words.count(" ") > _MOST_SPACES:  # there is one drawing of it, or none
        return None
    if (found := _FLOCK.fullmatch(words)) and _is_mere(thing := found["thing"]):
        return Layout((_each(_GROUND.sub("", thing)),) * len(_CROWD), _CROWD)
    parts = _LIST.split(words)
    listed = _singles(parts)
    if len(listed) in _ROWS and (len(parts) == 1 or len(listed) > 2):
        return Layout(listed, _ROWS[len(listed)])
    return _related(words)


@lru_cache(maxsize=1024)  # or a long chain would be read again for each of its parts
def _related(words: str) -> Layout | None:
    """What stands where, if words between two things say it; the first of them may be several."""
    for between, places in _BETWEEN.items():
        for cut in re.finditer(rf" (?P<link>{between}) ", words):
            first, second = words[: cut.start()], _FROM.sub("", words[cut.end() :])
            owned = cut["link"] == "with" and is_part(second)
            if owned or _NO_THING.match(second) or not (_is_named(first) and _is_named(second)):
                continue
            if layout := _arranged(first, second, places):
                return layout
    return None


def _arranged(first: str, second: str, places: tuple[Place, Place]) -> Layout | None:
    """Two parts of a text as single things in their places; None if it cannot be meant so."""
    if places in (BESIDE, (_RIGHT, _LEFT)):
        return _beside(first, second, places)
    return _hatted(first, second) if places == _HATTED else _above(first, second, places)


def _beside(first: str, second: str, places: tuple[Place, Place]) -> Layout:
    """All that both name, in rows if they are many; of too many one each."""
    singles = _singles([first, second])
    if len(singles) == 2:
        return Layout(singles, places)
    if len(singles) in _ROWS:
        return Layout(singles, _ROWS[len(singles)])
    return Layout((_one(first), _one(second)), places)


def _hatted(wearer: str, hat: str) -> Layout | None:
    """The hat on its wearer; several wearers are shown without."""
    several = _singles([wearer]) if _MANY.match(wearer) else ()
    if len(several) in _ROWS:
        return Layout(several, _ROWS[len(several)])
    return None if several or _related(wearer) else Layout((wearer, hat), _HATTED)


def _above(first: str, second: str, places: tuple[Place, Place]) -> Layout | None:
    """One above the other, or several; or three as a stack."""
    over, under = _related(first), _related(second)
    if places == _ATOP and under:  # in "a cat on a chair near a dog" the dog carries nothing
        return None
    if over and places == _ATOP and over.places in (_ATOP, _HATTED):
        upper, middle, lower = _STACK
        order = (middle, upper, lower) if over.places == _HATTED else _STACK
        return Layout((*over.things, second), order)
    if under and not over and places == _ABOVE and under.places == _ATOP:
        return Layout((first, *under.things), _STACK)
    firsts, seconds = _singles([first]), _singles([second])
    if any(part and part.places not in _ROWS.values() for part in (over, under)):
        return None
    if not firsts or not seconds or len(firsts + seconds) > max(_ROWS):
        return None
    return Layout(firsts + seconds, _row(len(firsts), places[0]) + _row(len(seconds), places[1]))


def _singles(parts: Sequence[str]) -> tuple[str, ...]:
    """Each thing of some, "two cats" and "a dog" are three; () if one of them is no mere thing."""
    singles: list[str] = []
    for part in parts:
        found = _MANY.fullmatch(part)
        thing = _FROM.sub("", found["thing"] if found else part)
        inner = _related(thing)
        if found and not inner and _is_named(alone := _DOING.sub("", thing)):
            thing = alone  # "two ladies playing cards" are two ladies
        if not _is_named(thing) or (found and inner):
            return ()
        if inner and inner.places in _ROWS.values():  # "a rabbit drinking tea"
            singles += inner.things
        elif inner and inner.places == _HATTED:  # beside others the hat is left to the loop
            singles.append(inner.things[0])
        else:
            singles += [_each(thing)] * _COUNTS[found["count"]] if found else [thing]
    return tuple(singles)


def _one(words: str) -> str:
    """One of what may be several: "five dogs" as dogs."""
    found = _MANY.fullmatch(words)
    return _each(found["thing"]) if found else words


def _is_named(words: str) -> bool:
    """Whether words end in somebody, or a thing with a name, whatever ground is said after."""
    head = _GROUND.sub("", words)
    somebody = _someone((head.split() or [""])[-1]) is not None
    return (somebody or ends_in_thing(head)) and not is_place(words)


def _is_mere(words: str) -> bool:
    """Whether words name some things of a kind, of which nothing more is said."""
    return _is_named(words) and not _MANY.match(words) and not _related(words)


def _someone(word: str) -> str | None:
    """The one of several people, or the same word; None if it names nobody."""
    one = _ONE_OF.get(word, f"{word.removesuffix('men')}man" if word.endswith("men") else word)
    return next(
        (o for o in (one, one.removesuffix("s"), one.removesuffix("es")) if o in _PEOPLE), None
    )


def _each(several: str) -> str:
    """One of several people, or birds; other things are read in the plural as well."""
    head = _GROUND.sub("", several)
    *others, last = head.split()
    one = _ONE_OF.get(last) or _someone(last)
    return " ".join((*others, one)) + several[len(head) :] if one else several


# --- what is not laid out ------------------------------------------------------------------------

_SHOWN = {*COLOURS} | set(
    "sky clouds sea water ocean grass meadow field lawn snow winter night stars beach sand street "
    "mountains road city desert forest woods space sunset background backdrop ground".split()
)
_LINK = "in|on|at|inside|behind"
_WHERE = re.compile(rf"\b(?:{_LINK}) (?:(?:an?|the) )?(?P<place>(?:(?!\b(?:{_LINK})\b)[\w -])+)$")


def left_out(text: str) -> list[str]:
    """What no draft can show of a wish: what things only have, "with green eyes", and a place.

    Of places the one at the end, "in the kitchen".
    """
    words, had = bare(undress(text)[1])
    words = in_known_place(words).casefold()
    if not (found := _WHERE.search(words, 1)):
        return list(had)
    layout = lay_out(words)
    drawn = layout is not None and any(found.group().endswith(t) for t in layout.things)
    shown = {found["place"], found["place"].split()[-1]} & _SHOWN
    return list(had) if shown or drawn else [*had, found.group()]
