"""Why an attack on images may be left out: each function gives the reason, or "" where the attack is to run."""

from __future__ import annotations

from robustlib.audit.case import Case


def always(case: Case) -> str:
    return ""


def if_white(case: Case) -> str:
    return "" if case.white else "no gradient reaches the inputs"


def if_thorough(case: Case) -> str:
    """A search over temperatures decides nothing that calibration and the margin do not, and costs most."""
    return "" if case.thorough else "on request: give thorough=True"


def if_ratio(case: Case) -> str:
    if case.served.subject.n_classes < 3:
        return "a ratio of differences needs three classes"
    return "the model answers with labels only" if case.served.subject.gives == "labels" else ""


def if_scale_varies(case: Case) -> str:
    if case.served.subject.module is not None:
        return "the model itself is at hand"
    return "" if case.thorough or case.random or case.flagged("boundary.jump") else "no sign of a scale that varies"


def if_log_odds(case: Case) -> str:
    return (
        "" if not case.white and case.served.subject.gives == "probabilities" else "the gradient's margin does as much"
    )


def if_parts(case: Case) -> str:
    return "" if case.parts else "no part of the model predicts as it does and shows more"


def if_hidden(case: Case) -> str:
    if case.served.subject.module is None:
        return "a black box has no backward pass"
    return "" if case.thorough or (case.trouble and not case.random) else "gradients are sound"


def if_nan(case: Case) -> str:
    return "" if case.flagged("gradient.nan") and case.white else "every gradient is a number"


def if_random(case: Case) -> str:
    return (if_white(case) or "") if case.random else "the answers are not random"


def if_blind(case: Case) -> str:
    if case.thorough:
        return ""
    if not case.trouble and case.white:
        return "gradients are sound"
    return "what was hidden has been unmasked" if case.unmasked() else ""


def if_square(case: Case) -> str:
    if not case.white:
        return "it is the usual attack here"
    return "the model answers with labels only" if case.served.subject.gives == "labels" else if_blind(case)


def if_decisions(case: Case) -> str:
    usual = not case.white and case.served.subject.gives == "labels"
    return "it is the usual attack here" if usual and "transfer" not in case.points else if_blind(case)
