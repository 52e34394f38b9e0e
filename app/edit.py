"""One `edit` at the command line: a picture and an instruction become a changed picture."""

from __future__ import annotations

import sys
from pathlib import Path

from app import editing, results, saving
from app.editing import Proposal
from app.generate import NOT_BEGUN, Tell, choose_device, make_picture, prepare
from app.images import open_picture, save_png
from app.models import Models
from app.options import Typed, guide
from app.stopping import Stopped, stoppable, terminable
from app.terminal import hush, tell

# Options that become fields of the request as they stand.
_SETTINGS = ("seed", "steps", "views", "generator", "precision", "chunk", "threads")


def edit(typed: Typed) -> list[Path]:
    """Change a picture as it was said, or only say what would be done (`plan`).

    Raises as `app.generate.generate` does.
    """
    say: Tell = hush if typed.get("quiet") else tell
    try:
        with terminable():
            models = Models(choose_device(typed.get("device")))
            proposal = read(typed, models)
            say(str(proposal))
            if typed.get("plan"):
                return [show(proposal, typed, say)]
            settings = {name: typed[name] for name in _SETTINGS if name in typed}
            if settings.get("seed") == -1:
                del settings["seed"]
            if "clip" in typed:
                settings["clips"] = tuple(map(guide, typed["clip"]))
            asked = editing.order(
                proposal, typed.get("strength", 0.8), typed.get("quality", "normal"), **settings
            )
            (job,) = prepare(asked, models, typed, say)
    except KeyboardInterrupt:
        raise Stopped(NOT_BEGUN) from None
    with stoppable() as check:
        return [make_picture(job, typed, say, check)]


def read(typed: Typed, models: Models) -> Proposal:
    """Read the picture and the mask, understand the instruction. Raises `Refused`."""
    path = Path(typed["picture"])
    picture = open_picture(path)
    mask = open_picture(typed["mask"]).pixels if "mask" in typed else None
    region = "" if typed.get("everywhere") else typed.get("region")
    return editing.propose(
        picture,
        path.name,
        typed["instruction"],
        models.clip(first_guide(typed), "float32"),
        mask=mask,
        region=region,
        invert=typed.get("invert", False),
        grow=typed.get("grow", 0.0),
    )


def first_guide(typed: Typed) -> str:
    """The CLIP that looks for the place: the first of those that guide."""
    return str(guide(typed["clip"][0])["name"]) if "clip" in typed else "pocket"


def show(proposal: Proposal, typed: Typed, say: Tell) -> Path:
    """Write the picture with the place marked and print where it is."""
    home = typed.get("out") or results.folder()
    saving.check_folder(home, may_make=1)
    home.mkdir(exist_ok=True)
    place = home / f"{Path(proposal.name).stem}-plan.png"
    path = save_png(saving.free_name(place), proposal.overlay())
    say("The place is marked in this picture. Without --plan it is changed.")
    sys.stdout.write(f"{path}\n")
    return path
