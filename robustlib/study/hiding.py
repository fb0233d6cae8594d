"""What hides and what pierces: a study behind each disguise, attacked by each adversary, and the table of both.

Recorded as method = name of the disguise, and as a paired difference from the honest number. Taught in: notebooks/04
(images), 06 (texts).
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from robustlib import calibration
from robustlib.attacks.adversaries import Adversary
from robustlib.data.progress import progress
from robustlib.models.forward import logits_of
from robustlib.study.base import Study
from robustlib.study.claims.findings import MAIN_ATTACK, OVER, UNDER
from robustlib.study.claims.rules import WORTH_REMOVING, interval, removed
from robustlib.study.records import HONEST, RecordBook, differences, over_seeds

# Attacks that see labels only, a column of the table: no disguise that keeps every prediction changes their answer.
LABELS_ONLY = {"attack": ("hopskipjump-long",), "adversary": ("label-only",)}
PER_INPUT, PER_QUERY = "T(x)", "T per query"
NAMES = (PER_INPUT, PER_QUERY, "floor", "float16", "probabilities")  # how the name of a disguise begins
LESSONS = ("04_", "06_")
ROUNDED = ("float16", "probabilities")  # may tie two classes, so that not every prediction is kept
# Which adversaries a disguise cannot touch, by how its name begins; labels, too, where it keeps predictions. A
# temperature drawn for each query changes the length of a gradient, which attacks on images do not use.
UNTOUCHED = {
    "one T": ("cal-exact", "margin", "dlr", "mifpe", "t-mifpe"),
    PER_INPUT: ("dlr",),
    PER_QUERY: ("margin", "dlr"),
}


@dataclass(frozen=True)
class Hidden:
    """What a defender shows: logits divided by a design temperature, then a disguise, by its name in records."""

    name: str
    disguise: Callable[[Tensor], Tensor]
    design_temperature: float = 1.0


def disguises(study: Study) -> tuple[Hidden, ...]:
    """The disguises that every modality is shown with, fitted on its validation data."""
    logits, labels = logits_of(study.answering, study.validation_inputs), study.validation_labels.cpu()
    accuracy = float((logits.argmax(dim=1) == labels).double().mean())
    return (
        Hidden("T(x) gap", calibration.TemperaturePerInput(calibration.calibrated_gap(logits, labels))),
        Hidden("T(x) confidence", calibration.ConstantConfidence(accuracy)),
        Hidden(PER_QUERY, calibration.TemperaturePerQuery(2.3)),
        Hidden("floor 2.5", calibration.Floor(2.5)),
        Hidden("float16", calibration.Rounded(1.0, torch.float16), 1e-3),
        Hidden("probabilities", calibration.Rounded(1.0, probabilities=True), 1e-2),
    )


def measure_behind(
    study: Study,
    book: RecordBook,
    hidden: Iterable[Hidden],
    attack: str,
    adversaries: Sequence[str | Adversary],
    *,
    n: int | None = None,
    honest: str = "",
) -> None:
    """Attack the study behind each disguise as each adversary does; record accuracies and differences from honest.

    Args:
        hidden: as from `disguises`; a name may stand at several design temperatures.
        n: the first n test examples only; default: as many as the profile gives the attack.
        honest: the attack that gave the honest number (model as trained, attacked as served); default the same.
    """
    n = n or study.size(attack)
    reference = study.run(honest or attack, n=n)
    jobs = [(shown, adversary) for shown in hidden for adversary in adversaries]
    for shown, adversary in progress(jobs, description=f"{attack} behind a disguise"):
        behind, design = study.disguised(shown.name, shown.disguise), shown.design_temperature
        with warnings.catch_warnings():  # that T per query draws random numbers is the point
            warnings.filterwarnings("ignore", message="two passes of the model")
            evaluation = behind.measure(book, attack, adversary, design_temperature=design, n=n)
        behind.compare(book, evaluation, reference, at=design, reference_study=study)


def hiding_table(records: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Points above the honest number, for each modality, disguise and adversary among the records.

    `columns`: adversaries to show, in this order; default: all, as they come.

    Returns:
        Columns modality, hides, pierces, mean, low, high (points), n, and mark: "theorem" where the disguise cannot
        touch the adversary (`UNTOUCHED`), "counterexample" where the adversary is one that no constant temperature
        touches and yet surely stays 5 points or more above honest, else "".
    """
    of_lessons = records.experiment.str.startswith(LESSONS) & ~records.model.str.contains("@")
    rows = over_seeds(differences(records[of_lessons], reference=HONEST))
    labels_only = rows.attack.isin(LABELS_ONLY["attack"]) | rows.adversary.isin(LABELS_ONLY["adversary"])
    rows["pierces"] = rows.adversary.str.replace(r"^transfer:.*", "transfer", regex=True)
    rows.loc[labels_only, "pierces"] = "labels only"
    extremes = _extremes(rows)
    rows["hides"] = [_hides(row, extremes) for row in rows.to_dict("records")]
    shown = (rows.attack == rows.modality.map(MAIN_ATTACK)) | labels_only
    shown &= (rows.hides != "") & (rows.pierces.isin(columns) if columns else True)
    rows = rows[shown].drop_duplicates(["modality", "hides", "pierces"], keep="last")
    rows["mark"] = [_mark(row) for row in rows.to_dict("records")]
    return rows[["modality", "hides", "pierces", "mean", "low", "high", "n", "mark"]].reset_index(drop=True)


def keeps_predictions(hides: str) -> bool:
    """Whether what hides, by its name in the table, keeps every prediction: then labels alone are left as they were."""
    return hides.startswith(tuple(UNTOUCHED) + NAMES) and not hides.startswith(ROUNDED)


def _extremes(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The most extreme design temperature at which the margin was tried, by modality and method."""
    tried = rows[(rows.adversary == "margin") & rows.method.isin((OVER, UNDER))]
    found = {}
    for key, temperatures in tried.groupby(["modality", "method"]).design_temperature:
        found[key] = temperatures.min() if key[1] == OVER else temperatures.max()
    return found


def _hides(row: dict, extremes: dict[tuple[str, str], float]) -> str:
    method, design = row["method"], row["design_temperature"]
    if method in (OVER, UNDER):
        return f"one T = {design:g}" if extremes.get((row["modality"], method)) == design else ""
    if not method.startswith(NAMES):
        return ""
    return method if design == 1 else f"{method}, T_d = {design:g}"


def _mark(row: dict) -> str:
    begins = next((name for name in UNTOUCHED if row["hides"].startswith(name)), "")
    untouched = UNTOUCHED.get(begins, ())
    if begins == PER_QUERY and row["modality"] == "text":
        untouched = ()
    if row["pierces"] in untouched or (row["pierces"] == "labels only" and keeps_predictions(row["hides"])):
        return "theorem"
    surely = row["low"] > WORTH_REMOVING
    return "counterexample" if surely and row["pierces"] in UNTOUCHED["one T"] else ""


def removers(table: pd.DataFrame, hides: str) -> list[str]:
    """Which adversaries of a modality's `hiding_table` remove what hides: `claims.rules.removed`."""
    rows = {row["pierces"]: interval(row) for _, row in table[table.hides == hides].iterrows()}
    return [name for name, left in rows.items() if removed(rows["naive"], left) == "holds"]
