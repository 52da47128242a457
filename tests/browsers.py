"""A real headless Chromium, spoken to over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CHROMIUM = shutil.which("chromium")
SECONDS = 60
COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + SECONDS
    while not is_true():
        assert monotonic() < deadline, f"{what} did not come true"
        sleep(0.05)


class PageError(AssertionError):
    """Chromium refused a command, for instance because the page has just been left."""


class Browser:
    """One page of a headless Chromium, spoken to over its debugging pipe."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._overdue, self._errors = threading.Event(), folder.with_name(f"{folder.name}-errors.txt")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                ["bash", "-c", shell, str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={folder}", "about:blank"],
                pass_fds=(commands, answers),
                stderr=errors,
            )
        os.close(commands)
        os.close(answers)
        self._buffer, self._number, self._session = b"", 0, ""
        self.complaints: list[Any] = []
        self._watchdog = self._start_watchdog()
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._attach(page["targetId"])

    def renew(self) -> None:
        """Go on with a page that knows nothing of the one before: starting another Chromium takes much longer."""
        self._watchdog.cancel()
        self._watchdog = self._start_watchdog()
        self._session = ""
        for context in self.call("Target.getBrowserContexts")["browserContextIds"]:
            self.call("Target.disposeBrowserContext", browserContextId=context)
        context = self.call("Target.createBrowserContext")["browserContextId"]
        self._attach(self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            if answer["method"] in COMPLAINTS and answer.get("sessionId") == self._session:
                self.complaints.append(answer["params"])
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def show(self, url: str, size: tuple[int, int]) -> None:
        self.resize(size)
        self.call("Page.navigate", url=url)

    def resize(self, size: tuple[int, int]) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def ask(self, script: str) -> Any:
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str) -> None:
        def is_true() -> bool:
            try:
                return bool(self.ask(script))
            except PageError:
                # the page was left while it was asked; the next one answers
                return False

        wait_until(is_true, script)

    def press(self, key: str, code: int, text: str = "") -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def take_screenshot(self) -> NDArray[np.uint8]:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait(SECONDS)
        os.close(self._commands)
        os.close(self._answers)

    def _start_watchdog(self) -> threading.Timer:
        watchdog = threading.Timer(2 * SECONDS, self._stop_overdue)
        watchdog.start()
        return watchdog

    def _attach(self, page: str) -> None:
        self.complaints = []
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")

    def _explain_end(self) -> str:
        code = self._process.wait(SECONDS)
        by = f"after {2 * SECONDS} s by the watchdog" if self._overdue.is_set() else f"by itself, exit code {code}"
        said = self._errors.read_text(errors="replace")[-2000:]
        return f"chromium ended {by}: {said}"

    def _stop_overdue(self) -> None:
        self._overdue.set()
        self._process.kill()

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 1 << 16)
            assert data, self._explain_end()
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer
