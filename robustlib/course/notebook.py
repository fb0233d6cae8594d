"""Small things every notebook needs, so that none of them repeats them."""

from __future__ import annotations

from robustlib.course.plots import use_style
from robustlib.study.environment import describe_environment


def start(profile: str, seed: int) -> None:
    """First line of a notebook: profile, seed, versions, device; and the figures' style."""
    use_style()
    print(describe_environment(profile, seed))


def say(text: str) -> None:
    """Show a sentence computed from results, as Markdown."""
    from IPython.display import Markdown, display

    display(Markdown(text))


def reveal(prediction: str | None, options: dict[str, str], holds: dict[str, bool]) -> None:
    """Compare a learner's prediction with what was measured.

    Args:
        prediction: the learner's choice, one of `options`; None where there is none yet.
        options: what could be chosen, by letter.
        holds: for each letter whether the measurement supports it; each has a condition of its own, so that
            "none of these" is a possible answer.

    Raises:
        ValueError: the prediction is none of the options, or the letters differ.
    """
    if set(holds) != set(options) or prediction not in (None, *options):
        raise ValueError(
            f"prediction and holds must use the letters {list(options)}, got {prediction!r}, {list(holds)}"
        )
    supported = [letter for letter in options if holds[letter]]
    measured = " and ".join(f"**{letter}** ({options[letter]})" for letter in supported) or "none of these"
    if prediction is None:
        say(f"*You made no prediction.* The measurement says: {measured}.")
    elif supported == [prediction]:
        say(f"You predicted **{prediction}** ({options[prediction]}), and so it is.")
    else:
        say(f"You predicted **{prediction}** ({options[prediction]}). The measurement says: {measured}.")


def percent(value: float, interval: tuple[float, float] | None = None) -> str:
    """A fraction as "12.3 %", with its 95 % interval where given."""
    if interval is None:
        return f"{100 * value:.1f} %"
    return f"{100 * value:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
