"""Hot reload while working on the page: `gradio dev.py`."""

import gradio as gr

from app.tabs import Studio
from app.ui import build, serve

studio = Studio()
demo = build(studio)

if gr.NO_RELOAD:  # the first time only: a reload puts its page into the server that runs already
    serve(demo, studio)
