"""The sites that are connected to the server: who may join, what they said of their data, and who has left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import edgeseg
from edgeseg.core.redact import to_one_line
from edgeseg.federation.flower import ClientProxy, Code, GetPropertiesIns, SimpleClientManager
from edgeseg.federation.plan import Plan, SiteFacts, read_message, write_message
from edgeseg.federation.secure import is_proof, make_nonce
from edgeseg.federation.site import ASK, FACTS, GREETING, REFUSAL

_LOG = logging.getLogger(__name__)
# Seconds in which a site must answer the greeting, and take a refusal.
GREETING_SECONDS, REFUSAL_SECONDS = 30.0, 5.0


class RefusalError(Exception):
    """A site may not join; the sentence is sent to it."""


@dataclass(frozen=True)
class Member:
    """A site that takes part."""

    number: int
    facts: SiteFacts
    proxy: ClientProxy


class Roster(SimpleClientManager):  # type: ignore[misc]  # mypy sees no Flower
    """Greets every site on a thread of its own when it connects, and lists those that may take part."""

    def __init__(self, plan: Plan, token: bytes, most: int, answer_seconds: float, numbers: dict[str, int]) -> None:
        """Prepare for sites.

        Args:
            plan: The plan; its finding output and white may still be open.
            token: What sites must prove that they have; empty asks for nothing.
            most: Sites that may be connected at a time.
            answer_seconds: How long a site may take to read its images.
            numbers: The numbers of sites that were here before; new ones are added.
        """
        super().__init__()
        self._plan, self._token, self._most, self._seconds = plan, token, most, answer_seconds
        self.numbers = numbers
        self.ending = False
        """Whether sites leave because all is done."""
        self._members: dict[str, Member] = {}
        self._changed = threading.Condition()

    def register(self, client: ClientProxy) -> bool:
        """Take a connection; Flower calls this."""
        if not super().register(client):
            return False
        threading.Thread(target=self._greet, args=(client,), daemon=True).start()
        return True

    def unregister(self, client: ClientProxy) -> None:
        """Note that a connection has ended; Flower calls this."""
        super().unregister(client)
        with self._changed:
            left = [site for site, member in self._members.items() if member.proxy is client]
            for site in left:
                number = self._members.pop(site).number
                if not self.ending:
                    _LOG.warning("Site %d has left.", number)
            self._changed.notify_all()

    def members(self) -> list[Member]:
        """List the sites that take part now, by number."""
        with self._changed:
            return sorted(self._members.values(), key=lambda member: member.number)

    def wait_for_members(self, count: int, seconds: float) -> bool:
        """Wait until so many sites take part."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._members) >= count, timeout=seconds)

    def _greet(self, client: ClientProxy) -> None:
        try:
            facts = greet(client, self._plan, self._token, self._seconds)
            with self._changed:
                self._admit(client, facts)
        except RefusalError as error:
            _LOG.warning("A site was refused: %s.", error)
            self._send_refusal(client, str(error))
        except Exception as error:  # noqa: BLE001 - a stranger may send what Flower cannot read, or nothing at all
            _LOG.warning("A connection ended before a site had joined.")
            _LOG.debug("%s: %s", type(error).__name__, to_one_line(error))
            _close(client)

    def _admit(self, client: ClientProxy, facts: SiteFacts) -> None:
        before = self._members.get(facts.site)
        if before is None and len(self._members) >= self._most:
            raise RefusalError(f"there are {self._most} sites already")
        if any(other.facts.fingerprint == facts.fingerprint for other in self._members.values() if other != before):
            raise RefusalError("another site has the same images")
        if before is not None:
            # the network noticed the end of the old connection later than the site
            _close(before.proxy)
        number = self.numbers.setdefault(facts.site, len(self.numbers) + 1)
        self._members[facts.site] = Member(number, facts, client)
        _LOG.info("Site %d joins with %d training and %d validation cases.", number, facts.train, facts.validation)
        self._changed.notify_all()

    def _send_refusal(self, client: ClientProxy, sentence: str) -> None:
        try:
            client.get_properties(
                GetPropertiesIns({ASK: REFUSAL, "sentence": sentence}), timeout=REFUSAL_SECONDS, group_id=0
            )
        except Exception as error:  # noqa: BLE001 - a refused site leaves without an answer
            _LOG.debug("%s: %s", type(error).__name__, to_one_line(error))
        _close(client)


def greet(client: ClientProxy, plan: Plan, token: bytes, seconds: float) -> SiteFacts:
    """Ask a site for the proof that it may join, and then for its facts.

    Raises:
        RefusalError: It may not join.
    """
    nonce = make_nonce()
    said = _ask(client, {ASK: GREETING, "nonce": nonce}, GREETING_SECONDS)
    if token and not is_proof(token, nonce, said.get("proof")):
        raise RefusalError("the token is not the server's")
    if said.get("edgeseg") != edgeseg.__version__:
        raise RefusalError(f"expected edgeseg {edgeseg.__version__}, got {to_one_line(said.get('edgeseg'), 40)}")
    answer = _ask(client, {ASK: FACTS, "plan": write_message(plan)}, seconds)
    try:
        facts = read_message(SiteFacts, answer.get(FACTS))
    except ValueError as error:
        raise RefusalError("expected the facts of a site's data, got something else") from error
    if facts.site != said.get("site") or len(facts.lacking) != len(plan.classes):
        raise RefusalError("expected the facts of a site's data, got something else")
    return facts


def _ask(client: ClientProxy, config: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    answer = client.get_properties(GetPropertiesIns(dict(config)), timeout=seconds, group_id=0)
    if answer.status.code != Code.OK:
        raise RefusalError("it did not answer")
    return dict(answer.properties)


def _close(client: ClientProxy) -> None:
    """End a connection from the server's side."""
    client.bridge.close()


@contextmanager
def closed_at_end(roster: Roster, server: Any) -> Iterator[None]:
    """Stop a gRPC server and end all connections when the block ends, so that no thread waits for a site."""
    try:
        yield
    finally:
        server.stop(grace=1.0).wait(2.0)
        for client in list(roster.all().values()):
            _close(client)
