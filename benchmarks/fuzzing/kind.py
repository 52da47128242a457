"""What every kind of input has: hand-made bombs, seeds to mutate, and the product's door that they go through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from random import Random
from typing import ClassVar


class Kind(ABC):
    """One kind of input; made in the process that feeds it to the product."""

    name: ClassVar[str]
    share: ClassVar[float] = 1.0
    """How many mutants there are of it, against the others."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Packages without which it is left out."""

    def __init__(self, folder: Path) -> None:
        """Prepare seeds.

        Args:
            folder: An empty folder of its own.
        """
        self.folder = folder

    def bombs(self) -> Mapping[str, Callable[[], bytes]]:
        """Give the hostile inputs that are made by hand, by name."""
        return {}

    @abstractmethod
    def mutate(self, rng: Random) -> bytes:
        """Make a mutant."""

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Give it to the product.

        Raises:
            EdgesegError: It was refused in a sentence.
        """

    @cached_property
    def _by_hand(self) -> Mapping[str, Callable[[], bytes]]:
        return self.bombs()

    def make(self, seed: int, index: int) -> tuple[str, bytes]:
        """Make the mutant of a number: the bombs come first; the same seed and number give the same bytes."""
        if index < len(self._by_hand):
            name = list(self._by_hand)[index]
            return name, self._by_hand[name]()
        return "", self.mutate(Random(f"{seed}/{self.name}/{index}"))


def tag(word: str, data: bytes) -> bytes:
    """Put a line in front of the data that says what they are to stand for."""
    return word.encode() + b"\n" + data


def untag(data: bytes) -> tuple[str, bytes]:
    """Take that line off."""
    word, _, rest = data.partition(b"\n")
    return word.decode("utf-8", "replace"), rest
