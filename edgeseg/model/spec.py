"""What a U-Net looks like, in numbers; the named sizes."""

from __future__ import annotations

from dataclasses import dataclass

from edgeseg.core.errors import UnknownNameError

SKIPS = ("add", "concat")

SIZES: dict[str, tuple[int, ...]] = {
    "nano": (8, 8, 16, 24, 32),
    "micro": (8, 16, 24, 40, 64),
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
    dropout: float = 0.1

    def __post_init__(self) -> None:
        step = 2 ** (len(self.widths) - 1)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"expected at least two widths above 0, got {self.widths}")
        if self.height % step or self.width % step:
            raise ValueError(f"expected a size divisible by {step}, got {self.height}x{self.width}")
        if self.skip not in SKIPS:
            raise ValueError(f"expected skip to be one of {', '.join(SKIPS)}, got {self.skip!r}")


def find_size(name: str) -> tuple[int, ...]:
    """Find the widths of a named size."""
    if name not in SIZES:
        raise UnknownNameError("model size", name, SIZES)
    return SIZES[name]
