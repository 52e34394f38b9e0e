"""Gradio, imported without the type stubs that it writes: they are half of what importing it takes.

At every import it parses the source of each component, twice, and writes what editors may read
into its own folder (`gradio.component_meta`). A class without a file it leaves alone; so none of
them has one meanwhile.
"""

from __future__ import annotations

import inspect
from typing import Any
from unittest.mock import patch


def import_gradio() -> None:
    """Import it, before anything else does."""
    file_of = inspect.getfile

    def no_component(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError("Components have no file while Gradio is imported.")
        return file_of(thing)

    with patch("inspect.getfile", no_component):
        import gradio  # noqa: F401
