"""The command line: `python -m app generate "a red apple on a blue background"`.

Only what a command needs is imported, and only by that command: `--help` comes at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app.catalog import CLIPS, GENERATORS, SOUNDS, SPEECH, ModelError
from app.errors import Failed, Refused
from app.stopping import Stopped
from app.terminal import tell

# What went wrong -> exit status; whatever else may happen is 1.
STATUS: dict[type[Exception], int] = {
    typer.TyperException: 2,
    Refused: 2,
    ModelError: 2,
    Failed: 1,
    Stopped: 130,
}


class OneLine(TyperGroup):
    """The commands, with every error told in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave with its exit status."""
        try:
            status = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except Exception as error:
            if os.environ.get("SYNESTHETE_DEBUG"):
                raise
            if said := _sentence(error):
                tell(said)
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 1)
        if not standalone_mode:
            return status
        sys.exit(status or 0)


def _sentence(error: Exception) -> str:
    """What to tell a person; nothing where typer has printed the manual instead."""
    if isinstance(error, typer.TyperException):
        command = getattr(getattr(error, "ctx", None), "command_path", "python -m app")
        said = " ".join(error.format_message().split())
        return said and f"{said} See: {command} --help"
    if isinstance(error, tuple(STATUS)):
        return str(error)
    return (
        f"The program itself failed ({type(error).__name__}: {error}). Please report it, with what "
        "SYNESTHETE_DEBUG=1 prints."
    )


app = typer.Typer(
    cls=OneLine,
    name="python -m app",
    help="Words, pictures and sounds steer a picture.",
    epilog="Every command has its own manual: python -m app generate --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Blank lines keep the lines apart: what stands on neighbouring ones is joined.
EXAMPLES = """
Examples:

  python -m app generate "a red apple on a blue background"

  python -m app generate "a fox::2 | snow | blurry::-0.5" --size 320x192

  python -m app generate "a stormy sea" --init beach.jpg --timelapse

  python -m app generate "a house" --image-prompt style.png::0.5 --count 4

  python -m app generate --from apple-seed7.png --steps 300

  python -m app generate --prompts-file prompts.txt --out pictures --json

A weight follows two colons, and a distance to stop at two more, as in "a fox::2::0.4".
A picture that is pushed away has a weight below 0.

Exit status: 0 done; 1 failed while working, the picture so far is kept; 2 something given
cannot be used, nothing was written; 130 stopped, with the picture so far and a snapshot kept.
"""


def _option(panel: str, help: str, *names: str, default: str = "", **more: Any) -> Any:
    """Describe an option. All are None unless given: then the quality or the recipe decides."""
    return typer.Option(
        *names, help=help, rich_help_panel=panel, show_default=default or False, **more
    )


def _whole(typed: str) -> int:
    """A number of things, as it was typed."""
    try:
        return int(typed)
    except ValueError as error:
        raise typer.BadParameter(f"{typed!r} is no whole number.") from error


def _some(typed: str) -> int:
    """A number of things that must be there."""
    number = _whole(typed)
    if not 1 <= number <= 1000:
        raise typer.BadParameter(f"{typed!r} is out of range: 1 to 1000.")
    return number


def _decimal(typed: str) -> float:
    """A number, as it was typed; whether it is in range is for the request to say."""
    try:
        return float(typed)
    except ValueError as error:
        raise typer.BadParameter(f"{typed!r} is no number.") from error


WHAT, PICTURES, EFFORT = "What to draw", "Pictures that steer", "Size and effort"
MODELS, MOVES, LOOKS = "Models", "How the picture moves", "How the picture is looked at"
STYLE, RESULTS, AGAIN, MACHINE = "Style", "Results", "Repeating and going on", "This machine"

WHOLE: dict[str, Any] = {"metavar": "N", "parser": _whole}
SOME: dict[str, Any] = {"metavar": "N", "parser": _some}
DECIMAL: dict[str, Any] = {"metavar": "X", "parser": _decimal}
FILE: dict[str, Any] = {"metavar": "FILE"}
STEERING: dict[str, Any] = {"metavar": "FILE[::WEIGHT[::STOP]]"}
NAME: dict[str, Any] = {"metavar": "NAME"}
WORDS: dict[str, Any] = {"metavar": "WORDS"}
YES: dict[str, Any] = {"metavar": ""}

# None unless it was given
Text = str | None
Texts = list[str] | None
Whole = int | None
Decimal = float | None
Yes = bool | None
File = Path | None

# Options that several commands have
Seed = Annotated[
    Whole,
    _option(WHAT, "The same seed, the same picture; -1 draws one.", default="drawn", **WHOLE),
]
Quality = Annotated[Text, _option(EFFORT, "draft, normal or best.", default="normal", **NAME)]
Size = Annotated[
    Text,
    _option(
        EFFORT,
        "256, or 320x192 for a wide picture; sides of 32 to 2048 pixels.",
        default="192, a draft 128, the best 256",
        metavar="WxH",
    ),
]
Steps = Annotated[
    Whole, _option(EFFORT, "How many updates, 1 to 2000.", default="30, 45 or 200", **WHOLE)
]
Views = Annotated[
    Whole,
    _option(
        EFFORT,
        "How many views of the picture are judged at each step, 1 to 128.",
        default="8, 10 or 24",
        **WHOLE,
    ),
]
GeneratorName = Annotated[
    Text, _option(MODELS, f"What draws: {', '.join(GENERATORS)}.", default="pocket", **NAME)
]
ClipNames = Annotated[
    Texts,
    _option(
        MODELS,
        f"What judges: {', '.join(CLIPS)}; repeatable, with shares.",
        default="pocket",
        metavar="NAME[=SHARE]",
    ),
]
Out = Annotated[
    File,
    _option(
        RESULTS,
        "A folder, or the name of the PNG; nothing is ever overwritten.",
        default="Synesthete, in your pictures folder",
        metavar="PATH",
    ),
]
Timelapse = Annotated[
    Yes,
    _option(RESULTS, "Film how it came about: an MP4 beside the picture.", "--timelapse", **YES),
]
Json = Annotated[
    Yes,
    _option(RESULTS, "Print a line of JSON for each picture and nothing else.", "--json", **YES),
]
Quiet = Annotated[
    Yes, _option(RESULTS, "Print where the picture is and nothing else.", "--quiet", **YES)
]
Device = Annotated[
    Text, _option(MACHINE, "cpu, cuda or mps.", default="the fastest there is", **NAME)
]
Precision = Annotated[
    Text,
    _option(
        MACHINE,
        "float32, bfloat16, or auto: bfloat16 where it is fast.",
        default="auto",
        **NAME,
    ),
]
Chunk = Annotated[
    Whole,
    _option(
        MACHINE,
        "How many views at a time; fewer take less memory.",
        default="what fits",
        **WHOLE,
    ),
]
Threads = Annotated[
    Whole, _option(MACHINE, "How many threads compute.", default="one a core", **WHOLE)
]


@app.command(epilog=EXAMPLES, short_help="Make pictures from words, pictures and sounds.")
def generate(
    context: typer.Context,
    prompt: Annotated[
        Text,
        typer.Argument(
            help="What to draw; parts stand between bars: 'a fox::2 | snow | blurry::-0.5'.",
            metavar="PROMPT",
            show_default=False,
        ),
    ] = None,
    negative: Annotated[Text, _option(WHAT, "What to keep away from.", **WORDS)] = None,
    prompts_file: Annotated[
        File, _option(WHAT, "Many prompts, one on each line; # begins a comment.", **FILE)
    ] = None,
    count: Annotated[
        Whole, _option(WHAT, "How many pictures, one seed after another.", default="1", **SOME)
    ] = None,
    seed: Seed = None,
    image_prompt: Annotated[
        Texts, _option(PICTURES, "Draw something like this picture; repeatable.", **STEERING)
    ] = None,
    embedding: Annotated[
        Texts,
        _option(
            PICTURES,
            "Go towards a point of CLIP's own: safetensors with a tensor 'embedding' and 'space', "
            "the CLIP's name, in the metadata; repeatable.",
            **STEERING,
        ),
    ] = None,
    sound: Annotated[
        Texts,
        _option(
            PICTURES,
            "Draw what this sound is of: its first 30 seconds; repeatable. See also: listen.",
            **STEERING,
        ),
    ] = None,
    init: Annotated[Text, _option(PICTURES, "Begin with this picture.", **FILE)] = None,
    init_noise: Annotated[
        Decimal, _option(PICTURES, "How much noise to mix into it, 0 to 1.", default="0", **DECIMAL)
    ] = None,
    start: Annotated[
        Text,
        _option(
            PICTURES,
            "Without --init, begin with: draft (a first picture of the words), flat, codes, "
            "uniform, fractal or gradient.",
            default="draft",
            **NAME,
        ),
    ] = None,
    quality: Quality = None,
    size: Size = None,
    steps: Steps = None,
    views: Views = None,
    coarse_to_fine: Annotated[
        Yes,
        _option(
            EFFORT, "Begin at a quarter of the size and grow.", "--coarse-to-fine/--one-size", **YES
        ),
    ] = None,
    patience: Annotated[
        Whole,
        _option(EFFORT, "Stop when so many steps brought nothing; 0: never.", default="0", **WHOLE),
    ] = None,
    generator: GeneratorName = None,
    clip: ClipNames = None,
    optimiser: Annotated[
        Text,
        _option(
            MOVES,
            "How steps are taken: adam, adamw, adamax, nadam, radam, adagrad or rmsprop.",
            default="adam",
            **NAME,
        ),
    ] = None,
    step_size: Annotated[
        Decimal,
        _option(
            MOVES, "How long a step is, up to 1.", default="what suits the generator", **DECIMAL
        ),
    ] = None,
    schedule: Annotated[
        Text,
        _option(MOVES, "How steps shorten: drop, cosine or constant.", default="drop", **NAME),
    ] = None,
    ema: Annotated[
        Decimal,
        _option(
            MOVES,
            "Show the average over the last steps: 0 none, 0.9 calm, below 1.",
            default="0, for best 0.9",
            **DECIMAL,
        ),
    ] = None,
    method: Annotated[
        Text,
        _option(
            LOOKS,
            "How views are cut: crops, or the classics' original or latest.",
            default="crops",
            **NAME,
        ),
    ] = None,
    augment: Annotated[
        Text,
        _option(
            LOOKS,
            "What is done to views: Af affine, Pe perspective, Ji colours, Sh sharpness, Gn noise, "
            "Ro rotation, Et elastic, Ts bending, Cr shifts, Er holes, Re crops, Hf flips; none.",
            default="Af Pe Ji",
            metavar='"CODES"',
        ),
    ] = None,
    noise: Annotated[
        Decimal, _option(LOOKS, "The most noise on a view, 0 to 1.", default="0.1", **DECIMAL)
    ] = None,
    distance: Annotated[
        Text,
        _option(
            LOOKS,
            "What is lowered: spherical, cosine, or directional, which changes --init as its words "
            "change.",
            default="spherical",
            **NAME,
        ),
    ] = None,
    before: Annotated[
        Text,
        _option(LOOKS, "For directional: what --init shows.", default="a picture", **WORDS),
    ] = None,
    regularise: Annotated[
        Text,
        _option(
            STYLE,
            "Wishes beside the prompt: smoothness, symmetry, palette, pull (stay near the start; "
            "a draft is held by 4 unless you say pull=0), text-off (no lettering).",
            metavar='"WISH=X ..."',
        ),
    ] = None,
    palette: Annotated[
        Text,
        _option(STYLE, "The colours for --regularise palette=1.", metavar='"#rrggbb ..."'),
    ] = None,
    out: Out = None,
    timelapse: Timelapse = None,
    save_every: Annotated[
        Whole, _option(RESULTS, "Also keep the picture after every so many steps.", **SOME)
    ] = None,
    json: Json = None,
    quiet: Quiet = None,
    from_: Annotated[
        File,
        _option(
            AGAIN, "Repeat a picture made here; other options change it.", "--from", metavar="PNG"
        ),
    ] = None,
    resume: Annotated[
        File, _option(AGAIN, "Go on with a stopped run from its snapshot.", metavar="SNAPSHOT")
    ] = None,
    device: Device = None,
    precision: Precision = None,
    chunk: Chunk = None,
    threads: Threads = None,
) -> None:
    """Make pictures from words, pictures and sounds.

    Each picture carries its recipe, so --from makes it again, bit for bit on the same machine.
    """
    from app.generate import generate as carry_out

    given = {name.rstrip("_"): value for name, value in context.params.items()}
    carry_out({name: value for name, value in given.items() if value not in (None, [], ())})


EDIT_EXAMPLES = """
Examples:

  python -m app edit frog.png green

  python -m app edit street.jpg "make the car a red bus" --plan

  python -m app edit street.jpg "add snow" --strength 0.5

  python -m app edit room.jpg "remove the cup" --mask cup.png

A mask is a picture of the same form, white where the other may change. Where it is black, not a
single bit of the picture changes.

Exit status: 0 done; 1 failed while working; 2 something given cannot be used, nothing was
written; 130 stopped, with the picture so far kept.
"""
WHERE = "Where it changes"


@app.command(epilog=EDIT_EXAMPLES, short_help="Change a picture as you say, and nothing else.")
def edit(
    context: typer.Context,
    picture: Annotated[Path, typer.Argument(help="The picture to change.", show_default=False)],
    instruction: Annotated[
        str,
        typer.Argument(
            help="What to change: 'green', 'a red bus', 'add snow', 'as a pencil drawing'.",
            show_default=False,
        ),
    ],
    mask: Annotated[File, _option(WHERE, "A picture, white where it may change.", **FILE)] = None,
    region: Annotated[
        Text, _option(WHERE, "Words for the place instead: 'the bus'.", **WORDS)
    ] = None,
    everywhere: Annotated[
        Yes, _option(WHERE, "All of it may change.", "--everywhere", **YES)
    ] = None,
    invert: Annotated[Yes, _option(WHERE, "Change all but the place.", "--invert", **YES)] = None,
    grow: Annotated[
        Decimal,
        _option(
            WHERE, "Widen the place, in shares of the shorter side; below 0 narrows.", **DECIMAL
        ),
    ] = None,
    plan: Annotated[
        Yes, _option(WHERE, "Only say what would change, and show where.", "--plan", **YES)
    ] = None,
    strength: Annotated[
        Decimal,
        _option(
            EFFORT,
            "0.3 a touch, 0.6 plainly, 0.8 clearly, 1 all the way.",
            default="0.8",
            **DECIMAL,
        ),
    ] = None,
    quality: Quality = None,
    steps: Annotated[
        Whole, _option(EFFORT, "How many updates, 1 to 2000.", default="what suits", **WHOLE)
    ] = None,
    views: Annotated[
        Whole, _option(EFFORT, "How many views are judged at each step.", **WHOLE)
    ] = None,
    seed: Seed = None,
    generator: GeneratorName = None,
    clip: Annotated[
        Texts,
        _option(
            MODELS,
            f"What judges: {', '.join(CLIPS)}; repeatable, with shares. The first finds the place.",
            default="pocket",
            metavar="NAME[=SHARE]",
        ),
    ] = None,
    out: Out = None,
    json: Json = None,
    quiet: Quiet = None,
    device: Device = None,
    precision: Precision = None,
    chunk: Chunk = None,
    threads: Threads = None,
) -> None:
    """Change a picture as you say, and nothing else.

    The instruction is understood first, and the place found; --plan shows both. Outside the place
    the result equals the picture you gave, bit for bit.
    """
    from app.edit import edit as carry_out

    carry_out(
        {name: value for name, value in context.params.items() if value not in (None, [], ())}
    )


LISTEN_EXAMPLES = """
Examples:

  python -m app listen dog.wav

  python -m app listen rain.ogg --text "a house"

  python -m app listen song.mp3 --begin 60 --seconds 20 --plan

  python -m app listen memo.m4a --words "a red bus in the snow"

Words that are said steer as if they were typed; other sounds by what they sound like; music by
its mood and colours, too. --plan only says what was heard.

Exit status: 0 done; 1 failed while working, the picture so far is kept; 2 something given
cannot be used, nothing was written; 130 stopped, with the picture so far and a snapshot kept.
"""
HEARD = "What of it steers"


@app.command(epilog=LISTEN_EXAMPLES, short_help="Make a picture of a sound.")
def listen(
    context: typer.Context,
    sound: Annotated[Path, typer.Argument(help="The sound to listen to.", show_default=False)],
    text: Annotated[
        Text, _option(WHAT, "Words beside the sound, as a prompt of generate.", **WORDS)
    ] = None,
    weight_text: Annotated[
        Decimal, _option(WHAT, "How strongly these words pull.", default="1", **DECIMAL)
    ] = None,
    seed: Seed = None,
    begin: Annotated[
        Decimal, _option(HEARD, "The second from which on to listen.", default="0", **DECIMAL)
    ] = None,
    seconds: Annotated[
        Decimal, _option(HEARD, "How long to listen, .25 to 120.", default="30", **DECIMAL)
    ] = None,
    weight_sound: Annotated[
        Decimal,
        _option(
            HEARD,
            "How strongly the sound itself pulls; 0 not at all.",
            default="1, but 0 where words are said",
            **DECIMAL,
        ),
    ] = None,
    words: Annotated[
        Text, _option(HEARD, "What is said in it, where it was misheard.", **WORDS)
    ] = None,
    no_speech: Annotated[
        Yes, _option(HEARD, "Do not listen for words.", "--no-speech", **YES)
    ] = None,
    no_sound: Annotated[
        Yes, _option(HEARD, "Do not listen for what it sounds like.", "--no-sound", **YES)
    ] = None,
    no_mood: Annotated[Yes, _option(HEARD, "Do not listen for a mood.", "--no-mood", **YES)] = None,
    plan: Annotated[Yes, _option(HEARD, "Only say what is heard.", "--plan", **YES)] = None,
    quality: Quality = None,
    size: Size = None,
    steps: Steps = None,
    views: Views = None,
    generator: GeneratorName = None,
    clip: ClipNames = None,
    encoder: Annotated[
        Text, _option(MODELS, f"What listens: {', '.join(SOUNDS)}.", default="pocket", **NAME)
    ] = None,
    speech: Annotated[
        Text,
        _option(MODELS, f"What writes words down: {', '.join(SPEECH)}.", default="tiny.en", **NAME),
    ] = None,
    out: Out = None,
    timelapse: Timelapse = None,
    json: Json = None,
    quiet: Quiet = None,
    device: Device = None,
    precision: Precision = None,
    chunk: Chunk = None,
    threads: Threads = None,
) -> None:
    """Make a picture of a sound.

    It is listened to first: for words, for what makes the sound, for a mood. What was heard is
    told, and then it steers, together with the words of --text.
    """
    from app.listen import listen as carry_out

    carry_out(
        {name: value for name, value in context.params.items() if value not in (None, [], ())}
    )


@app.command()
def models() -> None:
    """List the models: what is here, what can be had, size, licence."""
    from app.inventory import models_table

    typer.echo(models_table())


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A name from `python -m app models`.")],
    trust_file: Annotated[
        bool,
        typer.Option(
            "--trust-file", help="Fetch it although we never have, and hold on to its hash."
        ),
    ] = False,
) -> None:
    """Fetch a model, check it, and convert it if it is of an old kind."""
    from app.inventory import fetch

    fetch(name, trust=trust_file)


@app.command()
def doctor() -> None:
    """Say what this machine offers and whether everything is in its place."""
    from app.inventory import examine

    report, healthy = examine()
    typer.echo(report)
    raise typer.Exit(0 if healthy else 1)


@app.command()
def recipe(picture: Annotated[Path, typer.Argument(help="A PNG made here.")]) -> None:
    """Print the recipe inside a picture, as JSON."""
    import json

    from app.images import read_recipe

    typer.echo(json.dumps(read_recipe(picture), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    # Waiting threads are to sleep: where other programs compute too, threads that spin instead
    # made a step take four times as long (128 pixels, 16 views, 2 busy cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app()
