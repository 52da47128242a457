"""What the Edge TPU compiler says is read and explained; the words are those that are documented."""

from __future__ import annotations

import pytest

from edgeseg.convert.edgetpu import MAPPED, REFUSALS, STATUSES, explain_refusal, parse_log
from edgeseg.core.errors import ExportError
from tests.commands import assert_says

SUMMARY = """Edge TPU Compiler version 16.0.384591198
On-chip memory used for caching model parameters: 7.14MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 6.63MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 141
"""
PARTLY = "Number of operations that will run on Edge TPU: 138\nNumber of operations that will run on CPU: 3\n"


def make_table(*statuses: str) -> str:
    return "Operator                       Count      Status\n\n" + "".join(
        f"CONV_2D                        {number}          {status}\n" for number, status in enumerate(statuses, 1)
    )


def test_summary_is_read_in_bytes() -> None:
    log = parse_log(SUMMARY, "")
    assert (log.on_chip_bytes, log.on_chip_free_bytes, log.off_chip_bytes) == (7486833, 1792, 6952059)
    assert (log.compiler, log.subgraphs, log.operators) == ("16.0.384591198", 1, 141)


def test_all_operators_are_on_the_chip_where_nothing_else_is_said() -> None:
    assert parse_log(SUMMARY, "").operators_on_cpu == 0
    log = parse_log(SUMMARY + PARTLY, "")
    assert (log.operators_on_chip, log.operators_on_cpu) == (138, 3)


def test_every_known_status_is_explained() -> None:
    log = parse_log(SUMMARY, make_table(MAPPED, *STATUSES))
    assert [status.count for status in log.statuses] == list(range(1, len(STATUSES) + 2))
    assert log.statuses[0].cure == ""
    assert all(status.meaning and status.cure for status in log.statuses[1:])


def test_unknown_status_and_the_longer_one_are_explained() -> None:
    rank = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
    known, unknown = parse_log(SUMMARY, make_table(rank, "The moon is full")).statuses
    assert "batch 1" in known.cure
    assert unknown.meaning != known.meaning


@pytest.mark.parametrize("words", REFUSALS)
def test_every_known_refusal_is_explained_in_the_compilers_words(words: str) -> None:
    reason, advice = explain_refusal(f"Edge TPU Compiler version 16.0\nERROR: {words}.\n\nmore\n")
    assert f'Its words: "ERROR: {words}."' in reason
    assert advice


def test_silence_and_unknown_words_are_told() -> None:
    words, cure = explain_refusal("")
    assert '""' in words
    assert_says(cure, "--size", "--model")
    assert "It broke" in explain_refusal("first\nIt broke\n\n")[0]


@pytest.mark.parametrize(
    "said", ["", SUMMARY.replace("Number of Edge TPU subgraphs: 1", ""), SUMMARY.replace("MiB", "XiB")]
)
def test_other_words_than_those_of_the_known_version_are_refused(said: str) -> None:
    with pytest.raises(ExportError, match='Expected "') as caught:
        parse_log(said, "")
    assert "version 16.0" in caught.value.hint
