"""Small things every notebook needs, so that none of them repeats them."""

from __future__ import annotations

from typing import Any

from robustlib.environment import describe_environment
from robustlib.plots import use_style


def start(profile: str, seed: int) -> None:
    """First line of a notebook: profile, seed, versions, device; and the figures' style."""
    use_style()
    print(describe_environment(profile, seed))


def say(text: str) -> None:
    """Show a sentence computed from results, as Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def reveal(prediction: Any, options: dict[Any, str], answer: Any) -> None:
    """Compare a learner's prediction with what was measured.

    Args:
        prediction: the learner's choice, one of `options`; None where there is none yet.
        options: what could be chosen, by letter.
        answer: the letter that the measurement supports.

    Raises:
        ValueError: the prediction is none of the options.
    """
    if prediction is None:
        say(f"*You made no prediction.* The measurement says **{answer}**: {options[answer]}.")
        return
    if prediction not in options:
        raise ValueError(f"prediction must be one of {list(options)}, got {prediction!r}")
    verdict = "and so it is" if prediction == answer else f"but the measurement says **{answer}**: {options[answer]}"
    say(f"You predicted **{prediction}** ({options[prediction]}), {verdict}.")


def percent(value: float, interval: tuple[float, float] | None = None) -> str:
    """A fraction as "12.3 %", with its 95 % interval where given."""
    if interval is None:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
