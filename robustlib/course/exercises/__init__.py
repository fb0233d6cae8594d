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
