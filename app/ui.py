"""The page: a title, one tab per module, and how it is put on the network of this machine."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr

from app.tabs import Studio, edit, generate, history, listen
from app.tabs.common import QUIET
from app.terminal import tell

TABS = {  # a row for each
    "Generate": generate.tab,
    "Edit": edit.tab,
    "Listen": listen.tab,
    "History": history.tab,
}

# (how often to look, how old) in seconds: every preview is a file, and they are cleared away.
_TEMPORARY = (600, 3600)

# Seconds before the models load, if no visitor comes sooner: importing torch would slow the page.
_HEAD_START = 5

# The visitor's own fonts: nothing is fetched. Dark on light and light on dark of 4.5:1 and more.
_THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="stone",
    font=("system-ui", "sans-serif"),
    font_mono=("ui-monospace", "monospace"),
).set(
    body_background_fill="*neutral_50",
    body_text_color_subdued="*neutral_500",
    block_background_fill="white",
    block_radius="*radius_lg",
    block_label_text_color="*neutral_600",
    block_title_text_color="*neutral_700",
    block_info_text_color="*neutral_500",
    block_info_text_color_dark="*neutral_400",
    input_placeholder_color="*neutral_600",
    input_placeholder_color_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    button_primary_text_color="white",
)

_CSS = """
.gradio-container { width: 100% !important; max-width: 1120px !important;
  margin: 0 auto !important; }
#title h1 { margin: 0; font-size: 1.5rem; }
#title p { margin: 0; color: var(--block-info-text-color); }
#tabs [role="tab"][aria-selected="true"] { color: var(--primary-700); font-weight: 600; }
.dark #tabs [role="tab"][aria-selected="true"] { color: var(--primary-400); }
#generate { min-height: 3.5rem; font-size: 1.15rem; }
.block.studio-status { min-height: 3.4rem; }
.studio-status p { margin: 0 0 .4rem; font-variant-numeric: tabular-nums; }
.studio-status progress { display: block; width: 100%; height: 4px; border: 0; border-radius: 2px;
  appearance: none; background: var(--border-color-primary); overflow: hidden; }
.studio-status progress::-webkit-progress-bar { background: var(--border-color-primary); }
.studio-status progress::-webkit-progress-value { background: var(--primary-600); }
.studio-status progress::-moz-progress-bar { background: var(--primary-600); }
.studio-buttons button { white-space: nowrap; padding-inline: .5rem; }
.studio-picture img, #edit-picture img { width: 100%; height: 100%; object-fit: contain; }
#preview, #edit-preview, #listen-preview { --hint: "Your picture will grow here."; }
#edit-preview { --hint: "What changes will be seen here."; }
.studio-picture:not(:has(img))::after { content: var(--hint, ""); position: absolute;
  top: calc(50% + 1.5rem); width: 100%; text-align: center; color: var(--block-info-text-color); }
#generator input, #clip input { text-overflow: ellipsis; }
.studio-details dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem;
  margin: 0; }
.studio-details dt { color: var(--block-info-text-color); }
.studio-details dd { margin: 0; overflow-wrap: anywhere; }
.studio-sound figure { position: relative; margin: 0 0 .5rem; }
.studio-sound img { display: block; width: 100%; height: 190px; border-radius: 4px; }
.studio-sound p, .studio-sound figcaption { margin: .25rem 0; font-size: .85rem;
  color: var(--block-info-text-color); }
.studio-labels { position: relative; height: 1.6rem; margin: 0; padding: 0; list-style: none; }
.studio-labels li { position: absolute; margin: 0; padding: 0 .4rem; box-sizing: border-box;
  border: 1px solid var(--body-background-fill); border-radius: 4px; overflow: hidden;
  background: var(--primary-700); color: white; font-size: .8rem; line-height: 1.35rem;
  white-space: nowrap; text-overflow: ellipsis; }
.studio-part { position: relative; height: 6px; margin-top: 4px; border-radius: 3px;
  background: var(--border-color-primary); overflow: hidden; }
.studio-part i { position: absolute; height: 100%; min-width: 3px;
  background: var(--primary-600); }
.studio-swatches { display: flex; height: 1.5rem; margin: 0; border-radius: 4px; overflow: hidden;
  border: 1px solid var(--border-color-primary); }
.studio-swatches i { flex: 1; }
#history-watching img { display: block; width: 160px; margin-top: .5rem; border-radius: 4px; }
@media (max-width: 640px) {
  #history-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  #buttons { flex-direction: row; }
  #generate { flex: 3; }
  #stop { flex: 1; min-width: 0; }
  #edit-canvas { height: 340px !important; }
  .studio-picture { height: auto !important; aspect-ratio: 1; }
}
"""

_JS = """() => {
  document.documentElement.lang = "en";
  const arrange = () => {
    for (const status of document.querySelectorAll(".block.studio-status:not([role])")) {
      status.setAttribute("role", "status");
      status.setAttribute("aria-live", "polite");
    }
    for (const field of document.querySelectorAll(".studio-number input"))
      field.inputMode = "numeric";  // a phone shows digits
    for (const [place, ...words] of [
      ["#edit-result", "The picture before the edit", "The picture after the edit"],
      ["#history-both", "The picture kept for comparing", "The picture that was chosen"],
    ]) {
      const [before, after] = document.querySelectorAll(`${place} img`);
      if (after && !after.alt) [before.alt, after.alt] = words;  // Gradio has no words for them
    }
  };
  const devices = navigator.mediaDevices;
  if (devices) {
    const ask = devices.getUserMedia;
    devices.getUserMedia = async (wanted) => {
      try {
        return await ask.call(devices, wanted);
      } catch (refused) {  // Gradio says nothing of it
        const status = document.querySelector("#listen-status p");
        if (status) status.textContent =
          "The browser gave no microphone: allow it beside the address, or upload a file.";
        throw refused;
      }
    };
  }
  arrange();  // and what comes later: the parts of a tab do when it is opened
  new MutationObserver(arrange).observe(document.body, { childList: true, subtree: true });
  const press = (kind) => {  // in the tab that is open
    for (const button of document.querySelectorAll(kind)) if (button.offsetParent) button.click();
  };
  document.addEventListener("keydown", (event) => {
    const open = event.target.closest('[aria-expanded="true"]');  // a menu: Escape closes that
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press(".studio-start");
    if (event.key === "Escape" && !open) press(".studio-stop");
  });
}"""

_LOOKS: dict[str, Any] = {"theme": _THEME, "css": _CSS, "js": _JS, "footer_links": []}
_LIMITS: dict[str, Any] = {
    "server_name": "127.0.0.1",
    "share": False,
    "max_file_size": "25mb",
    "state_session_capacity": 200,
    "enable_monitoring": False,
    "ssr_mode": False,
    "mcp_server": False,
}


def build(studio: Studio) -> gr.Blocks:
    """Lay out the page; nothing is loaded or started."""
    with gr.Blocks(title="Synesthete", analytics_enabled=False, delete_cache=_TEMPORARY) as demo:
        gr.Markdown("# Synesthete\nWords, pictures and sounds steer a picture.", elem_id="title")
        # Kept by the browser. The key only stands in the way of accidents: it is no secret.
        token = gr.BrowserState("", storage_key="synesthete-owner", secret="synesthete")
        demo.load(_recogniser(studio), token, token, queue=False, **QUIET)
        parts, pages = {}, {}
        with gr.Tabs(elem_id="tabs") as tabs:
            for name, tab in TABS.items():
                with gr.Tab(name, id=name, render_children=True) as page:  # what is sent arrives
                    parts[name], pages[name] = tab(demo, studio), page
        for source in ("Generate", "Listen"):
            edit.connect(tabs, parts["Edit"], parts[source])
        history.connect(studio, tabs, pages["History"], parts)
        demo.queue(max_size=64, default_concurrency_limit=None, api_open=False)
    return demo


def _recogniser(studio: Studio) -> Callable[..., str]:
    def recognise(visitor: gr.Request, token: str) -> str:
        return studio.recognise(visitor.session_hash, token)

    return recognise


def open_page(demo: gr.Blocks, port: int | None = None, *, browser: bool = False) -> str:
    """Serve the page to this machine, return its address. Raises OSError when the port is taken."""
    _, address, _ = demo.launch(
        server_port=port,
        inbrowser=browser,
        prevent_thread_lock=True,
        quiet=True,
        **_LOOKS,
        **_LIMITS,
    )
    return address


def serve(demo: gr.Blocks, studio: Studio) -> None:
    """Do what the command line of `app.py` says, until Ctrl-C."""
    parser = _parser()
    asked = parser.parse_args()
    try:
        address = open_page(demo, asked.port, browser=asked.open)
    except OSError:
        wanted = f"The port {asked.port} is taken" if asked.port else "No port is free"
        parser.error(f"{wanted}. Choose another with --port.")
    tell(f"Synesthete is at {address} (Ctrl-C ends it).")
    loading = threading.Timer(_HEAD_START, studio.worker)
    loading.start()
    demo.block_thread()
    loading.cancel()
    studio.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("app.py", description="Open the studio on this machine.")
    port = os.environ.get("PORT") or os.environ.get("GRADIO_SERVER_PORT")
    parser.add_argument("--port", type=_port, default=port, help="else PORT, else the first free")
    parser.add_argument("--open", action="store_true", help="open it in the browser, too")
    return parser


def _port(typed: str) -> int:
    if not (typed.isdecimal() and 0 < int(typed) < 2**16):
        raise argparse.ArgumentTypeError(f"{typed!r} is no port: use 1 to 65535, like 7860")
    return int(typed)
