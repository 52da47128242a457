"""Cases that are left out of figures by a list, and lists that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeseg.core.errors import DataError, LimitError
from edgeseg.data.dataset import Case
from edgeseg.evaluation.exclusion import leave_out, read_stems

CASES = [Case(stem, Path(stem), (), stem) for stem in ("a", "b", "c")]
KNOWN = ("a", "b", "c", "elsewhere")


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "list.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "a\nc\n",
        "\ufeffa\r\nc\r\n\r\n a \n",
        "stem\na\nc\n",
        "rank;stem;reason\n1;a;missed\n2;c;missed, too\n",
        "rank\tstem\n1\ta\n2\tc\n",
        '"stem","group"\n"a","g"\n"c","g"\n',
        "stem,group\na,g\nc,g\n".encode("utf-16"),
        "a\r\nc\r\n".encode("utf-16"),
    ],
)
def test_a_list_may_be_lines_or_a_table(tmp_path: Path, content: str | bytes) -> None:
    assert read_stems(write(tmp_path, content)) == ("a", "c")


@pytest.mark.parametrize("content", ["", "\n\n", "stem\n", b"\xff\xfe", b"\x80\x81\x82", 9 * b"\0"])
def test_a_list_without_names_is_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(DataError, match="Expected"):
        read_stems(write(tmp_path, content))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected a list of cases in .*No such file"):
        read_stems(tmp_path / "none.csv")
    with pytest.raises((DataError, LimitError)):
        read_stems(tmp_path)


def test_listed_cases_are_left_out_and_those_of_other_parts_may_be_listed() -> None:
    assert leave_out(CASES, ["b", "elsewhere"], KNOWN, "list") == {"a", "c"}
    assert leave_out(CASES, [], KNOWN, "list") == {"a", "b", "c"}


def test_unknown_names_and_nothing_left_are_refused() -> None:
    with pytest.raises(DataError, match="got x1, x2, x3 and 1 more") as caught:
        leave_out(CASES, ["a", "x1", "x2", "x3", "x4"], KNOWN, "list")
    assert "without the ending" in caught.value.hint
    with pytest.raises(DataError, match="left"):
        leave_out(CASES, ["a", "b", "c"], KNOWN, "list")
