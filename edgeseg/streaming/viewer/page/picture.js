/* The picture with its figures: running, paused, missing, or saved as a file.

Every part of the stream holds a picture and the figures of that frame, and both are shown in one step: what stands under
the picture is never about another one. */

import { listHidden, whenClassesChange } from "./classes.js";
import { find, makeName, say } from "./elements.js";
import { hidePictureFigures, showPictureFigures } from "./figures.js";
import { drawNewest, drawOn, readParts } from "./parts.js";

const SETTLE_MS = 150;
const GONE = "This picture is no longer kept: what you have changed shows when the picture runs on.";

const page = makeName();
let opacityTimer = 0;
let modalities = [];
let modality = 0;
let model = "picture";
let stream = "";
let running = null;
let full = false;
let shown = null;
let stills = 0;
let redraw = redrawPaused;
let onStranger = () => {};

export function isRunning() {
  return running !== null;
}

/* Whether there is no picture because too many windows are watching. */
export function isFull() {
  return full;
}

export function startPicture() {
  stopPicture();
  running = new AbortController();
  run(running);
}

/* The last picture and its figures stay. */
export function stopPicture() {
  running?.abort();
  running = null;
}

/* Begin with another stream, or another source of it: no picture of the last one is shown any more. */
export function beginStream(name, modelName) {
  stopPicture();
  stream = name;
  model = modelName;
  full = false;
  hidePicture();
}

/* Called with a picture of a stream that the page does not know yet. */
export function whenStranger(callback) {
  onStranger = callback;
}

/* Called where a picture that does not run is to be drawn otherwise; the live page asks for it again by itself. */
export function whenRedrawn(callback) {
  redraw = callback;
}

/* Ask for the picture that is paused, so that the server keeps it and can draw it otherwise. */
export function keepPicture() {
  if (shown !== null) {
    showStill(`picture=${shown.picture}`);
  }
}

/* Show one picture, unless another is asked for meanwhile; gives its figures, or null where it cannot be shown. */
export async function showStill(query) {
  const asked = stream;
  stills += 1;
  const number = stills;
  let bitmap = null;
  let figures = null;
  let refusal = "";
  try {
    const answer = await fetch(`still?${query}&page=${page}&${writeQuery()}`);
    if (answer.ok) {
      figures = JSON.parse(answer.headers.get("x-edgeseg-figures"));
      bitmap = await createImageBitmap(await answer.blob());
    } else {
      refusal = (await answer.text()).trim();
    }
  } catch (error) {
    console.info(error); /* The next poll reports the lost connection. */
  }
  /* Meanwhile the picture may run again, or another source may be shown. */
  const wanted = number === stills && running === null && asked === stream;
  if (bitmap !== null && wanted && figures.stream === stream) {
    showPicture(bitmap, figures);
  } else if (refusal && redraw !== redrawPaused) {
    hidePicture();
    find("notice").textContent = refusal;
  }
  bitmap?.close();
  return figures;
}

async function redrawPaused() {
  if (shown !== null && (await showStill(`picture=${shown.picture}`)) === null && running === null) {
    say(GONE);
  }
}

function hidePicture() {
  shown = null;
  find("picture").hidden = true;
  hidePictureFigures();
  find("save").disabled = true;
}

async function run(asking) {
  try {
    const answer = await fetch(`picture?${writeQuery()}`, { signal: asking.signal });
    full = answer.status === 503;
    if (answer.ok) {
      await readParts(answer.body.getReader(), drawNewest(showRunning(asking)));
    }
  } catch (error) {
    console.info(error); /* Aborted by this page, or the next poll reports the lost connection. */
  }
  if (running === asking) {
    running = null; /* The next poll restarts the picture, if it is still wanted. */
  }
}

function writeQuery() {
  const band = find("band").getAttribute("aria-pressed") === "true" ? 1 : 0;
  const shown = modalities.length ? `&modality=${modality}` : "";
  return `opacity=${find("opacity").value / 100}&band=${band}&fps=30&hide=${listHidden()}${shown}`;
}

function showRunning(asking) {
  return (bitmap, figures) => {
    if (running === asking && figures.stream === stream) {
      showPicture(bitmap, figures);
    } else if (running === asking) {
      onStranger();
    }
  };
}

function showPicture(bitmap, figures) {
  drawOn(find("picture"), bitmap, figures.number);
  find("picture").hidden = false;
  shown = figures;
  find("save").disabled = false;
  showPictureFigures(figures);
}

/* Saves the picture on this device; nothing is sent to the stream. */
function savePicture() {
  find("picture").toBlob((blob) => {
    const link = document.createElement("a");
    link.download = nameFile(new Date());
    link.href = URL.createObjectURL(blob);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    say(`Saved as ${link.download}`);
  }, "image/png");
}

function nameFile(now) {
  const time = new Date(now.getTime() - 60000 * now.getTimezoneOffset()).toISOString();
  return `${model.replace(/[^\w.-]+/g, "-")}-${time.slice(0, 19).replace(/[:T]/g, "-")}.png`;
}

function drawAgain() {
  if (isRunning()) {
    startPicture();
  } else {
    redraw();
  }
}

function changeOpacity() {
  find("opacity-value").textContent = `${find("opacity").value}%`;
  clearTimeout(opacityTimer);
  opacityTimer = setTimeout(drawAgain, SETTLE_MS);
}

function toggleBand() {
  const band = find("band");
  band.setAttribute("aria-pressed", String(band.getAttribute("aria-pressed") === "false"));
  drawAgain();
}

/* Of several modalities the page shows one; the network sees all of them. */
export function showModalities(names) {
  if (names.join() !== modalities.join()) {
    modalities = names;
    modality = 0;
    nameModality();
    drawAgain();
  }
}

function nameModality() {
  find("modality").hidden = modalities.length < 2;
  find("modality").textContent = `Shown: ${modalities[modality] ?? ""}`;
}

function toggleModality() {
  modality = (modality + 1) % modalities.length;
  nameModality();
  drawAgain();
}

whenClassesChange(drawAgain);
find("modality").addEventListener("click", toggleModality);
find("band").addEventListener("click", toggleBand);
find("opacity").addEventListener("input", changeOpacity);
find("save").addEventListener("click", savePicture);
