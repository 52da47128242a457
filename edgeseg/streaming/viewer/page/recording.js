/* The button that starts and stops the recording, on streams with --record. */

import { find, formatCount, post, say, setText } from "./elements.js";

let isOn = false;
let failed = false;

export function showRecording(recording) {
  const button = find("record");
  button.hidden = recording === null;
  if (recording === null) {
    return;
  }
  isOn = recording.on && recording.failure === null;
  button.disabled = recording.failure !== null;
  button.dataset.on = isOn;
  setText("record", isOn ? "Stop recording" : "Start recording");
  setText("recorded", `${formatCount(recording.taken)} masks recorded`);
  find("recorded").hidden = recording.taken === 0;
  if (recording.failure !== null && !failed) {
    failed = true;
    say(`The recording has ended: ${recording.failure}`);
  }
}

async function switchRecording() {
  const wanted = !isOn;
  const refusal = await post(`recording/${wanted ? "start" : "stop"}`);
  say(refusal || (wanted ? "The recording has started." : "The recording has stopped."));
}

find("record").addEventListener("click", switchRecording);
