/* Helpers that every part of the page uses. */

export function find(id) {
  return document.getElementById(id);
}

/* Only what changes: a screen reader reads a live region out again with every change. */
export function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function setText(id, text) {
  write(find(id), text);
}

/* Show a sentence under the buttons; it is a live region, so a screen reader reads it out. */
export function say(sentence) {
  setText("said", sentence);
}

export function formatTime(milliseconds) {
  return milliseconds.toFixed(milliseconds < 100 ? 1 : 0);
}

export function formatCount(count) {
  return count.toLocaleString("en");
}

export function formatPercent(share) {
  return `${(100 * share).toFixed(0)}%`;
}

/* crypto.randomUUID exists only in secure contexts, which plain http in a local network is not. */
export function makeName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* Send a POST request; returns the server's sentence when it refuses, else an empty string. */
export async function post(path, body = null, kind = "text/plain") {
  try {
    const answer = await fetch(path, { method: "POST", body, headers: { "Content-Type": kind } });
    return answer.ok ? "" : (await answer.text()).trim();
  } catch {
    return "The connection is lost.";
  }
}
