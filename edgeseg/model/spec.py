"""The U-Net's spec, all that is needed to build it, and the named sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeseg.core.errors import UnknownNameError
from edgeseg.core.limits import CLASSES, FRAME_CLASSES, NETWORK_STAGES, NETWORK_WIDTH, TRAINED_SIDE
from edgeseg.core.spec import ACTIVATIONS, MODALITIES, check_choice

SKIPS = ("add", "concat")
# How several modalities are merged.
FUSIONS = ("early", "late")
UPSAMPLINGS = ("bilinear", "transpose")
CONVOLUTIONS = ("plain", "separable")
# The encoder of the U-Net itself, or EfficientNet-Lite0's, of which weights from ImageNet exist (docs/decisions/0057).
OWN, LITE0 = "own", "lite0"
ENCODERS = (OWN, LITE0)
# How the names of the encoder's layers begin.
ENCODER = ("stem", "down")
# How many times smaller than the input the first stage is behind every stem. s2d4 and s2d8 are no convolutions: they
# rearrange blocks of 4x4 or 8x8 pixels into channels (docs/decisions/0074).
STEMS = {"full": 1, "half": 2, "depth": 2, "quarter": 4, "s2d4": 4, "s2d8": 8}
REARRANGED = ("s2d4", "s2d8")
# The mask is never smaller than this: the head behind a stem of stride 8 draws 2x2 pixels as channels.
COARSEST = 4
# Stages of EfficientNet-Lite0 behind its stem, from stride 4 to 32.
LITE0_DEPTH = 4
# Channels of the input: grey, two grey frames that are registered, colour.
CHANNELS = (1, 2, 3)
# Kernels compute on so many channels at once.
NARROWEST = 8
# Channels of the hidden layer of the finding output.
FINDING_WIDTH = 64


@dataclass(frozen=True)
class NamedSize:
    """A named size: its widths, and its defaults for other options."""

    widths: tuple[int, ...]
    skip: str = "add"
    upsampling: str = "bilinear"
    stem: str = "quarter"

    def widths_behind(self, stem: str) -> tuple[int, ...]:
        """List the stages' widths behind a stem, which takes the place of the stages above its stride."""
        return self.widths[{4: 1, 8: 2}.get(STEMS[stem], 0) :]


SIZES: dict[str, NamedSize] = {
    "nano": NamedSize((8, 8, 16, 16, 24)),
    "micro": NamedSize((8, 16, 24, 40, 56)),
    "small": NamedSize((8, 16, 32, 64, 128)),
    "base": NamedSize((16, 32, 64, 128, 256)),
    "classic": NamedSize((64, 128, 256, 512, 1024), "concat", "transpose", "full"),
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
    upsampling: str = "bilinear"
    convolution: str = "plain"
    l2: float = 0.0
    own: Mapping[str, int] = field(default_factory=dict)
    """Widths of single convolutions that differ from their stage's, by the layer's name: {"down1_a": 12}."""
    findings: int = 0
    """Channels of the finding output, a second output per frame; 0 for none."""
    encoder: str = OWN
    """With "lite0" the widths are the decoder's, of which the deepest one is not used: the encoder has its own."""
    fusion: str = "early"
    """late: every channel has a stem and a first stage of its own, whose features are merged."""

    def __post_init__(self) -> None:
        if (
            not 2 <= len(self.widths) <= NETWORK_STAGES
            or not 1 <= min(self.widths) <= max(self.widths) <= NETWORK_WIDTH
        ):
            raise ValueError(f"expected 2 to {NETWORK_STAGES} widths from 1 to {NETWORK_WIDTH}, got {self.widths[:9]}")
        if not (1 <= self.height <= TRAINED_SIDE and 1 <= self.width <= TRAINED_SIDE and 1 <= self.outputs <= 256):
            raise ValueError(
                f"expected an image of at most {TRAINED_SIDE}x{TRAINED_SIDE} and 1 to 256 masks, got "
                f"{self.height}x{self.width} and {self.outputs}"
            )
        if not 0 <= self.findings <= CLASSES + FRAME_CLASSES:
            raise ValueError(f"expected 0 to {CLASSES + FRAME_CLASSES} findings, got {self.findings}")
        check_choice("channels", self.channels, range(1, MODALITIES + 1))
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_choice("skip", self.skip, SKIPS)
        check_choice("stem", self.stem, STEMS)
        check_choice("upsampling", self.upsampling, UPSAMPLINGS)
        check_choice("convolution", self.convolution, CONVOLUTIONS)
        check_choice("encoder", self.encoder, ENCODERS)
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"expected dropout from 0 to below 1, got {self.dropout}")
        if not 0.0 <= self.l2 < float("inf"):
            raise ValueError(f"expected l2 of at least 0, got {self.l2}")
        self._check_encoder()
        self._check_own()
        step = STEMS[self.stem] * 2 ** (len(self.widths) - 1)
        if self.height % step or self.width % step:
            raise ValueError(f"expected a size that {step} divides, got {self.height}x{self.width}")

    def _check_encoder(self) -> None:
        if self.encoder == LITE0 and (self.stem != "quarter" or len(self.widths) != LITE0_DEPTH or self.own):
            raise ValueError(
                f"expected the stem quarter, {LITE0_DEPTH} stages and no own widths for the encoder {LITE0}, got "
                f"{self.stem}, {len(self.widths)} and {len(self.own)}"
            )

    def _check_own(self) -> None:
        free = {f"{stage}_a" for stage in self.stages} | {f"{stage}_b" for stage in self.stages if stage[:2] == "up"}
        free |= {f"{stage}_reduce" for stage in self.stages if stage[:2] == "up" and self.skip == "concat"}
        free |= {"stem"} if self.stem in ("half", "depth", "quarter") else set()
        free |= {"stem2"} if self.stem == "quarter" else set()
        if self.fusion == "late":
            own = {name for name in free if name.startswith("stem")} | {"down0_a", "down0_b"}
            free -= own
            free |= {_name_own(name, number) for name in own for number in range(self.channels)}
        free |= {"finding_hidden"} if self.findings else set()
        for name, width in self.own.items():
            if name not in free or not 1 <= width <= NETWORK_WIDTH:
                raise ValueError(
                    f"expected own widths from 1 to {NETWORK_WIDTH} for {', '.join(sorted(free))}, got {name}: {width}"
                )

    @property
    def output_stride(self) -> int:
        """How many times smaller than the image the mask is."""
        return min(COARSEST, STEMS[self.stem])

    @property
    def block(self) -> int:
        """The side of the blocks of the image that become channels; 1 where none do."""
        return STEMS[self.stem] if self.stem in REARRANGED else 1

    @property
    def drawn(self) -> int:
        """The side of the block of mask pixels that the head draws as channels."""
        return STEMS[self.stem] // self.output_stride

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages in execution order: down0, down1, ... up1, up0."""
        depth = len(self.widths)
        return (*(f"down{n}" for n in range(depth)), *(f"up{n}" for n in reversed(range(depth - 1))))

    def width_of(self, convolution: str, stage: int) -> int:
        """Find the width of a convolution: its own or its stage's, halved for the first of two stem convolutions."""
        if convolution == "finding_hidden":
            return self.own.get(convolution, FINDING_WIDTH)
        halved = convolution.split("_m")[0] == "stem" and self.stem == "quarter"
        return self.own.get(convolution, max(NARROWEST, self.widths[0] // 2) if halved else self.widths[stage])


def _name_own(convolution: str, modality: int) -> str:
    """Name a convolution of one modality: stem_m0, down0_m0_a."""
    stage, _, step = convolution.partition("_")
    return f"{stage}_m{modality}_{step}" if step else f"{stage}_m{modality}"


def find_size(name: str) -> NamedSize:
    """Find a named size."""
    if name not in SIZES:
        raise UnknownNameError("model size", name, SIZES)
    return SIZES[name]
