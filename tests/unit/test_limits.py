from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeseg.core.errors import LimitError
from edgeseg.core.limits import IMAGE_SIDE, check_pixels, check_regular, read_regular


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(LimitError, match=str(path)):
        read_regular(path, 4)


def test_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    for check in (read_regular, check_regular):
        with pytest.raises(LimitError, match="FIFO"):
            check(path, 5)


def test_a_link_to_a_device_or_folder_is_refused(tmp_path: Path) -> None:
    for name, target in (("zero", Path("/dev/zero")), ("here", tmp_path)):
        link = tmp_path / name
        link.symlink_to(target)
        with pytest.raises(LimitError, match=name):
            read_regular(link, 5)


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (IMAGE_SIDE + 1, 1), (0, 5), (-1, 5)])
def test_an_announced_size_beyond_the_table_is_refused(width: int, height: int) -> None:
    with pytest.raises(LimitError, match=f"{width}x{height}"):
        check_pixels("picture.png", width, height)
