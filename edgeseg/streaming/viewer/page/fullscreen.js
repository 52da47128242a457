/* Full screen: the picture with what is found and the budget over it. Esc, F and the button leave it.

The browser's own full screen where there is one; phones that have none show the picture over the whole window. */

import { find, setText } from "./elements.js";

function show(full) {
  document.body.dataset.full = full;
  find("full").setAttribute("aria-pressed", String(full));
  setText("full", full ? "Leave full screen" : "Full screen");
}

export function toggleFull() {
  if (document.body.dataset.full === "true") {
    leave();
  } else {
    show(true);
    document.documentElement.requestFullscreen?.().catch((error) => console.info(error));
  }
}

function leave() {
  show(false);
  if (document.fullscreenElement) {
    document.exitFullscreen().catch((error) => console.info(error));
  }
}

find("full").addEventListener("click", toggleFull);
document.addEventListener("fullscreenchange", () => show(document.fullscreenElement !== null));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.dataset.full === "true") {
    leave();
  }
});
