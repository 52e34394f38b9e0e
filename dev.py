"""Hot reload while working on the page: `gradio dev.py`. Without the API and the guard."""

import gradio as gr

from app.looks import LOOKS
from app.tabs import Studio
from app.ui import build

studio = Studio()
demo = build(studio)

if gr.NO_RELOAD:  # the first time only: a reload puts its page into the server that runs already
    demo.launch(server_name="127.0.0.1", share=False, **LOOKS)
