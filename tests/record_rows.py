"""Records made up for the tests of the claims."""

from pathlib import Path

import pandas as pd

from robustlib.course.exercises import made_up_records

_SETTING = {"dataset": "d", "model": "m", "training_temperature": 1.0, "design_temperature": 1.0, "n": 1000, "seed": 0}
_ORIGIN = {"profile": "smoke", "device": "cpu", "date": "2026-01-02", "commit": "abc123"}


def record(mean, *, half=2.0, reference=None, **columns):
    """A record with the interval mean +- half; `columns` beside or instead of one setting on one machine."""
    interval = {"mean": mean, "low": mean - half, "high": mean + half}
    return _SETTING | _ORIGIN | interval | (reference.columns if reference else {}) | columns


def write_made_up_records(results: Path) -> None:
    """Leave those of the exercises of lesson 14 in a results folder, and the accuracy after `cal-exact`: C1 holds."""
    (results / "records").mkdir(parents=True)
    frame = made_up_records().assign(versions="", commit=float("nan"), date="2026-01-02")
    calibrated = frame.query("metric == 'accuracy' and attack == 'pgd'").assign(adversary="cal-exact")
    pd.concat([frame, calibrated]).to_csv(results / "records" / "04_made_up-seed0.csv", index=False)
