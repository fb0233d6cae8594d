"""Attacks `(model, inputs, labels, *, score, ...) -> AttackResult`, what they climb, and who runs them: adversaries."""

from robustlib.attacks.adversaries import (
    ADVERSARIES,
    Adversary,
    Attack,
    Evaluation,
    cal_readings,
    calibrated,
    evaluate,
    plan_adversary,
    transfer,
    warm,
)
from robustlib.attacks.diagnostics import input_jacobian, masking, tied_score_share
from robustlib.attacks.landscape import input_landscape, weight_landscape
from robustlib.attacks.libraries import auto_attack, carlini_wagner, hop_skip_jump, square
from robustlib.attacks.pgd import fgsm, pgd, pgd_in_float64
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import DLR, MIFPE, CrossEntropy, Margin, Score, TargetedMargin, TrueClassProbability
from robustlib.attacks.signs import rays, sign_hunter
from robustlib.attacks.statistics import in_words, mean_interval, mean_of, paired_difference, proportion_interval
