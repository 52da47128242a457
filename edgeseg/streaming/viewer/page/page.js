/* The page's state, and the loop that polls the figures of the stream. */

import { offerCamera } from "./camera.js";
import { find, makeName, setText } from "./elements.js";
import { forgetVerdict, showFigures } from "./figures.js";
import { forgetPicture, isFull, isRunning, nameModel, startPicture, stopPicture } from "./picture.js";
import { showRecording } from "./recording.js";

const POLL_MS = 500;
const RETRY_MS = 2000;
const ANSWER_MS = 3000;
const STALLED_MS = 2000;
const STATES = {
  waiting: "Waiting for the first frame.",
  inviting: "Waiting for a camera: press “Use this device's camera”.",
  live: "Live",
  paused: "Paused: the picture is frozen.",
  searching: "The source is lost. Reconnecting.",
  stalled: "No new frames are coming in.",
  full: "Too many windows are watching this stream: close one.",
  ended: "The stream has ended.",
  locked: "The stream was restarted: open the address that it printed in the terminal.",
  lost: "Connection lost. Trying again.",
};
const SHOWING = ["waiting", "inviting", "live", "searching", "stalled", "full"];
const SILENT = ["ended", "locked", "lost"];

const page = { name: makeName(), state: "waiting", paused: false, stream: "" };

function setState(state, detail = STATES[state]) {
  page.state = state;
  document.body.dataset.state = state;
  setText("state-text", STATES[state]);
  setText("notice", detail);
  find("pause").disabled = SILENT.includes(state);
  updatePicture();
}

function updatePicture() {
  const wanted = !page.paused && !document.hidden && SHOWING.includes(page.state);
  if (wanted && !isRunning()) {
    startPicture();
  } else if (!wanted && isRunning()) {
    stopPicture();
  }
}

function chooseState(numbers) {
  if (numbers.ended) {
    return "ended";
  }
  if (page.paused) {
    return "paused";
  }
  if (isFull()) {
    return "full";
  }
  if (numbers.notices.at(-1)?.state === "lost") {
    return "searching";
  }
  if (numbers.idle_ms === null) {
    return numbers.camera === null ? "waiting" : "inviting";
  }
  return numbers.idle_ms > STALLED_MS ? "stalled" : "live";
}

function showNumbers(numbers) {
  resetForNewStream(numbers);
  showFigures(numbers);
  showRecording(numbers.recording);
  offerCamera(numbers.ended ? null : numbers.camera);
  const state = chooseState(numbers);
  setState(state, state === "searching" ? numbers.notices.at(-1).sentence : STATES[state]);
}

/* A stream that is restarted at the same address is another stream: nothing of the old one may stay. */
function resetForNewStream({ stream, model }) {
  if (stream === page.stream) {
    return;
  }
  page.stream = stream;
  forgetVerdict();
  forgetPicture();
  nameModel(model);
  setPaused(false);
}

async function poll() {
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
  setTimeout(poll, SILENT.includes(page.state) ? RETRY_MS : POLL_MS);
}

function setPaused(paused) {
  page.paused = paused;
  find("pause").setAttribute("aria-pressed", String(paused));
}

function togglePause() {
  setPaused(!page.paused);
  setState(page.paused ? "paused" : "live");
}

/* Dark is the default whatever the device prefers: its setting is for offices, not for a dimmed scanning room. */
function setLight(light) {
  document.documentElement.dataset.light = light;
  find("light").setAttribute("aria-pressed", String(light));
}

/* The token is in a cookie now: remove it from the address bar and the history. */
function removeToken() {
  if (location.search) {
    history.replaceState(null, "", location.pathname);
  }
}

find("pause").addEventListener("click", togglePause);
find("light").addEventListener("click", () => setLight(find("light").getAttribute("aria-pressed") === "false"));
document.addEventListener("visibilitychange", updatePicture);
removeToken();
poll();
