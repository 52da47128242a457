"""A training that the memory cannot hold is refused with what would fit, and not ended by the system."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeseg.core.errors import TrainingError
from edgeseg.core.spec import ClassSpec
from edgeseg.data.dataset import Dataset
from edgeseg.data.reading import Case, Reading
from edgeseg.machine.host import Machine
from edgeseg.training.memory import (
    FIXED_MB,
    check_further_training,
    check_memory,
    estimate_memory,
    read_free_mb,
)
from edgeseg.training.originals import OriginalsPlan, read_images


def describe_model(results: int, parameters: int) -> SimpleNamespace:
    layer = SimpleNamespace(name="conv", output=SimpleNamespace(shape=(None, 1024, results)))
    ends = SimpleNamespace(name="end", output=SimpleNamespace(shape=(None, 0)))
    return SimpleNamespace(layers=[ends, layer, ends], count_params=lambda: parameters, output_shape=(None, 0, 0, 0))


def test_results_grow_with_the_batch_and_weights_do_not() -> None:
    one, two = (estimate_memory(describe_model(1024, 2**20), batch) for batch in (1, 2))
    assert (one, two) == pytest.approx((FIXED_MB + 3.2 + 24.0, FIXED_MB + 6.4 + 24.0))


@pytest.mark.parametrize(
    ("model", "size", "batch", "quantised", "measured"),
    [
        ("nano", 256, 8, False, 127),
        ("nano", 512, 16, False, 338),
        ("small", 256, 32, False, 314),
        ("base", 512, 16, False, 993),
        ("base", 1024, 4, False, 988),
        ("classic", 128, 2, False, 823),
        ("small", 256, 16, True, 313),
        ("base", 256, 16, True, 500),
    ],
)
def test_what_real_steps_took_is_estimated_within_a_third(
    model: str, size: int, batch: int, quantised: bool, measured: float
) -> None:
    from edgeseg.model.unet import build_unet
    from edgeseg.training.options import TrainOptions

    network = build_unet(TrainOptions(model=model, size=size).describe_network(1))
    assert 0.95 < estimate_memory(network, batch, quantised) / measured < 1.34


def test_more_than_is_free_is_refused_with_the_batch_that_fits() -> None:
    model = describe_model(2**18, 2**20)
    check_memory(model, 5, free=5000)
    with pytest.raises(TrainingError, match=r"MB.*batch of 64.*5,000 MB") as caught:
        check_memory(model, 64, free=5000)
    assert "--batch 5," in caught.value.hint
    check_memory(model, 5, free=5000)
    with pytest.raises(TrainingError, match="batch of 6"):
        check_memory(model, 6, free=5000)
    with pytest.raises(TrainingError) as caught:
        check_memory(model, 64, free=200)
    assert "batch of 1 " in caught.value.hint


def test_this_machine_is_asked() -> None:
    check_memory(describe_model(1, 1), 16)
    with pytest.raises(TrainingError, match="memory"):
        check_memory(describe_model(2**20, 2**40), 16)
    with pytest.raises(TrainingError, match="train") as caught:
        check_further_training(describe_model(2**20, 2**40), 16, quantised=True)
    assert "--recipe float16,int8-ptq" in caught.value.hint


MEMINFO = "MemTotal: 24000000 kB\nMemAvailable:   20480000 kB\n"


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 20000),
        (
            {
                "proc/self/cgroup": "0::/job/inner\n",
                "sys/fs/cgroup/job/memory.max": str(2000 * 2**20),
                "sys/fs/cgroup/job/memory.current": str(500 * 2**20),
                "sys/fs/cgroup/job/memory.stat": f"anon 1\ninactive_file {100 * 2**20}\n",
                "sys/fs/cgroup/job/inner/memory.max": "max",
                "sys/fs/cgroup/job/inner/memory.current": "5",
            },
            1600,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/x\n4:memory:/not/mounted/here\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(3000 * 2**20),
                "sys/fs/cgroup/memory/memory.usage_in_bytes": str(1000 * 2**20),
            },
            2000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            20000,
        ),
        (
            {
                "proc/self/cgroup": "0::/\nnonsense\n",
                "sys/fs/cgroup/memory.max": "100",
                "sys/fs/cgroup/memory.current": "2000",
                "sys/fs/cgroup/memory.stat": "inactive_file\nx y z\n",
            },
            0,
        ),
    ],
)
def test_a_container_may_take_what_its_group_leaves(tmp_path: Path, files: dict[str, str], free: float) -> None:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_free_mb(Machine(root=tmp_path)) == free


def make_cases(*sides: int) -> list[Case]:
    """Describe square images with one mask; what is read takes no memory."""

    def read(case: Case, colour: bool) -> Reading:  # noqa: ARG001
        pixels = np.broadcast_to(np.uint8(0), (int(case.stem),) * 2)
        return pixels, (pixels,)

    return [Case(str(side), Path(), (), "g", read=read) for side in sides]


def plan(*sides: int) -> OriginalsPlan:
    return OriginalsPlan(Dataset(Path(), tuple(make_cases(*sides)), (ClassSpec("a"),)), colour=False)


def test_images_are_judged_before_all_are_read() -> None:
    assert len(read_images(plan(64, 2**13, 2**14), most=2**40)) == 3
    with pytest.raises(TrainingError, match=r"25,165,824 MB.*12 images"):
        read_images(plan(*[2**20] * 12))
