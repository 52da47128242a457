"""All sites of a federation in one process, one after the other: for comparisons, with the code that real sites run.

Messages are Flower's own objects, handed over without a network; plan, facts, training, checks and averages are those
of `serve` and `join`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeseg.core.errors import TrainingError
from edgeseg.federation.flower import ClientProxy, DisconnectRes
from edgeseg.federation.local import SiteData
from edgeseg.federation.plan import Plan
from edgeseg.federation.roster import Member, greet
from edgeseg.federation.rounds import Coordinator, Terms
from edgeseg.federation.server import begin_state, settle_plan
from edgeseg.federation.site import SiteClient


class NearProxy(ClientProxy):  # type: ignore[misc]  # mypy sees no Flower
    """Gives messages to a site in the same process."""

    def __init__(self, client: SiteClient) -> None:
        super().__init__(client.site)
        self.client = client

    def get_properties(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:  # noqa: ARG002
        """Ask for properties."""
        return self.client.get_properties(ins)

    def get_parameters(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:  # noqa: ARG002
        """Refuse: no server of a federation asks for a site's weights."""
        raise ValueError("a site gives its weights with a round alone")

    def fit(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:  # noqa: ARG002
        """Train a round."""
        return self.client.fit(ins)

    def evaluate(self, ins: Any, timeout: float | None, group_id: int | None) -> Any:  # noqa: ARG002
        """Measure, or keep the final weights."""
        return self.client.evaluate(ins)

    def reconnect(self, ins: Any, timeout: float | None, group_id: int | None) -> DisconnectRes:  # noqa: ARG002
        """End a connection that is none."""
        return DisconnectRes("")


class NearGroup:
    """A fixed group of sites."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = list(members)
        self.ending = False

    def members(self) -> list[Member]:
        """List them."""
        return list(self._members)

    def wait_for_members(self, count: int, seconds: float) -> bool:  # noqa: ARG002 - nobody will come
        """Say whether they are enough."""
        return len(self._members) >= count


def simulate_federation(plan: Plan, sites: Sequence[SiteData], folder: Path) -> tuple[Coordinator, list[SiteClient]]:
    """Run a federation in this process.

    Args:
        plan: The draft of the plan.
        sites: The images of every site.
        folder: For what the server and the sites keep.

    Returns:
        The server's coordinator, and the sites with their final weights.
    """
    clients = []
    for number in range(1, len(sites) + 1):
        place = folder / f"site-{number}"
        place.mkdir(parents=True, exist_ok=True)
        clients.append(SiteClient(sites[number - 1], place))
    proxies = [NearProxy(client) for client in clients]
    members = [Member(i, greet(proxy, plan, b"", 0.0), proxy) for i, proxy in enumerate(proxies, start=1)]
    plan = settle_plan(plan, [member.facts for member in members])
    state = begin_state(plan)
    terms = Terms(len(sites), len(sites), parallel=False)
    coordinator = Coordinator(plan, state, NearGroup(members), terms, [value.shape for value in state.weights], folder)
    coordinator.run()
    coordinator.hand_out()
    if any(client.final is None for client in clients):
        raise TrainingError("Expected final weights at every site, got a site without.", "This is a defect.")
    return coordinator, clients
