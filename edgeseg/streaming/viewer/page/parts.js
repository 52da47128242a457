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

/* Returns the first part and the bytes after it; null while it is incomplete. */
function takePart(data) {
  const end = findHeadEnd(data);
  if (end < 0) {
    return null;
  }
  const head = new Map(new TextDecoder().decode(data.subarray(0, end)).split("\r\n").map(splitHeader));
  const start = end + HEAD_END.length;
  const stop = start + Number(head.get("content-length"));
  if (data.length < stop + 2) {
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
