"""Training temperature over the course of a training: constant, as in the paper, scheduled, or learned.

The paper names schedules as future work (its section on limitations). Taught in: notebooks/13.
"""

import math

SCHEDULES = ("constant", "linear", "cosine", "warm-up", "learned")
WARM_UP = 0.3  # share of the steps; ours


def training_temperature_at(schedule: str, temperature: float, share: float) -> float:
    """Temperature by which the loss divides the logits, after a share (0 to 1) of all steps.

    "linear" and "cosine" fall from `temperature` to 1, "warm-up" rises from 1 to `temperature` over the first
    `WARM_UP` of the steps (evenly in log T) and stays there; "learned" starts at `temperature`, which is returned.
    """
    if schedule == "linear":
        return 1 + (temperature - 1) * (1 - share)
    if schedule == "cosine":
        return 1 + (temperature - 1) * (1 + math.cos(math.pi * share)) / 2
    if schedule == "warm-up" and share < WARM_UP:
        return temperature ** (share / WARM_UP)
    return temperature
