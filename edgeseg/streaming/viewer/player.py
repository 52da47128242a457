"""`RecordingPlayer`: serves a recording to the page, which plays it; every page is at a place of its own."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any

from edgeseg.core.errors import DataError
from edgeseg.core.redact import redact
from edgeseg.core.schema import to_plain
from edgeseg.streaming.playback import RecordedPicture, RecordingReader
from edgeseg.streaming.viewer.encoding import JpegOptions, encode_picture, write_figures
from edgeseg.streaming.viewer.figures import PlaybackNumbers, measure_picture
from edgeseg.streaming.viewer.pages import PageHandler, read_number
from edgeseg.web.access import THIS_MACHINE, Access
from edgeseg.web.server import open_server


@dataclass(frozen=True)
class PlayerNumbers:
    """What the page shows of a recording as a whole; the keys are those of the live page where both have them."""

    stream: str
    model: str
    source: str
    playback: PlaybackNumbers
    ended: bool = False


class RecordingPlayer:
    """Serves the pictures of a recording at `url`, each on request; no model runs."""

    def __init__(self, reader: RecordingReader, port: int, access: Access = THIS_MACHINE) -> None:
        """Start serving.

        Args:
            reader: The recording; closed at the end.
            port: The port; 0 takes any free one.
            access: Where to serve, and the access control.

        Raises:
            OutputError: The port is in use.
        """
        self._reader, self._ended = reader, threading.Event()
        self._server = open_server(port, partial(PlayerHandler, reader, secrets.token_hex(8)), "edgeseg-player", access)
        self.url = access.write_url(self._server.server_port)

    def stop(self) -> None:
        """End `wait`, from another thread or a signal handler."""
        self._ended.set()

    def wait(self) -> None:
        """Serve until `stop`."""
        self._ended.wait()

    def close(self) -> None:
        """End the server and close the recording."""
        self._server.stop()
        self._reader.close()


class PlayerHandler(PageHandler):
    """Answers one request: GET for page, figures and single pictures."""

    def __init__(self, reader: RecordingReader, stream: str, *args: Any) -> None:
        self._reader, self._stream = reader, stream
        super().__init__(*args)

    def send_numbers(self, query: str) -> None:  # noqa: ARG002 - no page is waited for at the end
        """Send what is known of the recording."""
        reader = self._reader
        playback = PlaybackNumbers(len(reader), round(reader.seconds, 3), reader.has_frames, reader.unreadable)
        numbers = PlayerNumbers(self._stream, reader.model, f"{len(reader):,} pictures", playback)
        self.send(HTTPStatus.OK, "application/json", json.dumps(to_plain(numbers)).encode())

    def send_pictures(self, options: JpegOptions) -> None:  # noqa: ARG002 - there are none
        """Refuse: a recording is played picture by picture."""
        self.refuse(HTTPStatus.NOT_FOUND, "A recording has single pictures only, at /still.")

    def send_still(self, query: str, options: JpegOptions) -> None:
        """Send the picture of a number from 1, or the one at a time."""
        place = self._find_place(query)
        if place is None:
            self.refuse(HTTPStatus.NOT_FOUND, f"Expected picture=1 to {len(self._reader)}, or at=SECONDS.")
            return
        try:
            recorded = self._reader.read(place)
        except DataError as error:
            reason = self._hide_folder(error)
            self.refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"Picture {place + 1} cannot be read: {reason}")
            return
        figures = self._measure(recorded, options)
        self.send_jpeg(encode_picture(recorded.picture, self._reader.classes, options), figures)

    def _find_place(self, query: str) -> int | None:
        number, seconds = read_number(query, "picture"), read_number(query, "at")
        if number is not None and number.is_integer() and 1 <= number <= len(self._reader):
            return int(number) - 1
        return None if seconds is None or not seconds >= 0.0 else self._reader.find_place(seconds)

    def _measure(self, recorded: RecordedPicture, options: JpegOptions) -> str:
        picture = recorded.picture
        figures = measure_picture(picture, self._reader.classes, picture.mm_per_px, self._stream)
        return write_figures(
            replace(
                figures,
                picture=recorded.place + 1,
                seconds=recorded.seconds,
                next_seconds=recorded.next_seconds,
                age_ms=recorded.age_ms,
                source=recorded.source,
                hidden=tuple(sorted(options.hidden)),
            )
        )

    def _hide_folder(self, error: DataError) -> str:
        """Write a message for the page, which does not show where the recording lies."""
        return redact(error.message.replace(f"{self._reader.folder}/", ""))
