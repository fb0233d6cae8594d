"""Adversarial data augmentation (the paper's `dg-aug`): what an attack on a standard model makes of a training set."""

from collections.abc import Sequence

from torch import Tensor

from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.resources import load_recipe
from robustlib.attacks.words.words import Example
from robustlib.calibration.checks import check_labels
from robustlib.data import cache
from robustlib.models.texts import TextClassifier


def attacked_copies(
    texts: Sequence[Example], labels: Tensor, victim: TextClassifier, recipe: str = "dg", *, seed: int = 0
) -> list[Example]:
    """One attacked copy of each training text or pair, whose label stays the same; from the cache where known.

    One for every text, as in the paper ("for each clean sample", section 2.2), which does not say what is added where
    the attack fails. Here, as `attack_texts` returns it: after a failed attack the last text reached (the text itself
    where no edit brought the victim nearer); a text misclassified from the start as it is.

    Args:
        victim: a classifier trained in the standard way. Its weights are part of the cache's key.
        recipe: attack by name, "dg", "pwws" or "tf", at the victim's own temperature.
        seed: of DeepWordBug's edits.
    """
    check_labels(labels, len(texts), victim.n_classes)
    attack = load_recipe(recipe, seed=seed, device=str(victim.device))
    config = {
        "victim": cache.content_digest([*victim.state_dict().values(), victim.tokenizer.to_str()]),
        "texts": cache.content_digest([*texts, labels]),
        "recipe": recipe,
        "note": attack.note,  # what stands in for an unavailable resource
        "seed": seed,
    }

    def compute() -> dict[str, list]:
        result = attack_texts(victim, texts, labels, recipe=attack, description=f"{recipe} on the training set")
        return {"adversarial": result.adversarial}

    copies = cache.cached("augmentation", config, compute, rooms=("training.augmentation",))["adversarial"]
    return [text if isinstance(text, str) else tuple(text) for text in copies]
