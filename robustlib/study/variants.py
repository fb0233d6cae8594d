"""The trainings that notebooks 08 and 09 compare, and how each of them is judged; the same for images and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from torch import Tensor

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.scores import Margin
from robustlib.attacks.statistics import PairedDifference, mean_of, paired_difference
from robustlib.models.forward import logits_of
from robustlib.study.base import Study
from robustlib.study.geometry import logit_ranges
from robustlib.study.images import image_study
from robustlib.study.profiles import TrainingSettings, settings_in_use
from robustlib.study.records import RecordBook, Reference
from robustlib.training.methods import Method, image_method

ADVERSARIES = ("none", "cal", "cal-exact", "opt", "margin")


@dataclass(frozen=True)
class Variant:
    """One training: method, gradient rule, training temperature and schedule; defaults are standard training.

    `steps` and `solutions` (K and M) default to the profile's; `longer` multiplies the epochs; `n_train` trains on more
    examples for as many steps in all.
    """

    method: str = "standard"
    rule: str = "none"
    temperature: float = 1.0
    schedule: str = "constant"
    steps: int | None = None
    solutions: int = 3
    longer: int = 1
    n_train: int | None = None

    @property
    def title(self) -> str:
        """How a figure calls it."""
        names = {
            "standard": "standard",
            "pgd": "PGD",
            "fgsm": "FGSM",
            "freelb": "FreeLB",
            "trades": "TRADES",
            "ascc": "ASCC",
            "dg-aug": "augmented (dg)",
            "ddi": "DDi",
        }
        name = names.get(self.method, self.method)
        if self.method == "ddi" and self.steps is not None:
            name = f"DDi (M = {self.solutions}, K = {self.steps})"
        rule = {"none": "", "clip": ", clipped", "normalise": ", normalised"}[self.rule]
        heat = "" if self.temperature == 1 else f", T = {self.temperature:g}"
        schedule = "" if self.schedule == "constant" else f" ({self.schedule})"
        more = f", {self.longer}x epochs" if self.longer > 1 else ""
        more += "" if self.n_train is None else f", n = {self.n_train}"
        return f"{name}{rule}{heat}{schedule}{more}"


def lesson_settings(profile: str, modality: str) -> TrainingSettings:
    """Sizes of notebooks 08 and 09 for the profile's data set in use; `modality` is "image" or "text"."""
    return settings_in_use(profile, modality)[0].lessons


def trained_variant(profile: str, modality: str, variant: Variant, *, seed: int = 0) -> Study:
    """The study of a model trained as the variant says, with the sizes of the profile's training lessons.

    Raises:
        ValueError: a method that is for the other modality.
        robustlib.data.FetchError: no data.
    """
    sizes = lesson_settings(profile, modality)
    steps = variant.steps or sizes.steps
    epochs, suffix = sizes.epochs * variant.longer, ""
    if variant.longer > 1:
        suffix = f"(epochs={epochs})"
    if variant.n_train is not None:
        if sizes.n_train is None:
            raise ValueError(f"profile {profile} trains on all examples there are: n_train cannot be raised")
        epochs, suffix = max(1, round(epochs * sizes.n_train / variant.n_train)), f"{suffix}(n={variant.n_train})"
    changes = {
        "n_train": variant.n_train or sizes.n_train,
        "epochs": epochs,
        "learning_rate": sizes.learning_rate,
        "gradient_rule": variant.rule,
        "training_temperature": variant.temperature,
        "temperature_schedule": variant.schedule,
        "suffix": suffix,
    }
    if modality == "image":
        method = image_method(variant.method, sizes.epsilon, steps=steps, solutions=variant.solutions)
        found = image_study(profile, seed=seed, **changes, method=method if variant.method != "standard" else Method())
        settings = replace(found.settings, epsilon_linf=sizes.epsilon, n_test=sizes.n_test, n_search=sizes.n_opt)
    else:
        from robustlib.study.texts import text_study

        method = Method(variant.method, steps, variant.solutions) if variant.method != "standard" else Method()
        found = text_study(profile, seed=seed, **changes, method=method)
        settings = replace(found.settings, n_test=sizes.n_test, n_search=sizes.n_opt)
    n = min(sizes.n_test, len(found.labels))
    return replace(found, settings=settings, inputs=found.inputs[:n], labels=found.labels[:n])


@dataclass(frozen=True)
class Judged:
    """A trained model with everything that was measured of it.

    Attributes:
        found: evaluations by attack and adversary.
    """

    variant: Variant
    study: Study
    found: Mapping[tuple[str, str], Evaluation]

    @cached_property
    def logits(self) -> Tensor:
        """Undivided logits of the test examples, (n, n_classes)."""
        return logits_of(self.study.model, self.study.inputs)

    @cached_property
    def validation_logits(self) -> Tensor:
        """Undivided logits of the validation examples, of which there are more than attacked ones."""
        return logits_of(self.study.model, self.study.validation_inputs)

    @cached_property
    def confidences(self) -> np.ndarray:
        """Largest probability of each validation example as served, (n_validation,)."""
        return self.validation_logits.double().softmax(dim=1).amax(dim=1).numpy()

    @cached_property
    def correct(self) -> np.ndarray:
        """Which clean test examples are classified correctly, (n,) bool."""
        return (self.logits.argmax(dim=1) == self.study.labels.cpu()).numpy()

    @property
    def accuracy(self) -> float:
        """Clean accuracy, a fraction."""
        return float(self.correct.mean())

    def correct_minus(self, other: Judged) -> PairedDifference:
        """Clean accuracy here minus there, on the same examples."""
        return paired_difference(other.correct, self.correct)


def judge(
    study: Study,
    variant: Variant,
    book: RecordBook,
    *,
    attacks: Sequence[str],
    adversaries: Sequence[str] = ADVERSARIES,
    reference: Judged | None = None,
) -> Judged:
    """Attack a trained model as each adversary does and record what came out.

    Recorded: clean accuracy; on validation examples mean confidence, logit range and logit margin; adversarial
    accuracy for each attack and adversary; how far each adversary stays above the scale-free one (`margin`), which is
    the illusion that it leaves standing; and, with a `reference`, the paired differences to it under the same
    adversary, on clean examples, and in confidence.
    """
    found = {
        (attack, adversary): study.measure(book, attack, adversary, n=study.size(attack))
        for attack in attacks
        for adversary in adversaries
    }
    judged = Judged(variant, study, found)
    about = {**study.columns(1.0), "adversary": "none", "attack": "clean"}
    book.add_accuracy(int(judged.correct.sum()), len(judged.correct), **about)
    for metric, values in (
        ("confidence_clean", 100 * judged.confidences),
        ("logit_range", logit_ranges(judged.validation_logits.double()).numpy()),
        ("margin", -Margin()(judged.validation_logits.double(), study.validation_labels.cpu()).numpy()),
    ):
        book.add(**about, metric=metric, **mean_of(values))
    for (attack, adversary), evaluation in found.items():
        if adversary != "margin" and (attack, "margin") in found:
            study.compare(book, evaluation, found[attack, "margin"])
    if reference is not None:
        _compare(judged, reference, book, about)
    return judged


def _compare(judged: Judged, reference: Judged, book: RecordBook, about: dict[str, object]) -> None:
    for key in (key for key in judged.found if key in reference.found):
        judged.study.compare(book, judged.found[key], reference.found[key], reference_study=reference.study)
    to = Reference(reference.study.method_name(1.0), training_temperature=reference.variant.temperature)
    book.add_difference(judged.correct_minus(reference), reference=to, **about)
    change = 100 * (judged.confidences - reference.confidences)
    book.add(**about, metric="confidence_difference", **to.columns, **mean_of(change))
