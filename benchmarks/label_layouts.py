"""Does edgeseg read what labelling tools write? Every layout, mask by mask, against the tool's own library.

    edgeseg data synth PLAIN --cases 12 --clips 0 --vessels
    TOOLS/bin/python benchmarks/label_trees.py PLAIN TREES      # a Python with the tools, see there
    python benchmarks/label_layouts.py TREES OUT

Writes OUT/label-layouts.md and .json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trained import write_results

from edgeseg.core.errors import DataError
from edgeseg.data.dataset import Dataset, import_dataset, open_dataset, read_case

HEADER = (
    "tree", "written by", "layout found", "images", "classes", "parts", "groups", "read back by",
    "pixels that differ", "IoU", "worst image", "differ from what was drawn", "IoU with it",
)  # fmt: skip
NOTES = (
    "# Labels as labelling tools leave them",
    "",
    "    TOOLS/bin/python benchmarks/label_trees.py PLAIN TREES && python benchmarks/label_layouts.py TREES OUT",
    "",
    "Twelve phantoms with two classes, a hole and a region at the border, written by each tool's own library or as its",
    "documentation shows. edgeseg finds the layout, imports the tree into the plain layout, and every mask of that is",
    "compared with the mask that the tool's library reads from the same tree, and with the mask that the tool was",
    "given. A tool that draws outlines loses pixels of its own: that is the second comparison, whoever reads.",
    "",
    "[What an outline means](../../docs/decisions/0060-labels-of-tools.md) differs between the tools.",
)
Masks = dict[str, NDArray[np.uint8]]


@dataclass
class Count:
    """Pixels that differ, and those of both masks and of either."""

    differ: int = 0
    both: int = 0
    either: int = 0
    worst: float = 1.0

    def add(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> None:
        """Count a pair of masks."""
        both, either = int(np.count_nonzero(one & other)), int(np.count_nonzero(one | other))
        self.differ += either - both
        self.both, self.either = self.both + both, self.either + either
        self.worst = min(self.worst, both / either if either else 1.0)

    @property
    def iou(self) -> float:
        """Return the IoU of all masks together."""
        return self.both / self.either if self.either else 1.0


def compare(dataset: Dataset, known: Masks, renamed: dict[str, str]) -> Count:
    """Compare every mask of a data set with known ones, by the names of cases and classes."""
    count = Count()
    for case in dataset.cases:
        image = read_case(case)
        for spec, mask in zip(dataset.classes, image.masks, strict=True):
            key = f"{find_stem(case.stem, known)}/{renamed.get(spec.name, spec.name)}"
            count.add(mask, known[key])
    return count


def find_stem(stem: str, known: Masks) -> str:
    """Find the name under which a case's masks are known: without folders, or Roboflow's addition."""
    names = {key.split("/")[0] for key in known}
    fitting = [name for name in names if name in (stem, stem.removesuffix("_0000")) or stem.endswith(f"_{name}")]
    return fitting[0] if fitting else next(name for name in names if stem.startswith(name))


def judge(root: Path, entry: dict[str, Any], known: Masks, given: Masks) -> dict[str, Any]:
    """Import a tree and compare it; what is refused says why."""
    try:
        return import_and_compare(root, entry, known, given)
    except DataError as error:
        return {"refused": f"{error.message} {error.hint}".replace(f"{root}/", "")}


def import_and_compare(root: Path, entry: dict[str, Any], known: Masks, given: Masks) -> dict[str, Any]:
    """Import a tree into the plain layout and compare every mask of that."""
    dataset = open_dataset(root)
    with tempfile.TemporaryDirectory() as folder:
        import_dataset(dataset, Path(folder))
        plain = open_dataset(folder)
        found = {spec.name for spec in plain.classes}
        listed = entry["classes"]
        renamed = dict(zip(sorted(found), listed, strict=True)) if not found <= set(listed) else {}
        own = compare(plain, known, renamed)
        drawn = compare(plain, given, renamed) if set(given) >= set(known) else None
    return {
        "layout": dataset.layout, "images": len(dataset.cases), "classes": sorted(found),
        "parts": sorted({case.part for case in dataset.cases} - {""}),
        "groups": len({case.group for case in dataset.cases}),
        "differ": own.differ, "iou": round(own.iou, 5), "worst": round(own.worst, 5),
        "differ_given": None if drawn is None else drawn.differ,
        "iou_given": None if drawn is None else round(drawn.iou, 5),
        "warnings": [warning.message for warning in dataset.warnings],
    }  # fmt: skip


def format_row(name: str, entry: dict[str, Any], result: dict[str, Any]) -> tuple[str, ...]:
    """Write a line of the table."""
    if "refused" in result:
        return (name, entry["writer"], "refused", "-", "-", "-", "-", entry["reader"], "-", "-", "-", "-", "-")
    given = (
        (str(result["differ_given"]), f"{result['iou_given']:.4f}") if result["iou_given"] is not None else ("-", "-")
    )
    images, classes = f"{result['images']} of {entry['cases']}", ", ".join(result["classes"])
    return (
        name, entry["writer"], result["layout"], images, classes,
        ", ".join(result["parts"]) or "-", str(result["groups"]), entry["reader"], str(result["differ"]),
        f"{result['iou']:.4f}", f"{result['worst']:.4f}", *given,
    )  # fmt: skip


def main() -> None:
    """Judge all trees and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    described = json.loads((options.trees / "trees.json").read_text(encoding="utf-8"))
    given = dict(np.load(options.trees / "given.npz"))
    results = {
        name: judge(options.trees / name, entry, dict(np.load(options.trees / f"{name}.npz")), given)
        for name, entry in described["trees"].items()
    }
    rows = [format_row(name, described["trees"][name], result) for name, result in results.items()]
    refused = [f"- {name}: {result['refused']}" for name, result in results.items() if "refused" in result]
    notes = [*NOTES, "", f"The tools: {', '.join(f'{k} {v}' for k, v in described['versions'].items())}."]
    below = ["", "Refused:", "", *refused] if refused else []
    write_results(options.out, "label-layouts", (*notes, *below), HEADER, rows)


if __name__ == "__main__":
    main()
