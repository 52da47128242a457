"""The server of a federation: it waits for the sites, runs the rounds, and leaves a run without data of its own."""

from __future__ import annotations

import logging
import resource
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import edgeseg
from edgeseg.convert.package import build_card, make_golden
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.errors import TrainingError
from edgeseg.core.files import partial_path, refuse_existing, refuse_taken, staged_folder
from edgeseg.core.modelfile import write_model
from edgeseg.federation.flower import start_grpc_server
from edgeseg.federation.plan import Plan, SiteFacts
from edgeseg.federation.roster import Roster, closed_at_end
from edgeseg.federation.rounds import STATE, Coordinator, State, Terms, load_state, save_state
from edgeseg.federation.secure import Address, refuse_taken_port
from edgeseg.federation.weights import assign_values, largest_message, list_shapes, read_values
from edgeseg.model.keras import keras, write_weights
from edgeseg.model.losses import find_loss
from edgeseg.model.unet import build_unet
from edgeseg.training.loading import FEWEST_LACKING
from edgeseg.training.options import TrainInputs, write_config
from edgeseg.training.run import FINISHED, MODEL, TRAINING, WEIGHTS, RunRecord, write_record
from edgeseg.training.trainer import LIBRARIES, plain_split
from edgeseg.training.validation import draw_curve, summarise_timing, write_history

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listener:
    """Where the server listens, and for whom."""

    address: Address
    certificates: tuple[bytes, bytes, bytes] | None = None
    token: bytes = b""


def draft_plan(options: Any, course: Any, classes: Sequence[str], frame_classes: Sequence[str] = ()) -> Plan:
    """Draft a plan; what depends on the sites' data is settled when they are there.

    Raises:
        ValueError: The options do not go together.
    """
    find_loss(options.loss)
    finds = bool(frame_classes)
    return Plan(
        secrets.token_hex(16), edgeseg.__version__, options, course, tuple(classes), tuple(frame_classes), finds
    )


def settle_plan(plan: Plan, facts: Sequence[SiteFacts]) -> Plan:
    """Settle what depends on all sites: whether there is a finding output, and the white of 16-bit images."""
    lacking = max(map(sum, zip(*(one.lacking for one in facts), strict=True)))
    finds = plan.finds or (plan.options.findings == "auto" and lacking >= FEWEST_LACKING)
    whites = [one.white for one in facts if one.white]
    return replace(plan, finds=finds, white=max(whites, default=plan.white))


def begin_state(plan: Plan, numbers: dict[str, int] | None = None) -> State:
    """Make the first weights, which follow from the seed."""
    keras.utils.set_random_seed(plan.options.seed)
    values = read_values(build_unet(plan.network))
    return State(values, values, values, numbers=numbers or {})


def serve_federation(
    plan: Plan, out: Path, listener: Listener, terms: Terms, overwrite: bool = False, resume: bool = False
) -> RunRecord:
    """Train with all sites that join, and leave the federation's run.

    Args:
        plan: The draft of the plan; one that was interrupted goes on with its own.
        out: The run folder to make.
        listener: Where to wait for sites.
        terms: With how many, and how long.
        overwrite: Whether an existing run may be replaced.
        resume: Whether to go on with an interrupted federation.
    """
    refuse_taken_port(listener.address)
    if resume:
        refuse_existing(out, overwrite, go_on=True)
        plan, state = load_state(partial_path(out))
        if plan.edgeseg != edgeseg.__version__:
            raise TrainingError(
                f"Expected an interrupted federation of edgeseg {edgeseg.__version__}, got one of {plan.edgeseg}.",
                "Go on with that version, or begin again with --overwrite.",
            )
    else:
        refuse_taken(out, overwrite, "federation")
        state = None
    with staged_folder(out, overwrite, keep_partial=True, go_on=resume) as folder:
        roster = Roster(plan, listener.token, terms.sites, terms.round_seconds, {} if state is None else state.numbers)
        server = start_grpc_server(
            client_manager=roster,
            server_address=str(listener.address),
            # sites, those that come back before their old connection has ended, and those that are refused
            max_concurrent_workers=2 * terms.sites + 8,
            max_message_length=_find_largest(plan),
            certificates=listener.certificates,
        )
        with closed_at_end(roster, server):
            if state is None:
                plan = _await_sites(plan, roster, terms)
                state = begin_state(plan, roster.numbers)
                save_state(folder, plan, state)
            shapes = [value.shape for value in state.weights]
            coordinator = Coordinator(plan, state, roster, terms, shapes, folder)
            coordinator.run()
            coordinator.hand_out()
        record = leave_run(coordinator, folder, out)
        (folder / STATE).unlink()
        return record


def _find_largest(plan: Plan) -> int:
    """Compute the bytes of the largest message that an honest site sends."""
    return max(
        largest_message(list_shapes(build_unet(replace(plan, finds=finds).network))) for finds in {True, plan.finds}
    )


def _await_sites(plan: Plan, roster: Roster, terms: Terms) -> Plan:
    _LOG.info("Waits up to %.0f s for %d sites.", terms.wait_seconds, terms.sites)
    if not roster.wait_for_members(terms.sites, terms.wait_seconds):
        raise TrainingError(
            f"Expected {terms.sites} sites within {terms.wait_seconds:.0f} s, got {len(roster.members())}.",
            "Start it again, with more time (--wait) or fewer --sites.",
        )
    return settle_plan(plan, [member.facts for member in roster.members()])


def leave_run(coordinator: Coordinator, folder: Path, out: Path) -> RunRecord:
    """Write the server's run: the weights of the best round, as a file for the device as well.

    Without images it has no operating point and no test figures; the runs of the sites have.
    """
    plan, state, best = coordinator.plan, coordinator.state, coordinator.best
    federation = coordinator.describe(at_site=False)
    model = build_unet(plan.network)
    assign_values(model, state.best)
    options = replace(plan.options, epochs=plan.course.epochs)
    record = RunRecord(
        name=f"federation-{options.model}",
        status=TRAINING,
        data="",
        data_fingerprint=federation.fingerprint,
        split=plain_split(options.seed),
        input=plan.input,
        output=plan.output,
        spec=plan.network,
        options=options,
        libraries={name: version(name) for name in LIBRARIES},
        edgeseg=edgeseg.__version__,
        finding=plan.finding,
        federation=federation,
        timing=summarise_timing(state.history, round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)),
        best_epoch=best.epoch,
        validation_dice=best.validation_dice,
    )
    flatbuffer = compact_flatbuffer(convert_model(model, "float32"))
    ends = (record.input, record.output)
    card = build_card(flatbuffer, record.name, ends, record.provenance("float32"), record.finding)
    write_model(folder / MODEL, flatbuffer, card, make_golden(flatbuffer, card))
    write_weights(folder / WEIGHTS, model)
    write_history(folder, state.history)
    draw_curve(folder, state.history, best)
    write_config(folder, out, options, TrainInputs())
    record = replace(record, status=FINISHED)
    write_record(folder, record)
    return record
