"""A native window where there is none: a sentence. The window itself needs a desktop and is not verified here."""

from __future__ import annotations

import cv2
import pytest

from edgeseg.core.errors import OutputError
from edgeseg.streaming.sinks.window import check_windows


def test_headless_opencv_says_what_to_install() -> None:
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    with pytest.raises(OutputError, match="headless") as caught:
        check_windows()
    assert "pip install opencv-python" in caught.value.hint


def test_no_desktop_is_said_before_the_toolkit_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="neither DISPLAY nor WAYLAND_DISPLAY"):
        check_windows()
