"""Hot reload while working on the page: `gradio dev.py`."""

from app.tabs import Studio
from app.ui import build, serve

studio = Studio()
demo = build(studio)

if __name__ == "__main__":
    serve(demo, studio)
