"""Training temperature over the course of a training: constant, scheduled, or learned.

The paper trains at a constant temperature and names schedules as future work (its section on limitations).
Taught in: notebooks/09.
"""

from __future__ import annotations

import math

from robustlib.calibration.checks import check_temperature

SCHEDULES = ("constant", "linear", "cosine", "warm-up", "learned")
WARM_UP = 0.3  # share of the steps; ours


def training_temperature_at(schedule: str, temperature: float, share: float) -> float:
    """Temperature by which the loss divides the logits, after a share of all steps.

    "linear" and "cosine" fall from `temperature` to 1, "warm-up" rises from 1 to `temperature` over the first
    `WARM_UP` of the steps (evenly in log T) and stays there. With `temperature` 1 every one of them is 1.

    Args:
        schedule: one of `SCHEDULES`; "learned" starts at `temperature`, which is what is returned.
        temperature: above 0.
        share: of all steps done, 0 to 1.
    """
    if schedule == "linear":
        return 1 + (temperature - 1) * (1 - share)
    if schedule == "cosine":
        return 1 + (temperature - 1) * (1 + math.cos(math.pi * share)) / 2
    if schedule == "warm-up" and share < WARM_UP:
        return temperature ** (share / WARM_UP)
    return temperature


def check_schedule(schedule: str, temperature: float) -> None:
    """Raise ValueError unless the schedule exists and its temperature is finite and above 0."""
    check_temperature(temperature, "training_temperature")
    if schedule not in SCHEDULES:
        raise ValueError(f"temperature_schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
