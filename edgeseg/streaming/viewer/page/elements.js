/* What every part of the page does with its elements. */

export function find(id) {
  return document.getElementById(id);
}

export function setText(id, text) {
  const element = find(id);
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/* A sentence under the buttons, which a screen reader says when it is idle. */
export function say(sentence) {
  setText("said", sentence);
}

export function formatTime(milliseconds) {
  return milliseconds.toFixed(milliseconds < 100 ? 1 : 0);
}

export function formatCount(count) {
  return count.toLocaleString("en");
}

/* crypto.randomUUID is there on secure pages only, which one in a local network is not. */
export function makeName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/* Tell the stream to do something; gives the answer's sentence where it refuses, else nothing. */
export async function order(path, body = null, kind = "text/plain") {
  try {
    const answer = await fetch(path, { method: "POST", body, headers: { "Content-Type": kind } });
    return answer.ok ? "" : (await answer.text()).trim();
  } catch {
    return "The connection is lost.";
  }
}
