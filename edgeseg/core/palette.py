"""Colours of classes, for every picture.

Each colour is the one that is farthest from those before it in CIELAB, seen with normal sight, deuteranopia and
protanopia (Machado, Oliveira and Fernandes 2009), among colours that stand out on grey tissue. Eight are easily told
apart by anybody; the more there are, the more a reader needs the legend.
"""

from __future__ import annotations

from edgeseg.core.limits import CLASSES

Colour = tuple[int, int, int]
_HEX = (
    "ffb000 00c8ff ff5a8c 4b69ff e1f096 f0001e 00fff0 f000b4 c3965a 4b96ff 96ff5a 0f8769 96f0b4 4b871e 3c87c3 f087c3 "
    "c3b44b 00d2e1 ffa587 ff0f96 f0005a f0871e e1f000 69d2b4 b45ae1 c31eff 4bd287 e1693c 69e169 e178e1 00ffd2 f0d23c "
    "b45a87 2db4ff 00965a ff96a5 a5e15a 0fa53c f0a5e1 c3f0a5 b45ab4 2d78d2 e1b43c c36978 e1f078 e17869 f0d278 f000e1 "
    "e169b4 ff5a2d 4be1d2 4be1ff f078a5 ff2d78 f0003c 96c369 ff87ff 00a5d2 00ff87 4bf0ff c35a1e d2964b 69e1b4 3cf0d2 "
    "00b487 96e196 e1a500 a5693c b43cf0 3c78ff 2dc3c3 f05af0 d22dc3 d2a5f0 2df0f0 f04b00 d2e11e e14bc3 e13ca5 f078d2 "
    "c35a5a f05a4b ff6987 e1f04b f05aa5 2d875a f04b69 e12d87 5ac396 ff7878 b4871e c33cd2 00a596 ffc34b 87c35a f0963c "
    "f0783c 00e187 4b96f0 c396f0 e187b4 f06978 c378d2 2dd2a5 69f04b 87d25a 78d296 9669a5 a5e1a5 e187e1 e10fa5 87ffb4 "
    "4b78e1 78ffc3 ffb487 78d200 5af0c3 f0e187 e10f96 5af078 d278c3 5ae1c3 c3c34b a5ff2d 5ac378 00ffe1 d25af0"
)
# RGB, one for each of the most classes that data may have.
PALETTE: tuple[Colour, ...] = tuple((part[0], part[1], part[2]) for part in map(bytes.fromhex, _HEX.split()[:CLASSES]))
