"""What a federation of three uneven sites reaches: against every site alone, and against all images together.

    python benchmarks/federated.py DATA OUT [--model micro] [--size 192] [--rounds 40] [--out-md F]

One fold of DATA (by group) is the test part, the same for all. The other groups go to three sites with about 60%, 30%
and 10% of the images, each with validation cases of its own. FedAvg, FedProx and FedBN train in one process with the
code that `edgeseg federate` runs (edgeseg.federation.simulation); a site alone gets as many steps as all together, so
that it is not short of them. What is finished stays in OUT, and the same command goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from few_labels import find_folds, link_labelled

from edgeseg.convert.package import build_card
from edgeseg.convert.tflite import compact_flatbuffer, convert_model
from edgeseg.core.files import staged_folder, write_json, write_text
from edgeseg.core.modelfile import read_model, write_model
from edgeseg.core.stats import estimate_mean
from edgeseg.data.dataset import open_dataset
from edgeseg.data.reading import Case
from edgeseg.data.split import Split
from edgeseg.evaluation.score import score_part
from edgeseg.federation.local import SiteData
from edgeseg.federation.plan import FederationOptions
from edgeseg.federation.server import draft_plan
from edgeseg.federation.simulation import simulate_federation
from edgeseg.model.keras import keras
from edgeseg.training.options import TrainOptions
from edgeseg.training.run import MODEL
from edgeseg.training.trainer import plain_split, train_run

SHARES = (0.6, 0.3, 0.1)
VALIDATION = 0.15
TOGETHER, MU = "together", 0.01
COURSES: Mapping[str, Mapping[str, Any]] = {
    "FedAvg": {},
    f"FedProx, mu {MU}": {"proximal": MU},
    "FedBN": {"batch_norm": "local"},
}
# A row's scores: the Dice of every test case that shows something, and the case's group.
Scores = dict[str, tuple[float, str]]


def divide_sites(cases: Sequence[Case], seed: int) -> list[list[Case]]:
    """Divide cases by group into sites of about the wanted shares, drawn at random."""
    groups = sorted({case.group for case in cases})
    members = {group: [case for case in cases if case.group == group] for group in groups}
    sites: list[list[Case]] = [[] for _ in SHARES]
    for number in np.random.default_rng(seed).permutation(len(groups)):
        # to the site that is shortest of its share
        lacking = [len(site) / share for site, share in zip(sites, SHARES, strict=True)]
        sites[int(np.argmin(lacking))] += members[groups[number]]
    return sites


def split_site(cases: Sequence[Case], test: Sequence[Case], seed: int) -> Split:
    """Take validation groups out of a site's cases; the test cases are those of all."""
    groups = sorted({case.group for case in cases})
    order = np.random.default_rng(seed).permutation(len(groups))
    kept = {groups[number] for number in order[: max(2, math.ceil(VALIDATION * len(groups)))]}
    train, validation = ([case for case in cases if (case.group in kept) is part] for part in (False, True))
    return Split(tuple(train), tuple(validation), tuple(test))


def make_folders(data: Path, out: Path, seed: int) -> list[Path]:
    """Make a folder of links for each site and one for all together, or take those that stand there."""
    folders = [out / f"site-{number}" for number in range(1, len(SHARES) + 1)]
    if not out.is_dir():
        dataset = open_dataset(data)
        fold = find_folds(data, 5, seed)[0]
        splits = [split_site(site, fold.test, seed) for site in divide_sites((*fold.train, *fold.validation), seed)]
        every = Split(
            tuple(case for split in splits for case in split.train),
            tuple(case for split in splits for case in split.validation),
            fold.test,
        )
        with staged_folder(out) as folder:
            for place, split in zip(folders, splits, strict=True):
                link_labelled(dataset, folder / place.name, split)
            link_labelled(dataset, folder / TOGETHER, every)
    return [*folders, out / TOGETHER]


def count_train(folder: Path) -> int:
    """Count a folder's training cases."""
    return sum(case.part == "train" for case in open_dataset(folder).cases)


def score_file(path: Path, folder: Path) -> Scores:
    """Score a model file on the test cases, at the images' own sizes."""
    scored = score_part(read_model(path), folder, "test")
    found: Scores = {}
    for case in scored:
        values = [one.dice for one in case.scores.values()]
        if values:
            found[case.stem] = (float(np.mean(values)), case.group)
    return found


def train_alone(folder: Path, work: Path, options: TrainOptions, steps: int) -> Scores:
    """Train on a folder for so many steps, and score the result."""
    epochs = max(1, round(steps / math.ceil(count_train(folder) / options.batch)))
    run = work / "run"
    split = plain_split(options.seed)
    train_run(folder, run, dataclasses.replace(options, epochs=epochs), overwrite=True, split=split, test=False)
    return score_file(run / MODEL, folder)


def train_federated(
    folders: Sequence[Path], work: Path, options: TrainOptions, course: FederationOptions
) -> list[Scores]:
    """Train a federation, and score every site's final network."""
    classes = [spec.name for spec in open_dataset(folders[0]).classes]
    plan = draft_plan(options, course, classes)
    shutil.rmtree(work, ignore_errors=True)
    _, clients = simulate_federation(plan, [SiteData(folder) for folder in folders], work)
    scores = []
    for client, folder in zip(clients, folders, strict=True):
        training, final = client.training, client.final
        assert training is not None
        assert final is not None
        training.take(final.best, final.ema)
        record = training.record
        flatbuffer = compact_flatbuffer(convert_model(training.ema_model, "float32"))
        # all networks are judged alike: without a site's own correction of the outline
        ends = (record.input, training.plan.output)
        write_model(
            work / MODEL, flatbuffer, build_card(flatbuffer, "site", ends, record.provenance("float32"), record.finding)
        )
        # the test cases are the same everywhere; a card knows the data of its own site
        scores.append(score_file(work / MODEL, folder))
        if course.batch_norm == "average":
            # the same network at every site
            break
    return scores


def keep(place: Path, make: Callable[[], dict[str, Scores]]) -> dict[str, Scores]:
    """Take rows that are there already, or make and keep them, with the seconds that they took."""
    if not place.is_file():
        start = perf_counter()
        rows = make()
        keras.backend.clear_session()
        write_json(place, {"seconds": round(perf_counter() - start, 1), "rows": rows})
    told = json.loads(place.read_text(encoding="utf-8"))
    print(f"{place.stem}: {told['seconds']:.0f} s", flush=True)
    return {name: {stem: (dice, group) for stem, (dice, group) in row.items()} for name, row in told["rows"].items()}


def measure(
    data: Path, out: Path, options: TrainOptions, rounds: int, local: int
) -> tuple[dict[str, Scores], list[int]]:
    """Train and score everything."""
    *sites, together = make_folders(data, out / "data", options.seed)
    cases = [count_train(folder) for folder in sites]
    steps = rounds * local * math.ceil(sum(cases) / options.batch)
    rows: dict[str, Scores] = {}
    (out / "rows").mkdir(exist_ok=True)
    for number, folder in enumerate([together, *sites]):
        name = "all together" if number == 0 else f"site {number} alone ({cases[number - 1]})"
        rows |= keep(
            out / "rows" / f"alone-{number}.json",
            lambda name=name, folder=folder, number=number: {  # type: ignore[misc]
                name: train_alone(folder, out / f"alone-{number}", options, steps)
            },
        )
    for number, (name, changes) in enumerate(COURSES.items()):
        course = FederationOptions(rounds=rounds, local_epochs=local, **changes)

        def make(name: str = name, course: FederationOptions = course, number: int = number) -> dict[str, Scores]:
            scores = train_federated(sites, out / f"federated-{number}", options, course)
            if len(scores) == 1:
                return {name: scores[0]}
            return {f"{name}, site {place}": one for place, one in enumerate(scores, start=1)}

        rows |= keep(out / "rows" / f"federated-{number}.json", make)
    return rows, cases


def compare(rows: Mapping[str, Scores], name: str, other: str) -> str:
    """Compare two rows case by case."""
    stems = sorted(rows[name])
    differences = [rows[name][stem][0] - rows[other][stem][0] for stem in stems]
    estimate = estimate_mean(differences, [rows[name][stem][1] for stem in stems])
    low, high = estimate.ci95 or (math.nan, math.nan)
    return f"{estimate.mean:+.3f} ({low:+.3f} to {high:+.3f})"


def write_table(rows: Mapping[str, Scores], cases: Sequence[int], chosen: argparse.Namespace) -> str:
    """Write the page of results."""
    alone = [name for name in rows if "alone" in name]
    tests = len(next(iter(rows.values())))
    lines = [
        "# Three sites, together and alone",
        "",
        f"`{chosen.data.name}`, one fold by group: {tests} test cases with a structure, the same for every row.",
        f"Training cases of the sites: {', '.join(map(str, cases))}. `{chosen.model}` at {chosen.size} pixels,",
        f"{chosen.rounds} rounds of {chosen.local_epochs} epochs; a site alone takes as many steps as all together.",
        "Float32 files, threshold 0.5, one seed. In brackets 95% intervals (bootstrap over groups); differences are",
        "paired by case: an interval that holds zero says that these cases cannot tell.",
        f"Machine: {platform.machine()}, {os.cpu_count()} cores.",
        "",
        f"| network | Dice | against all together | against {alone[0]} | against {alone[-1]} |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in rows.items():
        estimate = estimate_mean([dice for dice, _ in row.values()], [group for _, group in row.values()])
        low, high = estimate.ci95 or (math.nan, math.nan)
        others = [
            compare(rows, name, other) if other != name else "" for other in ("all together", alone[0], alone[-1])
        ]
        lines.append(f"| {name} | {estimate.mean:.3f} ({low:.3f} to {high:.3f}) | {' | '.join(others)} |")
    command = (
        f"python benchmarks/federated.py DATA OUT --model {chosen.model} --size {chosen.size} --rounds {chosen.rounds}"
    )
    return "\n".join([*lines, "", f"`{command} --local-epochs {chosen.local_epochs} --seed {chosen.seed}`", ""])


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="micro")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--local-epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="write the table to this file, and the figures beside it as .json")
    chosen = parser.parse_args()
    options = TrainOptions(model=chosen.model, size=chosen.size, batch=chosen.batch, seed=chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows, cases = measure(chosen.data, chosen.out, options, chosen.rounds, chosen.local_epochs)
    page = write_table(rows, cases, chosen)
    print(page)
    if chosen.results is not None:
        write_text(chosen.results, page)
        # test cases by their number: their names are the data's
        figures = {name: [round(dice, 4) for _, (dice, _) in sorted(row.items())] for name, row in rows.items()}
        write_json(chosen.results.with_suffix(".json"), {"cases": cases, "dice": figures})


if __name__ == "__main__":
    main()
