"""What a claim rests on: the records of one modality and model, findings judged from them, and their verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from robustlib.study.records import over_seeds

# Percentage points of adversarial accuracy. What differs by less, over the whole 95 % interval, counts as equal.
EQUIVALENCE_MARGIN = 5.0
VERDICTS = ("reproduced", "partly", "not reproduced", "not tested here")
MAIN_ATTACK = {"image": "pgd", "text": "dg"}
BASELINE, OVER, UNDER = "baseline", "conf_up(T_d<<1)", "conf_down(T_d>>1)"
HONEST = "baseline|none|1"
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
        return paired_differences(self.rows, self.attack)

    def difference(self, method: str, temperature: float, adversary: str, reference: str) -> pd.Series | None:
        """The adversarial accuracy of a served model under an adversary, minus that of `reference`."""
        return _pick(self.differences, method, temperature, adversary, reference=reference)

    def accuracy(self, method: str, temperature: float, adversary: str = "none", attack: str | None = None):
        """The row of an accuracy, adversarial for the main attack or else for `attack`; None if not recorded."""
        return _pick(self.rows, method, temperature, adversary, metric="accuracy", attack=attack or self.attack)

    def confidence(self, method: str, temperature: float, adversary: str = "none") -> pd.Series | None:
        """The row of the mean confidence on clean examples, once the adversary has calibrated the served model."""
        return _pick(self.rows, method, temperature, adversary, metric="confidence_clean", attack="clean")

    def temperatures(self, method: str) -> list[float]:
        """Design temperatures at which `method` was compared with the honest baseline, the most extreme first."""
        rows = self.differences[(self.differences.method == method) & (self.differences.reference == HONEST)]
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
    found = {}
    for (dataset, model), group in groups:
        low, trained = group.precision != "", group.experiment.str.startswith(TRAINING)
        found[f"{dataset}, {model}"] = Evidence(
            group[~low & ~trained], group[low & ~trained], MAIN_ATTACK[modality], named[wide], group[trained]
        )
    return found


def _name_sweep_references(records: pd.DataFrame) -> pd.DataFrame:
    """Name the references of a sweep by their role: its lowest point may lie elsewhere for every seed.

    A sweep is an experiment that compares its most overconfident end with its most underconfident one.
    """
    named = records.astype({"reference": object})
    for _, group in named.groupby(["experiment", "dataset", "model"]):
        rows = group[(group.metric == "accuracy_difference") & (group.adversary == "none")]
        smallest, largest = group.design_temperature.min(), group.design_temperature.max()
        reference = pd.to_numeric(rows.reference.str.rsplit("|", n=1).str[-1], errors="coerce")
        ends_meet = (rows.design_temperature == smallest) & np.isclose(reference, largest, rtol=1e-5)
        across = ends_meet & rows.reference.str.startswith(f"{UNDER}|none|")
        if across.any():
            ends = rows.index[rows.design_temperature.isin([smallest, largest])]
            named.loc[ends, "reference"] = np.where(across[ends], OTHER_END, LOWEST)
    return named


def paired_differences(rows: pd.DataFrame, attack: str) -> pd.DataFrame:
    """Rows of paired differences for an attack, of models trained at temperature 1."""
    return rows[(rows.metric == "accuracy_difference") & (rows.attack == attack) & (rows.training_temperature == 1)]


def _pick(rows: pd.DataFrame, method: str, temperature: float, adversary: str, **more: str) -> pd.Series | None:
    """The row of a setting; of the later notebook where two have measured it."""
    wanted = {"method": method, "adversary": adversary, "training_temperature": 1, **more}
    found = np.isclose(rows.design_temperature.to_numpy(float), temperature, rtol=1e-5)
    for column, value in wanted.items():
        found &= (rows[column] == value).to_numpy()
    return rows.iloc[found.nonzero()[0][-1]] if found.any() else None


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
