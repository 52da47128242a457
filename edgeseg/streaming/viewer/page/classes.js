/* The classes of the picture: state, confidence and area of each, and buttons that hide and show its mask.

Hiding is this page's own choice, ends when the page is loaded again, and changes no figure. Whether a row says "hidden"
comes with the picture: a picture that was drawn before the button was pressed still shows its mask. */

import { find, formatCount, formatPercent, setText } from "./elements.js";

/* With more classes, rows are short and those with a mask come first. */
const MANY = 6;

const hidden = new Set();
let count = 0;
let onChange = () => {};

export function whenClassesChange(callback) {
  onChange = callback;
}

/* For the query of a request for a picture: numbers of the classes that are not drawn. */
export function listHidden() {
  return [...hidden].sort((one, other) => one - other).join(",");
}

/* The figures of the picture that is shown at this moment, and of no other. */
export function showClasses(figures) {
  const legend = find("legend");
  const key = JSON.stringify(figures.classes.map(({ name, colour }) => [name, colour]));
  if (legend.dataset.key !== key) {
    begin(legend, key, figures.classes);
  }
  find("findings").hidden = false;
  const pixels = figures.frame_px[0] * figures.frame_px[1];
  figures.classes.forEach((one, index) => {
    const veiled = figures.hidden.includes(index + 1);
    showClass(legend.children[index], one, pixels, figures.out_of_distribution, veiled);
  });
  showFrameClasses(figures.out_of_distribution ? {} : figures.frame_classes);
}

export function hideClasses() {
  find("findings").hidden = true;
}

export function toggleAll() {
  const all = hidden.size < count;
  hidden.clear();
  for (let number = 1; all && number <= count; number += 1) {
    hidden.add(number);
  }
  showButtons();
}

function begin(legend, key, classes) {
  legend.dataset.key = key;
  count = classes.length;
  hidden.clear();
  legend.dataset.many = count > MANY;
  legend.tabIndex = count > MANY ? 0 : -1;
  legend.replaceChildren(...classes.map(makeRow));
  find("all").hidden = count < 2;
  showButtons(false);
}

function showClass(row, one, pixels, unlike, veiled) {
  row.dataset.state = one.state ?? "found";
  row.dataset.hidden = veiled;
  write(row, ".state", unlike ? "" : nameState(one));
  write(row, ".confidence", unlike || one.confidence === null || one.state === "nothing" ? "" : one.confidence.toFixed(2));
  write(row, ".sure", unlike ? "" : describeSureness(one));
  write(row, ".area", one.state === "nothing" ? "" : describeArea(one, pixels));
  write(row, ".instances", one.state === "nothing" || unlike ? "" : describeInstances(one));
  write(row, ".veil", veiled ? "mask hidden" : "");
}

function write(row, part, text) {
  const element = row.querySelector(part);
  if (element.textContent !== text) {
    element.textContent = text;
  }
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
    words.push(threshold === null ? "confidence (no operating point)" : `confidence (found from ${threshold.toFixed(2)})`);
    if (area === 0) {
      words.push("not drawn");
    }
  }
  if (probability !== null) {
    words.push(`presence ${formatPercent(probability)}`);
  }
  return words.join("\n");
}

function describeArea({ area_px: area, area_mm2: mm2 }, pixels) {
  const share = area === 0 ? "" : ` (${((100 * area) / pixels).toFixed(1)}%)`;
  const real = mm2 === null ? "" : `${mm2.toFixed(mm2 < 100 ? 1 : 0)} mm², `;
  return `${real}${formatCount(area)} px${share}`;
}

/* A line for each single finding: its number in the stream, diameters, area, and confidence where there are several. */
function describeInstances({ instances, instance_count: count }) {
  const lines = instances.map((one) => {
    const real = one.long_mm !== null;
    const [long, short] = real ? [one.long_mm, one.short_mm] : [one.long_px, one.short_px];
    const size = `${long.toFixed(real ? 1 : 0)} × ${short.toFixed(real ? 1 : 0)} ${real ? "mm" : "px"}`;
    const area = real ? `${one.area_mm2.toFixed(one.area_mm2 < 100 ? 1 : 0)} mm²` : `${formatCount(one.area_px)} px`;
    const sure = count < 2 || one.confidence === null ? "" : `, ${one.confidence.toFixed(2)}`;
    const doubt = count < 2 || one.state !== "doubtful" ? "" : ", doubtful";
    return `${one.number === 0 ? "–" : `No. ${one.number}`}: ${size}${count < 2 ? "" : `, ${area}`}${sure}${doubt}`;
  });
  return count > lines.length ? [...lines, `and ${formatCount(count - lines.length)} more`].join("\n") : lines.join("\n");
}

/* What the network says of a frame of another kind means nothing. */
function showFrameClasses(classes) {
  const names = Object.entries(classes).sort((one, other) => other[1] - one[1]);
  find("frame-classes").hidden = names.length === 0;
  setText("frame-classes", names.map(([name, share]) => `${name} ${formatPercent(share)}`).join(", "));
}

function makeRow({ name, colour }, index) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  const swatch = document.createElement("i");
  const label = document.createElement("span");
  const act = document.createElement("span");
  button.type = "button";
  button.className = "toggle";
  button.title = `Hide or show the mask of ${name}`;
  button.addEventListener("click", () => toggle(index + 1));
  swatch.style.color = colour;
  label.className = "name";
  label.textContent = name;
  act.className = "act";
  button.append(swatch, label, " ", act);
  row.append(button);
  for (const part of ["state", "confidence", "sure", "area", "instances", "veil"]) {
    const element = document.createElement("span");
    element.className = part;
    row.append(" ", element);
  }
  return row;
}

function toggle(number) {
  if (!hidden.delete(number)) {
    hidden.add(number);
  }
  showButtons();
}

function showButtons(changed = true) {
  Array.from(find("legend").children).forEach((row, index) => {
    const veiled = hidden.has(index + 1);
    row.querySelector(".toggle").setAttribute("aria-pressed", String(!veiled));
    write(row, ".act", veiled ? "show" : "hide");
  });
  setText("all", hidden.size < count ? "Hide all masks" : "Show all masks");
  if (changed) {
    onChange();
  }
}

find("all").addEventListener("click", toggleAll);
