"""What a notebook says to a learner: its opening lines, sentences computed from results, numbers with intervals."""

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.statistics import PairedDifference
from robustlib.calibration.metrics import CalibrationReport
from robustlib.course.lesson import Lesson
from robustlib.course.plots import use_style
from robustlib.course.words import in_words, table_in_words
from robustlib.study.environment import describe_environment
from robustlib.study.plan import units_of
from robustlib.study.pool import compute, default_workers


def start(profile: str, seed: int, name: str = "") -> None:
    """Print profile, seed, versions and device, set the style of figures and tables, compute a notebook's units.

    Units are computed here where several workers can do it (ROBUSTLIB_WORKERS, ROBUSTLIB_CLUSTER), and otherwise by the
    cells that need them; with one thread, so that records are the same either way. `name`: number and name of a
    notebook that measures.
    """
    use_style()
    _show_tables_in_words()
    print(describe_environment(profile, seed))
    torch.set_num_threads(1)
    if name and (default_workers() > 1 or os.environ.get("ROBUSTLIB_CLUSTER")):
        compute(units_of(name, profile, seed))


def begin(name: str, profile: str, seed: int, modality: str, part: str = "served") -> Lesson:
    """Open a lesson: `start`, then data, model and number of examples of its study; arguments as of `Lesson`."""
    start(profile, seed, name)
    lesson = Lesson(name, profile, seed, modality, part)
    say(lesson.describe())
    return lesson


def say(text: str) -> None:
    """Show a sentence computed from results, as Markdown, with words for the names of records."""
    from IPython.display import Markdown, display

    display(Markdown(in_words(text)))


def _show_tables_in_words() -> None:
    from IPython import get_ipython

    if (shell := get_ipython()) is None:
        return
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(pd.DataFrame, lambda table: table_in_words(table)._repr_html_())
    formatters["text/plain"].for_type(
        pd.DataFrame, lambda table, printer, cycle: printer.text(repr(table_in_words(table)))
    )


def reveal(prediction: str | None, options: dict[str, str], holds: dict[str, bool]) -> None:
    """Compare a learner's prediction, one of the letters in `options` or None, with what was measured.

    A prediction that is none of the letters stops nothing: it stays open, and a framed sentence says what to write.
    `holds`: for each letter whether the measurement supports it; each has a condition of its own, so that "none of
    these" is a possible answer. ValueError: it has other letters than the options.
    """
    if set(holds) != set(options):
        raise ValueError(f"holds must use the letters {list(options)}, got {list(holds)}")
    letter = prediction.strip().lower() if isinstance(prediction, str) else prediction
    if letter is not None and letter not in list(options):
        say(
            f"> **Your prediction is open:** {prediction!r} is none of the letters {', '.join(options)}. Write one of "
            "them, in quotation marks, into the cell below the question, then run that cell and this one again."
        )
        return
    supported = [option for option in options if holds[option]]
    measured = " and ".join(f"**{option}** ({options[option]})" for option in supported) or "none of these"
    if letter is None:
        say(f"*You made no prediction.* The measurement says: {measured}.")
    elif supported == [letter]:
        say(f"You predicted **{letter}** ({options[letter]}), and so it is.")
    else:
        say(f"You predicted **{letter}** ({options[letter]}). The measurement says: {measured}.")


def rounded(value: float) -> str:
    """A number with three significant digits, without an exponent up to a million: "1040", not "1.04e+03"."""
    return f"{float(f'{value:.3g}'):g}"


def percent(value: float) -> str:
    """A fraction as "12.3 %"."""
    return f"{100 * value:.1f} %"


def interval(measured: Evaluation | PairedDifference | Mapping[str, Any] | pd.Series, *, signed: bool = False) -> str:
    """A number with its 95 % interval as "12.3 [11.0, 13.6]", in percent or points; `signed`: as "+12.3".

    `measured`: an evaluation (its adversarial accuracy), a paired difference, or a row with mean, low and high.
    """
    mean, low, high = (round(value, 1) + 0.0 for value in _in_percent(measured))  # + 0.0: no "-0.0"
    return f"{mean:{'+' if signed else ''}.1f} [{low:.1f}, {high:.1f}]"


def points(row: pd.Series | None) -> str:
    """A difference of a lesson's records over seeds as "+12.3 [11.0, 13.6]", with a dagger if of one training."""
    if row is None:
        return "not measured"
    return interval(row, signed=True) + ("" if row["n_seeds"] > 1 else "†")


def tabulate(evaluations: Mapping[Any, Evaluation], *names: str) -> pd.DataFrame:
    """Evaluations as a table: a column for each part of their keys, called `names`, then mean, low, high (%), n."""
    rows = []
    for key, evaluation in evaluations.items():
        mean, low, high = _in_percent(evaluation)
        numbers = {"mean": mean, "low": low, "high": high, "n": len(evaluation.correct)}
        parts = key if isinstance(key, tuple) else (key,)
        rows.append(dict(zip(names, parts, strict=True)) | numbers | {"interval": interval(evaluation)})
    return pd.DataFrame(rows)


def calibration_table(reports: Mapping[Any, CalibrationReport]) -> pd.DataFrame:
    """Calibration reports as a table, a row for each key, in percent where the name of the column says so."""
    columns = {
        "accuracy %": [100 * report.accuracy for report in reports.values()],
        "mean confidence %": [100 * report.mean_confidence for report in reports.values()],
        "ECE %": [100 * report.expected_calibration_error for report in reports.values()],
        "MCE %": [100 * report.maximum_calibration_error for report in reports.values()],
        "NLL (nats)": [report.negative_log_likelihood for report in reports.values()],
        "Brier (0 to 2)": [report.brier_score for report in reports.values()],
    }
    return pd.DataFrame(columns, index=list(reports))


def _in_percent(measured: Evaluation | PairedDifference | Mapping[str, Any] | pd.Series) -> tuple[float, float, float]:
    if isinstance(measured, Evaluation):
        fractions = measured.adversarial_accuracy, *measured.interval
    elif isinstance(measured, PairedDifference):
        fractions = measured.difference, measured.low, measured.high
    else:
        return measured["mean"], measured["low"], measured["high"]
    return tuple(100 * value for value in fractions)
