"""Federations in tests: a server on a thread, sites that train nothing, and a relay that writes down what passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import edgeseg
from edgeseg.federation.flower import (
    Client,
    Code,
    EvaluateRes,
    FitRes,
    GetPropertiesRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
    start_client,
)
from edgeseg.federation.plan import FederationOptions, Plan, SiteFacts, read_message, write_message
from edgeseg.federation.rounds import Terms
from edgeseg.federation.secure import Address, prove
from edgeseg.federation.server import Listener, draft_plan, serve_federation
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import RunRecord

OK = Status(Code.OK, "")
FIGURES = {"loss": 1.0, "learning_rate": 0.001, "seconds": 0.1, "waiting": 0.0}
# Long enough for a slow machine; nothing waits that long when all is well.
SECONDS = 240.0


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tiny_plan(rounds: int = 2, **course: Any) -> Plan:
    """Draft the plan of a very small network."""
    options = TrainOptions(model="micro", size=32, batch=4, learning_rate=0.01, augment="none", ema=0.5, dropout=0.0)
    return draft_plan(options, FederationOptions(rounds=rounds, **course), ("target",))


class FakeSite(Client):  # type: ignore[misc]  # mypy sees no Flower
    """Answers as a site does, and adds a number to every weight in place of a training."""

    def __init__(self, number: int, cases: int = 10, step: float = 0.0, token: bytes = b"") -> None:
        self.site, self.cases, self.step, self.token = f"{number:032x}", cases, step, token
        self.fingerprint = f"{number:064x}"
        self.version = edgeseg.__version__
        self.refused = ""
        self.asked = threading.Event()
        self.rounds: list[int] = []
        self.final: list[np.ndarray[Any, Any]] | None = None
        self.tell: Callable[[Any], Any] = lambda answer: answer
        """Changes what is sent after a round."""

    def get_properties(self, ins: Any) -> Any:
        ask = ins.config["ask"]
        if ask == "greeting":
            proof = prove(self.token, str(ins.config["nonce"]))
            return GetPropertiesRes(OK, {"proof": proof, "edgeseg": self.version, "site": self.site})
        if ask == "refusal":
            self.refused = str(ins.config["sentence"])
            raise ConnectionError(self.refused)
        self.asked.set()
        facts = SiteFacts(self.site, self.cases, 4, (0,), 0, self.fingerprint)
        return GetPropertiesRes(OK, {"facts": write_message(facts)})

    def fit(self, ins: Any) -> Any:
        read_message(Plan, ins.config["plan"])
        self.rounds.append(int(ins.config["round"]))
        values = [value + np.float32(self.step) for value in parameters_to_ndarrays(ins.parameters)]
        return self.tell(FitRes(OK, ndarrays_to_parameters(values), self.cases, dict(FIGURES)))

    def evaluate(self, ins: Any) -> Any:
        if ins.config["task"] == "keep":
            self.final = parameters_to_ndarrays(ins.parameters)
        return EvaluateRes(OK, 0.0, 4, {"dice": 0.5})


def connect(site: Any, port: int, root: bytes | None = None) -> BaseException | None:
    """Let a site take part until its connection ends, and return why it broke, if it did."""
    try:
        start_client(server_address=f"127.0.0.1:{port}", client=site, insecure=root is None, root_certificates=root)
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error
    return None


class Stage:
    """A server on a thread, and the sites that connect to it."""

    def __init__(self, out: Path, plan: Plan, sites: int, **more: Any) -> None:
        self.port, self.out = free_port(), out
        self._pool = ThreadPoolExecutor(max_workers=32)
        resume, certificates, token = (more.pop(name, None) for name in ("resume", "certificates", "token"))
        terms = Terms(sites, more.pop("minimum", sites), round_seconds=SECONDS, wait_seconds=more.pop("wait", SECONDS))
        listener = Listener(Address("127.0.0.1", self.port), certificates, token or b"")
        self.result: Future[RunRecord] = self._pool.submit(
            serve_federation, plan, out, listener, terms, False, bool(resume)
        )
        self._await_port()

    def _await_port(self) -> None:
        for _ in range(600):
            with socket.socket() as probe:
                if self.result.done() or probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            threading.Event().wait(0.1)

    def join(self, site: Any, root: bytes | None = None) -> Future[BaseException | None]:
        """Let a site join on a thread of its own."""
        return self._pool.submit(connect, site, self.port, root)


class Relay:
    """Passes bytes between a site and the server, and keeps them."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self.passed: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.passed.append(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            # close alone would leave the other direction's recv, and with it the connection, as they are
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            source.close()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def relayed(target: int) -> Iterator[Relay]:
    """Open a relay to a port of this machine."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
