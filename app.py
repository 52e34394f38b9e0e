"""Start the studio: `python app.py`, then open the address it prints. Nothing imports this file."""

import os

# Gradio and the Hub's client read these when they are imported: nothing leaves this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from app.tabs import Studio
from app.ui import build, serve

studio = Studio()
demo = build(studio)

if __name__ == "__main__":
    serve(demo, studio)
