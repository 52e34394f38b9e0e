"""How the page looks, and what it does in the browser by itself: theme, style sheet, script."""

from __future__ import annotations

from typing import Any

import gradio as gr

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
.gradio-container { width: 100% !important; max-width: 1160px !important;
  margin: 0 auto !important; }
.gradio-container .main.app { max-width: none !important; }
#desk { display: grid; grid-template: "order picture" auto "settings picture" 1fr
  / minmax(0, 2fr) minmax(0, 3fr); gap: var(--spacing-xxl); align-items: start; }
#desk-order { grid-area: order; }
#desk-picture { grid-area: picture; }
#desk-settings { grid-area: settings; }
#title h1 { margin: 0; font-size: 1.5rem; }
#title p { margin: 0; color: var(--block-info-text-color); }
.dark { color-scheme: dark; }
#history-status { position: sticky; top: 0; z-index: 20; min-height: 0; padding-block: .5rem;
  background: var(--body-background-fill); }
#history-status:has(p:empty) { padding: 0; }
#space { padding: .5rem .75rem; border: 1px solid var(--border-color-primary);
  border-left: 3px solid var(--studio-warn); border-radius: 6px;
  background: var(--block-background-fill); }
#space p { margin: 0; font-size: .9rem; }
#tabs [role="tab"][aria-selected="true"] { color: var(--primary-700); font-weight: 600; }
.dark #tabs [role="tab"][aria-selected="true"] { color: var(--primary-400); }
#buttons { align-items: stretch; }
#generate { min-height: 3rem; font-size: 1.1rem; }
#curves:not(:has(figure)), #details:not(:has(dl)), #understood:not(:has(p)),
#film_note:not(:has(p)) { display: none; }
#understood { margin: calc(-1 * var(--spacing-lg)) 0 calc(-.5 * var(--spacing-lg));
  padding-inline: .25rem; }
#understood { font-size: .85rem; }
#understood p { margin: 0; color: var(--block-info-text-color); }
#understood ul { display: flex; flex-wrap: wrap; gap: .25rem .4rem; margin: .25rem 0 0; padding: 0;
  list-style: none; }
#understood li { margin: 0; padding: .1rem .5rem; border-radius: 999px; overflow-wrap: anywhere;
  border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
#understood i { color: var(--block-info-text-color); font-style: normal; }
#understood .studio-warning { margin-top: .35rem; padding-left: .6rem; color: inherit;
  border-left: 3px solid var(--studio-warn); }
:root { --studio-warn: #b45309; }
.dark { --studio-warn: #fbbf24; }
.studio-curves { margin: 0; }
.studio-curves figcaption { margin-bottom: .4rem; font-size: .85rem;
  color: var(--block-info-text-color); }
.studio-curves ul { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr));
  gap: .5rem 1rem; margin: 0; padding: 0; list-style: none; }
.studio-curves li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .15rem .75rem;
  margin: 0; font-size: .85rem; }
.studio-curves span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.studio-curves b { font-weight: 500; font-variant-numeric: tabular-nums; white-space: nowrap; }
.studio-curves svg { grid-column: 1 / -1; display: block; width: 100%; height: 40px;
  border-radius: 4px; background: var(--block-background-fill);
  box-shadow: inset 0 0 0 1px var(--border-color-primary); }
.studio-curves polyline { fill: none; stroke: var(--primary-700); stroke-width: 2;
  stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.dark .studio-curves polyline { stroke: var(--primary-400); }
.studio-gallery .grid-wrap { min-height: 0 !important; overflow: visible !important; }
.studio-gallery .grid-container { align-items: start; gap: .6rem; }
#try { margin-bottom: calc(-1.5 * var(--spacing-xl)); }
#try h2 { margin: 0; font-size: .9rem; font-weight: 500; }
#examples { border: 0 !important; background: none; }
#examples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr));
  padding: 2px !important; }
#several .grid-container, #history-gallery .grid-container {
  grid-template-columns: repeat(4, minmax(0, 1fr)); }
#history-gallery { border: 0 !important; background: none; }
.studio-gallery .gallery-item { min-width: 0; }
.studio-gallery .thumbnail-item { display: block; width: 100%; height: auto !important;
  aspect-ratio: auto !important; background: none; box-shadow: none; border: 0; overflow: visible; }
.studio-gallery .thumbnail-item img { width: 100%; height: auto; aspect-ratio: 1;
  object-fit: contain; border-radius: 6px; box-shadow: 0 0 0 1px var(--border-color-primary); }
.studio-gallery .thumbnail-item:hover img { box-shadow: 0 0 0 2px var(--primary-600); }
.studio-gallery .thumbnail-item.selected img { box-shadow: 0 0 0 3px var(--primary-600); }
.studio-gallery .thumbnail-item.selected .caption-label { font-weight: 600; }
.studio-gallery .caption-label { position: static !important; max-width: none; margin: .3rem 0 0;
  padding: 0; border: 0; background: none; color: var(--body-text-color); text-align: start;
  font-size: .8rem; line-height: 1.25; white-space: normal; overflow: visible; }
.studio-hint, .studio-hint p { margin: 0; font-size: .85rem; color: var(--block-info-text-color); }
#help p, #help li { font-size: .9rem; }
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
  #tabs .tab-container button, #tabs .tab-container [role="tab"] { padding-inline: .45rem; }
  #history-gallery .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  #desk { display: flex; flex-direction: column; align-items: stretch; }
  #examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
  #several .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  #edit-canvas { height: 340px !important; }
  #actions .studio-buttons { gap: .5rem; }
  #actions .studio-buttons button { padding-inline: .25rem; font-size: .85rem; }
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
  const NAME = document.title;
  let working = new Set();  // the Stop buttons that can be pressed: what they stop is on its way
  const report = () => {
    const stops = [...document.querySelectorAll(".studio-stop:not(#history-stop)")];
    const statuses = (stop) => stop.closest("[role=tabpanel]")?.querySelector(".studio-status");
    const busy = new Set(stops.filter((stop) => !stop.disabled));
    for (const stop of working)
      if (!busy.has(stop) && stop.isConnected) notify(statuses(stop)?.innerText.trim() || "Done.");
    working = busy;
    const bar = [...busy].map((stop) => statuses(stop)?.querySelector("progress")).find(Boolean);
    const title = bar ? `${Math.round(100 * bar.value)} % · ${NAME}` : NAME;
    if (document.title !== title) document.title = title;
  };
  const notify = (text) => {
    if (localStorage.getItem("synesthete-notify") !== "yes" || document.hasFocus()) return;
    try {
      const note = new Notification(NAME, { body: text });
      note.onclick = () => { window.focus(); note.close(); };
    } catch (refused) {}  // some phones let only installed pages do it
  };
  report();
  new MutationObserver(report).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["disabled", "value"],
  });

  // A picture that is dropped beside the fields never takes the page away: it is opened again.
  const files = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  document.addEventListener("dragover", (event) => files(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    const field = event.target.closest?.(".block");  // it takes the file itself, or is filled
    if (field?.querySelector("input[type=file], [aria-label^=Remove], [aria-label^=Clear]")) return;
    const [file] = event.dataTransfer.files;
    if (!file) return;
    if (!file.name.toLowerCase().endsWith(".png")) {
      const status = [...document.querySelectorAll(".studio-status p")]
        .find((line) => line.offsetParent);
      if (status) status.textContent = "Only a PNG that was made here can be opened again. Drop " +
        "another picture on the field it is for.";
      return;
    }
    open(file);
  });
  const open = async (file) => {  // by the History tab, whose parts are there once it was open
    const find = () => document.querySelector("#history-file input[type=file]");
    const tabs = document.querySelectorAll("#tabs [role=tab], #tabs .overflow-dropdown button");
    if (!find()) [...tabs].find((tab) => tab.textContent.trim() === "History")?.click();
    for (let tries = 0; !find() && tries < 100; tries++)
      await new Promise((soon) => setTimeout(soon, 50));
    const input = find(), handed = new DataTransfer();
    if (!input) return;
    handed.items.add(file);
    input.files = handed.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const press = (kind) => {  // in the tab that is open
    for (const button of document.querySelectorAll(kind)) if (button.offsetParent) button.click();
  };
  document.addEventListener("keydown", (event) => {
    const open = event.target.closest('[aria-expanded="true"]');  // a menu: Escape closes that
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press(".studio-start");
    if (event.key === "Escape" && !open) press(".studio-stop");
  });
}"""

# What the checkbox for notifications does: the browser remembers it, and has to allow it.
NOTIFIED = """() => localStorage.getItem("synesthete-notify") === "yes" &&
  "Notification" in window && Notification.permission === "granted" """
NOTIFY = """async (wanted) => {
  const say = (text) => { document.querySelector("#status p").textContent = text; };
  let granted = false;
  if (wanted && !("Notification" in window)) say("This browser has no notifications.");
  else if (wanted) granted = await Notification.requestPermission() === "granted";
  if (wanted && "Notification" in window && !granted)
    say("The browser allows no notifications: allow them beside the address.");
  localStorage.setItem("synesthete-notify", granted ? "yes" : "no");
  return granted;
}"""

# Bring a part into view, by its id.
TOP = """() => window.scrollTo({top: 0})"""
SEEN = """() => document.getElementById("{}")?.scrollIntoView({{block: "nearest"}})"""

LOOKS: dict[str, Any] = {"theme": _THEME, "css": _CSS, "js": _JS, "footer_links": []}
