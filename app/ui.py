"""The page: a title, and one tab per module."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import space
from app.catalog import Kind
from app.tabs import Studio, edit, generate, gradio_fixes, history, listen, models

TABS = {  # a row for each
    "Generate": generate.tab,
    "Edit": edit.tab,
    "Listen": listen.tab,
    "History": history.tab,
    "Models": models.tab,
}

# (how often to look, how old) in seconds: what is shown is a file, and they are cleared away.
_TEMPORARY = (600, 3600)


def build(studio: Studio) -> gr.Blocks:
    """Lay out the page; nothing is loaded or started."""
    gradio_fixes.apply()
    with gr.Blocks(title="Synesthete", analytics_enabled=False, delete_cache=_TEMPORARY) as demo:
        gr.Markdown("# Synesthete\nWords, pictures and sounds steer a picture.", elem_id="title")
        if notice := space.here().notice:
            gr.Markdown(notice, elem_id="space")
        parts, pages = {}, {}
        with gr.Tabs(elem_id="tabs") as tabs:
            for name, tab in TABS.items():
                with gr.Tab(name, id=name, render_children=True) as page:  # what is sent arrives
                    parts[name], pages[name] = tab(demo, studio), page
        for source in ("Generate", "Listen"):
            edit.connect(tabs, parts["Edit"], parts[source])
        history.connect(studio, tabs, pages["History"], parts)
        generate_menus: dict[Kind, Any] = {
            "generator": parts["Generate"]["generator"],
            "clip": parts["Generate"]["clip"],
        }
        models.connect_menus(studio, demo, pages["Generate"], generate_menus)
        demo.queue(max_size=64, default_concurrency_limit=None, api_open=False)
    return demo
