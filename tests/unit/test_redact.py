"""No shape of secret survives in what people and files are told, and harmless text stays as it was."""

from __future__ import annotations

from random import Random
from time import monotonic
from urllib.parse import quote

import pytest

from edgeseg.core.errors import SourceError, UnknownNameError
from edgeseg.core.redact import redact
from tests.commands import Fail

BEGIN, END = "Zq7", "Wx9"
"""Around every secret: neither may survive, so a part that leaks is seen as well."""
KEYS = (
    *("password", "passwd", "pwd", "pass", "pw", "user-pw", "token", "access_token", "refreshToken", "auth", "key"),
    *("api_key", "apiKey", "X-API-Key", "secret", "client_secret", "signature", "X-Amz-Signature", "sig", "passphrase"),
    *("camera.password", "rtsp_pw", "proxy-pw", "password2", "sessionid", "credentials", "user", "user-id", "login"),
)
SCHEMES = ("rtsp", "rtsps", "http", "https", "RTSP", "rtspt", "srt", "gst", "ftp")
AWKWARD = "abYZ019/#@:;,!$%^*()[]{}<>=+~|?'\"-_.éß\u00a0\u3000\x1b"
IN_ADDRESS = {
    "user": "{scheme}://name:{secret}@host.example/stream",
    "token for a user": "{scheme}://{secret}@host.example/",
    "query": "{scheme}://host.example/video?{key}={secret}&channel=1",
    "second in the query": "{scheme}://host.example:8080/video?channel=1&{key}={secret}",
    "path": "{scheme}://host.example/user=me&{key}={secret}&channel=1",
    "matrix": "{scheme}://host.example/x;{key}={secret}",
    "fragment": "{scheme}://host.example/x#{key}={secret}",
    "IPv6": "{scheme}://name:{secret}@[::1]:554/",
    "pipeline": "rtspsrc location={scheme}://name:{secret}@host.example/x ! decodebin",
    "JSON": '{{"{key}": "{secret}", "width": 3}}',
}
IN_PIPELINE = {
    "bare": "rtspsrc location=rtsp://host {key}={secret} ! decodebin",
    "quoted value": 'rtspsrc {key}="{secret}" location=rtsp://host ! decodebin',
    "quoted pair": "rtspsrc '{key}={secret}' ! decodebin",
    "typed": "souphttpsrc extra-headers=a,{key}=(string){secret} ! decodebin",
}
SENTENCES = ("{}", "Expected frames from {}, got none.", "Expected a source, got '{}'.", "two\nlines {} here")


def change_case(text: str, case: str) -> str:
    return {"as it is": text, "upper": text.upper(), "title": text.title()}[case]


def encode(text: str, encoding: str) -> str:
    if encoding == "whole":
        return quote(text, safe="")
    return quote(quote(text, safe=""), safe="") if encoding == "twice" else text


def assert_hidden(text: str) -> None:
    said = redact(text)
    assert BEGIN.lower() not in said.lower(), said
    assert END.lower() not in said.lower(), said
    assert redact(said) == said
    assert said.isprintable() or "\n" in said


def draw_middle(chance: Random, letters: str) -> str:
    """Draw what stands between the two marks of a secret; often a few signs decide."""
    return "".join(chance.choices(letters, k=chance.randrange(9)))


@pytest.mark.parametrize("place", IN_ADDRESS)
def test_no_secret_of_an_address_survives(place: str) -> None:
    chance = Random(place)
    assert_address_hidden(place, "rtsp", "pw", "as it is", "p/w#d@x", "none", SENTENCES[0])
    assert_address_hidden(place, "rtsp", "password", "as it is", "a@b/c#d?e", "none", SENTENCES[0])
    assert_address_hidden(place, "https", "token", "upper", "", "twice", SENTENCES[1])
    for _ in range(100):
        assert_address_hidden(
            place,
            chance.choice(SCHEMES),
            chance.choice(KEYS),
            chance.choice(("as it is", "upper", "title")),
            draw_middle(chance, AWKWARD),
            chance.choice(("none", "secret", "key", "whole", "twice")),
            chance.choice(SENTENCES),
        )


def assert_address_hidden(
    place: str, scheme: str, key: str, case: str, middle: str, encoding: str, sentence: str
) -> None:
    if place == "JSON":
        middle = middle.replace('"', '\\"')
    secret = f"{BEGIN}{middle}{END}"
    secret = quote(secret, safe="") if encoding == "secret" else secret
    key = change_case(key, case)
    key = f"{key[:-1]}%{ord(key[-1]):02x}" if encoding == "key" and place != "JSON" else key
    address = IN_ADDRESS[place].format(scheme=scheme, key=key, secret=secret)
    if encoding in ("whole", "twice") and place not in ("pipeline", "JSON"):
        address = f"http://proxy.example/?url={encode(address, encoding)}"
    assert_hidden(sentence.format(address))


@pytest.mark.parametrize("place", IN_PIPELINE)
def test_no_secret_of_a_pipeline_survives(place: str) -> None:
    chance, keys = Random(place), [key for key in KEYS if key != "X-API-Key"]
    quoted = {"bare": "\"' &", "typed": "\"'( &"}.get(place, '"' if place == "quoted value" else "'")
    for _ in range(100):
        middle = draw_middle(chance, AWKWARD + " &")
        middle = "".join(f"\\{sign}" if sign in quoted and place != "quoted pair" else sign for sign in middle)
        if place == "quoted pair":
            middle = middle.replace("'", "")
        key = change_case(chance.choice(keys), chance.choice(("as it is", "upper")))
        assert_hidden(IN_PIPELINE[place].format(key=key, secret=f"{BEGIN}{middle}{END}"))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Basic Zq7xWx9==",
        "authorization: Digest username=x, response=Zq7Wx9",
        "Set-Cookie: a=Zq7; b=Wx9",
        "the header Bearer Zq7.Wx9",
        "rtsp://me:Zq7 with spaces Wx9@host/x",
        "rtsp://me:Zq7/and#noWx9",
        "//me:Zq7Wx9@host/x",
        "rtsp:/me:Zq7Wx9@host/x",
        "me:Zq7Wx9@host",
        "http://host/token/Zq7Wx9/live.mjpg",
        "http://host/?a=1&amp;password=Zq7Wx9&amp;b=2",
        "password: Zq7Wx9",
        "user-pw='Zq7 never closed Wx9",
        '{\\"password\\": \\"Zq7Wx9\\"}',
        "http://host/?auth[password]=Zq7Wx9&a=b",
        "http://host/?token[]=Zq7Wx9",
        "curl --password Zq7Wx9 http://host/",
        "<wsse:Password Type='x'>Zq7Wx9</wsse:Password>",
        "rtsp://host/user=me_password=Zq7Wx9_channel=1_stream=0.sdp",
        "rtsp://host/0/usrnm:me/pwd:Zq7Wx9/main",
        "http://host/video.cgi?loginuse=me&loginpas=Zq7Wx9",
        "http://host/a;jsessionid=Zq7Wx9",
        "rtsp://host/?password=>Zq7Wx9",
    ],
)
def test_no_secret_survives_elsewhere(text: str) -> None:
    assert_hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "clip.mp4",
        "pass_1.avi and pass [2].avi",
        "tokens: 3, max_tokens=4, monkey=5, hotkeys=6, compass=7",
        "Expected frames at 12:30:05, got 25 of 30 (pass 2: none).",
        "pi@board.local:22 and mail@host.example",
        "http://127.0.0.1:8765/video?channel=1&size=640x480#top",
        "rtsp://[::1]:554/stream, http://host:80, rtsp://host/a=b&c=d",
        "phantom://?seed=2&frames=5 browser://?size=640x480&fps=30",
        "videotestsrc num-buffers=5 ! video/x-raw,width=64,format=(string)I420",
        "Expected the token of this stream: open the address that it printed when it started.",
        "Unknown key: learning_rate. Basic authentication is needed. 100%25 of 5% done",
        "two\n  lines\twith a tab, Größe 3 µm",
        "C:/data/pass/clip.mp4 /home/user/secret/clip.mp4",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert redact(text) == text


def test_what_stands_beside_a_secret_stays() -> None:
    assert redact("rtsp://me:pw@host:554/a?channel=1, got none.") == "rtsp://host:554/a?channel=1, got none."
    assert redact("got 'http://host/?token=abc&channel=1'.") == "got 'http://host/?token=***&channel=1'."
    assert redact('rtspsrc user-pw="a b" ! decodebin') == 'rtspsrc user-pw="***" ! decodebin'


def test_no_error_tells_a_secret() -> None:
    error = SourceError(f"Expected frames from rtsp://me:{BEGIN}@host/x.", f"Try http://host/?token={BEGIN}")
    unknown = UnknownNameError("source", f"tcp://host/?password={BEGIN}", [f"x://me:{BEGIN}@host"])
    assert BEGIN not in f"{error}{error.message}{error.hint}{unknown}{unknown.hint}"


ADDRESS = f"rtsp://me:{BEGIN}@host/x?password={BEGIN}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("stream", "m.tflite", "a", "b", ADDRESS),
        ("stream", "m.tflite", f"--{ADDRESS}"),
        ("stream", "m.tflite", ADDRESS, "--source", ADDRESS.replace("host", "other")),
        ("stream", "m.tflite", "--source", ADDRESS, "--roi", ADDRESS),
        (ADDRESS,),
    ],
)
def test_no_wrong_command_line_is_told_with_its_secrets(fail: Fail, arguments: tuple[str, ...]) -> None:
    code, err = fail(*arguments)
    assert code in (1, 2)
    assert BEGIN not in err


def test_the_trace_of_an_error_is_without_secrets(fail: Fail, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: object) -> None:
        raise RuntimeError(ADDRESS)

    monkeypatch.setenv("EDGESEG_DEBUG", "1")
    monkeypatch.setattr("edgeseg.core.modelfile.read_model", break_off)
    _, err = fail("inspect", "m.tflite")
    assert "Traceback" in err
    assert BEGIN not in err


@pytest.mark.parametrize("steering", ["\x1b[2J", "\x07", "\r", "\x9b1m", "\u202e", "\udcff", "\x00", "\u2028"])
def test_what_steers_a_terminal_is_escaped(steering: str) -> None:
    said = redact(f"a{steering}b")
    assert said.isprintable()
    assert said.encode()
    assert said.startswith("a\\")


@pytest.mark.parametrize(
    "piece", ["a", "://", "a:@", "%25", "password=", "'\"", 'a="', "://a:", "bearer ", "&a=b", "\\"]
)
def test_the_time_grows_with_the_text_only(piece: str) -> None:
    began = monotonic()
    redact(piece * (20_000 // len(piece)))
    assert monotonic() - began < 1  # what grew with the square of the length took minutes
