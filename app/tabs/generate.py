"""The first tab: a prompt becomes a picture, and one can watch. What calls what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import gradio as gr

from app.looks import NOTIFIED, NOTIFY
from app.tabs import Studio, generate_parts, making, ready, wording
from app.tabs.common import QUIET, Change, Parts, Visits, connect_seed, say, sentence, welcome
from app.tabs.generate_parts import SIZES, STARTS
from app.tabs.making import Shown, typed

__all__ = ["SIZES", "STARTS", "tab", "typed"]  # what other tabs ask for

# What changes without the visitor's doing.
_CHANGING = "generate stop status preview result several curves actions further send filming film "
_CHANGING += "film_note details reuse finished shown"
_EXAMPLE = "prompt negative quality size seed start init image_prompt generator clip steps views "
_EXAMPLE += "preview result several curves details actions filming status"


def tab(demo: gr.Blocks, studio: Studio) -> Parts:
    """Lay the tab out and connect it."""
    parts = generate_parts.lay_out()
    parts["finished"] = gr.State("")  # the file that is shown
    parts["shown"] = gr.State(Shown())
    visits = Visits()
    _connect_words(demo, studio, parts)
    _connect_runs(demo, studio, parts, visits)
    _connect_pictures(demo, studio, parts, visits)
    connect_seed(parts)
    demo.load(None, None, parts["notify"], js=NOTIFIED, **QUIET)
    parts["notify"].input(None, parts["notify"], parts["notify"], js=NOTIFY, **QUIET)
    return parts


# --- what calls what -------------------------------------------------------------------------


def _connect_words(demo: gr.Blocks, studio: Studio, parts: Parts) -> None:
    """Show what was understood while somebody types; the style is what the words say.

    A style that the words do not say was chosen by hand, and goes into them. Told by `.change`, not
    by `.input`: Gradio sends that twice for a choice, and once for a field that was only left.
    """
    said = gr.State("")

    def understand(prompt: str, negative: str, clip: str) -> tuple[str, str, str]:
        worker = studio.worker()
        unread: list[str] = []
        if worker.done() and not worker.exception():
            unread = wording.unread(worker.result(), prompt, negative, clip)
        read = wording.readings(clip)
        style = wording.style_of(prompt)
        return wording.understood(prompt, negative, unread, read), style, style

    def dress(prompt: str, style: str, said: str) -> Any:
        return gr.skip() if style == said else wording.dress(prompt, style)

    words = [parts[name] for name in ("prompt", "negative", "clip")]
    gr.on(
        [demo.load, *(part.change for part in words)],
        understand,
        words,
        [parts["understood"], parts["style"], said],
        queue=False,
        trigger_mode="always_last",
        **QUIET,
    )
    dressed = [parts["prompt"], parts["style"], said]
    parts["style"].change(dress, dressed, parts["prompt"], queue=False, **QUIET)


def _connect_runs(demo: gr.Blocks, studio: Studio, parts: Parts, visits: Visits) -> None:
    """Begin, follow and stop."""
    changing = [parts[name] for name in _CHANGING.split()]

    async def greet(visitor: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        resumed = partial(making.resumed, studio)
        async for change in welcome(studio, visits, visitor, making.is_ours, resumed):
            yield _placed(parts, change)

    def beginning(begin: Callable[..., making.Begin], *names: str) -> dict[str, Any]:
        """A handler that begins with these parts of the page, and follows."""

        async def handle(visitor: gr.Request, **given: Any) -> AsyncIterator[dict[Any, Any]]:
            owner = studio.owner(visitor.session_hash)
            wanted, before = begin(given, owner), given["shown"]
            with visits.work(visitor) as stop:
                async for change in making.course(studio, wanted, stop, before):
                    yield _placed(parts, change)

        return {
            "fn": handle,
            "outputs": changing,
            "inputs_kwargs": {name: parts[name] for name in ("shown", *names)},
            "show_progress": "hidden",  # its overlay would hide the picture; the status says it all
        }

    gr.on(
        [parts["generate"].click, parts["prompt"].submit],
        **beginning(making.asked, *making.FIELDS),
        api_name="generate",
    )
    for name, (begin, names) in _AFTER.items():
        handler = beginning(begin, *names)
        parts[name].click(**handler, api_visibility="private")
    demo.load(greet, None, [*changing, *(parts[name] for name in making.FIELDS)], **QUIET)
    demo.unload(visits.leave)
    parts["stop"].click(visits.end, None, None, queue=False, **QUIET)


# What a button does with the picture that is shown, and which fields it minds.
_AFTER: dict[str, tuple[Callable[..., making.Begin], list[str]]] = {
    "further": (making.further, ["more_steps"]),
    "vary": (making.varied, ["count"]),
    "retell": (making.retold, making.FIELDS),
}


def _connect_pictures(demo: gr.Blocks, studio: Studio, parts: Parts, visits: Visits) -> None:
    """Choose another picture, use it, see its film; choose an example."""

    def choose(visitor: gr.Request, shown: Shown, place: gr.SelectData) -> Any:
        if visits.is_busy(visitor):
            return gr.skip()
        return _placed(parts, _told(lambda: making.chosen(shown, place.index)))

    def use(shown: Shown) -> Any:
        return _placed(parts, _told(lambda: making.as_start(shown)))

    async def film(visitor: gr.Request, shown: Shown) -> AsyncIterator[dict[Any, Any]]:
        owner = studio.owner(visitor.session_hash)
        async for change in making.film(studio, shown, owner):
            yield _placed(parts, change)

    def example(visitor: gr.Request, place: gr.SelectData) -> Any:
        return gr.skip() if visits.is_busy(visitor) else _placed(parts, ready.choose(place.index))

    shown, changing = parts["shown"], [parts[name] for name in _CHANGING.split()]
    parts["several"].select(choose, shown, changing, **QUIET)
    start = [parts[name] for name in ("init", "advanced", "status")]
    parts["as_start"].click(use, shown, start, **QUIET)
    parts["filming"].expand(film, shown, [parts["film"], parts["film_note"]], **QUIET)
    filled = [parts[name] for name in _EXAMPLE.split()]
    parts["examples"].select(example, None, filled, queue=False, **QUIET)
    # anew for each visitor: files that the page may show are cleared away in time
    demo.load(ready.shown, None, parts["examples"], queue=False, **QUIET)


def _told(act: Callable[[], Change]) -> Change:
    """What changes, or why it cannot."""
    try:
        return act()
    except Exception as error:
        return {"status": say(sentence(error))}


def _placed(parts: Parts, change: Change) -> dict[Any, Any]:
    return {parts[name]: value for name, value in change.items()}
