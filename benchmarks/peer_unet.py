"""A plain 2D U-Net after nnU-Net's plan, for peers.py; runs in the peers' Python.

As nnU-Net's `PlainConvUNet` (Isensee et al., Nature Methods 2021): two convolutions of 3x3 with normalisation and leaky
ReLU at each resolution, strided convolutions down to 8x8, transposed ones up, losses at every resolution, Dice and
cross-entropy together, images by mean and deviation, rotation, scaling, mirroring, gamma, brightness and noise, a rate
that falls by (1 - t)^0.9. Other than there: half its channels (16, 32, ... up to 256), batch instead of instance
normalisation, AdamW, and a time limit instead of 1,000 epochs; all for a training of minutes on two cores.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from peer_side import try_to
from torch import nn
from torch.nn import functional

WIDTHS, RATE, DECAY = (16, 32, 64, 128, 256, 256), 1e-3, 1e-2
CALIBRATING = 100
Tensor = torch.Tensor
Box = tuple[int, int, int, int]


def add_pair(before: int, width: int, stride: int = 1) -> nn.Sequential:
    """Build two convolutions, each with normalisation and leaky ReLU."""
    steps: list[nn.Module] = []
    for number in range(2):
        steps += [
            nn.Conv2d(before if number == 0 else width, width, 3, stride if number == 0 else 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*steps)


class Unet(nn.Module):
    """The network; in training it gives the scores of all resolutions, the finest first."""

    def __init__(self) -> None:
        super().__init__()
        befores = (1, *WIDTHS[:-1])
        self.down = nn.ModuleList(
            add_pair(before, width, 1 if number == 0 else 2)
            for number, (before, width) in enumerate(zip(befores, WIDTHS, strict=True))
        )
        pairs = list(zip(WIDTHS[:0:-1], WIDTHS[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(deep, width, 2, 2) for deep, width in pairs)
        self.up = nn.ModuleList(add_pair(2 * width, width) for _, width in pairs)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for _, width in pairs)

    def forward(self, x: Tensor) -> Any:
        """Score every pixel."""
        skips = []
        for step in self.down:
            x = step(x)
            skips.append(x)
        scores = []
        for number, (enlarge, step, head) in enumerate(zip(self.enlarge, self.up, self.heads, strict=True)):
            x = step(torch.cat([enlarge(x), skips[-2 - number]], 1))
            if self.training or number == len(self.up) - 1:
                scores.append(head(x))
        return scores[::-1] if self.training else scores[-1]


def place(frame: NDArray[Any], size: int) -> tuple[NDArray[np.float32], Box]:
    """Bring a frame to the network's size, sides kept in proportion; its mean is 0 and its deviation 1."""
    grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small, box = fit(grey, size, cv2.INTER_AREA)
    values = small.astype(np.float32)
    tensor = np.zeros((1, 1, size, size), np.float32)
    top, left, height, width = box
    tensor[0, 0, top : top + height, left : left + width] = (values - values.mean()) / max(float(values.std()), 1.0)
    return tensor, box


def fit(image: NDArray[Any], size: int, how: int) -> tuple[NDArray[Any], Box]:
    """Resize an image so that its longer side is `size`; gives where it lies in the middle of the square."""
    scale = size / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=how)
    return small, ((size - height) // 2, (size - width) // 2, height, width)


def to_mask(scores: NDArray[Any], box: Box, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring scores back to the frame's size and mark those above 0."""
    top, left, height, width = box
    inner = np.ascontiguousarray(scores[top : top + height, left : left + width], np.float32)
    large = cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return (large > 0).astype(np.uint8)


def load_part(data: Path, part: str, size: int) -> tuple[Tensor, Tensor]:
    """Load images and masks of a part at the network's size."""
    images, masks = [], []
    for path in sorted((data / "images" / part).iterdir()):
        tensor, (top, left, height, width) = place(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)), size)
        mask = np.asarray(cv2.imread(str(data / "masks" / part / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE))
        square = np.zeros((1, 1, size, size), np.float32)
        square[0, 0, top : top + height, left : left + width] = fit(mask, size, cv2.INTER_NEAREST)[0] > 0
        images.append(tensor)
        masks.append(square)
    return torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(masks))


def change(images: Tensor, masks: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment a batch: rotation, scaling, mirroring, gain, brightness, gamma, noise."""
    count = len(images)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=random)

    angle, scale, flip = draw(-0.5, 0.5), draw(0.7, 1.4), torch.sign(draw(-1, 1))
    rows = [torch.cos(angle) * scale * flip, -torch.sin(angle) * scale, draw(-0.1, 0.1)]
    rows += [torch.sin(angle) * scale * flip, torch.cos(angle) * scale, draw(-0.1, 0.1)]
    grid = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, align_corners=False)
    masks = functional.grid_sample(masks, grid, mode="nearest", align_corners=False)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    shares = (images - low) / (high - low).clamp(min=1e-3)
    images = shares ** draw(0.7, 1.5).view(-1, 1, 1, 1) * (high - low) + low
    images = images * draw(0.75, 1.25).view(-1, 1, 1, 1) + draw(-0.2, 0.2).view(-1, 1, 1, 1)
    return images + 0.1 * torch.rand(1, generator=random) * torch.randn(images.shape, generator=random), masks


def measure_loss(scores: list[Tensor], masks: Tensor) -> Tensor:
    """Add Dice over the batch and cross-entropy at every resolution; each counts half of the next finer one."""
    total, weights = torch.zeros(()), 0.0
    for number, one in enumerate(scores):
        truth = functional.interpolate(masks, one.shape[2:], mode="nearest")
        shares = torch.sigmoid(one)
        dice = (2 * (shares * truth).sum() + 1) / (shares.sum() + truth.sum() + 1)
        total = total + 0.5**number * (1 - dice + functional.binary_cross_entropy_with_logits(one, truth))
        weights += 0.5**number
    return total / weights


def measure_dice(model: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Average Dice over the images with something to find, at the network's size."""
    model.eval()
    each = []
    with torch.inference_mode():
        for start in range(0, len(images), 8):
            drawn, truth = model(images[start : start + 8]) > 0, masks[start : start + 8] > 0
            shared, both = (drawn & truth).sum((1, 2, 3)), drawn.sum((1, 2, 3)) + truth.sum((1, 2, 3))
            each += [2 * float(s) / float(b) for s, b, t in zip(shared, both, truth, strict=True) if t.any()]
    model.train()
    return float(np.mean(each)) if each else 0.0


def train_unet(job: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train until the time is over and keep the weights of the best validation Dice."""
    torch.manual_seed(0)
    data, size, batch = Path(job["data"]), job["size"], job["batch"]
    (images, masks), held = load_part(data, "train", size), load_part(data, "val", size)
    model, random = Unet(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    best, kept, epochs, began, limit = -1.0, copy.deepcopy(model.state_dict()), 0, monotonic(), 60.0 * job["minutes"]
    while monotonic() - began < limit:
        for chosen in torch.randperm(len(images), generator=random).split(batch):
            share = min(1.0, (monotonic() - began) / limit)
            optimiser.param_groups[0]["lr"] = RATE * max(1e-3, 1 - share) ** 0.9
            seen, truth = change(images[chosen], masks[chosen], random)
            loss = measure_loss(model(seen), truth)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 12)
            optimiser.step()
            if share >= 1.0:
                break
        epochs += 1
        dice = measure_dice(model, *held)
        print(f"epoch {epochs}: {dice:.3f} after {(monotonic() - began) / 60:.1f} minutes", flush=True)
        if dice > best:
            best, kept = dice, copy.deepcopy(model.state_dict())
    torch.save(kept, out / "best.pt")
    return {"epochs": epochs, "parameters": sum(one.numel() for one in model.parameters())}


def export_unet(job: dict[str, Any], out: Path) -> dict[str, str]:
    """Export to OpenVINO and ONNX, in float32 and int8 by calibration alone."""
    model = Unet()
    model.load_state_dict(torch.load(Path(job["weights"]) / "best.pt", weights_only=True))
    model.eval()
    images, _ = load_part(Path(job["data"]), "train", job["size"])
    some = images[:: max(1, len(images) // CALIBRATING)].numpy()[:, np.newaxis]
    plain = out / "onnx-float32.onnx"
    torch.onnx.export(model, (images[:1],), str(plain), opset_version=17, dynamo=False, input_names=["image"])
    made = {"onnx-float32": str(plain)}
    makers: dict[str, Callable[[Path, Path, Any], Path]] = {
        "openvino-float32": write_openvino,
        "openvino-int8": write_openvino_int8,
        "onnx-int8": write_onnx_int8,
    }
    return made | {
        name: try_to(lambda make=make, name=name: make(plain, out / name, some)) for name, make in makers.items()
    }


def write_openvino(plain: Path, folder: Path, _: Any) -> Path:
    """Write OpenVINO's format."""
    import openvino

    openvino.save_model(openvino.convert_model(str(plain)), folder / "model.xml", compress_to_fp16=False)
    return folder


def write_openvino_int8(plain: Path, folder: Path, some: Any) -> Path:
    """Quantise with NNCF, as ultralytics does it."""
    import nncf
    import openvino

    model = nncf.quantize(
        openvino.convert_model(str(plain)),
        nncf.Dataset(some),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(some),
    )
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder


def write_onnx_int8(plain: Path, folder: Path, some: Any) -> Path:
    """Quantise with onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(some)

        def get_next(self) -> dict[str, Any] | None:
            one = next(self._left, None)
            return None if one is None else {"image": one}

    path, ready = folder.with_suffix(".onnx"), folder.with_suffix(".ready.onnx")
    quant_pre_process(str(plain), str(ready))
    quantize_static(
        str(ready), str(path), Reader(), QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    ready.unlink()
    return path
