"""All that the page's answers are made of: what is shown, to whom, and what the page may order."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeseg.core.spec import ClassSpec
from edgeseg.runtime.sinks.base import StreamInfo
from edgeseg.runtime.sinks.courier import Courier
from edgeseg.runtime.viewer.audience import Audience
from edgeseg.runtime.viewer.hub import Hub
from edgeseg.runtime.viewer.thermometer import Thermometer


@dataclass(frozen=True)
class Broadcast:
    """What is shown, and to whom."""

    info: StreamInfo
    classes: tuple[ClassSpec, ...]
    recording: Courier | None = None
    """What the page may switch on and off."""
    hub: Hub = field(default_factory=Hub)
    audience: Audience = field(default_factory=Audience)
    thermometer: Thermometer = field(default_factory=Thermometer)
