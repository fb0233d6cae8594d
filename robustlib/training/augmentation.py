"""Adversarial data augmentation (the paper's `dg-aug`): a training set and what an attack makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.resources import load_recipe
from robustlib.attacks.words.words import Example
from robustlib.calibration.checks import check_labels
from robustlib.data import cache
from robustlib.models.texts import TextClassifier


@dataclass(frozen=True)
class AugmentedTexts:
    """A training set of 2 n texts: text n + i was made from text i, and has its label.

    Attributes:
        texts: the n texts as they were, then what the attack made of each.
        labels: (2 n,) int64.
        outcome: (n,) "succeeded", "failed" or "skipped": how the attack on each text ended.
    """

    texts: list[Example]
    labels: Tensor
    outcome: np.ndarray


def augment_with_attack(
    texts: Sequence[Example],
    labels: Tensor,
    victim: TextClassifier,
    recipe: str = "dg",
    *,
    seed: int = 0,
    refresh: bool | None = None,
) -> AugmentedTexts:
    """The training set with one attacked copy of each text, found against a standard model; from the cache where known.

    The set always doubles, as in the paper ("for each clean sample"), which does not say what is added where the attack
    finds nothing. Here, as `attack_texts` returns it: after a failed attack the last text reached, nearest to an error
    (the text itself where no edit brought the victim nearer); of a skipped text, which the victim gets wrong as it is,
    the text itself a second time. Paper: section 2.2.

    Args:
        texts: training texts or pairs.
        labels: (n,) int64 class indices; copies keep them.
        victim: a classifier trained in the standard way. Its weights are part of the cache's key.
        recipe: attack by name, "dg", "pwws" or "tf", at the victim's own temperature.
        seed: of DeepWordBug's edits.
        refresh: attack again even if the cache has the result.

    Raises:
        ValueError: an empty text, labels outside the victim's classes, an unknown recipe.
    """
    check_labels(labels, len(texts), victim.n_classes)
    texts, labels = list(texts), labels.cpu()
    chosen = load_recipe(recipe, seed=seed, device=str(victim.device))
    config = {
        "victim": cache.content_digest([*victim.state_dict().values(), victim.tokenizer.to_str()]),
        "texts": cache.content_digest([*texts, labels]),
        "recipe": recipe,
        "note": chosen.note,  # what stands in for a resource that cannot be had
        "seed": seed,
    }

    def compute() -> dict[str, Any]:
        found = attack_texts(victim, texts, labels, recipe=chosen, description=f"{recipe} on the training set")
        return {"adversarial": found.adversarial, "outcome": found.outcome.tolist()}

    entry = cache.cached("augmentation", config, compute, rooms=("training.augmentation",), refresh=refresh)
    adversarial = [text if isinstance(text, str) else tuple(text) for text in entry["adversarial"]]
    return AugmentedTexts([*texts, *adversarial], torch.cat([labels, labels]), np.array(entry["outcome"], dtype="U9"))
