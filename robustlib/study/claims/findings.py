"""What a claim rests on: the records of one modality and model, and what is read from them."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from robustlib.attacks.crossed import crossed_mean
from robustlib.models.pretrained import encoder_of
from robustlib.study.records import (
    EXTREMES,
    HONEST,
    REFERENCE,
    Reference,
    difference,
    differences,
    matching,
    over_seeds,
    unpack,
)
from robustlib.training.loop import LABEL

MAIN_ATTACK = {"image": "pgd", "text": "dg"}
BASELINE, OVER, UNDER = "baseline", "conf_up(T_d<<1)", "conf_down(T_d>>1)"
# The part of the study, by the number of the notebook, of records written before they said it.
_PARTS = {"07_": "breadth", "08_": "training", "09_": "training"}
LOWEST, OTHER_END = "lowest of the sweep", "other end of the sweep"


@dataclass(frozen=True)
class Evidence:
    """Records of one modality, data set and model, averaged over seeds, and its main attack."""

    rows: pd.DataFrame  # of the model in float32, which every claim but O3 is about
    low_precision: pd.DataFrame  # of the same weights served otherwise; column `precision`, for example "bfloat16"
    attack: str
    # of the notebooks on other data sets and encoders, and on training, whose models are others
    breadth: pd.DataFrame
    training: pd.DataFrame  # also in the columns of `training.loop.LABEL`, each empty where it does not apply

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Paired differences for the main attack, of models trained at temperature 1."""
        return differences(self.rows, attack=self.attack, training_temperature=1)

    def difference(self, method: str, temperature: float, adversary: str, reference: Reference) -> pd.Series | None:
        """Adversarial accuracy as served minus that of `reference`: as recorded, or from the outcomes of both."""
        served = {"method": method, "design_temperature": temperature}
        recorded = difference(self.differences, reference=reference, adversary=adversary, **served)
        if recorded is not None:
            return recorded
        row = self.accuracy(method, temperature, adversary)
        other = self.accuracy(reference.method, reference.design_temperature, reference.adversary)
        if any(r is None or not isinstance(r["outcomes"], str) for r in (row, other)) or row["n"] != other["n"]:
            return None
        return minus(row, other)

    @cached_property
    def other_encoders(self) -> pd.DataFrame:
        """Rows of `breadth` on this data set whose encoder is another one, not the same with fewer layers."""
        own = {encoder_of(model) for model in self.rows.model}
        same_data = self.breadth.dataset.isin(self.rows.dataset)
        return self.breadth[same_data & ~self.breadth.model.map(encoder_of).isin(own)]

    def tried(self, prefix: str, methods: tuple[str, ...] = ()) -> list[str]:
        """Adversaries of the main attack whose name begins so, on one of the methods if any is given."""
        rows = matching(self.rows, metric="accuracy", attack=self.attack, training_temperature=1)
        rows = rows[rows.adversary.str.startswith(prefix) & (rows.method.isin(methods) if methods else True)]
        return list(dict.fromkeys(rows.adversary))

    def accuracy(self, method: str, temperature: float, adversary: str = "naive", attack: str | None = None):
        """The row of an accuracy, adversarial for the main attack or else for `attack`; None if not recorded."""
        return _pick(self.rows, method, temperature, adversary, metric="accuracy", attack=attack or self.attack)

    def confidence(self, method: str, temperature: float, adversary: str = "naive") -> pd.Series | None:
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
    formerly = records.experiment.str[:3].map(_PARTS).fillna("served")
    records = records.assign(part=records.part.astype(object).fillna(formerly))
    rows = over_seeds(_name_sweep_references(records.reset_index(drop=True)))
    names = rows.model.str.partition("@")
    wide = rows.part == "breadth"
    named = rows.assign(model=names[0], precision=names[2])
    groups = named[~wide].groupby(["dataset", "model"], sort=False)
    evidences = {}
    for (dataset, model), group in groups:
        low, trained = group.precision != "", group.part == "training"
        evidences[f"{dataset}, {model}"] = Evidence(
            group[~low & ~trained], group[low & ~trained], MAIN_ATTACK[modality], named[wide], _parted(group[trained])
        )
    return evidences


def _parted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.join(rows.method.astype(str).str.extract(LABEL).fillna(""))


def _name_sweep_references(records: pd.DataFrame) -> pd.DataFrame:
    """Name the references of a sweep (its ends are compared) by role: for every seed its lowest may lie elsewhere."""
    named = records.astype({"reference_method": object, "reference_adversary": object})
    for _, group in named.groupby(["experiment", "dataset", "model"]):
        rows = matching(group, metric="accuracy_difference", adversary="naive")
        smallest, largest = group.design_temperature.min(), group.design_temperature.max()
        across = differences(rows, reference=Reference(UNDER, "naive", largest), design_temperature=smallest).index
        if len(across):
            ends = rows.index[rows.design_temperature.isin([smallest, largest])]
            named.loc[ends, REFERENCE] = [LOWEST, "naive", np.nan, np.nan]
            named.loc[across, "reference_method"] = OTHER_END
    return named


def _pick(rows: pd.DataFrame, method: str, temperature: float, adversary: str, **more: str) -> pd.Series | None:
    served = {"method": method, "design_temperature": temperature, "training_temperature": 1}
    rows = matching(rows, **served, adversary=adversary, **more)
    return rows.iloc[-1] if len(rows) else None


def illusion(
    records: pd.DataFrame, method: str, *, attack: str, adversary: str = "naive", training_temperature: float = 1.0
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

    `attack`: "clean" with adversary "naive" for clean accuracy; `reference_method`: what it is compared with, default
    the same method, at `reference_temperature`.
    """
    reference = Reference(reference_method or method, adversary, training_temperature=reference_temperature)
    return _served_undivided(records, method, training_temperature, reference, attack=attack, adversary=adversary)


def _served_undivided(
    records: pd.DataFrame, method: str, training_temperature: float, reference: Reference, **columns: str
) -> pd.Series | None:
    model = {"method": method, "training_temperature": training_temperature, "design_temperature": 1}
    return difference(records, reference=reference, **model, **columns)


def minus(row: pd.Series, other: pd.Series) -> pd.Series:
    """One recorded accuracy minus another, as a row with mean, low, high and smallest in points.

    Paired where both hold the outcomes of the same seeds on as many examples; else as if independent, which is wider
    where they share their examples.
    """
    both = [unpack(r["outcomes"]).astype(int) for r in (row, other) if isinstance(r["outcomes"], str)]
    if len(both) == 2 and both[0].shape == both[1].shape and row["seeds"] == other["seeds"]:
        result = crossed_mean(both[0] - both[1], extremes=EXTREMES["accuracy_difference"])
        numbers = {name: 100 * getattr(result, name) for name in ("mean", "low", "high", "smallest")}
    else:
        mean = row["mean"] - other["mean"]
        down = math.hypot(row["mean"] - row["low"], other["high"] - other["mean"])
        up = math.hypot(row["high"] - row["mean"], other["mean"] - other["low"])
        smallest = math.hypot(row["smallest"], other["smallest"])
        numbers = {"mean": mean, "low": mean - down, "high": mean + up, "smallest": smallest}
    return pd.Series(row.to_dict() | numbers)
