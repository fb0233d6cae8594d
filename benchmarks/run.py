"""Every speed of the project beside its peers and floors: one run, one table, one record.

    python benchmarks/run.py [--profile quick] [--parts images texts training overhead] [--clock cpu]
                             [--textattack-python ENVIRONMENT/bin/python]

Writes benchmarks.csv, a row for each number with commit, versions and machine, and targets.csv, what is aimed at beside
what was measured. Ratios are of things that took turns in this run: they compare between machines, seconds do not.
With `--clock cpu` times are CPU time, for a machine on which other work runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import image_attacks
import overhead
import pandas as pd
import text_attacks
import training
from measure import CLOCKS, Row, measure_all, options, report, write

from robustlib.data.folders import results_dir
from robustlib.study.images import ImageStudy, image_study


@dataclass(frozen=True)
class Target:
    """A ratio or value that is aimed at.

    Attributes:
        value: from the table to the number, NaN where the table lacks what it needs.
        limit: that it must not exceed, or must reach where `at_least`.
    """

    name: str
    limit: float
    at_least: bool
    value: Callable[[pd.DataFrame], float]


def number(table: pd.DataFrame, name: str, unit: str = "s", column: str = "value") -> float:
    """The number of that name and unit, measured with the fewest threads; NaN where there is none."""
    rows = table[(table["name"] == name) & (table.unit == unit)].sort_values("threads")
    return float(rows[column].iloc[0]) if len(rows) else float("nan")


def _faster(reference: str, ours: str) -> Callable[[pd.DataFrame], float]:
    return lambda table: number(table, reference) / number(table, ours)


def _points(ours: str, reference: str) -> Callable[[pd.DataFrame], float]:
    unit = "adversarial accuracy"
    return lambda table: 100 * (number(table, ours, unit) - number(table, reference, unit))


def _apart(ours: str, reference: str) -> Callable[[pd.DataFrame], float]:
    return lambda table: abs(_points(ours, reference)(table))


def _ratio(name: str) -> Callable[[pd.DataFrame], float]:
    return lambda table: number(table, name, column="ratio")


def _seconds(name: str) -> Callable[[pd.DataFrame], float]:
    return lambda table: number(table, name)


EVERY, EARLY, FOOLBOX = (
    "PGD, every step, from the image",
    *(f"PGD from the image: {system}" for system in ("ours, leaving early", "foolbox")),
)
AS_IS, MENDED, OURS, LOW, TEN = (
    f"dg: {system}"
    for system in (
        text_attacks.AS_IS,
        text_attacks.DYNAMIC,
        text_attacks.OURS,
        text_attacks.LOW,
        text_attacks.OURS + text_attacks.SWEEP,
    )
)
TARGETS = (
    Target("PGD of all steps: times its bare passes", 1.10, False, _ratio(EVERY)),
    Target("PGD: times faster than foolbox", 1.5, True, lambda table: 1 / _ratio(EARLY)(table)),
    Target("PGD: points of adversarial accuracy above foolbox's", 0, False, _points(EARLY, FOOLBOX)),
    Target("dg: times faster than TextAttack", 40, True, _faster(AS_IS, LOW)),
    Target("dg: times faster than TextAttack, mended", 3, True, _faster(MENDED, LOW)),
    Target("dg: points between the searches in bfloat16 and float32", 1, False, _apart(LOW, OURS)),
    Target("dg: points between ours and TextAttack, mended", 3, False, _apart(OURS, MENDED)),
    Target("dg at ten temperatures: cost in single attacks", 3, False, lambda table: 10 * _faster(TEN, OURS)(table)),
    Target("exact calibration of 10,000 x 10 logits, s", 0.020, False, _seconds("exact fit, 10,000 x 10")),
    Target("a unit whose result is cached, s", 0.020, False, _seconds("a unit whose result is cached")),
    Target("an empty call in a worker, s", 0.020, False, _seconds("an empty call in a worker")),
)


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Each target beside what was measured: columns target, limit, measured, met ("yes", "no", "not measured")."""
    rows = []
    for target in TARGETS:
        value = target.value(table)
        met = value >= target.limit if target.at_least else value <= target.limit
        rows.append(
            {
                "target": f"{target.name} ({'at least' if target.at_least else 'at most'})",
                "limit": target.limit,
                "measured": value,
                "met": "not measured" if value != value else "yes" if met else "no",
            }
        )
    return pd.DataFrame(rows)


def parts(chosen) -> dict[str, tuple[Callable[[ImageStudy, int], list[Row]], ...]]:
    """The functions of each part of the run: (image study, repeats) to rows."""
    sizes = training.SMOKE if chosen.profile == "smoke" else training.Sizes()
    return {
        "images": image_attacks.PARTS,
        "texts": (lambda study, repeats: text_attacks.measure(chosen),),
        "training": (lambda study, repeats: training.measure(sizes, repeats),),
        "overhead": overhead.PARTS,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__.split("\n")[0], 5, "rounds after the warm-up")
    parser.add_argument("--parts", nargs="+", default=["images", "texts", "training", "overhead"])
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--textattack-python", default=os.environ.get("TEXTATTACK_PYTHON"), help="or TEXTATTACK_PYTHON")
    parser.add_argument("--recipes", nargs="+", default=["dg"], choices=["dg", "pwws"])
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--as-is", type=int, default=8, help="sentences for TextAttack as it is (3 s a sentence)")
    parser.add_argument("--layers", type=int, default=None, help="of the attacked MiniLM (default: all)")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=None, help="training sentences of the attacked model")
    chosen = parser.parse_args(arguments)
    if chosen.profile == "smoke":
        chosen.sentences, chosen.layers, chosen.epochs, chosen.train = 4, 1, 1, 64
    os.environ["ROBUSTLIB_CLOCK"] = chosen.clock
    if "texts" in chosen.parts:
        text_attacks.check(chosen)
    study, rows, folder = image_study(chosen.profile), [], chosen.out or results_dir("benchmarks")
    for part in chosen.parts:
        measured = measure_all(parts(chosen)[part], study, chosen.profile, chosen.threads, chosen.repeats)
        rows += [{"part": part, "clock": chosen.clock, **row} for row in measured]
        write(rows, folder / "benchmarks.csv")  # whatever becomes of the parts that follow
    report(rows)
    targets = judged(pd.DataFrame(rows))
    targets.to_csv(folder / "targets.csv", index=False)
    print(targets.to_string(index=False))


if __name__ == "__main__":
    main()
