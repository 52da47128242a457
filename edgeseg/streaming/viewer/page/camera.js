/* This device's camera: JPEG images are uploaded one at a time, the next one after the response to the last. */

import { find, makeName, post, say, setText } from "./elements.js";

const QUALITY = 0.85;
const RETRY_MS = 500;
const REFUSALS = {
  NotAllowedError: "This browser was not allowed to use the camera.",
  NotFoundError: "This device has no camera.",
  NotReadableError: "The camera is in use by another program.",
};
const NOT_OFFERED =
  "Browsers allow a camera only on localhost or https: open this page on the machine itself or through an SSH tunnel.";

const canvas = document.createElement("canvas");
let requested = null;
let media = null;

export function offerCamera(camera) {
  requested = camera;
  find("camera").hidden = camera === null;
  if (camera === null) {
    stopCamera();
  }
}

export function stopCamera() {
  media?.getTracks().forEach((track) => track.stop());
  media = null;
  find("viewfinder").srcObject = null;
  setText("camera", "Use this device's camera");
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    say(NOT_OFFERED);
    return;
  }
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: false, video: describeCamera(requested) });
    find("viewfinder").srcObject = media;
    await find("viewfinder").play();
  } catch (error) {
    stopCamera();
    say(REFUSALS[error.name] ?? `The camera cannot be used: ${error.message}`);
    return;
  }
  const used = media;
  used.getVideoTracks()[0].addEventListener("ended", () => used === media && endCamera("The camera was disconnected."));
  setText("camera", "Stop this device's camera");
  say("The stream now shows this device's camera.");
  sendPictures(used, `camera?page=${makeName()}`);
}

/* "environment" is the rear camera of a phone, which can film a scanner's screen. */
function describeCamera({ width, height, fps }) {
  return { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps }, facingMode: "environment" };
}

async function sendPictures(used, path) {
  let shown = "";
  while (used === media) {
    await waitForFrame();
    const jpeg = used === media ? await takePicture() : null;
    if (jpeg === null) {
      continue;
    }
    const refusal = await post(path, jpeg, "image/jpeg");
    if (refusal && refusal !== shown && used === media) {
      say(refusal);
    }
    if (refusal) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    shown = refusal;
  }
}

function waitForFrame() {
  const video = find("viewfinder");
  return new Promise((resolve) => {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback(resolve);
    } else {
      setTimeout(resolve, 1000 / requested.fps);
    }
  });
}

function takePicture() {
  const video = find("viewfinder");
  if (video.videoWidth === 0) {
    return null;
  }
  const scale = Math.min(1, Math.max(requested.width, requested.height) / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(scale * video.videoWidth);
  canvas.height = Math.round(scale * video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

function endCamera(sentence) {
  stopCamera();
  say(sentence);
}

function switchCamera() {
  return media === null ? startCamera() : endCamera("This device's camera is off.");
}

find("camera").addEventListener("click", switchCamera);
