/* Everything that the page shows as text and numbers. */

import { drawAges, drawRates } from "./charts.js";
import { find, formatCount, formatPercent, formatTime, setText } from "./elements.js";

const VERDICT_POLLS = 4;
const STAGES = { preprocess: "Preprocess", invoke: "Network", postprocess: "Postprocess", total: "Total" };

const VERDICTS = {
  held: "Within budget",
  missed: "Over budget",
  unjudged: "Not judged: the recording waits for each mask",
};

let verdict = { shown: "", next: "", polls: 0 };

export function showFigures(numbers) {
  showStream(numbers);
  showBoard(numbers);
  showNotices(numbers.notices);
  if (numbers.frames > 0) {
    showAges(numbers);
    showStages(numbers.latency_ms);
  }
  drawAges(numbers.ages_ms, numbers.budget_ms);
  drawRates(numbers.rates, numbers.captured_fps);
}

export function forgetVerdict() {
  verdict = { shown: "", next: "", polls: 0 };
}

function showStream(numbers) {
  setText("model", numbers.model);
  setText("source", numbers.source);
  document.title = `${numbers.model} · edgeseg`;
}

function showBoard({ backend, thermal }) {
  const { name, requested, fallback_reason: reason } = backend;
  setText("backend", requested === name || requested === "auto" ? name : `${name} (requested: ${requested})`);
  setText("fallback", reason ?? "");
  find("fallback").hidden = !reason;
  const heat = thermal.celsius === null ? "unknown on this machine" : `${thermal.celsius.toFixed(1)} °C`;
  setText("heat", thermal.throttled ? `${heat}, throttled by heat` : heat);
  find("heat").classList.toggle("warning", thermal.throttled === true);
}

function showAges(numbers) {
  const age = numbers.frame_age_ms;
  setText("age-p50", formatTime(age.p50));
  setText("age-p99", formatTime(age.p99));
  setText("fps", numbers.fps.toFixed(1));
  setText("captured-fps", numbers.captured_fps.toFixed(1));
  setText("frames", formatCount(numbers.frames));
  setText("misses", (100 * numbers.misses).toFixed(numbers.misses < 0.1 ? 2 : 1));
  const judgement = age.p99 <= numbers.budget_ms ? "held" : "missed";
  showVerdict(numbers.judged ? judgement : "unjudged");
}

/* A verdict must last some polls before it is shown, so that a screen reader does not repeat itself. */
function showVerdict(next) {
  verdict.polls = next === verdict.next ? verdict.polls + 1 : 1;
  verdict.next = next;
  if (next !== verdict.shown && (verdict.shown === "" || verdict.polls >= VERDICT_POLLS)) {
    verdict.shown = next;
    document.body.dataset.verdict = next;
    setText("verdict", VERDICTS[next]);
  }
}

function showStages(latency) {
  const body = find("stages");
  if (body.rows.length === 0) {
    body.append(...Object.values(STAGES).map(makeStageRow));
  }
  Object.keys(STAGES).forEach((stage, index) => {
    const { p50, p90, p99, mean } = latency[stage];
    [p50, p90, p99, mean].forEach((value, column) => {
      body.rows[index].cells[column + 1].textContent = formatTime(value);
    });
  });
}

function makeStageRow(title) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = title;
  row.append(head);
  for (let column = 0; column < 4; column += 1) {
    row.insertCell();
  }
  return row;
}

function showNotices(notices) {
  const list = find("notices");
  const entries = notices.map(({ state, sentence, seconds_ago: seconds }) => [state, sentence, formatAgo(seconds)]);
  const key = JSON.stringify(entries);
  find("events").hidden = entries.length === 0;
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...entries.reverse().map(makeNotice));
  }
}

function makeNotice([state, sentence, time]) {
  const entry = document.createElement("li");
  const when = document.createElement("span");
  when.className = "quiet";
  when.textContent = time;
  entry.dataset.source = state;
  entry.append(sentence, " ", when);
  return entry;
}

function formatAgo(seconds) {
  return seconds < 60 ? `${seconds.toFixed(0)} s ago` : `${(seconds / 60).toFixed(0)} min ago`;
}

/* The figures of the picture that is shown at this moment, and of no other. */
export function showLegend(figures) {
  const legend = find("legend");
  const key = JSON.stringify(figures.classes.map(({ name, colour }) => [name, colour]));
  if (legend.dataset.key !== key) {
    legend.dataset.key = key;
    legend.replaceChildren(...figures.classes.map(makeLegendEntry));
  }
  legend.hidden = false;
  showFrame(figures);
  /* What the network says of a frame of another kind means nothing. */
  showFrameClasses(figures.out_of_distribution ? {} : figures.frame_classes);
  find("unknown").hidden = !figures.out_of_distribution;
  const pixels = figures.frame_px[0] * figures.frame_px[1];
  figures.classes.forEach((one, index) => {
    const entry = legend.children[index];
    entry.dataset.state = one.state ?? "found";
    entry.querySelector(".state").textContent = figures.out_of_distribution ? "" : nameState(one);
    entry.querySelector(".sure").textContent = figures.out_of_distribution ? "" : describeSureness(one);
    entry.querySelector(".area").textContent = one.state === "nothing" ? "" : describeArea(one, pixels);
  });
}

export function hideLegend() {
  ["legend", "frame-classes", "unknown"].forEach((id) => {
    find(id).hidden = true;
  });
  setText("frame", "");
}

/* A mask of a file without an operating point is neither found nor doubtful. */
function nameState({ state, threshold }) {
  return state === null || (state !== "nothing" && threshold === null) ? "" : state;
}

/* Confidences are no chances, so they are no percentages. */
function describeSureness({ state, confidence, probability, threshold, area_px: area }) {
  if (state === null) {
    return "";
  }
  const words = [];
  if (state !== "nothing" && confidence === null) {
    words.push("held, no mask in this frame");
  } else if (state !== "nothing") {
    const limit = threshold === null ? "no operating point" : `found from ${threshold.toFixed(2)}`;
    words.push(`confidence ${confidence.toFixed(2)} (${limit})`);
    if (area === 0) {
      words.push("not drawn");
    }
  }
  if (probability !== null) {
    words.push(`presence ${formatPercent(probability)}`);
  }
  return words.join(", ");
}

function describeArea({ area_px: area, area_mm2: mm2 }, pixels) {
  const share = area === 0 ? "" : ` (${((100 * area) / pixels).toFixed(1)}%)`;
  const real = mm2 === null ? "" : `, ${mm2.toFixed(mm2 < 100 ? 1 : 0)} mm²`;
  return `${formatCount(area)} px${share}${real}`;
}

function showFrameClasses(classes) {
  const names = Object.entries(classes).sort((one, other) => other[1] - one[1]);
  find("frame-classes").hidden = names.length === 0;
  setText("frame-classes", names.map(([name, share]) => `${name} ${formatPercent(share)}`).join(", "));
}

function showFrame({ number, name, mask_number: drawn }) {
  const tracked = drawn === number ? "" : `, mask tracked from frame ${drawn}`;
  setText("frame", `Frame ${number}${name ? ` (${name})` : ""}${tracked}`);
}

function makeLegendEntry({ name, colour }) {
  const entry = document.createElement("li");
  const swatch = document.createElement("i");
  const state = document.createElement("span");
  const sure = document.createElement("span");
  const area = document.createElement("span");
  swatch.style.color = colour;
  state.className = "state";
  sure.className = "sure";
  area.className = "area";
  entry.append(swatch, name, " ", state, " ", sure, " ", area);
  return entry;
}
