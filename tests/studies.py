"""Work on a study of networks, as a worker does, without training any."""

from __future__ import annotations

from edgeseg.search.networks import NetworkChoice, NetworkScore, NetworkStudy
from edgeseg.search.study import TrialResult

SCORED = TrialResult(1.5, NetworkScore(0.5, 1000))


def work_off(study: NetworkStudy, trials: int) -> list[NetworkChoice]:
    """Claim and finish trials until a study has so many; returns what was tried."""
    done: list[NetworkChoice] = []
    while True:
        with study.claim(trials) as claim:
            if claim is None:
                return done
            done.append(claim.choice)
            study.finish(claim, SCORED)
