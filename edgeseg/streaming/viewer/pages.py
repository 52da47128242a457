"""`PageHandler`: serves the files of the page, and single pictures; the live page and the player build on it."""

from __future__ import annotations

from abc import abstractmethod
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from edgeseg.streaming.viewer.encoding import FIGURES_HEADER, JpegOptions, read_jpeg_options
from edgeseg.web.access import split_target
from edgeseg.web.server import RequestHandler

FOLDER = Path(__file__).parent / "page"
HTML, CSS, SCRIPT = (f"text/{kind}; charset=utf-8" for kind in ("html", "css", "javascript"))
SCRIPTS = (
    *(
        "page",
        "camera",
        "charts",
        "classes",
        "common",
        "elements",
        "figures",
        "fullscreen",
        "parts",
        "picture",
        "player",
    ),
    *("recording", "sources"),
)
PAGE_FILES = {"/page.css": CSS, **{f"/{name}.js": SCRIPT for name in SCRIPTS}}
PAGE_NAME_LENGTH = 40
# Keep pictures of patients on this machine: no other site may load, embed or cache them.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PageHandler(RequestHandler):
    """Answers GET for the page, its files, the figures and single pictures."""

    uses_camera = False
    """Whether the page may use a camera."""

    def handle_get(self) -> None:
        """Send the page, one of its files, the figures or a picture."""
        path, query = split_target(self.path)
        if path == "/":
            cookie = self.access.make_cookie(self.reached_at[1])
            self.send(HTTPStatus.OK, HTML, write_page("page"), cookie)
        elif path in PAGE_FILES:
            self.send(HTTPStatus.OK, PAGE_FILES[path], (FOLDER / path[1:]).read_bytes())
        elif path == "/numbers":
            self.send_numbers(query)
        elif path in ("/picture", "/still"):
            self._send_drawn(path, query)
        else:
            self.refuse_unknown()

    @abstractmethod
    def send_numbers(self, query: str) -> None:
        """Send the figures of the stream."""

    @abstractmethod
    def send_pictures(self, options: JpegOptions) -> None:
        """Send the running picture."""

    @abstractmethod
    def send_still(self, query: str, options: JpegOptions) -> None:
        """Send the one picture that a query names."""

    def end_headers(self) -> None:
        """Add the security headers to every response."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        # the page may use a camera only where the stream takes frames from the page
        camera = "(self)" if self.uses_camera else "()"
        self.send_header("Permissions-Policy", f"camera={camera}, microphone=(), geolocation=()")
        super().end_headers()

    def send_jpeg(self, jpeg: bytes, figures: str) -> None:
        """Send a single picture with its figures."""
        self.send(HTTPStatus.OK, "image/jpeg", jpeg, {FIGURES_HEADER: figures})

    def send_no_content(self) -> None:
        """Answer that an order was carried out."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def refuse_unknown(self) -> None:
        """Answer that nothing is there."""
        self.refuse(HTTPStatus.NOT_FOUND, "There is nothing at this address.")

    def _send_drawn(self, path: str, query: str) -> None:
        try:
            options = read_jpeg_options(query)
        except ValueError as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"The picture cannot be drawn like that: {error}.")
            return
        if path == "/picture":
            self.send_pictures(options)
        else:
            self.send_still(query, options)


def write_page(name: str) -> bytes:
    """Write a page into the head, header and footer that all have."""
    layout, main = ((FOLDER / f"{part}.html").read_text(encoding="utf-8") for part in ("layout", name))
    return layout.replace("{main}\n", main).replace("{script}", f"{name}.js").encode()


def read_pages(query: str) -> list[str]:
    """Read the random name of the page that sent the request."""
    return [page[:PAGE_NAME_LENGTH] for page in parse_qs(query).get("page", [])]


def read_number(query: str, name: str) -> float | None:
    """Read a number of a query; None where there is none."""
    try:
        return float(parse_qs(query)[name][0])
    except (KeyError, ValueError):
        return None
