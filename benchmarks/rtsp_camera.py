"""An RTSP camera on 127.0.0.1 for benchmarks: /usr/bin/python3 benchmarks/rtsp_camera.py FPS; ends with stdin.

Needs python3-gi and gir1.2-gst-rtsp-server-1.0 of the system's own Python, and no other package. Each frame carries
its time as camera.py draws it.
"""

import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - the versions must be asked for first

WIDTH, HEIGHT, BITS, SQUARE = 640, 480, 40, 16


def draw_frame(milliseconds: int) -> bytes:
    """Draw a time into the first rows of a grey I420 frame."""
    squares = (b"\xeb" * SQUARE if milliseconds >> bit & 1 else b"\x10" * SQUARE for bit in range(BITS))
    top = b"".join(squares) * SQUARE
    return top + b"\x50" * (WIDTH * HEIGHT - len(top)) + b"\x80" * (WIDTH * HEIGHT // 2)


def feed(source: "Gst.Element", fps: float) -> None:
    """Push frames at a steady rate until the pipeline ends."""
    due = time.monotonic()
    while source.emit("push-buffer", Gst.Buffer.new_wrapped(draw_frame(int(1e3 * time.monotonic())))) == 0:
        due += 1.0 / fps
        time.sleep(max(0.0, due - time.monotonic()))


def configure(_: "GstRtspServer.RTSPMediaFactory", media: "GstRtspServer.RTSPMedia", fps: float) -> None:
    """Start feeding a viewer's pipeline."""
    source = media.get_element().get_child_by_name("frames")
    threading.Thread(target=feed, args=(source, fps), daemon=True).start()


def main() -> None:
    """Serve until standard input is closed."""
    fps = float(sys.argv[1])
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( appsrc name=frames is-live=true do-timestamp=true format=time caps=video/x-raw,format=I420,width={WIDTH},"
        f"height={HEIGHT},framerate={round(fps)}/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 "
        "! rtph264pay name=pay0 pt=96 )"
    )
    factory.connect("media-configure", configure, fps)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main()
