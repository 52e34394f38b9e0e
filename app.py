"""Start the studio: `python app.py`, then open the address it prints. Nothing imports this file."""

import os

# Gradio and the Hub's client read these when they are imported: nothing leaves this machine.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Nor is a table of all that was done summed up again each time, which nobody looks at.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")

from app import space, stubless

space.prepare(os.environ)

stubless.import_gradio()

from app.edge import serve  # noqa: E402
from app.tabs import Studio  # noqa: E402
from app.ui import build  # noqa: E402

studio = Studio(space.open_worker) if space.here() else Studio()
demo = build(studio)

if __name__ == "__main__":
    space.report()
    serve(demo, studio)
