/* The picture: running, standing still, missing, or saved as a file. */

import { find, say } from "./elements.js";

const SETTLE_MS = 150;

let opacityTimer = 0;
let model = "picture";

export function isRunning() {
  return find("picture").hasAttribute("src");
}

export function startPicture() {
  const opacity = find("opacity").value / 100;
  find("picture").src = `picture?opacity=${opacity}&fps=30&start=${Date.now()}`;
}

export function stopPicture() {
  keepStill();
  find("picture").hidden = true;
  find("picture").removeAttribute("src");
}

export function forgetPicture() {
  find("picture").hidden = true;
  find("picture").removeAttribute("src");
  find("still").hidden = true;
  find("save").disabled = true;
}

export function nameModel(name) {
  model = name;
}

function keepStill() {
  const picture = find("picture");
  if (!picture.hidden && picture.naturalWidth) {
    copyPicture(picture, find("still"));
    find("still").hidden = false;
  }
}

function copyPicture(from, canvas) {
  canvas.width = from.naturalWidth || from.width;
  canvas.height = from.naturalHeight || from.height;
  canvas.getContext("2d").drawImage(from, 0, 0);
}

function showPicture() {
  find("picture").hidden = false;
  find("still").hidden = true;
  find("save").disabled = false;
}

/* Gives whether the picture is missing because too many windows are watching. */
export async function isFull() {
  const asking = new AbortController();
  try {
    const answer = await fetch("picture", { signal: asking.signal });
    return answer.status === 503;
  } catch {
    return false; /* The next poll says that the connection is lost. */
  } finally {
    asking.abort();
  }
}

/* What is shown becomes a file of this device; the stream knows nothing of it. */
function savePicture() {
  const canvas = document.createElement("canvas");
  copyPicture(find("picture").hidden ? find("still") : find("picture"), canvas);
  canvas.toBlob((blob) => {
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

function changeOpacity() {
  find("opacity-value").textContent = `${find("opacity").value}%`;
  clearTimeout(opacityTimer);
  opacityTimer = setTimeout(() => {
    if (isRunning()) {
      startPicture();
    }
  }, SETTLE_MS);
}

find("picture").addEventListener("load", showPicture);
find("opacity").addEventListener("input", changeOpacity);
find("save").addEventListener("click", savePicture);
