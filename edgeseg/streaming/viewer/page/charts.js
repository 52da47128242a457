/* Small line charts: one line, the area under it, and a dashed line to compare it with. */

import { find } from "./elements.js";

const WIDTH = 300;
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

class Chart {
  constructor(id, length) {
    this.svg = find(id);
    this.length = length;
    this.ground = this.addPart("path", "ground");
    this.line = this.addPart("path", "line");
    this.limit = this.addPart("path", "limit");
    this.mark = document.createElement("span");
    this.mark.className = "mark";
    this.mark.setAttribute("aria-hidden", "true");
    this.svg.after(this.mark);
  }

  addPart(kind, name) {
    const part = document.createElementNS(SVG, kind);
    part.setAttribute("class", name);
    this.svg.append(part);
    return part;
  }

  /* The newest value is at the right edge; values beyond the scale are clipped. */
  draw(values, limit, top, mark) {
    const step = WIDTH / (this.length - 1);
    const first = this.length - values.length;
    const x = (index) => ((first + index) * step).toFixed(2);
    const y = (value) => (HEIGHT * (1 - Math.min(value, top) / top)).toFixed(2);
    const line = values.length > 1 ? `M${values.map((value, index) => `${x(index)},${y(value)}`).join("L")}` : "";
    this.line.setAttribute("d", line);
    this.ground.setAttribute("d", line ? `${line}V${HEIGHT}H${x(0)}Z` : "");
    this.limit.setAttribute("d", limit > 0 ? `M0,${y(limit)}H${WIDTH}` : "");
    this.mark.textContent = limit > 0 ? mark : "";
    this.mark.style.top = `${(y(limit) / HEIGHT) * this.svg.getBoundingClientRect().height}px`;
  }
}

const ages = new Chart("age-chart", 300);
const rates = new Chart("rate-chart", 60);

/* The scale ends at three budgets: one very late frame must not flatten all others. */
export function drawAges(values, budget) {
  const top = Math.min(3 * budget, Math.max(1.5 * budget, 1.1 * Math.max(...values, 0)));
  ages.draw(values, budget, top, `${budget} ms`);
}

export function drawRates(values, captured) {
  const top = 1.25 * Math.max(1, captured, ...values);
  rates.draw(values, captured, top, `${captured.toFixed(0)} /s`);
}
