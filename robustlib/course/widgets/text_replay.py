"""Attack replay for a sentence: a word search step by step, at two temperatures. Taught in: notebooks/06."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.words import Example, Words
from robustlib.course import plots
from robustlib.course.widgets.slider import Slider, offered


def _temperatures(stored: dict[str, Any]) -> list[float]:
    return [replay["temperature"] for replay in stored["replays"]]


class TextReplay(Slider):
    """The replay. Each of `stored["replays"]` has `temperature`, `outcome` and `steps`, see `_step`."""

    source = "text_replay"
    name = "Attack on a sentence, step by step"
    about = "A word search on one sentence, step by step, as served at two temperatures."
    step = offered(0, lambda stored: range(max(len(replay["steps"]) for replay in stored["replays"])))
    left = offered(1.0, _temperatures)
    right = offered(1.0, _temperatures)

    def figure(self) -> Figure:
        """Sentence and highest scores at the present step (a search that has ended stays at its last)."""
        figure, axes = plots.plt.subplots(1, 2, figsize=(12, 3.2))
        for ax, temperature in zip(axes, (self.left, self.right), strict=True):
            steps = self.stored["replays"][_temperatures(self.stored).index(temperature)]["steps"]
            state = steps[min(self.step, len(steps) - 1)]
            words = [f"[{word}]" if i in state["changed"] else word for i, word in enumerate(state["words"])]
            names, scores = zip(*state["scores"][:6], strict=True)
            ax.barh(range(len(names)), scores, color=plots.COLOURS[5])
            ax.set_yticks(range(len(names)), names)
            ax.invert_yaxis()
            ax.set(xlim=(0, 1), xlabel="score 1 - P(true class), as served")
            sentence = "\n".join(textwrap.wrap(" ".join(words), 70, max_lines=3))
            ax.set_title(f"T_d = {temperature:g}, {state['what']}\n{sentence}", fontsize=9)
        return figure


def text_replay(
    cache: QueryCache,
    sentence: Example,
    label: Tensor,
    *,
    recipe: Recipe,
    title: str,
    temperatures: Sequence[float],
    left: float = 1.0,
    right: float = 1.0,
) -> TextReplay:
    """Attack one sentence of class `label` (1,) at every temperature and keep the steps.

    `cache` gives the victim's logits by text, no temperature applied.
    """
    replays = []
    for temperature in temperatures:
        options = {"recipe": recipe, "score": TrueClassProbability(temperature), "trace": True}
        result = attack_texts(cache, [sentence], label, **options)
        outcome = f"{result.outcome[0]} after {result.queries[0]} queries"
        steps = _steps(result.details["trace"][0], recipe)
        replays.append({"temperature": float(temperature), "outcome": outcome, "steps": steps})
    return TextReplay({"title": title, "replays": replays}, left=left, right=right)


def _step(what: str, words: Words, original: Words, tried: int | None, scores: Any) -> dict[str, Any]:
    """What was done, the sentence word by word, positions changed and tried, and (word, score) pairs, best first."""
    changed = [i for i, (a, b) in enumerate(zip(original.words, words.words, strict=False)) if a != b]
    pairs = [[word, float(score)] for word, score in scores]
    return {"what": what, "words": list(words.words), "changed": changed, "tried": tried, "scores": pairs}


def _steps(trace: Sequence[dict[str, Any]], recipe: Recipe) -> list[dict[str, Any]]:
    """The trace of `attack_texts` with the sentence as it was at each step."""
    original = current = Words.of(trace[0]["text"])
    steps = [_step("the sentence as it is", original, original, None, [("score", trace[0]["score"])])]
    order: list[int] = []
    for entry in trace[1:]:
        if entry["step"] == "ranking":
            positions = [i for i, word in enumerate(original.words) if word not in recipe.stop_words]
            best = np.argsort(-np.array(entry["importance"]), kind="stable")
            order = [positions[k] for k in best]
            scores = [(entry["words"][k], entry["importance"][k]) for k in best]
            steps.append(_step("ranking: importance of each word", original, original, None, scores))
            continue
        # words without a candidate leave no trace: the search went on to the next in the order
        while order and current.words[order[0]] != entry["word"]:
            order.pop(0)
        index, accepted = order.pop(0), entry["accepted"]
        pairs = sorted(zip(entry["candidates"], entry["scores"], strict=True), key=lambda pair: -pair[1])
        current = Words.of(current.replaced(index, accepted)) if accepted else current
        done = f"{entry['word']} -> {accepted}" if accepted else f"{entry['word']}: kept, nothing rises"
        steps.append(_step(done, current, original, index, pairs))
    return steps
