"""The parts of the Generate tab, and where they lie: what is asked for, what comes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from app.catalog import CLIPS, GENERATORS, Entry
from app.tabs import wording
from app.tabs.common import (
    GROWING,
    Parts,
    details_list,
    number_field,
    pictures_row,
    quality_choice,
    seed_field,
    shown_picture,
    status_line,
)
from app.tabs.making import MOST_PICTURES, MOST_TOGETHER

_PROMPT = "a red apple on a blue background"

# What people read, and what a request calls it.
STARTS = [
    ("A first draft of the words", "draft"),
    ("Light paper", "flat"),
    ("The generator's own noise", "codes"),
    ("Coloured grain", "uniform"),
    ("Clouds", "fractal"),
    ("Soft colours", "gradient"),
]
SIZES = [  # of other tabs, in pixels
    ("Automatic", ""),
    ("Square 256 x 256", "256x256"),
    ("Wide 384 x 256", "384x256"),
    ("Tall 256 x 384", "256x384"),
    ("Large 512 x 512", "512x512"),
]
SHAPES = [("Square", ""), ("Wide", "wide"), ("Tall", "tall"), ("Large", "large")]
STYLES = [("As the words say", "")]
STYLES += [(name.replace("_", " ").capitalize(), name) for name in wording.STYLES]

_HELP = """
- **Say one plain thing.** The small models here know everyday things, one or two at a time, in
  English: *a red apple on a blue background*. What they have never seen becomes the nearest they
  know.
- **Try another seed.** It is the quickest way to something different: *Vary*, or several
  *Variations*.
- **Say where things stand.** *A cat to the left of a dog*, *three apples*, *a boat on the sea*.
- **The wrong thing is too strong?** Give a weight: `a castle | fog::0.5`. **Something keeps coming
  back?** Push it away: `people::-1`, or the negative prompt, which pushes half as strongly.
- **It stays too close to the first sketch?** Under Advanced, start from light paper or clouds
  instead of a draft: slower to take shape, but freer.
- **It looks rough?** *Best* quality takes more and closer looks. A *large* picture needs more steps
  to be as clear.
- **Almost right?** Continue with other words from where it is, or send it to *Edit* and say what to
  change.
"""


def lay_out() -> Parts:
    """All parts by their names. On a phone the columns stand below one another in this order."""
    with gr.Row(elem_id="desk"):
        with gr.Column(elem_id="desk-order", min_width=280):
            found = _order()
        with gr.Column(elem_id="desk-picture", min_width=280):
            found += _shown()
        with gr.Column(elem_id="desk-settings", min_width=280):
            found += _settings()
    return {part.elem_id: part for part in found}


# --- what is asked for: each function returns its parts, which go by their elem_id -------------


def _order() -> list[Any]:
    """What to draw, and the buttons."""
    prompt = gr.Textbox(
        _PROMPT,
        label="Prompt",
        info="What to draw. Weigh several wishes like this: a castle | fog::0.5 | people::-1",
        lines=2,
        max_lines=6,
        elem_id="prompt",
    )
    understood = gr.HTML("", padding=False, elem_id="understood")
    style = gr.Dropdown(
        STYLES,
        value="",
        label="Style",
        info="Puts its words into the prompt.",
        elem_id="style",
    )
    with gr.Row(elem_id="buttons"):
        generate = gr.Button(
            "Generate",
            variant="primary",
            scale=3,
            min_width=140,
            elem_id="generate",
            elem_classes="studio-start",
        )
        stop = gr.Button(
            "Stop",
            interactive=False,
            scale=1,
            min_width=80,
            elem_id="stop",
            elem_classes="studio-stop",
        )
    return [prompt, understood, style, generate, stop, status_line("status")]


# --- what comes ------------------------------------------------------------------------------


def _shown() -> list[Any]:
    """The picture while it grows and when it is there, its curves, and what can be done with it."""
    growing = shown_picture(GROWING, "preview", buttons=[])
    result = shown_picture(
        "The finished picture",
        "result",
        format="png",
        buttons=["download", "fullscreen"],
        visible=False,
    )
    several = pictures_row("All that were made together", "several", columns=4, visible=False)
    actions = _actions()
    curves = gr.HTML("", padding=False, elem_id="curves")
    return [growing, result, several, *actions, curves, *_film(), details_list("details"), _ready()]


def _actions() -> list[Any]:
    """What can be done with a picture that is there."""
    with gr.Column(visible=False, elem_id="actions") as actions:
        with gr.Row(elem_classes="studio-buttons"):
            first = [
                _action("More steps", "further"),
                _action("Vary", "vary"),
                _action("Send to Edit", "send"),
            ]
        with gr.Accordion("More to do with this picture", open=False, elem_id="afterwards"):
            rest = _afterwards()
    return [actions, *first, *rest]


def _action(label: str, elem_id: str, **properties: Any) -> Any:
    return gr.Button(label, size="md", min_width=90, elem_id=elem_id, **properties)


def _afterwards() -> list[Any]:
    steps = gr.Slider(
        5,
        200,
        value=30,
        step=5,
        label="How many more steps",
        info="For the button More steps.",
        elem_id="more_steps",
    )
    gr.Markdown(
        "Type another prompt, and let it go on from this picture; or put the picture where a "
        "start goes, and change more.",
        elem_classes="studio-hint",
    )
    with gr.Row(elem_classes="studio-buttons"):
        retell = gr.Button("Continue with the new prompt", size="sm", elem_id="retell")
        start = gr.Button("Use as start", size="sm", elem_id="as_start")
    return [steps, retell, start]


def _film() -> list[Any]:
    """How it came about; the film is only fetched when somebody looks."""
    with gr.Accordion("Timelapse", open=False, visible=False, elem_id="filming") as filming:
        note = gr.HTML("", padding=False, elem_id="film_note", elem_classes="studio-hint")
        film = gr.Video(
            label="How the picture came about",
            show_label=False,
            interactive=False,
            autoplay=False,
            loop=False,
            height=320,
            buttons=["download"],
            elem_id="film",
        )
    return [filming, note, film]


def _ready() -> Any:
    """What one may ask for, with what comes of it."""
    gr.HTML("<h2>Try one of these</h2>", padding=False, elem_id="try")
    return pictures_row("Try one of these", "examples", fit="cover", columns=6)


# --- how it is drawn -------------------------------------------------------------------------


def _settings() -> list[Any]:
    """How to draw it. What is asked for is called what the command line calls it."""
    quality = quality_choice("A draft is small and quick, the best is slow.", "quality")
    size = gr.Dropdown(
        SHAPES,
        value="",
        label="Size",
        info="A shape; how many pixels, the quality says. Or type width x height, like 320x192.",
        allow_custom_value=True,
        elem_id="size",
    )
    count = gr.Radio(
        list(range(1, MOST_TOGETHER + 1)),
        value=1,
        label="Variations",
        info="How many pictures to make, each with the next seed.",
        elem_id="count",
    )
    negative = gr.Textbox(
        label="Negative prompt",
        info="What should not be there. It pushes half as strongly as a prompt pulls.",
        max_lines=3,
        elem_id="negative",
    )
    found = [quality, size, count, *seed_field(), negative, *_advanced()]
    with gr.Accordion("Not what you wanted?", open=False, elem_id="help"):
        gr.Markdown(_HELP)
    return found


def _advanced() -> list[Any]:
    with gr.Accordion("Advanced", open=False, elem_id="advanced") as advanced:
        return [
            advanced,
            *_start(),
            *_steering(),
            *_numbers(),
            _menu(GENERATORS, "Generator", "What draws.", "generator"),
            _menu(CLIPS, "CLIP", "What compares the picture with words and pictures.", "clip"),
            gr.Checkbox(
                label="Tell me when it is done",
                info="A notification of the browser, when you look at something else.",
                elem_id="notify",
            ),
        ]


def _start() -> list[Any]:
    """What it begins with."""
    start = gr.Dropdown(
        STARTS,
        value="draft",
        label="Start from",
        info="What is there before the first step, unless you give a picture.",
        elem_id="start",
    )
    picture = gr.Image(
        label="... or from a picture",
        type="filepath",
        sources=["upload", "clipboard"],
        height=180,
        buttons=[],
        elem_id="init",
    )
    noise = gr.Slider(
        0,
        1,
        value=0,
        step=0.05,
        label="Noise over it",
        info="0: as it is. 1: nothing of it is left.",
        elem_id="init_noise",
    )
    return [start, picture, noise]


def _steering() -> list[Any]:
    """Pictures as prompts; a gallery hands over paths, and decodes nothing."""
    pictures = gr.Gallery(
        label=f"Pictures as prompts, up to {MOST_PICTURES}",
        columns=MOST_PICTURES,
        fit_columns=False,
        height=180,
        object_fit="contain",
        file_types=["image"],
        sources=["upload", "clipboard"],
        type="filepath",
        interactive=True,
        buttons=[],
        elem_id="image_prompt",
    )
    weights = gr.Textbox(
        "1",
        label="Their weights",
        info="A number for each, in order: 1 pulls, 0.5 half as much, -1 pushes away.",
        max_lines=1,
        elem_id="image_weight",
    )
    return [pictures, weights]


def _numbers() -> list[Any]:
    with gr.Row():
        return [
            number_field("Steps", "How often it is improved.", "automatic", "steps"),
            number_field("Views", "Looks taken at each step.", "automatic", "views"),
        ]


def _here(table: Mapping[str, Entry]) -> dict[str, Entry]:
    return {name: row for name, row in table.items() if not row.files}  # nothing to be fetched


def _menu(table: Mapping[str, Entry], label: str, info: str, elem_id: str) -> Any:
    here = _here(table)
    choices = [(f"{name}: {row.note}" if row.note else name, name) for name, row in here.items()]
    return gr.Dropdown(choices, value=choices[0][1], label=label, info=info, elem_id=elem_id)
