"""What a wrong command line is told with: never with the secrets that stood in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperGroup

from edgeseg.core.redact import redact


class SecretlessGroup(TyperGroup):
    """Commands whose refusals may quote an argument, which may be an address with a password."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read what stands before the command."""
        with _without_secrets():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command's own arguments, and run it."""
        with _without_secrets():
            return super().invoke(ctx)


@contextmanager
def _without_secrets() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # typer has brought its own copy of click's classes of late: what they share is that they can be shown
        if hasattr(error, "format_message") and isinstance(vars(error).get("message"), str):
            vars(error)["message"] = redact(vars(error)["message"])
        raise
