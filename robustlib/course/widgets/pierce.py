"""Pierce it yourself: the learner is the adversary, against a hidden design temperature. Taught in: notebooks/04."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.calibration.metrics import calibration_report
from robustlib.course.plots import COLOURS
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, nearest, plot_scene
from robustlib.course.widgets.shell import LiveScene

LEAST_ILLUSION = 10.0  # points between the naive and the best attack: a model that hides less is no riddle


@dataclass(frozen=True)
class PierceData:
    """Stored answers.

    Attributes:
        temperatures: (n,), increasing, evenly spaced in log T: the product of design and adversary temperature, by
            which the logits as trained are divided in the copy.
        accuracy: (n,) adversarial accuracy (percent) of the model as served, searched at that product.
        confidence: (n,) mean confidence (percent) of the copy on clean examples.
        clean: clean accuracy, percent.
    """

    title: str
    temperatures: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray
    clean: float

    @property
    def best(self) -> float:
        """Lowest accuracy any temperature reaches, percent."""
        return float(self.accuracy.min())

    @property
    def adversary_temperatures(self) -> np.ndarray:
        """What the learner may try: the stored temperatures' range in both directions from 1, by the same steps."""
        step = np.log10(self.temperatures[-1] / self.temperatures[0]) / (len(self.temperatures) - 1)
        reach = round(float(np.abs(np.log10(self.temperatures)).max()) / step)
        return 10.0 ** (step * np.arange(-reach, reach + 1))

    def at(self, product: float) -> int:
        """Index of a product of temperatures; beyond the stored range its end, where nothing changes any more."""
        return nearest(self.temperatures, product)


def pierce_data(accuracy: Mapping[float, float], logits: Tensor, labels: Tensor, *, title: str) -> PierceData:
    """Gather the answers from stored evaluations and logits.

    Args:
        accuracy: adversarial accuracy (a fraction) of the naive attacker by design temperature, evenly spaced in log T.
        logits, labels: of the same examples, no temperature applied, (n, n_classes) and (n,).

    Raises:
        ValueError: fewer than three temperatures, unevenly spaced, or no illusion to pierce.
    """
    temperatures = np.array(sorted(accuracy), dtype=float)
    steps = np.diff(np.log10(temperatures))
    if len(temperatures) < 3 or not np.allclose(steps, steps.mean(), atol=0.01):
        raise ValueError(f"accuracy needs at least 3 temperatures evenly spaced in log T, got {temperatures.tolist()}")
    reports = [calibration_report(logits, labels, temperature=t) for t in temperatures]
    data = PierceData(
        title,
        temperatures,
        100 * np.array([accuracy[t] for t in temperatures]),
        100 * np.array([report.mean_confidence for report in reports]),
        100 * reports[0].accuracy,
    )
    if np.ptp(data.accuracy) < LEAST_ILLUSION:
        raise ValueError(f"no temperature hides {LEAST_ILLUSION:g} points or more: there is no illusion to pierce here")
    return data


@dataclass
class Game:
    """One round: a hidden design temperature, a budget of attacks, and the answers so far.

    Attributes:
        asked: (adversary temperature, adversarial accuracy in percent), in order.
    """

    data: PierceData
    seed: int = 0
    budget: int = 5
    asked: list[tuple[float, float]] = field(default_factory=list)

    @property
    def hidden(self) -> float:
        """The design temperature, drawn from the seed among those that hide LEAST_ILLUSION points or more."""
        hiding = self.data.temperatures[self.data.accuracy - self.data.best >= LEAST_ILLUSION]
        return float(np.random.default_rng(self.seed).choice(hiding))

    def restart(self) -> None:
        """Begin the next round, with the next seed."""
        self.seed += 1
        self.asked.clear()

    @property
    def over(self) -> bool:
        return len(self.asked) >= self.budget

    @property
    def naive(self) -> float:
        """Adversarial accuracy of the attack on the model as served, percent: where everybody starts."""
        return float(self.data.accuracy[self.data.at(self.hidden)])

    @property
    def score(self) -> float:
        """How much of the illusion is gone: 0 as served, 100 at the lowest accuracy that any temperature reaches."""
        lowest = min([self.naive, *(accuracy for _, accuracy in self.asked)])
        return 100 * (self.naive - lowest) / (self.naive - self.data.best)

    def confidence(self, temperature: float) -> float:
        """Mean confidence of the copy at this adversary temperature, percent. Costs no attack."""
        return float(self.data.confidence[self.data.at(self.hidden * temperature)])

    def ask(self, temperature: float) -> float:
        """Adversarial accuracy (percent) of an attack on the copy at this temperature; a repeated one is free.

        Raises:
            ValueError: the budget is spent.
        """
        known = dict(self.asked)
        if temperature in known:
            return known[temperature]
        if self.over:
            raise ValueError(f"all {self.budget} attacks are spent: start a new game")
        accuracy = float(self.data.accuracy[self.data.at(self.hidden * temperature)])
        self.asked.append((temperature, accuracy))
        return accuracy


def plot_pierce(game: Game, temperature: float = 1.0) -> Figure:
    """The present state of the game, with one adversary temperature chosen."""
    return plot_scene(pierce_scene(game), temperature)


def pierce_widget(data: PierceData, *, seed: int = 0, budget: int = 5) -> LiveScene:
    """The game with a slider for T_a and two buttons. A new game draws from the next seed."""
    game = Game(data, seed, budget)
    attack = ipywidgets.Button(description="Attack (costs 1)", button_style="primary", tooltip="attack at this T_a")
    again = ipywidgets.Button(description="New game", tooltip="another hidden temperature")
    live = LiveScene(pierce_scene(game), 1.0, below=[ipywidgets.HBox([attack, again])])

    def ask(_button: Any) -> None:
        game.ask(*live.values)
        attack.disabled = game.over
        live.refresh()

    def restart(_button: Any) -> None:
        game.restart()
        attack.disabled = False
        live.refresh()

    attack.on_click(ask)
    again.on_click(restart)
    return live


def pierce_scene(game: Game) -> Scene:
    """The game as a scene of one value: the adversary temperature chosen."""
    choice = Choice("your T_a (no unit)", game.data.adversary_temperatures.tolist(), "{:.2g}".format)
    return Scene((10, 4.6), partial(_draw, game), partial(_describe, game), (choice,))


def _describe(game: Game, temperature: float) -> str:
    tried = "; ".join(f"T_a = {t:.2g}: {accuracy:.1f} % correct" for t, accuracy in game.asked) or "none yet"
    state = (
        f"T_a = {temperature:.2g}: your copy is {game.confidence(temperature):.1f} % confident on average (clean "
        f"accuracy {game.data.clean:.1f} %). As served, adversarial accuracy is {game.naive:.1f} %. Your attacks: "
        f"{tried}. "
    )
    if not game.over:
        return state + f"{game.budget - len(game.asked)} attacks left. Pierced so far: {game.score:.0f} of 100."
    return state + f"The hidden T_d was {game.hidden:.3g}. Score: {game.score:.0f} of 100."


def _draw(game: Game, figure: Figure) -> Update:
    data = game.data
    ax = figure.add_subplot()
    tried = data.adversary_temperatures
    ax.axhline(data.clean, color="grey", ls="--", lw=1.2, label="clean accuracy")
    naive = ax.axhline(0, color=COLOURS[4], ls="-.", lw=1.6, label="adversarial accuracy as served (T_a = 1)")
    (chosen,) = ax.plot([], [], color=COLOURS[0], ls=":", lw=2, label="T_a you have chosen")
    (confidence,) = ax.plot(
        [], [], "D", color=COLOURS[5], mec="black", ms=9, label="your copy's mean confidence (free)"
    )
    (attacks,) = ax.plot([], [], "o", color=COLOURS[1], mec="black", ms=11, label="your attacks")
    (curve,) = ax.plot([], [], color="black", lw=1.4, alpha=0.7, label="every answer (shown at the end)")
    ax.set_xscale("log")
    ax.set(xlim=(tried[0] / 2, tried[-1] * 2), ylim=(-3, 103), ylabel="percent")
    ax.set_xlabel("adversary temperature T_a (log scale)")
    ax.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    line = moving_line(ax, data.title)

    def update(temperature: float) -> list[Artist]:
        naive.set_ydata([game.naive] * 2)
        chosen.set_data([temperature] * 2, [-3, 103])
        confidence.set_data([temperature], [game.confidence(temperature)])
        attacks.set_data([t for t, _ in game.asked], [accuracy for _, accuracy in game.asked])
        revealed = tried if game.over else []
        curve.set_data(revealed, [data.accuracy[data.at(game.hidden * t)] for t in revealed])
        left = game.budget - len(game.asked)
        line.set_text(
            f"hidden T_d was {game.hidden:.2g}: you pierced {game.score:.0f} of 100"
            if game.over
            else f"hidden T_d, {left} of {game.budget} attacks left, pierced {game.score:.0f} of 100"
        )
        return [naive, curve, chosen, confidence, attacks, line]

    return update
