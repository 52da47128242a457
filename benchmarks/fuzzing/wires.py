"""What comes over a wire or a pipe, and what a person writes: cameras, raw frames, requests, recipes, profiles."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import ClassVar

from edgeseg.machine.boards import list_boards, list_recipes
from fuzzing import doors
from fuzzing.kind import Kind, tag, untag
from fuzzing.media import encode, resize_jpeg
from fuzzing.mutate import DEEP, NUMBERS, mutate_bytes, mutate_text

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
LAST = b"--cut--\r\n"
ENDLESS_S = 15.0
"""For how long an endless answer is sent: longer than a reader may take."""
PAUSE_S = 0.1
LARGEST_ANSWER = 256 * 1024


def wrap_part(jpeg: bytes, sized: bool = True, head: bytes = b"") -> bytes:
    """Make a frame a part of a camera's answer."""
    length = b"Content-Length: %d\r\n" % len(jpeg) if sized else b""
    return b"--cut\r\nContent-Type: image/jpeg\r\n" + length + head + b"\r\n" + jpeg + b"\r\n"


class MjpegKind(Kind):
    """Answers of a network camera on 127.0.0.1; what stands in front of the first line is sent again and again."""

    name: ClassVar[str] = "mjpeg"
    share: ClassVar[float] = 1.5

    def __init__(self, folder: Path) -> None:
        """Listen."""
        super().__init__(folder)
        self.jpeg = encode(".jpg")
        self.parts = [wrap_part(self.jpeg, sized) for sized in (True, False, True)]
        self.listening = socket.create_server(("127.0.0.1", 0))

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give answers that never end, or announce what nobody holds in memory."""
        part = self.parts[0]
        return {
            "endless line": lambda: _endless(b"x" * 65536, HEAD),
            "endless header of the answer": lambda: _endless(b"x" * 65536, b"HTTP/1.0 200 OK\r\nX: "),
            "endless headers of the answer": lambda: _endless(b"X-Some: thing\r\n" * 500, b"HTTP/1.0 200 OK\r\n"),
            "endless headers of a part": lambda: _endless(b"X-Some: thing\r\n" * 500, HEAD + b"--cut\r\n"),
            "endless lines before a part": lambda: _endless(b"some line\r\n" * 500, HEAD),
            "endless part": lambda: _endless(bytes(65536), HEAD + b"--cut\r\n\r\n"),
            "endless part of lines": lambda: _endless(b"line\r\n" * 5000, HEAD + b"--cut\r\n\r\n"),
            "endless 100": lambda: _endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 500, b""),
            "endless chunk": lambda: _endless(
                b"9" * 65536,
                HEAD.replace(b"1.0", b"1.1").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ),
            "dividers only": lambda: _endless(b"--cut\r\n\r\n" * 500, HEAD),
            "part of 10^18 bytes": lambda: tag(
                "", HEAD + part.replace(b"Content-Length: ", b"Content-Length: 999999999999999")
            ),
            "part of 10,000 digits": lambda: tag(
                "", HEAD + part.replace(b"Content-Length: ", b"Content-Length: " + b"9" * 10_000)
            ),
            "part of 64 MiB that never comes": lambda: tag(
                "", HEAD + b"--cut\r\nContent-Length: 67108864\r\n\r\n" + bytes(100)
            ),
            "length in other digits": lambda: tag(
                "", HEAD + part.replace(b"Content-Length: ", "Content-Length: ²".encode("latin-1"))
            ),
            "JPEG of 30000x30000": lambda: tag("", HEAD + wrap_part(resize_jpeg(self.jpeg, 30000, 30000)) * 3),
            "JPEG of 65500x65500": lambda: tag("", HEAD + wrap_part(resize_jpeg(self.jpeg, 65500, 65500)) * 3),
            "no boundary": lambda: tag("", HEAD.replace(b"; boundary=cut", b"") + part),
            "boundary of nothing": lambda: tag("", HEAD.replace(b"cut", b'""') + part),
            "boundary in another encoding": lambda: tag(
                "", HEAD.replace(b"boundary=cut", b"boundary*=utf-9''%ff%fe") + part
            ),
            "nothing": lambda: tag("", b""),
            "status of letters": lambda: tag("", HEAD.replace(b"200", b"abc")),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change the answer's head, a part, or a frame."""
        parts = list(self.parts)
        act = rng.random()
        if act < 0.25:
            return tag("", mutate_bytes(rng, HEAD) + b"".join(parts) + LAST)
        place = rng.randrange(len(parts))
        if act < 0.5:
            parts[place] = wrap_part(mutate_bytes(rng, self.jpeg) + rng.choice((b"", b"\xff\xd9")), place != 1)
        elif act < 0.75:
            parts[place] = mutate_bytes(rng, parts[place][:70]) + parts[place][70:]
        else:
            return tag("", mutate_bytes(rng, HEAD + b"".join(parts) + LAST))
        return tag("", HEAD + b"".join(parts) + rng.choice((LAST, b"")))

    def feed(self, data: bytes) -> None:
        """Serve it once, and read frames from there."""
        again, content = untag(data)
        server = threading.Thread(target=self._serve, args=(content, bytes.fromhex(again)), daemon=True)
        server.start()
        try:
            doors.play_camera(f"http://127.0.0.1:{self.listening.getsockname()[1]}/")
        finally:
            server.join(1.0)

    def _serve(self, content: bytes, again: bytes) -> None:
        client, _ = self.listening.accept()
        client.settimeout(ENDLESS_S)
        with suppress(OSError), closing(client):
            client.recv(65536)
            client.sendall(content)
            while again:
                client.sendall(again)


def _endless(again: bytes, content: bytes) -> bytes:
    return tag(again.hex(), content)


class PipeKind(Kind):
    """Y4M out of a pipeline, and raw frames on standard input with their options."""

    name: ClassVar[str] = "pipe"

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give sizes that nobody holds in memory."""
        y4m, frame = b"YUV4MPEG2 W%s H%s F25:1 C420\n", b"FRAME\n" + bytes(100)
        return {
            "y4m of 10^6 squared": lambda: tag("y4m", y4m % (b"1000000", b"1000000") + frame),
            "y4m of 65536x65536": lambda: tag("y4m", y4m % (b"65536", b"65536") + frame),
            "y4m of 10,000 digits": lambda: tag("y4m", y4m % (b"9" * 120, b"2") + frame),
            "y4m of nothing": lambda: tag("y4m", y4m % (b"0", b"0") + frame * 20),
            "y4m without width": lambda: tag("y4m", y4m % (b"0", b"24") + frame * 20),
            "headers without frames": lambda: tag("y4m", (y4m % (b"32", b"24")) * 200_000),
            "raw of 10^6 squared": lambda: tag("size=1000000x1000000", bytes(1000)),
            "raw of 10^9 squared": lambda: tag("size=999999999x999999999", bytes(1000)),
            "raw of 5000 digits": lambda: tag(f"size={'9' * 5000}x1", bytes(1000)),
            "raw of nothing": lambda: tag("size=0x0", bytes(1000)),
            "rate of 5000 digits": lambda: tag(f"size=32x24&fps={'9' * 5000}", bytes(1000)),
            "rate of almost nothing": lambda: tag(f"size=32x24&fps=0.{'0' * 400}1", bytes(1000)),
            "size in other digits": lambda: tag("size=٣٢x٢٤", bytes(1000)),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change a header, or options."""
        if rng.random() < 0.6:
            words = [b"YUV4MPEG2", b"W32", b"H24", b"F25:1", b"Ip", b"A1:1", b"C420jpeg"]
            for _ in range(rng.choice((0, 1, 1, 2))):
                packet = rng.choice((b"W", b"H", b"F", b"C", b""))
                words[rng.randrange(len(words))] = packet + str(rng.choice(NUMBERS)).encode()
            frame = b"FRAME\n" + bytes(32 * 24 * 3 // 2)
            data = b" ".join(words) + b"\n" + frame + mutate_bytes(rng, frame)
            return tag("y4m", mutate_bytes(rng, data) if rng.random() < 0.5 else data)
        options = ["size=32x24", rng.choice(("format=gray", "format=bgr", "fps=25"))]
        text = mutate_bytes(rng, "&".join(options).encode()).decode("latin-1").replace("\n", "")
        if rng.random() < 0.5:
            text = f"size={rng.choice(NUMBERS)}x{rng.choice(NUMBERS)}&fps={rng.choice(NUMBERS)}"
        return tag(text, bytes(rng.choice((0, 1, 768, 768 * 3))))

    def feed(self, data: bytes) -> None:
        """Read frames."""
        kind, content = untag(data)
        if kind == "y4m":
            doors.play_pipeline(content)
        else:
            doors.play_standard_input(kind, content)


class HttpKind(Kind):
    """Requests to the page, whose stream takes its frames from the page."""

    name: ClassVar[str] = "http"
    share: ClassVar[float] = 1.0

    def __init__(self, folder: Path) -> None:
        """Open the page."""
        super().__init__(folder)
        self.errors: list[BaseException] = []
        self.viewer = doors.open_viewer(self.errors.append)
        self.result = doors.make_result()
        self.port = int(self.viewer.url.rstrip("/").rpartition(":")[2])
        self.host = f"Host: 127.0.0.1:{self.port}\r\n".encode()
        self.jpeg = encode(".jpg")

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give requests that lie about their length, or have none."""
        return {
            "picture of 30000x30000": lambda: self._order(b"/camera?page=a", resize_jpeg(self.jpeg, 30000, 30000)),
            "length of 4000 digits": lambda: self._order(
                b"/camera?page=a", b"", b"Content-Length: " + b"9" * 4000 + b"\r\n"
            ),
            "negative length": lambda: self._order(b"/camera?page=a", b"", b"Content-Length: -1\r\n"),
            "length in other digits": lambda: self._order(
                b"/camera?page=a", b"", "Content-Length: ²\r\n".encode("latin-1")
            ),
            "two lengths": lambda: self._order(b"/camera?page=a", self.jpeg, b"Content-Length: 1\r\n"),
            "body that never comes": lambda: self._order(b"/camera?page=a", b"", b"Content-Length: 1000000\r\n"),
            "chunks": lambda: self._order(
                b"/camera?page=a", b"5\r\nhello\r\n0\r\n\r\n", b"Transfer-Encoding: chunked\r\n"
            ),
            "line of 70,000 bytes": lambda: b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + self.host + b"\r\n",
            "500 headers": lambda: b"GET / HTTP/1.1\r\n" + self.host + b"X: y\r\n" * 500 + b"\r\n",
            "header of 70,000 bytes": lambda: b"GET / HTTP/1.1\r\n" + self.host + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
            "bad IPv6 origin": lambda: b"GET / HTTP/1.1\r\n" + self.host + b"Origin: http://[::1\r\n\r\n",
            "bad IPv6 address": lambda: b"GET //[::1/numbers HTTP/1.1\r\n" + self.host + b"\r\n",
            "10,000 questions": lambda: b"GET /numbers?" + b"page=x&" * 9000 + b" HTTP/1.1\r\n" + self.host + b"\r\n",
            "token that is no ASCII": lambda: b"GET /?token=%ff\xff HTTP/1.1\r\n" + self.host + b"\r\n",
            "old HTTP": lambda: b"GET /\r\n",
            "nothing": lambda: b"",
        }

    def mutate(self, rng: Random) -> bytes:
        """Change a request's line, headers or body."""
        paths = ("/", "/numbers?page=a", "/picture?size=640", "/picture?width=64&mask=0", "/page.js", "/camera?page=a")
        path = rng.choice((*paths, "/recording/start")).encode()
        words = (b"%00", b"%ff", b"?", b"&page=", b"..%2f", b"//[", b"#", b"=1e400", b"=-1", b"=nan", b"%", b"\xff")
        for _ in range(rng.choice((0, 1, 2))):
            place = rng.randrange(1, len(path) + 1)
            path = path[:place] + rng.choice(words) + path[place:]
        if rng.random() < 0.5:
            body = mutate_bytes(rng, self.jpeg) + b"\xff\xd9"
            request = self._order(path, body)
        else:
            request = b"GET " + path + b" HTTP/1.1\r\n" + self.host + b"Cookie: edgeseg-1=a; b\r\nAccept: */*\r\n\r\n"
        return mutate_bytes(rng, request) if rng.random() < 0.6 else request

    def feed(self, data: bytes) -> None:
        """Send it, read an answer, and see that the page is still there."""
        del self.errors[:]
        self.viewer.publish(self.result)
        self._ask(data)
        if not self._ask(b"GET /page.css HTTP/1.0\r\n" + self.host + b"\r\n").startswith(b"HTTP/1.0 200"):
            raise AssertionError("the page does not answer any more")
        if self.errors:
            raise self.errors[0]

    def _ask(self, request: bytes) -> bytes:
        answer = b""
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", self.port), 5.0) as client:
            client.settimeout(5.0)
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(PAUSE_S if b"/picture" in request[:20] else 5.0)
            with suppress(TimeoutError):
                while len(answer) < LARGEST_ANSWER and (got := client.recv(65536)):
                    answer += got
        return answer

    def _order(self, path: bytes, body: bytes, length: bytes | None = None) -> bytes:
        own = b"Origin: http://127.0.0.1:%d\r\nContent-Type: image/jpeg\r\n" % self.port
        sized = b"Content-Length: %d\r\n" % len(body) if length is None else length
        return b"POST " + path + b" HTTP/1.1\r\n" + self.host + own + sized + b"\r\n" + body


class TomlKind(Kind):
    """Recipes and profiles of boards."""

    name: ClassVar[str] = "toml"
    share: ClassVar[float] = 1.5

    def __init__(self, folder: Path) -> None:
        """Read those that come with edgeseg."""
        super().__init__(folder)
        self.seeds = [("recipe", path.read_text("utf-8")) for path in list_recipes().values()]
        self.seeds += [("board", path.read_text("utf-8")) for path in list_boards().values()]

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give files that are too deep, too long or no text."""
        recipe = b'summary = "x"\nprecision = "int8"\n'
        return {
            "nested lists": lambda: tag("recipe", recipe + b"keep_float = " + b"[" * DEEP),
            "nested tables": lambda: tag("recipe", recipe + b"x = " + b"{a=" * DEEP),
            "key of 20,000 parts": lambda: tag("recipe", recipe + b".".join([b"a"] * DEEP) + b" = 1\n"),
            "number of 10,000 digits": lambda: tag("recipe", recipe + b"calibration_images = " + b"9" * 10_000),
            "100 MiB of comment": lambda: tag("recipe", recipe + b"#" * (100 * 2**20)),
            "no UTF-8": lambda: tag("recipe", recipe + b"\xff\xfe"),
            "date": lambda: tag("recipe", recipe + b"calibration_images = 1979-05-27T07:32:00Z\n"),
            "nan": lambda: tag("recipe", recipe + b"[qat]\nepochs = 1\nlearning_rate = nan\ndistillation = nan\n"),
            "infinite rate": lambda: tag(
                "recipe", recipe + b"[qat]\nepochs = 1\nlearning_rate = inf\ndistillation = 1\n"
            ),
            "empty": lambda: tag("board", b""),
            "nested lists in a board": lambda: tag("board", b"machine = " + b"[" * DEEP),
        }

    def mutate(self, rng: Random) -> bytes:
        """Change values, lines or bytes."""
        kind, text = rng.choice(self.seeds)
        if rng.random() < 0.35:
            return tag(kind, mutate_text(rng, text))
        lines = text.splitlines()
        for _ in range(rng.choice((1, 1, 2, 4))):
            place = rng.randrange(len(lines))
            name, sign, _ = lines[place].partition("=")
            lines[place] = (
                f"{name}= {rng.choice(_TOML_VALUES)}" if sign else rng.choice(("", "[x]", "[[qat]]", "[qat]", "="))
            )
        return tag(kind, "\n".join(lines).encode("utf-8", "surrogatepass"))

    def feed(self, data: bytes) -> None:
        """Read it."""
        kind, content = untag(data)
        path = self.folder / f"{kind}.toml"
        path.write_bytes(content)
        doors.read_recipe(path) if kind == "recipe" else doors.read_board(path)


_TOML_VALUES = (
    "1",
    "-1",
    "0",
    "1.5",
    "nan",
    "-inf",
    "9" * 30,
    "9" * 5000,
    "true",
    '""',
    '"../../x"',
    '"float32"',
    '"\\u0000"',
    '"' + "x" * 5000 + '"',
    "[]",
    "[[]]",
    "[1, 'a']",
    "{}",
    "{a = 1}",
    "1979-05-27",
    "'''",
    json.dumps(["x"] * 1000),
)

KINDS: tuple[type[Kind], ...] = (MjpegKind, PipeKind, HttpKind, TomlKind)
