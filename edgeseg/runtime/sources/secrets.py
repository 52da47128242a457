"""Keep the name and password of a network source out of pages, reports and messages."""

from __future__ import annotations

import re


def hide_password(text: str) -> str:
    """Leave out what stands between :// and @ in an address."""
    return re.sub(r"://[^/?#]*@", "://", text)
