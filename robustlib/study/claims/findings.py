"""What a claim rests on: the records of one modality and model, findings judged from them, and their verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from robustlib.study.records import HONEST, REFERENCE, Reference, difference, differences, matching, over_seeds

# Percentage points of adversarial accuracy. What differs by less, over the whole 95 % interval, counts as equal.
EQUIVALENCE_MARGIN = 5.0
VERDICTS = ("reproduced", "partly", "not reproduced", "not tested here")
MAIN_ATTACK = {"image": "pgd", "text": "dg"}
BASELINE, OVER, UNDER = "baseline", "conf_up(T_d<<1)", "conf_down(T_d>>1)"
TRAINING = ("08_", "09_")  # the notebooks on training, whose models are others than those of the rest
BREADTH = "07_"  # the notebook on other data sets and encoders
LOWEST, OTHER_END = "lowest of the sweep", "other end of the sweep"


@dataclass(frozen=True)
class Finding:
    """One part of a claim, judged.

    Attributes:
        where: what was compared, for example "cal at T_d = 0.001".
        outcome: "holds", "fails", "missing" (not among the records) or "void" (nothing there to remove or repair).
        measured: the difference in points with its interval; empty where missing.
        sample: for example "n = 1000, 3 seeds".
        part: what the claim cannot do without, for example "T_d > 1"; empty where it can.
    """

    where: str
    outcome: str
    measured: str = ""
    sample: str = ""
    part: str = ""


@dataclass(frozen=True)
class Evidence:
    """Records of one modality, data set and model, averaged over seeds, and its main attack.

    Attributes:
        rows: of the model in float32, which every claim but O3 is about.
        low_precision: of the same weights served otherwise; column `precision`, for example "bfloat16".
        breadth: rows of the notebook on other data sets and encoders, which the other claims leave out.
        training: rows of the notebooks on training, whose models are others.
    """

    rows: pd.DataFrame
    low_precision: pd.DataFrame
    attack: str
    breadth: pd.DataFrame
    training: pd.DataFrame

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Paired differences for the main attack, of models trained at temperature 1."""
        return differences(self.rows, attack=self.attack, training_temperature=1)

    def difference(self, method: str, temperature: float, adversary: str, reference: Reference) -> pd.Series | None:
        """The adversarial accuracy of a served model under an adversary, minus that of `reference`."""
        served = {"method": method, "design_temperature": temperature}
        return difference(self.differences, reference=reference, adversary=adversary, **served)

    def accuracy(self, method: str, temperature: float, adversary: str = "none", attack: str | None = None):
        """The row of an accuracy, adversarial for the main attack or else for `attack`; None if not recorded."""
        return _pick(self.rows, method, temperature, adversary, metric="accuracy", attack=attack or self.attack)

    def confidence(self, method: str, temperature: float, adversary: str = "none") -> pd.Series | None:
        """The row of the mean confidence on clean examples, once the adversary has calibrated the served model."""
        return _pick(self.rows, method, temperature, adversary, metric="confidence_clean", attack="clean")

    @property
    def most_overconfident(self) -> float | None:
        """The smallest T_d that `cal-exact` was tried on; a sweep reaches further than the adversaries do."""
        calibrated = matching(self.rows, method=OVER, adversary="cal-exact", attack=self.attack)
        return float(calibrated.design_temperature.min()) if len(calibrated) else None

    def temperatures(self, method: str) -> list[float]:
        """Design temperatures at which `method` was compared with the honest baseline, the most extreme first."""
        rows = differences(self.differences, reference=HONEST, method=method)
        return sorted(rows.design_temperature.unique(), key=lambda value: -abs(np.log(value)))


def evidence(records: pd.DataFrame, modality: str) -> dict[str, Evidence]:
    """What the records hold on one modality, by "data set, model"; a model is recorded as name or name@precision."""
    records = records[records.modality == modality]
    if records.empty:
        return {}
    rows = over_seeds(_name_sweep_references(records.reset_index(drop=True)))
    names = rows.model.str.partition("@")
    wide = rows.experiment.str.startswith(BREADTH)
    named = rows.assign(model=names[0], precision=names[2])
    groups = named[~wide].groupby(["dataset", "model"], sort=False)
    evidences = {}
    for (dataset, model), group in groups:
        low, trained = group.precision != "", group.experiment.str.startswith(TRAINING)
        evidences[f"{dataset}, {model}"] = Evidence(
            group[~low & ~trained], group[low & ~trained], MAIN_ATTACK[modality], named[wide], group[trained]
        )
    return evidences


def _name_sweep_references(records: pd.DataFrame) -> pd.DataFrame:
    """Name the references of a sweep by their role: its lowest point may lie elsewhere for every seed.

    A sweep is an experiment that compares its most overconfident end with its most underconfident one.
    """
    named = records.astype({"reference_method": object, "reference_adversary": object})
    for _, group in named.groupby(["experiment", "dataset", "model"]):
        rows = matching(group, metric="accuracy_difference", adversary="none")
        smallest, largest = group.design_temperature.min(), group.design_temperature.max()
        across = differences(rows, reference=Reference(UNDER, "none", largest), design_temperature=smallest).index
        if len(across):
            ends = rows.index[rows.design_temperature.isin([smallest, largest])]
            named.loc[ends, REFERENCE] = [LOWEST, "none", np.nan, np.nan]
            named.loc[across, "reference_method"] = OTHER_END
    return named


def _pick(rows: pd.DataFrame, method: str, temperature: float, adversary: str, **more: str) -> pd.Series | None:
    """The row of a setting; of the later notebook where two have measured it."""
    served = {"method": method, "design_temperature": temperature, "training_temperature": 1}
    rows = matching(rows, **served, adversary=adversary, **more)
    return rows.iloc[-1] if len(rows) else None


def illusion(
    records: pd.DataFrame, method: str, *, attack: str, adversary: str = "none", training_temperature: float = 1.0
) -> pd.Series | None:
    """How far a model stands above its own scale-free answer under an adversary; None where it was not recorded."""
    reference = Reference(method, "margin", training_temperature=training_temperature)
    return _served_undivided(records, method, training_temperature, reference, attack=attack, adversary=adversary)


def gain(
    records: pd.DataFrame,
    method: str,
    *,
    attack: str,
    adversary: str,
    training_temperature: float = 1.0,
    reference_method: str | None = None,
    reference_temperature: float = 1.0,
) -> pd.Series | None:
    """What one training adds to another under the same adversary, paired on the test examples; None: not recorded.

    Args:
        attack: "clean" with adversary "none" for clean accuracy.
        reference_method: what it is compared with; default: the same method, at `reference_temperature`.
    """
    reference = Reference(reference_method or method, adversary, training_temperature=reference_temperature)
    return _served_undivided(records, method, training_temperature, reference, attack=attack, adversary=adversary)


def _served_undivided(
    records: pd.DataFrame, method: str, training_temperature: float, reference: Reference, **columns: str
) -> pd.Series | None:
    model = {"method": method, "training_temperature": training_temperature, "design_temperature": 1}
    return difference(records, reference=reference, **model, **columns)


def above(margin: float) -> Callable[[pd.Series], bool]:
    """Whether the whole interval of a record lies above a number of points."""
    return lambda row: row["low"] > margin


def below(margin: float) -> Callable[[pd.Series], bool]:
    """Whether the whole interval of a record lies below a number of points."""
    return lambda row: row["high"] < margin


def within(margin: float) -> Callable[[pd.Series], bool]:
    """Whether the whole interval of a record lies less than a number of points from 0."""
    return lambda row: row["low"] > -margin and row["high"] < margin


def judge_row(where: str, row: pd.Series | None, holds: Callable[[pd.Series], bool]) -> Finding:
    """A finding on one recorded row; missing where there is none."""
    if row is None:
        return Finding(where, "missing")
    return Finding(where, "holds" if holds(row) else "fails", interval_text(row, signed=True), sample_text(row))


def interval_text(row: pd.Series, *, signed: bool = False) -> str:
    """Mean and interval of a record, as "12.3 [11.0, 13.6]"."""
    form = "+.1f" if signed else ".1f"
    return f"{row['mean']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def sample_text(row: pd.Series) -> str:
    """What a record was measured on, as "n = 600, 3 seeds"."""
    return f"n = {row['n']:.0f}" + (f", {row['n_seeds']} seeds" if row["n_seeds"] > 1 else "")


def verdict(findings: list[Finding]) -> str:
    """One of VERDICTS. A part that is missing, or void altogether, makes a claim that holds elsewhere hold partly."""
    outcomes = {finding.outcome for finding in findings} - {"void"}
    if "holds" in outcomes:
        judged = {finding.part for finding in findings if finding.outcome != "void"}
        complete = judged >= {finding.part for finding in findings if finding.part}
        return "reproduced" if outcomes == {"holds"} and complete else "partly"
    return "not reproduced" if "fails" in outcomes else "not tested here"
