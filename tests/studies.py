"""Work on a study of networks, as a worker does, without training any."""

from __future__ import annotations

from pathlib import Path

from edgeseg.search.database import DatabaseStore, StorageAddress
from edgeseg.search.networks import (
    NetworkChoice,
    NetworkScore,
    NetworkStudy,
    StudyPlan,
    describe_space,
    open_study,
)
from edgeseg.search.study import TrialResult

SCORED = TrialResult(1.5, NetworkScore(0.5, 1000))


def open_shared(folder: Path, address: StorageAddress, plan: StudyPlan) -> NetworkStudy:
    """Open a study in a database, as a worker with a folder of its own."""
    store = DatabaseStore(folder, address, describe_space(plan.space))
    return open_study(folder, Path("data"), plan, "abc", store)


def work_off(study: NetworkStudy, trials: int) -> list[NetworkChoice]:
    """Claim and finish trials until a study has so many; returns what was tried."""
    done: list[NetworkChoice] = []
    while True:
        with study.claim(trials) as claim:
            if claim is None:
                return done
            done.append(claim.choice)
            study.finish(claim, SCORED)
