/* Everything that the page shows as text and numbers. */

import { drawAges, drawRates } from "./charts.js";
import { hideClasses, showClasses } from "./classes.js";
import { find, formatCount, formatTime, setText } from "./elements.js";

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
  setText("budget", String(numbers.budget_ms));
  if (numbers.frames > 0) {
    showAges(numbers);
    showStages(numbers.latency_ms);
  }
  drawAges(numbers.ages_ms, numbers.budget_ms);
  drawRates(numbers.rates, numbers.captured_fps);
}

export function showStream(numbers) {
  setText("model", numbers.model);
  setText("source", numbers.source);
  find("all-sources").hidden = !numbers.label;
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
  setText("age-p90", formatTime(age.p90));
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
export function showPictureFigures(figures) {
  showClasses(figures);
  showFrame(figures);
  find("unknown").hidden = !figures.out_of_distribution;
}

export function hidePictureFigures() {
  hideClasses();
  find("unknown").hidden = true;
  setText("frame", "");
  setText("file", "–");
}

/* Figures of another source must not stand beside the new one's until the next poll. */
export function forgetFigures() {
  ["fps", "age-p50", "age-p90", "age-p99", "misses", "captured-fps", "frames"].forEach((id) => setText(id, "–"));
  setText("verdict", "Measuring");
  delete document.body.dataset.verdict;
  verdict = { shown: "", next: "", polls: 0 };
  find("stages").replaceChildren();
}

function showFrame({ number, name, mask_number: drawn, age_ms: age }) {
  const tracked = drawn === number ? "" : `, mask tracked from frame ${drawn}`;
  const recorded = age === null ? "" : `, mask after ${formatTime(age)} ms`;
  setText("frame", `Frame ${number}${tracked}${recorded}`);
  setText("file", name || "–");
}
