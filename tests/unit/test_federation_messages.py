"""What a federation sends: weights, plan and facts, checked before anything of a peer is used."""

from __future__ import annotations

import dataclasses
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

import edgeseg
from edgeseg.core.errors import EdgesegError
from edgeseg.federation.plan import (
    FederationOptions,
    Plan,
    SiteFacts,
    blur_fingerprint,
    hash_together,
    read_message,
    refuse_other_version,
    write_message,
)
from edgeseg.federation.secure import (
    is_proof,
    make_nonce,
    prove,
    read_address,
    read_token,
    refuse_taken_port,
)
from edgeseg.federation.weights import keep_own, largest_message, read_tensors
from edgeseg.training.options import TrainOptions

NAME, HASH = "0" * 32, "a" * 64
SHAPES: list[tuple[int, ...]] = [(3, 3, 1, 2), (2,), ()]


def save(value: object, allow_pickle: bool = False) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(value), allow_pickle=allow_pickle)
    return content.getvalue()


def plan(**changes: object) -> Plan:
    made = Plan(NAME, edgeseg.__version__, TrainOptions(model="micro"), FederationOptions(rounds=3), ("lesion",))
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def facts(**changes: object) -> SiteFacts:
    return dataclasses.replace(SiteFacts(NAME, 20, 4, (3,), 0, HASH), **changes)  # type: ignore[arg-type]


def good_tensors() -> list[bytes]:
    return [save(np.full(shape, 0.5, np.float32)) for shape in SHAPES]


def test_weights_come_back_as_they_were_sent() -> None:
    values = read_tensors(good_tensors(), SHAPES)
    assert [value.shape for value in values] == SHAPES
    assert all((value == 0.5).all() for value in values)


@pytest.mark.parametrize(
    "damaged",
    [
        save(np.full((3, 3, 1, 3), 0.5, np.float32)),
        save(np.full((3, 3, 1, 2), 0.5, np.float64)),
        save(np.full((3, 3, 1, 2), np.nan, np.float32)),
        save(np.full((3, 3, 1, 2), np.inf, np.float32)),
        save(np.full((3, 3, 1, 2), 0.5, np.float32))[:-4],
        save(np.full((3, 3, 1, 2), 0.5, np.float32)) + b"more",
        save(np.asfortranarray(np.ones((3, 3, 1, 2), np.float32))),
        save(np.array([print], dtype=object), allow_pickle=True),
        pickle.dumps(np.ones(3)),
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000,
        b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b" " * 100,
        bytes(100_000_000),
    ],
    ids=[
        *("other-shape", "doubles", "nan", "infinity", "cut", "longer", "columns-first", "pickled", "pickle"),
        *("nothing", "magic-alone", "deep-header", "huge-header", "too-large"),
    ],
)
def test_other_arrays_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_tensors([damaged, *good_tensors()[1:]], SHAPES)


def test_a_header_that_claims_terabytes_allocates_nothing() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"
    claim = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(ValueError, match="shapes"):
        read_tensors([claim], [(2,)])


def test_the_number_of_arrays_must_be_the_networks() -> None:
    with pytest.raises(ValueError, match="2 arrays where the network has 3"):
        read_tensors(good_tensors()[:2], SHAPES)


def test_an_honest_message_is_not_larger_than_allowed() -> None:
    assert 2 * sum(map(len, good_tensors())) < largest_message(SHAPES) < 2**20


def test_a_site_keeps_what_is_its_own() -> None:
    sent, own = [np.zeros(2, np.float32)] * 2, [np.ones(2, np.float32)] * 2
    kept = keep_own(sent, own, [False, True])
    assert [value.tolist() for value in kept] == [[0.0, 0.0], [1.0, 1.0]]


def test_plan_and_facts_come_back_as_they_were_sent() -> None:
    assert read_message(Plan, write_message(plan(finds=True, frame_classes=("a", "b")))) == plan(
        finds=True, frame_classes=("a", "b")
    )
    assert read_message(SiteFacts, write_message(facts())) == facts()


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "clinic of Dr Mueller"},
        {"fingerprint": "/home/mueller"},
        {"train": 0},
        {"train": 10**9},
        {"validation": 0},
        {"lacking": (21,)},
        {"white": 3},
    ],
)
def test_facts_hold_nothing_but_numbers_and_hashes(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        facts(**changes)


@pytest.mark.parametrize("text", [None, b"{}", "", "[]", "{", '{"site": 1}', "[" * 5000, '{"train": NaN}'])
def test_foreign_messages_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_message(SiteFacts, text)


@pytest.mark.parametrize(
    "changes",
    [
        {"options": TrainOptions(epochs=4)},
        {"options": TrainOptions(schedule="plateau")},
        {"options": TrainOptions(strategy="mirrored")},
        {"classes": ()},
        {"classes": ("a", "a")},
        {"frame_classes": ("a", "b")},
        {"federation": "mine"},
    ],
)
def test_plans_that_no_site_could_follow_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        plan(**changes)


def test_other_versions_are_refused() -> None:
    refuse_other_version("1.0", "1.0", "server")
    with pytest.raises(EdgesegError, match=r"1\.0.*2\.0"):
        refuse_other_version("1.0", "2.0", "server")


def test_fingerprints_of_the_same_data_differ_between_federations() -> None:
    assert blur_fingerprint(HASH, NAME) == blur_fingerprint(HASH, NAME) != blur_fingerprint(HASH, "1" * 32)
    assert hash_together(["a", "b"]) == hash_together(["b", "a"]) != hash_together(["ab"])


def test_a_proof_belongs_to_one_token_and_one_question() -> None:
    nonce, other = make_nonce(), make_nonce()
    assert is_proof(b"secret", nonce, prove(b"secret", nonce))
    assert not is_proof(b"secret", other, prove(b"secret", nonce))
    assert not is_proof(b"secret", nonce, prove(b"guessed", nonce))
    assert not any(is_proof(b"secret", nonce, odd) for odd in (None, 1, "", "ü", "\ud800"))


@pytest.mark.parametrize("token", ["short", "", "    \n"])
def test_a_token_that_can_be_guessed_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    with pytest.raises(EdgesegError, match="token"):
        read_token(tmp_path / "token")


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    assert read_token(tmp_path / "token") == b"0123456789abcdef"
    assert read_token(None) == b""


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:8440", True),
        ("localhost:1", True),
        ("[::1]:8440", True),
        ("192.168.1.2:8440", False),
        ("server.clinic.example:8440", False),
        ("0.0.0.0:8440", False),
        ("[::]:8440", False),
    ],
)
def test_addresses(text: str, local: bool) -> None:
    address = read_address(text)
    assert address.is_local is local
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8440", ":8440", "host", "host:", "host:0", "host:65536", "host:x", "a b:1", "a/b:1"]
)
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_address(text)


def test_a_port_in_use_is_refused() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EdgesegError, match="listen"):
            refuse_taken_port(read_address(f"127.0.0.1:{taken.getsockname()[1]}"))
