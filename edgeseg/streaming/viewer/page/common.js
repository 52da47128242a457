/* What the page of one source and the page of all sources have in common. */

import { find, setText } from "./elements.js";

export const RETRY_MS = 2000;
export const STALLED_MS = 2000;
export const STATES = {
  live: "Live",
  full: "Too many windows are watching this stream: close one.",
  ended: "The stream has ended.",
  locked: "The stream was restarted: open the address that it printed in the terminal.",
  lost: "Connection lost. Trying again.",
};
/* States in which the server has nothing new to say. */
export const SILENT = ["ended", "locked", "lost"];
const ANSWER_MS = 3000;

export function nameState(page, state, sentence) {
  page.state = state;
  document.body.dataset.state = state;
  setText("state-text", sentence);
}

/* Asks for the figures; `setState` is called where there are none. */
export async function askNumbers(page, showNumbers, setState) {
  try {
    const answer = await fetch(`numbers?page=${page.name}`, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (answer.status === 403) {
      setState("locked");
    } else {
      showNumbers(await answer.json());
    }
  } catch (error) {
    console.info(error);
    setState(page.state === "ended" ? "ended" : "lost");
  }
}

/* Dark is the default whatever the device prefers: its setting is for offices, not for a dimmed scanning room. */
function toggleLight() {
  const light = find("light").getAttribute("aria-pressed") === "false";
  document.documentElement.dataset.light = light;
  find("light").setAttribute("aria-pressed", String(light));
}

find("light").addEventListener("click", toggleLight);
/* The token is in a cookie now: remove it from the address bar and the history. */
if (location.search) {
  history.replaceState(null, "", location.pathname);
}
