/* Plays a recording: every page asks for single pictures, at its own place and pace. */

import { find, say, setText } from "./elements.js";
import { showStill, whenRedrawn } from "./picture.js";

/* A longer gap, such as a source that was lost for minutes, is not waited for. */
const LONGEST_GAP_S = 2.0;
const UNREADABLE_MS = 40;
/* Times in the figures are rounded. */
const ROUNDING_S = 0.0001;

const player = { pictures: 0, seconds: 0, playing: false, shown: null, wanted: "", answers: null, from: 0, since: 0, runs: 0 };

export function showPlayback(playback) {
  if (player.pictures > 0) {
    return;
  }
  player.pictures = playback.pictures;
  player.seconds = playback.seconds;
  document.body.dataset.mode = "playback";
  find("player").hidden = false;
  find("keys-player").hidden = false;
  find("band").hidden = true;
  find("pause").hidden = true;
  find("place").max = playback.pictures;
  if (!playback.has_frames) {
    say("This recording holds masks without frames: --record-frames was not given.");
  }
  whenRedrawn(() => ask(`picture=${find("place").value}`));
  ask("picture=1");
}

export function isPlayback() {
  return player.pictures > 0;
}

export function togglePlay() {
  setPlaying(!player.playing);
}

export function step(pictures) {
  setPlaying(false);
  goTo(Number(find("place").value) + pictures);
}

function goTo(place) {
  find("place").value = Math.min(player.pictures, Math.max(1, place));
  return ask(`picture=${find("place").value}`);
}

/*
 * The newest wish counts: dragging the slider asks for no more pictures than the machine can draw. All who ask wait for
 * the same answers: one who did not wait, as in the loop of `run`, would leave the browser no time to receive them.
 */
function ask(query) {
  player.wanted = query;
  player.answers ??= receive();
  return player.answers;
}

async function receive() {
  try {
    while (player.wanted) {
      const wanted = player.wanted;
      player.wanted = "";
      showPlace(await showStill(wanted));
    }
  } finally {
    player.answers = null;
  }
}

function showPlace(figures) {
  player.shown = figures;
  if (figures === null) {
    setText("place-text", `${find("place").value} / ${player.pictures}`);
    return;
  }
  if (!player.wanted) {
    find("place").value = figures.picture;
  }
  setText("place-text", `${formatSeconds(figures.seconds)} / ${formatSeconds(player.seconds)}`);
}

function formatSeconds(seconds) {
  const minutes = Math.floor(seconds / 60);
  return minutes > 0 ? `${minutes}:${(seconds % 60).toFixed(0).padStart(2, "0")}` : `${seconds.toFixed(1)} s`;
}

async function setPlaying(playing) {
  if (playing === player.playing) {
    return;
  }
  player.playing = playing;
  player.runs += 1;
  const number = player.runs;
  setText("play", playing ? "Stop" : "Play");
  if (playing) {
    if (Number(find("place").value) === player.pictures) {
      await goTo(1);
    }
    begin();
    run(number);
  }
}

/* The clock begins anew at every change of place or speed. */
function begin() {
  player.from = player.shown?.seconds ?? 0;
  player.since = performance.now();
}

/* Who stops and plays again while the first picture is asked for has begun a second run: the first one ends. */
async function run(number) {
  const speed = () => Number(find("speed").value);
  while (player.playing && number === player.runs) {
    const shown = player.shown;
    if (shown === null) {
      await sleep(UNREADABLE_MS);
      await nextPlace();
    } else if (shown.next_seconds === null) {
      setPlaying(false);
    } else {
      const at = player.from + (speed() * (performance.now() - player.since)) / 1000;
      if (shown.next_seconds - shown.seconds > LONGEST_GAP_S) {
        await nextPlace();
      } else if (at >= shown.next_seconds) {
        await ask(`at=${at + ROUNDING_S}`);
      } else {
        await sleep(Math.min(100, (1000 * (shown.next_seconds - at)) / speed()));
      }
    }
  }
}

async function nextPlace() {
  if (Number(find("place").value) >= player.pictures) {
    setPlaying(false);
    return;
  }
  await goTo(Number(find("place").value) + 1);
  begin();
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function seek() {
  await goTo(Number(find("place").value));
  begin();
}

find("play").addEventListener("click", togglePlay);
find("step-back").addEventListener("click", () => step(-1));
find("step-on").addEventListener("click", () => step(1));
find("place").addEventListener("input", seek);
find("speed").addEventListener("change", begin);
