"""The search: trials until there are enough, then the pick and its judgement.

DIR/journal.log  everything that was tried
DIR/parent       the run's int8 file, against which trials are timed
DIR/trials/NNNN  the file of a trial, and its recipe
DIR/pick         the pick's files, judged on the test cases
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgeseg.compress.variant import Variant
from edgeseg.compress.workshop import open_run
from edgeseg.core.errors import RunError
from edgeseg.core.marks import remove_folder
from edgeseg.search.journal import SearchJournal
from edgeseg.search.pick import PICK, judge_pick, name_compression
from edgeseg.search.promise import Promise, explain_late, explain_loss
from edgeseg.search.report import SearchReport, summarise_search, write_report
from edgeseg.search.results import SearchRow
from edgeseg.search.trial import Bench, open_bench, run_trial
from edgeseg.trials.locks import hold_lock, is_held

ALONE = "search.lock"


@dataclass(frozen=True)
class _Searcher:
    """One search at work."""

    run: Path
    out: Path
    promise: Promise
    bench: Bench
    journal: SearchJournal

    def run_next(self, trials: int) -> bool:
        """Run one more trial and renew the search's files; says whether there was one to run."""
        with self.journal.claim(trials) as claim:
            if claim is None:
                return False
            self.journal.finish(claim, run_trial(self.bench, claim.folder, claim.options.recipe))
        self.report()
        return True

    def conclude(self) -> SearchReport:
        """Judge the pick on the test cases, and write the search's files for good."""
        report = self.report()
        if not report.front:
            raise _none_finished(self.out, report)
        if report.pick is None:
            remove_folder(self.out / PICK)
            return self.report(advice=explain_late(report.front[0], self.promise))
        trial = self.journal.name_folder(report.pick.number)
        judged = judge_pick(self.bench, self.run, self.out / PICK, trial, report.pick)
        variants = tuple(judgement.variant for judgement in judged)
        return self.report(variants, explain_loss(judged[0], judged[-1], self.promise))

    def report(self, judged: tuple[Variant, ...] = (), advice: str = "") -> SearchReport:
        """Write the search's files as the trials stand now."""
        record = self.bench.shop.record
        report = summarise_search(record.name, self.bench.threads, self.journal.read_rows(), self.promise)
        held = bool(judged) and not advice
        gate = {**report.gate, "held": held}
        command = self._name_command(report.pick)
        report = dataclasses.replace(report, gate=gate, command=command, judged=judged, advice=advice)
        write_report(self.out, report)
        return report

    def _name_command(self, pick: SearchRow | None) -> str | None:
        if pick is None:
            return None
        return name_compression(self.run, self.out, self.journal.name_folder(pick.number), pick)


def run_search(run: Path, out: Path, promise: Promise, trials: int, threads: int = 1) -> SearchReport:
    """Search, or go on with a search.

    Args:
        run: A finished run.
        out: The search's folder.
        promise: What the pick must hold; another one picks anew among the trials that are there.
        trials: How many trials there shall be in all, over all calls.
        threads: CPU threads for the timing.
    """
    shop = open_run(run)
    journal = SearchJournal(out, run, shop.record.options.seed, threads)
    _refuse_company(out)
    with hold_lock(out / ALONE):
        searcher = _Searcher(run, out, promise, open_bench(shop, out, threads), journal)
        journal.run_all(trials, searcher.run_next)
        return searcher.conclude()


def _refuse_company(out: Path) -> None:
    if is_held(out / ALONE):
        raise RunError(
            f"Expected no other search at work in {out}, got one.",
            "Wait until it has ended: two at a time would spoil each other's timing.",
        )


def _none_finished(out: Path, report: SearchReport) -> RunError:
    sentence = next((row.sentence for row in report.trials if row.sentence), "every one was interrupted.")
    return RunError(
        f"Expected at least one trial of {out} to be finished, got none: {sentence}",
        "Mend what the sentence names, and begin a new search with another --out.",
    )
