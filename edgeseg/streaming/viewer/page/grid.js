/* All sources of a stream: a small picture of each with its figures, and a link to the page of each.

The pictures of all sources come in one response, since browsers open six connections to a server at most. */

import { askNumbers, nameState, RETRY_MS, SILENT, STALLED_MS, STATES } from "./common.js";
import { find, formatCount, formatTime, makeName, setText, write } from "./elements.js";
import { drawNewest, drawOn, readParts } from "./parts.js";
import { showRecording } from "./recording.js";

const POLL_MS = 1000;
/* The shape of a picture, what stands below it, the gap between two, below all; and the least width of one. */
const PICTURE_SHAPE = 4 / 3;
const TEXT_PX = 122;
const GAP_PX = 16;
const FOOT_PX = 84;
const LEAST_PX = 200;
const SENTENCES = {
  opening: "The source is being opened.",
  stalled: "No new frames are coming in.",
  ended: "The source has ended.",
};
const INVITING = "Waiting for a camera: enlarge this source and press “Use this device's camera”.";
const VERDICTS = { held: "within budget", missed: "over budget", unjudged: "not judged", measuring: "measuring" };

const page = { name: makeName(), state: "waiting", stream: "", running: null, full: false, tiles: new Map() };

function setState(state) {
  nameState(page, state, STATES[state]);
  const wanted = !document.hidden && !SILENT.includes(state);
  if (wanted && page.running === null) {
    run(new AbortController());
  } else if (!wanted) {
    page.running?.abort();
    page.running = null;
  }
}

async function poll() {
  await askNumbers(page, showNumbers, setState);
  setTimeout(poll, SILENT.includes(page.state) ? RETRY_MS : POLL_MS);
}

function showNumbers(numbers) {
  const { stream, model, backend, sources, budget_ms: budget, thermal } = numbers;
  showRecording(numbers.recording);
  if (stream !== page.stream) {
    page.stream = stream;
    page.tiles = new Map(sources.map((source) => [source.number, makeTile(source)]));
    find("grid").replaceChildren(...Array.from(page.tiles.values(), ({ entry }) => entry));
    arrange();
  }
  setText("model", model);
  setText("source", `${sources.length} sources`);
  document.title = `${model} · edgeseg`;
  sources.forEach((source) => showSource(page.tiles.get(source.number), source, numbers));
  const all = sources.reduce((sum, { fps }) => sum + fps, 0);
  const heat = thermal.celsius === null ? "" : `, ${thermal.celsius.toFixed(0)} °C`;
  const why = backend.fallback_reason ? ` (${backend.fallback_reason})` : "";
  setText("grid-note", `${all.toFixed(1)} masks/s of all sources on ${backend.name}${why}${heat}. Budget ${budget} ms.`);
  setState(numbers.ended ? "ended" : page.full ? "full" : "live");
}

/* As many columns as make the pictures largest while all are in view; where that is too small, the page scrolls. */
function arrange() {
  const grid = find("grid");
  const count = page.tiles.size;
  const height = window.innerHeight - grid.offsetTop - FOOT_PX;
  let best = { columns: 0, width: LEAST_PX };
  for (let columns = 1; columns <= count; columns += 1) {
    const across = (grid.clientWidth - (columns - 1) * GAP_PX) / columns;
    const rows = Math.ceil(count / columns);
    const down = ((height - (rows - 1) * GAP_PX) / rows - TEXT_PX) * PICTURE_SHAPE;
    const width = Math.min(across, down);
    best = width > best.width ? { columns, width } : best;
  }
  const { columns, width } = best;
  grid.style.setProperty("grid-template-columns", columns === 0 ? "" : `repeat(${columns}, ${Math.floor(width)}px)`);
}

function showSource(tile, source, { budget_ms: budget, judged }) {
  const stalled = source.state === "live" && source.idle_ms !== null && source.idle_ms > STALLED_MS;
  const state = stalled ? "stalled" : source.state;
  tile.entry.dataset.source = state;
  const verdict = source.frames === 0 ? "measuring" : !judged ? "unjudged" : source.age_p99_ms <= budget ? "held" : "missed";
  tile.entry.dataset.verdict = state === "live" ? verdict : "";
  write(tile.verdict, state === "live" ? VERDICTS[verdict] : state);
  const sentence = state === "opening" && source.camera ? INVITING : (SENTENCES[state] ?? "");
  write(tile.sentence, source.sentence || sentence);
  const ages = `age ${formatTime(source.age_p50_ms)} ms, p95 ${formatTime(source.age_p95_ms)}`;
  const speed = `${source.fps.toFixed(1)} of ${source.captured_fps.toFixed(1)} /s`;
  const late = source.late ? `, ${formatCount(source.late)} late` : "";
  const pace = ["failed", "ended"].includes(source.state) ? `${formatCount(source.frames)} masks` : speed;
  const recording = source.recording === null ? "" : `, ${source.recording}`;
  write(tile.figures, source.frames === 0 ? "–" : `${pace}, ${ages}${late}${recording}`);
}

function makeTile({ number, label, name }) {
  const entry = document.createElement("li");
  const link = document.createElement("a");
  const tile = { entry, show: drawNewest((bitmap, figures) => page.running !== null && showPicture(tile, bitmap, figures)) };
  link.href = `${number}/`;
  link.title = `Enlarge source ${label}`;
  const picture = add(link, "div", "tile");
  tile.canvas = add(picture, "canvas", "");
  tile.canvas.setAttribute("role", "img");
  tile.canvas.setAttribute("aria-label", `Picture of source ${label} with the segmentation drawn on it`);
  tile.sentence = add(picture, "p", "sentence");
  const head = add(link, "div", "head");
  add(head, "span", "label").textContent = label;
  add(head, "span", "source-name").textContent = name;
  tile.verdict = add(head, "span", "verdict");
  tile.found = add(link, "p", "found");
  tile.figures = add(link, "p", "figures");
  entry.append(link);
  return tile;
}

function add(parent, kind, name) {
  const element = document.createElement(kind);
  element.className = name;
  parent.append(element);
  return element;
}

async function run(asking) {
  page.running = asking;
  try {
    const answer = await fetch("tiles", { signal: asking.signal });
    page.full = answer.status === 503;
    if (answer.ok) {
      await readParts(answer.body.getReader(), (part) => page.tiles.get(part.figures.source)?.show(part));
    }
  } catch (error) {
    console.info(error); /* Aborted by this page, or the next poll reports the lost connection. */
  }
  if (page.running === asking) {
    page.running = null; /* The next poll restarts the pictures, if they are still wanted. */
  }
}

function showPicture(tile, bitmap, figures) {
  drawOn(tile.canvas, bitmap, figures.number);
  showFound(tile.found, figures);
}

function showFound(list, { classes, out_of_distribution: unlike }) {
  const key = JSON.stringify([unlike, classes.map(({ name, state, confidence }) => [name, state, confidence?.toFixed(2)])]);
  if (list.dataset.key === key) {
    return;
  }
  list.dataset.key = key;
  list.replaceChildren();
  if (unlike) {
    list.textContent = "Not what the model was trained on: no mask";
    return;
  }
  for (const { name, colour, state, confidence } of classes) {
    const one = add(list, "span", "");
    const swatch = add(one, "i", "");
    one.dataset.state = state ?? "found";
    swatch.style.color = colour;
    const sure = state === "nothing" || confidence === null ? "" : ` ${confidence.toFixed(2)}`;
    one.append(`${name} ${state ?? ""}${sure}`);
  }
}

window.addEventListener("resize", arrange);
document.addEventListener("visibilitychange", () => setState(page.state === "waiting" ? "live" : page.state));
poll();
