"use strict";

const POLL_MS = 500;
const RETRY_MS = 2000;
const ANSWER_MS = 3000;
const STALLED_MS = 2000;
const VERDICT_POLLS = 4;
const CHART = { width: 300, height: 100, frames: 300 };
const STAGES = { preprocess: "Preprocess", invoke: "Network", postprocess: "Postprocess", total: "Total" };
const STATES = {
  waiting: "Waiting for the first frame.",
  live: "Live",
  paused: "Paused: the picture stands still.",
  stalled: "No new frames are coming in.",
  full: "Too many windows are watching this stream: close one.",
  ended: "The stream has ended.",
  lost: "Connection lost. Trying again.",
};

const pageName = crypto.randomUUID();
const page = {
  state: "waiting",
  paused: false,
  full: false,
  stream: "",
  verdict: { shown: "", next: "", polls: 0 },
};

function find(id) {
  return document.getElementById(id);
}

function setText(id, text) {
  const element = find(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

function formatTime(milliseconds) {
  return milliseconds.toFixed(milliseconds < 100 ? 1 : 0);
}

/* The picture. */

function startPicture() {
  const opacity = find("opacity").value / 100;
  find("picture").src = `picture?opacity=${opacity}&fps=30&start=${Date.now()}`;
}

function stopPicture() {
  keepStill();
  find("picture").hidden = true;
  find("picture").removeAttribute("src");
}

function keepStill() {
  const picture = find("picture");
  const still = find("still");
  if (picture.hidden || !picture.naturalWidth) {
    return;
  }
  still.width = picture.naturalWidth;
  still.height = picture.naturalHeight;
  still.getContext("2d").drawImage(picture, 0, 0);
  still.hidden = false;
}

function showPicture() {
  page.full = false;
  find("picture").hidden = false;
  find("still").hidden = true;
}

async function explainMissingPicture() {
  if (!find("picture").hasAttribute("src")) {
    return;
  }
  stopPicture();
  const asking = new AbortController();
  try {
    const answer = await fetch("picture", { signal: asking.signal });
    page.full = answer.status === 503;
  } catch {
    page.full = false; /* The next poll says that the connection is lost. */
  }
  asking.abort();
}

function updatePicture() {
  const wanted = !page.paused && !document.hidden && ["waiting", "live", "stalled", "full"].includes(page.state);
  const running = find("picture").hasAttribute("src");
  if (wanted && !running) {
    startPicture();
  } else if (!wanted && running) {
    stopPicture();
  }
}

/* The state. */

function setState(state) {
  page.state = state;
  document.body.dataset.state = state;
  setText("state-text", STATES[state]);
  setText("notice", STATES[state]);
  find("pause").disabled = state === "ended" || state === "lost";
  updatePicture();
}

function chooseState(numbers) {
  if (numbers.ended) {
    return "ended";
  }
  if (page.paused) {
    return "paused";
  }
  if (page.full) {
    return "full";
  }
  if (numbers.idle_ms === null) {
    return "waiting";
  }
  return numbers.idle_ms > STALLED_MS ? "stalled" : "live";
}

/* The numbers. */

function showNumbers(numbers) {
  showStream(numbers);
  showAges(numbers);
  showStages(numbers.latency_ms);
  drawChart(numbers.ages_ms, numbers.budget_ms);
  if (!page.paused) {
    showLegend(numbers);
  }
}

/* A viewer that is started again at the same address shows another stream: nothing of the old one may stay. */
function noticeNewStream(stream) {
  if (stream === page.stream) {
    return;
  }
  page.stream = stream;
  page.verdict = { shown: "", next: "", polls: 0 };
  find("picture").hidden = true;
  find("picture").removeAttribute("src");
  find("still").hidden = true;
  setPaused(false);
}

function showStream(numbers) {
  const { name, requested, fallback_reason: reason } = numbers.backend;
  setText("model", numbers.model);
  setText("source", numbers.source);
  document.title = `${numbers.model} · edgeseg`;
  setText("backend", requested === name ? name : `${name} (asked for: ${requested})`);
  setText("fallback", reason ?? "");
  find("fallback").hidden = !reason;
  const share = (100 * numbers.misses).toFixed(numbers.misses < 0.1 ? 2 : 1);
  setText("totals", `${numbers.frames.toLocaleString("en")} frames, ${share}% over budget`);
}

function showAges(numbers) {
  if (numbers.frames === 0) {
    return;
  }
  const age = numbers.frame_age_ms;
  setText("age-p50", formatTime(age.p50));
  setText("age-p99", formatTime(age.p99));
  setText("fps", numbers.fps.toFixed(1));
  showVerdict(age.p99 <= numbers.budget_ms ? "held" : "missed");
}

/* A verdict must hold for some polls before it is shown, so that a screen reader does not chatter. */
function showVerdict(verdict) {
  const kept = page.verdict;
  kept.polls = verdict === kept.next ? kept.polls + 1 : 1;
  kept.next = verdict;
  if (verdict !== kept.shown && (kept.shown === "" || kept.polls >= VERDICT_POLLS)) {
    kept.shown = verdict;
    document.body.dataset.verdict = verdict;
    setText("verdict", verdict === "held" ? "Within budget" : "Over budget");
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

function showLegend(numbers) {
  const legend = find("legend");
  const key = JSON.stringify(numbers.classes.map(({ name, colour }) => [name, colour]));
  if (legend.dataset.key !== key) {
    legend.dataset.key = key;
    legend.replaceChildren(...numbers.classes.map(makeLegendEntry));
  }
  const [width, height] = numbers.frame_px ?? [0, 0];
  numbers.classes.forEach(({ area_px: area, area_mm2: mm2 }, index) => {
    const share = area === 0 ? "" : ` (${((100 * area) / (width * height)).toFixed(1)}%)`;
    const real = mm2 === null ? "" : `, ${mm2.toFixed(mm2 < 100 ? 1 : 0)} mm²`;
    legend.children[index].lastChild.textContent = `${area.toLocaleString("en")} px${share}${real}`;
  });
}

function makeLegendEntry({ name, colour }) {
  const entry = document.createElement("li");
  const swatch = document.createElement("i");
  const area = document.createElement("span");
  swatch.style.backgroundColor = colour;
  area.className = "area";
  entry.append(swatch, name, area);
  return entry;
}

/* Up to three budgets high: one very late frame must not press all others flat. */
function drawChart(ages, budget) {
  const top = Math.min(3 * budget, Math.max(1.5 * budget, 1.1 * Math.max(...ages, 0)));
  const height = (value) => CHART.height * (1 - Math.min(value, top) / top);
  const step = CHART.width / (CHART.frames - 1);
  const first = CHART.frames - ages.length;
  const points = ages.map((age, index) => `${((first + index) * step).toFixed(2)},${height(age).toFixed(2)}`);
  find("age-line").setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
  find("budget-line").setAttribute("y1", height(budget));
  find("budget-line").setAttribute("y2", height(budget));
  placeBudgetMark(height(budget) / CHART.height, budget);
}

function placeBudgetMark(share, budget) {
  setText("budget-mark", `${budget} ms`);
  find("budget-mark").style.top = `${share * find("chart").getBoundingClientRect().height}px`;
}

/* The loop. */

async function poll() {
  try {
    const answer = await fetch(`numbers?page=${pageName}`, { signal: AbortSignal.timeout(ANSWER_MS) });
    if (!answer.ok) {
      throw new Error(await answer.text());
    }
    const numbers = await answer.json();
    noticeNewStream(numbers.stream);
    showNumbers(numbers);
    setState(chooseState(numbers));
  } catch (error) {
    console.info(error);
    setState(page.state === "ended" ? "ended" : "lost");
  }
  setTimeout(poll, page.state === "ended" || page.state === "lost" ? RETRY_MS : POLL_MS);
}

function setPaused(paused) {
  page.paused = paused;
  find("pause").setAttribute("aria-pressed", String(paused));
}

function togglePause() {
  setPaused(!page.paused);
  setState(page.paused ? "paused" : "live");
}

let opacityTimer = 0;

function changeOpacity() {
  setText("opacity-value", `${find("opacity").value}%`);
  clearTimeout(opacityTimer);
  opacityTimer = setTimeout(() => {
    if (find("picture").hasAttribute("src")) {
      startPicture();
    }
  }, 150);
}

find("picture").addEventListener("load", showPicture);
find("picture").addEventListener("error", explainMissingPicture);
find("pause").addEventListener("click", togglePause);
find("opacity").addEventListener("input", changeOpacity);
document.addEventListener("visibilitychange", updatePicture);
poll();
