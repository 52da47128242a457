/* The page's state, and the loop that polls the figures of the stream. */

import { offerCamera } from "./camera.js";
import { toggleAll } from "./classes.js";
import { askNumbers, nameState, RETRY_MS, SILENT, STALLED_MS, STATES } from "./common.js";
import { find, makeName, say, setText } from "./elements.js";
import { forgetFigures, showFigures, showStream } from "./figures.js";
import { toggleFull } from "./fullscreen.js";
import { beginStream, isFull, isRunning, keepPicture, startPicture, stopPicture } from "./picture.js";
import { showModalities, whenStranger } from "./picture.js";
import { isPlayback, showPlayback, step, togglePlay } from "./player.js";
import { showRecording } from "./recording.js";
import { chooseSource, showSources } from "./sources.js";

const POLL_MS = 500;
const SENTENCES = {
  ...STATES,
  waiting: "Waiting for the first frame.",
  inviting: "Waiting for a camera: press “Use this device's camera”.",
  paused: "Paused: the picture is frozen.",
  searching: "The source is lost. Reconnecting.",
  connecting: "The source does not open. Trying again.",
  stalled: "No new frames are coming in.",
  opening: "The source is being opened.",
  failed: "This source gives no frames: choose another one.",
  finished: "The recording has ended: choose a source, or this one to play it again.",
  recorded: "Recording",
};
const DETAILS = "edgeseg-details";

const page = { name: makeName(), state: "waiting", paused: false, stream: "", timer: 0, polling: false };

function setState(state, detail = SENTENCES[state]) {
  nameState(page, state, SENTENCES[state]);
  if (state !== "recorded") {
    setText("notice", detail);
  }
  find("pause").disabled = SILENT.includes(state);
  updatePicture();
}

function updatePicture() {
  const wanted = !page.paused && !document.hidden && ![...SILENT, "recorded"].includes(page.state);
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
  const source = numbers.sources[numbers.chosen - 1];
  if (["opening", "failed"].includes(source?.state)) {
    return numbers.camera === null ? source.state : "inviting";
  }
  if (source?.state === "ended") {
    return "finished";
  }
  const told = numbers.notices.at(-1)?.state;
  if (told === "lost" || told === "connecting") {
    return told === "lost" ? "searching" : told;
  }
  if (numbers.idle_ms === null) {
    return numbers.camera === null ? "waiting" : "inviting";
  }
  return numbers.idle_ms > STALLED_MS ? "stalled" : "live";
}

function showNumbers(numbers) {
  resetForNewStream(numbers);
  if (numbers.playback !== null) {
    showStream(numbers);
    setState("recorded");
    showPlayback(numbers.playback);
    return;
  }
  showFigures(numbers);
  showRecording(numbers.recording);
  showSources(numbers.sources, numbers.chosen);
  showModalities(numbers.modalities);
  offerCamera(numbers.ended ? null : numbers.camera);
  const state = chooseState(numbers);
  setState(state, describeState(state, numbers));
}

function describeState(state, { notices, sources, chosen }) {
  if (["searching", "connecting"].includes(state)) {
    return notices.at(-1).sentence;
  }
  return state === "failed" ? `${sources[chosen - 1].sentence} Choose another source.` : SENTENCES[state];
}

/* A stream that is restarted at the same address, or another source, is another stream: nothing of the old may stay. */
function resetForNewStream({ stream, model, source, sources }) {
  if (stream === page.stream) {
    return;
  }
  if (page.stream && sources?.length) {
    say(`The source is now ${source}; all figures begin anew.`);
  }
  page.stream = stream;
  forgetFigures();
  beginStream(stream, model);
  setPaused(false);
}

async function poll() {
  clearTimeout(page.timer);
  page.polling = true;
  await askNumbers(page, showNumbers, setState);
  page.polling = false;
  page.timer = setTimeout(poll, SILENT.includes(page.state) || isPlayback() ? RETRY_MS : POLL_MS);
}

/* A picture of a source that this page has not heard of yet. */
function pollNow() {
  if (!page.polling) {
    poll();
  }
}

function setPaused(paused) {
  page.paused = paused;
  find("pause").setAttribute("aria-pressed", String(paused));
}

function togglePause() {
  setPaused(!page.paused);
  setState(page.paused ? "paused" : "live");
  if (page.paused) {
    keepPicture();
  }
}

/* Not while the key means something to the control that has the focus. */
function press(event) {
  const place = event.target.closest?.("button, input, select, summary, a");
  const taken = event.ctrlKey || event.altKey || event.metaKey || event.target.matches?.("input, select");
  if (taken || (place && [" ", "Enter"].includes(event.key)) || !actOn(event.key)) {
    return;
  }
  event.preventDefault();
}

function actOn(key) {
  if (key === " " && !find("pause").disabled) {
    isPlayback() ? togglePlay() : togglePause();
  } else if (key.toLowerCase() === "f") {
    toggleFull();
  } else if (key.toLowerCase() === "m") {
    toggleAll();
  } else if (isPlayback() && ["ArrowLeft", "ArrowRight"].includes(key)) {
    step(key === "ArrowLeft" ? -1 : 1);
  } else if (!find("source-list").hidden && /^[1-9]$/.test(key)) {
    chooseSource(Number(key));
  } else {
    return false;
  }
  return true;
}

/* Whether the details are open is remembered; a browser that stores nothing shows them folded. */
function recallDetails() {
  try {
    find("details").open = localStorage.getItem(DETAILS) === "open";
  } catch (error) {
    console.info(error);
  }
}

function rememberDetails() {
  try {
    localStorage.setItem(DETAILS, find("details").open ? "open" : "folded");
  } catch (error) {
    console.info(error);
  }
}

find("pause").addEventListener("click", togglePause);
find("details").addEventListener("toggle", rememberDetails);
document.addEventListener("keydown", press);
document.addEventListener("visibilitychange", updatePicture);
whenStranger(pollNow);
recallDetails();
poll();
