"""Tidy records: one measured number a row, in the columns of the paper's tables plus where it came from."""

import base64
import datetime
import math
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.crossed import crossed_mean
from robustlib.attacks.statistics import PairedDifference, mean_interval, proportion_interval
from robustlib.calibration.checks import check_correct
from robustlib.data.folders import replace_file, results_dir
from robustlib.study.environment import environment


@dataclass(frozen=True)
class Reference:
    """What a paired difference is taken from: a model as trained and served, and the adversary that attacked it."""

    method: str
    adversary: str = "naive"
    design_temperature: float = 1.0
    training_temperature: float = 1.0

    @property
    def columns(self) -> dict[str, object]:
        return dict(zip(REFERENCE, vars(self).values(), strict=True))


HONEST = Reference("baseline")

PAPER_COLUMNS = ["table", "dataset", "model", "method", "training_temperature", "adversary", "attack", "metric"]
PAPER_COLUMNS += ["mean", "std"]
PROVENANCE = ["n", "low", "high", "seed", "profile", "device", "float32", "versions", "commit", "date"]
REFERENCE = [f"reference_{field.name}" for field in fields(Reference)]
SETTING = ["experiment", "part", "modality", "design_temperature", "adversary_temperature", "norm", "epsilon"]
SETTING += [*REFERENCE, "note"]
COLUMNS = [*PAPER_COLUMNS, *PROVENANCE, *SETTING, "outcomes"]
EXTREMES = {"accuracy": (0, 1), "accuracy_difference": (-1, 1)}  # of one example's outcome, by metric
_ADVERSARIES = ("adversary", "reference_adversary")
_FORMERLY = {"none": "naive"}  # adversaries that had another name in records written before
_REQUIRED = ["dataset", "model", "method", "adversary", "attack", "metric", "mean", "n"]


def pack(outcomes: np.ndarray) -> str:
    """Whole numbers from -128 to 127 in one cell of a CSV: int8, deflated, in base64; (n,) of one seed."""
    values = np.asarray(outcomes)
    if values.ndim != 1 or not np.array_equal(values, values.astype(np.int8)):
        raise ValueError(f"outcomes must be (n,) whole numbers from -128 to 127, got {values.dtype} {values.shape}")
    return base64.b64encode(zlib.compress(values.astype(np.int8).tobytes(), 9)).decode()


def unpack(cell: str) -> np.ndarray:
    """(n_seeds, n) int8 that `pack` wrote; `over_seeds` puts several seeds into one cell, a blank between them."""
    try:
        rows = [np.frombuffer(zlib.decompress(base64.b64decode(part)), np.int8) for part in cell.split()]
    except zlib.error as error:
        raise ValueError(f"no packed outcomes: {cell[:40]!r}") from error
    if not rows or len({len(row) for row in rows}) > 1:
        raise ValueError(f"seeds of {[len(row) for row in rows]} examples make no table")
    return np.stack(rows)


class RecordBook:
    """The numbers one notebook measures; `save` writes them as a CSV for figures, tables and the scorecard.

    `experiment`: number and name of the notebook, and name of the file; `modality`: "image" or "text"; `part` of the
    study: "served", "breadth" (other data sets and encoders) or "training", whose models are others.
    """

    def __init__(self, experiment: str, *, profile: str, seed: int, modality: str, part: str = "served") -> None:
        self.experiment, self.profile, self.modality = experiment, profile, modality
        facts = environment()
        self._common = {
            "experiment": experiment,
            "part": part,
            "profile": profile,
            "seed": seed,
            "modality": modality,
            "device": facts["device"],
            "float32": facts["float32"],
            "versions": "; ".join(f"{name} {facts[name]}" for name in ("python", "torch", "numpy", "robustlib")),
            "commit": facts.get("commit"),
            "date": datetime.date.today().isoformat(),
        }
        self._rows: list[dict[str, Any]] = []

    def add(self, **row: Any) -> None:
        """Add one measured number; ValueError: an unknown column, a missing one, or a mean that is NaN.

        Accuracies, confidences and calibration errors are in percent, as in the paper's tables; `low` and
        `high` bound the 95 % interval of `mean` and `n` is what it was measured on.
        """
        unknown = sorted(set(row) - set(COLUMNS))
        missing = [name for name in _REQUIRED if row.get(name) is None]
        if unknown or missing:
            raise ValueError(f"record with unknown columns {unknown} or without {missing}; columns are {COLUMNS}")
        if math.isnan(row["mean"]):
            raise ValueError(
                f"the mean of {row['metric']} ({row['method']}, {row['attack']}) is NaN: not a measurement"
            )
        self._rows.append({"training_temperature": 1.0, **self._common, **row})

    def add_evaluation(self, evaluation: Evaluation, *, note: str = "", **row: Any) -> None:
        """Add an adversarial accuracy with its interval and the adversary's temperature; its status begins the note."""
        low, high = evaluation.interval
        self.add(
            adversary=evaluation.adversary,
            attack=evaluation.attack,
            metric="accuracy",
            n=len(evaluation.correct),
            mean=100 * evaluation.adversarial_accuracy,
            low=100 * low,
            high=100 * high,
            adversary_temperature=evaluation.temperature,
            outcomes=pack(evaluation.correct),
            note="; ".join(filter(None, (evaluation.status, note))),
            **row,
        )

    def add_accuracy(self, correct: np.ndarray, **row: Any) -> None:
        """Add an accuracy in percent with its Wilson interval, as for attack="clean"; `correct`: as `check_correct`."""
        values = check_correct(correct)
        number, n = int(values.sum()), len(values)
        low, high = (100 * end for end in proportion_interval(number, n))
        self.add(metric="accuracy", mean=100 * number / n, n=n, low=low, high=high, outcomes=pack(values), **row)

    def add_difference(self, difference: PairedDifference, *, reference: Reference, **row: Any) -> None:
        """Add a paired difference of accuracies: the row's model and adversary minus `reference`."""
        self.add(
            metric="accuracy_difference",
            n=difference.n,
            mean=100 * difference.difference,
            low=100 * difference.low,
            high=100 * difference.high,
            note=f"p = {difference.p_value:.2g}",
            outcomes=None if difference.outcomes is None else pack(difference.outcomes),
            **reference.columns,
            **row,
        )

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=COLUMNS)

    def save(self) -> Path:
        """Write `records/<experiment>-seed<seed>.csv` under the profile's results, atomically; returns its path."""
        seed = self._common["seed"]
        path = results_dir(self.profile) / "records" / f"{self.experiment}-seed{seed}.csv"
        replace_file(path, self.frame.to_csv(index=False, lineterminator="\n"))
        return path


def load_records(folder: Path) -> pd.DataFrame:
    """All records of a results folder in COLUMNS, empty where there are none; names of old records as of today."""
    frames = [pd.read_csv(path).reindex(columns=COLUMNS) for path in sorted((folder / "records").glob("*.csv"))]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(frames, ignore_index=True).replace({name: _FORMERLY for name in _ADVERSARIES})


def matching(frame: pd.DataFrame, **columns: object) -> pd.DataFrame:
    """The records that hold these values; temperatures match within a rounding to five digits."""
    keep = np.ones(len(frame), dtype=bool)
    for name, value in columns.items():
        if name.endswith("temperature"):
            keep &= np.isclose(frame[name].to_numpy(float), value, rtol=1e-5, atol=0)
        else:
            keep &= (frame[name] == value).to_numpy(bool)
    return frame[keep]


def differences(frame: pd.DataFrame, *, reference: Reference | None = None, **columns: object) -> pd.DataFrame:
    """The paired differences of accuracy among the records, from `reference` if one is given.

    `columns`: what else a record must hold, for example `method="baseline", adversary="cal"`. `metric` may name
    another difference, as "confidence_difference".
    """
    wanted = {"metric": "accuracy_difference", **columns, **(reference.columns if reference else {})}
    return matching(frame, **wanted)


def difference(frame: pd.DataFrame, *, reference: Reference, **columns: object) -> pd.Series | None:
    """The record of one paired difference, the last of several; None where there is none. Arguments: `differences`."""
    rows = differences(frame, reference=reference, **columns)
    return rows.iloc[-1] if len(rows) else None


def newest_results() -> Path:
    """The results folder whose records were written last, published ones included."""
    parent = results_dir("quick").parent
    files = [*parent.glob("*/records/*.csv"), *parent.glob("published/*/records/*.csv")]
    if not files:
        raise FileNotFoundError(f"no records below {parent}: run the notebooks first, ./run_all.sh")
    return max(files, key=lambda path: path.stat().st_mtime).parent.parent


def origin(records: pd.DataFrame) -> dict[str, str]:
    """Profile, device and (last) date of records, each empty where there are none."""
    names = {name: sorted(records[name].dropna().astype(str).unique()) for name in ("profile", "device", "date")}
    return {name: ", ".join(values[-1:] if name == "date" else values) for name, values in names.items()}


def paper_tables() -> pd.DataFrame:
    """Every number of the paper's tables (arXiv 2402.17509), in PAPER_COLUMNS; `mean` and `std` in percent."""
    return pd.read_csv(Path(__file__).parent / "paper" / "tables.csv", keep_default_na=False, na_values=[""])


def over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting: the mean over seeds, its 95 % interval, and the smallest effect it could have shown.

    A setting that one seed has recorded twice counts once, as recorded last. A single seed keeps its interval over
    examples. Several seeds get the one of `crossed_mean`, for new seeds and new examples, where all hold `outcomes`
    of as many examples; without them Student's over the seeds' means, but no narrower than a seed's own on average,
    since all seeds share their examples. Added: `smallest`, the least difference from 0 that such an interval shows
    with 80 % power; `n_seeds`; `seeds`, which those are. `n` is that of one seed, `outcomes` those of all (`unpack`);
    an `adversary_temperature` or `note` in which the seeds differ is left out.
    """
    own = ("adversary_temperature", "note")
    keys = [name for name in (*PAPER_COLUMNS[:8], *SETTING) if name not in own]
    unique = frame.drop_duplicates([*keys, "seed"], keep="last")
    setting = unique.groupby(keys, dropna=False, sort=False).ngroup()
    repeated = setting.duplicated(keep=False)
    alone, rows = unique[~repeated], {}
    reach = (alone["high"] - alone["low"]).astype(float) / 2
    alone = alone.assign(n_seeds=1, seeds=alone.seed.map(str), smallest=_POWER * reach)
    for number, group in unique[repeated].groupby(setting[repeated]):
        group = group.sort_values("seed", kind="stable")
        row = (
            group.iloc[0].to_dict() | {"n_seeds": len(group), "seeds": " ".join(map(str, group.seed))} | _spread(group)
        )
        for name, none in zip(own, (math.nan, ""), strict=True):
            if group[name].nunique(dropna=False) > 1:
                row[name] = none
        rows[number] = row
    rows |= zip(setting[~repeated], alone.to_dict("records"), strict=True)
    together = [rows[number] for number in sorted(rows)]
    return pd.DataFrame(together, columns=[*frame.columns, *(c for c in ADDED if c not in frame.columns)])


ADDED = ["n_seeds", "seeds", "smallest"]  # by over_seeds
_POWER = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / float(stats.norm.ppf(0.975))


def _spread(group: pd.DataFrame) -> dict[str, Any]:
    """What several seeds of one setting say together."""
    means = group["mean"]
    reach = (group["high"] - group["low"]).astype(float).mean() / 2
    shared = _shared_outcomes(group)
    if shared is not None:
        result = crossed_mean(shared, extremes=EXTREMES.get(group.metric.iloc[0]))
        numbers = {name: 100 * getattr(result, name) for name in ("mean", "low", "high", "smallest")}
        return numbers | {"std": means.std(), "outcomes": " ".join(group.outcomes)}
    mean, low, high = mean_interval(means)
    reach = float(np.fmax((high - low) / 2, reach))  # fmax: some metrics have no interval over examples
    interval = {"mean": mean, "low": mean - reach, "high": mean + reach, "smallest": _POWER * reach}
    return interval | {"std": means.std(), "outcomes": None}


def _shared_outcomes(group: pd.DataFrame) -> np.ndarray | None:
    """(n_seeds, n) outcomes; None where a seed has none, or where they cannot be of the same examples."""
    if group.outcomes.isna().any() or group["n"].nunique() > 1:
        return None
    return unpack(" ".join(group.outcomes))


def beside_paper(records: pd.DataFrame, on: list[str], **paper_filter: Any) -> pd.DataFrame:
    """Our records with the numbers of the paper, joined on the columns `on`: `paper_mean`, `paper_std`, NaN if none.

    `paper_filter`: columns that fix the paper's side, for example table=3; ValueError: it is not unique on that side.
    """
    paper = matching(paper_tables(), **paper_filter)
    if paper.duplicated(on).any():
        raise ValueError(f"{on} does not name one number of the paper: narrow it, for example by table=3")
    paper = paper[[*on, "mean", "std"]].rename(columns={"mean": "paper_mean", "std": "paper_std"})
    return records.merge(paper, how="left", on=on)
