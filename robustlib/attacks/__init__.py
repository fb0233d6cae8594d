"""Attacks on image classifiers, one calling convention: `(model, inputs, labels, *, score, ...) -> AttackResult`."""

from robustlib.attacks.libraries import auto_attack, carlini_wagner, hop_skip_jump, square
from robustlib.attacks.pgd import fgsm, pgd
from robustlib.attacks.result import AttackResult

__all__ = ["AttackResult", "auto_attack", "carlini_wagner", "fgsm", "hop_skip_jump", "pgd", "square"]
