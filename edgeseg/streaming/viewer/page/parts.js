/* Reads the parts of a multipart response, each with a picture and its figures. */

const HEAD_END = [13, 10, 13, 10];

/* Calls `show` with every part, as soon as it is complete. */
export async function readParts(reader, show) {
  let data = new Uint8Array(0);
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    data = join(data, value);
    for (let part = takePart(data); part !== null; part = takePart(data)) {
      data = part.rest;
      show(part);
    }
  }
}

/* Makes a function that takes parts and draws the newest: a slow browser skips pictures and stays up to date. */
export function drawNewest(draw) {
  let newest = null;
  let drawing = false;
  return async (part) => {
    newest = part;
    while (newest !== null && !drawing) {
      drawing = true;
      const { figures, jpeg } = newest;
      newest = null;
      const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })).finally(() => {
        drawing = false;
      });
      draw(bitmap, figures);
      bitmap.close();
    }
  };
}

/* Draws a picture onto a canvas, which takes its size. */
export function drawOn(canvas, bitmap, number) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.dataset.number = number;
}

/* Returns the first part and the bytes after it; null while it is incomplete. */
function takePart(data) {
  const end = findHeadEnd(data);
  if (end < 0) {
    return null;
  }
  const head = new Map(new TextDecoder().decode(data.subarray(0, end)).split("\r\n").map(splitHeader));
  const start = end + HEAD_END.length;
  const stop = start + Number(head.get("content-length"));
  /* Also where the length is missing, and stop is no number. */
  if (!(data.length >= stop + 2)) {
    return null;
  }
  return {
    figures: JSON.parse(head.get("x-edgeseg-figures")),
    jpeg: data.slice(start, stop),
    rest: data.slice(stop + 2),
  };
}

function splitHeader(line) {
  const colon = line.indexOf(":");
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

function findHeadEnd(data) {
  for (let at = data.indexOf(HEAD_END[0]); at >= 0; at = data.indexOf(HEAD_END[0], at + 1)) {
    if (HEAD_END.every((byte, index) => data[at + index] === byte)) {
      return at;
    }
  }
  return -1;
}

function join(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
