"""How a bundle is rolled out to a fleet: the order of the boards, and how long they are waited for."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.schema import check_options, option

PANEL = "With --fleet"


@dataclass(frozen=True)
class FleetOptions:
    """How a roll-out proceeds; values out of range raise an OptionError."""

    share: float = option(
        0.25,
        "After the first board, the boards that get it before all others, as a share of all.",
        above=0.0,
        maximum=1.0,
        panel=PANEL,
    )
    parallel: int = option(8, "Boards that are worked on at the same time.", minimum=1, maximum=64, panel=PANEL)
    soak_s: float = option(
        0.0,
        "Seconds between the installation on the boards of a stage and their `verify`.",
        minimum=0.0,
        maximum=86_400.0,
        panel=PANEL,
    )
    timeout_s: float = option(
        900.0,
        "Seconds for each step on a board: copying, installing, verifying, going back.",
        minimum=1.0,
        maximum=86_400.0,
        panel=PANEL,
    )
    skip_unreachable: bool = option(
        False, "Leave out boards that cannot be reached when it begins; by default nothing begins then.", panel=PANEL
    )

    def __post_init__(self) -> None:
        check_options(self)
