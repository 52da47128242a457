"""The colours of figures, so that all of them look like one set."""

from __future__ import annotations

INK, ACCENT, SOFT, FAINT = "#1b2a33", "#c2410c", "#0f766e", "#94a3b8"
