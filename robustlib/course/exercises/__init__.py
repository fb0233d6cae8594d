"""Checks of the exercises of every lesson: `exercises.pgd_step(your_function)` says what is wrong, or "correct"."""

from robustlib.course.exercises.images import (
    adversarial_accuracy,
    expected_calibration_error,
    flips,
    nll_slope,
    one_sided,
    pgd_step,
    scale_free_score,
    temperature_for_scaled_logits,
    temperature_of_wall,
    undo_temperature,
)
from robustlib.course.exercises.scorecard import claim_verdict, flip, made_up_records, removal
from robustlib.course.exercises.texts import (
    bfloat16_step,
    constant_accuracy,
    hidden_share,
    importance_order,
    log_odds,
    verdict,
)
from robustlib.course.exercises.training import gradient_rules, linear_distance, shortest_of_two, tempered_gradient

__all__ = [
    "adversarial_accuracy",
    "bfloat16_step",
    "claim_verdict",
    "constant_accuracy",
    "expected_calibration_error",
    "flip",
    "flips",
    "gradient_rules",
    "hidden_share",
    "importance_order",
    "linear_distance",
    "log_odds",
    "made_up_records",
    "nll_slope",
    "one_sided",
    "pgd_step",
    "removal",
    "scale_free_score",
    "shortest_of_two",
    "temperature_for_scaled_logits",
    "temperature_of_wall",
    "tempered_gradient",
    "undo_temperature",
    "verdict",
]
