/* The sources of a stream that has several: buttons that choose one, for everybody who watches. */

import { find, post, say, write } from "./elements.js";

const STATES = {
  idle: "",
  opening: "opening",
  live: "shown",
  lost: "lost, looked for",
  ended: "ended",
  failed: "not available",
};

let count = 0;

export function showSources(sources, chosen) {
  count = sources.length;
  find("source-list").hidden = count === 0;
  find("keys-sources").hidden = count === 0;
  const list = find("sources");
  const key = JSON.stringify(sources.map(({ name }) => name));
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...sources.map(makeSource));
  }
  sources.forEach(({ state, sentence, number }, index) => {
    const entry = list.children[index];
    entry.dataset.source = state;
    entry.querySelector("button").setAttribute("aria-pressed", String(number === chosen));
    write(entry.querySelector(".source-state"), STATES[state]);
    write(entry.querySelector(".sentence"), state === "failed" || state === "lost" ? sentence : "");
  });
}

/* Also chooses the source that is shown: one that has ended or failed is opened again. */
export async function chooseSource(number) {
  if (number >= 1 && number <= count) {
    say((await post(`source?number=${number}`)) || "");
  }
}

function makeSource({ number, name }) {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  const parts = ["number", "source-name", "source-state"].map((part) => {
    const element = document.createElement("span");
    element.className = part;
    return element;
  });
  const sentence = document.createElement("p");
  parts[0].textContent = number;
  parts[1].textContent = name;
  sentence.className = "sentence";
  button.type = "button";
  button.append(parts[0], " ", parts[1], " ", parts[2]);
  button.addEventListener("click", () => chooseSource(number));
  entry.append(button, sentence);
  return entry;
}
