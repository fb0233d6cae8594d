"""Attack replay for a sentence: a word search step by step, at two temperatures side by side.

Taught in: notebooks/06.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.words import Example, Words
from robustlib.course.plots import COLOURS
from robustlib.course.widgets.scene import Choice, Scene, Update, moving_line, plot_scene, two_halves
from robustlib.course.widgets.shell import LiveScene

TEMPERATURES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1e4, 1e6)
WIDTH, LINES, BARS = 56, 5, 5  # characters and lines of the sentence shown; candidates shown


@dataclass(frozen=True)
class Step:
    """One step of a search.

    Attributes:
        words: the sentence, word by word.
        changed: positions whose word is no longer the original.
        tried: position of the word that is being replaced; None before the first.
        scores: (what, score) pairs, best first: words of the ranking, or candidates.
    """

    heading: str
    words: tuple[str, ...]
    changed: frozenset[int]
    tried: int | None
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TextReplay:
    """A search on one sentence at every temperature: `steps` and `outcome` by temperature."""

    title: str
    steps: dict[float, tuple[Step, ...]]
    outcome: dict[float, str]


def text_replay_data(
    cache: QueryCache,
    sentence: Example,
    label: Tensor,
    *,
    recipe: Recipe,
    title: str,
    temperatures: Sequence[float] = TEMPERATURES,
) -> TextReplay:
    """Attack one sentence of class `label` (1,) at every temperature and keep the steps.

    `cache` gives the victim's logits by text, no temperature applied.
    """
    steps, outcome = {}, {}
    for temperature in temperatures:
        result = attack_texts(
            cache, [sentence], label, recipe=recipe, score=TrueClassProbability(temperature), trace=True
        )
        steps[temperature] = tuple(_steps(result.details["trace"][0], recipe))
        outcome[temperature] = f"{result.outcome[0]} after {result.queries[0]} queries"
    return TextReplay(title, steps, outcome)


def _steps(trace: Sequence[dict[str, Any]], recipe: Recipe) -> list[Step]:
    """The trace of `attack_texts` with the sentence as it was at each step."""
    original = current = Words.of(trace[0]["text"])
    none = frozenset()
    steps = [Step("the sentence as it is", tuple(original.words), none, None, (("score", trace[0]["score"]),))]
    order: list[int] = []
    for entry in trace[1:]:
        if entry["step"] == "ranking":
            positions = [i for i, word in enumerate(original.words) if word not in recipe.stop_words]
            best = np.argsort(-np.array(entry["importance"]), kind="stable")
            order = [positions[k] for k in best]
            scores = tuple((entry["words"][k], entry["importance"][k]) for k in best)
            steps.append(Step("ranking: importance of each word", tuple(original.words), none, None, scores))
            continue
        # words without a candidate leave no trace: the search went on to the next in the order
        while order and current.words[order[0]] != entry["word"]:
            order.pop(0)
        index = order.pop(0)
        pairs = sorted(zip(entry["candidates"], entry["scores"], strict=True), key=lambda pair: -pair[1])
        if entry["accepted"]:
            current = Words.of(current.replaced(index, entry["accepted"]))
        changed = frozenset(i for i, (a, b) in enumerate(zip(original.words, current.words, strict=False)) if a != b)
        done = (
            f"{entry['word']} -> {entry['accepted']}" if entry["accepted"] else f"{entry['word']}: kept, nothing rises"
        )
        steps.append(Step(done, tuple(current.words), changed, index, tuple(pairs)))
    return steps


def plot_text_replay(replay: TextReplay, step: int, temperatures: tuple[float, float]) -> Figure:
    """Both temperatures at one step (or at their last one, if the search ended before)."""
    longest = max(map(len, replay.steps.values()))
    return plot_scene(text_replay_scene(replay), min(step, longest - 1), *temperatures)


def text_replay_widget(replay: TextReplay, *, temperatures: tuple[float, float]) -> LiveScene:
    """The replay with a slider for the step and a list for each temperature."""
    return LiveScene(text_replay_scene(replay), 0, *temperatures)


def text_replay_scene(replay: TextReplay) -> Scene:
    """The replay as a scene of three values: step, temperature on the left, temperature on the right."""
    left, right = (Choice(side, tuple(replay.steps), "T_d = {:g}".format, slider=False) for side in ("left", "right"))
    choices = Choice("step of the search", range(max(map(len, replay.steps.values()))), str), left, right
    return Scene((12.5, 5), partial(_draw, replay), partial(_describe, replay), choices)


def _at_step(replay: TextReplay, step: int, temperature: float) -> tuple[Step, str]:
    steps = replay.steps[temperature]
    ended = f" (ended: {replay.outcome[temperature]})" if step >= len(steps) - 1 else ""
    return steps[min(step, len(steps) - 1)], f"step {min(step, len(steps) - 1)}{ended}"


def _describe(replay: TextReplay, step: int, left: float, right: float) -> str:
    halves = []
    for temperature in (left, right):
        state, position = _at_step(replay, step, temperature)
        scores = ", ".join(f"{word} {_number(value)}" for word, value in state.scores[:BARS])
        words = " ".join(_marked(state))
        halves.append(f"T_d = {temperature:g}, {position}: {state.heading}. {words} Scores: {scores}.")
    return " ".join(halves)


def _marked(state: Step) -> list[str]:
    """The sentence's words, those changed in brackets."""
    return [f"[{word}]" if i in state.changed else word for i, word in enumerate(state.words)]


def _number(score: float) -> str:
    return "0 exactly" if score == 0 else "1 exactly" if score == 1 else f"{score:.4g}"


def _layers(state: Step) -> tuple[str, str, str]:
    """The sentence in lines, as three texts of one shape: plain words, changed words in brackets, the word tried."""
    # no-break spaces, so that a replacement of several words stays one
    lines = textwrap.wrap(
        " ".join(word.replace(" ", "\u00a0") for word in _marked(state)),
        WIDTH,
        break_on_hyphens=False,
        max_lines=LINES,
        placeholder=" ...",
    )
    layers, position = ([], [], []), 0
    for line in lines:
        parts = [[], [], []]
        for word in line.split(" "):
            kind = 2 if position == state.tried else 1 if position in state.changed else 0
            for layer, part in enumerate(parts):
                part.append(word if layer == kind else " " * len(word))
            position += 1
        for layer, part in zip(layers, parts, strict=True):
            layer.append(" ".join(part).rstrip())
    return tuple("\n".join(layer).rstrip() for layer in layers)


def _draw(replay: TextReplay, figure: Figure) -> Update:
    return two_halves(figure, replay.title, partial(_draw_half, replay))


def _draw_half(replay: TextReplay, figure: Figure, cell: Any) -> Update:
    grid = cell.subgridspec(2, 1, height_ratios=(1, 1.1))
    page, ax = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    page.axis("off")
    place = {"family": "monospace", "fontsize": 10, "va": "top", "transform": page.transAxes, "linespacing": 1.5}
    layers = [
        page.text(0, 0.97, "", color=COLOURS[k], weight=w, **place)
        for k, w in ((6, "normal"), (1, "bold"), (0, "bold"))
    ]
    position = moving_line(page, "[changed words] orange, the word being tried blue")
    bars = ax.barh(range(BARS), [0.0] * BARS, color=COLOURS[5], height=0.8)
    names = [ax.text(0.01, k, "", va="center", fontsize=9.5) for k in range(BARS)]
    ax.set(xlim=(0, 1), ylim=(BARS - 0.5, -0.5), yticks=[], xlabel="score 1 - P(true class), as served")
    heading = moving_line(ax, "highest scores")

    def update(step: int, temperature: float) -> list[Artist]:
        state, step_words = _at_step(replay, step, temperature)
        for text, words in zip(layers, _layers(state), strict=True):
            text.set_text(words)
        scores = [*state.scores[:BARS], *[("", 0.0)] * BARS][:BARS]
        for bar, name, (word, score) in zip(bars, names, scores, strict=True):
            bar.set_width(score)
            name.set_text(f"{word}   {_number(score)}" if word else "")
        position.set_text(f"T_d = {temperature:g}, {step_words}")
        heading.set_text(textwrap.shorten(state.heading, 70))
        return [*layers, position, *bars, *names, heading]

    return update
