"""A site of a federation: answers the server's messages with its own training, and comes back when it is cut off."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import grpc

import edgeseg
from edgeseg.core.errors import RunError, TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder, write_json
from edgeseg.core.limits import MODEL_BYTES
from edgeseg.core.redact import to_one_line
from edgeseg.core.schema import SchemaError, read_json_table
from edgeseg.data.dataset import open_dataset
from edgeseg.federation.flower import (
    Client,
    Code,
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    GetPropertiesIns,
    GetPropertiesRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    start_client,
)
from edgeseg.federation.local import SiteData, SiteTraining
from edgeseg.federation.plan import Plan, read_message, refuse_other_version, write_message
from edgeseg.federation.secure import Address, prove
from edgeseg.federation.weights import Weights, read_tensors
from edgeseg.training.resume import CHECKPOINT
from edgeseg.training.run import FederationRecord, RunRecord
from edgeseg.training.validation import EpochResult

_LOG = logging.getLogger(__name__)
# What a message asks for.
ASK, GREETING, FACTS, REFUSAL = "ask", "greeting", "facts", "refusal"
TASK, JUDGE, KEEP = "task", "judge", "keep"
DIVERGED = "diverged"
# What a site keeps of itself while it takes part.
SITE = "site.json"
# Seconds between two attempts to connect.
PAUSE = 1.0
OK = Status(Code.OK, "")


@dataclass(frozen=True)
class Rounds:
    """The federation's rounds, as the server tells them at the end."""

    rows: tuple[EpochResult, ...]
    federation: FederationRecord


@dataclass(frozen=True)
class Final:
    """The final weights, and what the site's run remembers."""

    best: int
    ema: Weights
    rounds: Rounds


class SiteClient(Client):  # type: ignore[misc]  # mypy sees no Flower
    """Answers the server. An error of edgeseg ends it; its text stays here, as it may name folders."""

    def __init__(self, data: SiteData, folder: Path, token: bytes = b"") -> None:
        """Prepare a site.

        Args:
            data: Where the images are.
            folder: Where the run is made.
            token: What proves that this site may join.
        """
        self._data, self._folder, self._token = data, folder, token
        self.site, self._federation = _remember_site(folder)
        self.training: SiteTraining | None = None
        self.final: Final | None = None
        self.settled = False
        self.last_contact: float | None = None

    def get_properties(self, ins: GetPropertiesIns) -> GetPropertiesRes:
        """Prove that one may join, then tell the facts; a refusal ends it."""
        self.last_contact = monotonic()
        ask, config = ins.config.get(ASK), ins.config
        if ask == GREETING:
            return GetPropertiesRes(OK, self._greet(config))
        if ask == REFUSAL:
            raise TrainingError(
                f"The server refused this site: {to_one_line(config.get('sentence', ''))}.", "Ask who runs the server."
            )
        plan = _read_plan(config)
        refuse_other_version(edgeseg.__version__, plan.edgeseg, "server")
        self._begin(plan)
        assert self.training is not None
        return GetPropertiesRes(OK, {FACTS: write_message(self.training.facts)})

    def _greet(self, config: Mapping[str, Any]) -> dict[str, str]:
        nonce = config.get("nonce")
        proof = prove(self._token, nonce) if isinstance(nonce, str) else ""
        return {"proof": proof, "edgeseg": edgeseg.__version__, "site": self.site}

    def _begin(self, plan: Plan) -> None:
        """Read the images, unless they are here from before an interruption."""
        if self.training is not None and self.training.plan.federation == plan.federation:
            return
        if self._federation != plan.federation:
            # what is left of another federation has other weights
            shutil.rmtree(self._folder / CHECKPOINT, ignore_errors=True)
            self._federation = plan.federation
            _write_site(self._folder, self.site, plan.federation)
        self.training = SiteTraining(self._data, plan, self.site, self._folder)
        self.settled = False

    def _settle(self, config: Mapping[str, Any]) -> tuple[SiteTraining, int]:
        """Take the final plan with the first weights, and return the training and the round."""
        plan, number = _read_plan(config), config.get("round")
        if self.training is None or plan.federation != self.training.plan.federation:
            raise _odd_message("weights before a plan")
        if not isinstance(number, int) or not 1 <= number <= plan.course.rounds:
            raise _odd_message("a round that the plan does not have")
        if not self.settled:
            self.training.settle(plan)
            self.settled = True
            _LOG.info("Takes part from round %d of %d on.", number, plan.course.rounds)
        return self.training, number

    def fit(self, ins: FitIns) -> FitRes:
        """Train a round."""
        self.last_contact = monotonic()
        training, number = self._settle(ins.config)
        half = len(training.shapes)
        values = _read_weights(ins.parameters, training, sets=2)
        try:
            update = training.train(number, values[:half], values[half:])
        except TrainingError as error:
            # one such round is left out; the averaged weights of the next may do
            _LOG.warning("Round %d is left out here: %s", number, error.message)
            training.forget_gradients()
            return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, DIVERGED), Parameters([], ""), 0, {})
        figures = {
            "loss": update.cost.loss,
            "learning_rate": update.cost.learning_rate,
            "seconds": update.cost.seconds,
            "waiting": update.cost.waiting_seconds,
        }
        sent = ndarrays_to_parameters([*update.weights, *update.ema])
        self.last_contact = monotonic()
        return FitRes(OK, sent, training.facts.train, figures)

    def evaluate(self, ins: EvaluateIns) -> EvaluateRes:
        """Measure averaged weights on the validation cases, or take them as the final ones."""
        self.last_contact = monotonic()
        training, number = self._settle(ins.config)
        ema = _read_weights(ins.parameters, training, sets=1)
        if ins.config.get(TASK) == KEEP:
            try:
                self.final = Final(number, ema, read_message(Rounds, ins.config.get("rounds")))
            except ValueError as error:
                raise _odd_message(str(error)) from error
            return EvaluateRes(OK, 0.0, training.facts.validation, {})
        judged = training.judge(number, ema)
        figures = {"dice": judged.dice, "finding_auc": judged.finding_auc, "frame_class_auc": judged.frame_class_auc}
        known = {name: float(value) for name, value in figures.items() if value is not None}
        _LOG.info("Round %d: Dice %.3f on the validation cases here.", number, judged.dice)
        self.last_contact = monotonic()
        return EvaluateRes(OK, 0.0, training.facts.validation, known)


def _read_plan(config: Mapping[str, Any]) -> Plan:
    try:
        return read_message(Plan, config.get("plan"))
    except ValueError as error:
        raise _odd_message(str(error)) from error


def _read_weights(parameters: Parameters, training: SiteTraining, sets: int) -> Weights:
    try:
        return read_tensors(parameters.tensors, training.shapes * sets)
    except ValueError as error:
        raise _odd_message(str(error)) from error


def _odd_message(what: str) -> TrainingError:
    return TrainingError(
        f"Expected messages of edgeseg's server, got others: {to_one_line(what)}.",
        "Check the address, and that all use the same version.",
    )


def _write_site(folder: Path, site: str, federation: str) -> None:
    write_json(folder / SITE, {"site": site, "federation": federation})


def _remember_site(folder: Path) -> tuple[str, str]:
    """Return the site's random name and the federation that it was in, or make a name."""
    if (folder / SITE).is_file():
        try:
            table = read_json_table(folder / SITE)
            return str(table["site"]), str(table["federation"])
        except (SchemaError, KeyError) as error:
            raise RunError(
                f"Expected what this site kept in {folder / SITE}, got a damaged file.", f"Remove {folder}."
            ) from error
    site = secrets.token_hex(16)
    _write_site(folder, site, "")
    return site, ""


@dataclass(frozen=True)
class Connection:
    """How a site reaches the server."""

    address: Address
    root: bytes | None = None
    """The certificate by which it knows the server; None connects without TLS."""
    token: bytes = b""
    wait: float = 60.0
    """Seconds for which the server may be away."""


def join_federation(data: SiteData, out: Path, connection: Connection, overwrite: bool = False) -> RunRecord:
    """Take part in a federation until the server ends it, and leave the site's run.

    Args:
        data: The site's images.
        out: The run folder to make. What an interruption left there is continued.
        connection: How to reach the server.
        overwrite: Whether an existing run may be replaced.
    """
    # what cannot be used at all is refused before the server is bothered
    open_dataset(data.root, data.layout, data.group_pattern)
    comes_back = (partial_path(out) / SITE).is_file()
    if not comes_back:
        refuse_taken(out, overwrite, "training")
    refuse_existing(out, overwrite, go_on=comes_back)
    with staged_folder(out, overwrite, keep_partial=True, go_on=comes_back) as folder:
        client = SiteClient(data, folder, connection.token)
        final = _take_part(client, connection)
        assert client.training is not None
        record = client.training.finish(out, final.best, final.ema, final.rounds.rows, final.rounds.federation)
        (folder / SITE).unlink()
        return record


def _take_part(client: SiteClient, connection: Connection) -> Final:
    """Stay connected until the final weights are here; a server that is away is waited for."""
    since, told = monotonic(), False
    while client.final is None:
        error = _stay_connected(client, connection)
        if client.final is not None:
            break
        if error is None:
            raise TrainingError(
                f"Expected final weights from {connection.address}, got an end without any.",
                "The server says why; join again with the same command when it is back.",
            )
        _refuse_hopeless(error, connection)
        since = max(since, client.last_contact or since)
        if monotonic() - since > connection.wait:
            raise _no_server(client, connection) from error
        if not told:
            _LOG.warning("No server at %s; tries again for %.0f s.", connection.address, connection.wait)
        told = True
        sleep(PAUSE)
    return client.final


def _stay_connected(client: SiteClient, connection: Connection) -> grpc.RpcError | None:
    """Answer the server until it ends the connection, and return why it broke, if it did."""
    try:
        start_client(
            server_address=str(connection.address),
            client=client,
            root_certificates=connection.root,
            insecure=connection.root is None,
            grpc_max_message_length=MODEL_BYTES,
        )
    except grpc.RpcError as error:
        return error
    return None


def _no_server(client: SiteClient, connection: Connection) -> TrainingError:
    tls = "with" if connection.root is not None else "without"
    kept = " What this site has is kept; the same command joins again." if client.training is not None else ""
    return TrainingError(
        f"Expected an edgeseg server at {connection.address} {tls} TLS, got none within {connection.wait:.0f} s.{kept}",
        "Check the address, and whether the server uses TLS; --wait gives it more time.",
    )


def _refuse_hopeless(error: Any, connection: Connection) -> None:
    """Refuse at once what waiting does not mend."""
    code, details = error.code(), str(error.details() or "")
    lower = details.lower()
    if "certificate" in lower or "handshake" in lower or "wrong_version" in lower:
        # the message about a server without TLS mentions certificates, too
        trusted = "certificate" not in lower or "wrong_version" in lower
        why = "no TLS there" if trusted else "its certificate is not the expected one, or out of date"
        raise TrainingError(
            f"Expected the server at {connection.address} to prove itself with the certificate, got: {why}.",
            "Take the server's certificate as --root-certificate; it must name the host that you connect to.",
        ) from error
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
        raise TrainingError(
            f"Expected messages of at most {MODEL_BYTES // 2**20} MiB, got a larger one or too many sites.", ""
        ) from error
    if code == grpc.StatusCode.UNIMPLEMENTED:
        raise TrainingError(
            f"Expected an edgeseg server at {connection.address}, got a server of another kind.", "Check the port."
        ) from error
