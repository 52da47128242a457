"""What a U-Net looks like, in numbers; the named sizes."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.errors import UnknownNameError

SKIPS = ("add", "concat")
STEMS = {"full": 1, "half": 2}
"""How much smaller than the input the first stage is, and with it the mask that the network draws."""

SIZES: dict[str, tuple[int, ...]] = {
    "nano": (8, 8, 16, 16, 24),
    "micro": (8, 16, 24, 40, 56),
    "small": (8, 16, 32, 64, 128),
    "base": (16, 32, 64, 128, 256),
}


@dataclass(frozen=True)
class UNetSpec:
    """A U-Net: one stage per width, halving the resolution from stage to stage."""

    height: int
    width: int
    channels: int
    outputs: int
    activation: str
    widths: tuple[int, ...]
    skip: str = "add"
    stem: str = "full"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"expected at least two widths above 0, got {self.widths}")
        if self.skip not in SKIPS:
            raise ValueError(f"expected skip to be one of {', '.join(SKIPS)}, got {self.skip!r}")
        if self.stem not in STEMS:
            raise ValueError(f"expected stem to be one of {', '.join(STEMS)}, got {self.stem!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"expected dropout from 0 to below 1, got {self.dropout}")
        step = self.shrink * 2 ** (len(self.widths) - 1)
        if self.height % step or self.width % step:
            raise ValueError(f"expected a size that {step} divides, got {self.height}x{self.width}")

    @property
    def shrink(self) -> int:
        """Say how many times smaller than the image the drawn mask is."""
        return STEMS[self.stem]


def find_size(name: str) -> tuple[int, ...]:
    """Find the widths of a named size."""
    if name not in SIZES:
        raise UnknownNameError("model size", name, SIZES)
    return SIZES[name]
