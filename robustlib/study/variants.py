"""The trainings that notebooks 08, 09 and 13 compare, and how each of them is judged; the same for images and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.scores import Margin
from robustlib.attacks.statistics import PairedDifference, mean_of, paired_difference
from robustlib.data.progress import progress
from robustlib.models.forward import logits_of
from robustlib.study.base import Study
from robustlib.study.claims import gain, illusion
from robustlib.study.claims.findings import BASELINE
from robustlib.study.geometry import logit_ranges
from robustlib.study.images import image_study
from robustlib.study.profiles import TrainingSettings, get_profile, settings_in_use
from robustlib.study.records import RecordBook, Reference, matching, over_seeds
from robustlib.training.methods import Method, image_method, method_definition

ADVERSARIES = ("naive", "cal", "cal-exact", "margin")


@dataclass(frozen=True)
class Variant:
    """One training: method, gradient rule, training temperature and schedule; defaults are standard training.

    `steps` and `solutions` (K and M) default to the profile's; `longer` multiplies the epochs; `n_train` trains on more
    examples for as many steps in all; `brief` on as few as adversarial training gets (`method_n_train` of the profile).
    """

    method: str = "standard"
    rule: str = "none"
    temperature: float = 1.0
    schedule: str = "constant"
    steps: int | None = None
    solutions: int = 3
    longer: int = 1
    n_train: int | None = None
    brief: bool = False

    @property
    def title(self) -> str:
        definition = method_definition(self.method)
        details = "" if self.steps is None else definition.details.format(M=self.solutions, K=self.steps)
        rule = {"none": "", "clip": ", clipped", "normalise": ", normalised"}[self.rule]
        temperature = "" if self.temperature == 1 else f", T = {self.temperature:g}"
        schedule = "" if self.schedule == "constant" else f" ({self.schedule})"
        epochs = f", {self.longer}x epochs" if self.longer > 1 else ""
        examples = "" if self.n_train is None else f", n = {self.n_train}"
        brief = ", brief" if self.brief else ""
        return f"{definition.title}{details}{rule}{temperature}{schedule}{epochs}{examples}{brief}"

    def extent(self, sizes: TrainingSettings) -> tuple[int | None, int]:
        """Training examples (None: all) and epochs, before `n_train` trades the one for the other."""
        if sizes.method_n_train is not None and (self.brief or self.method != "standard"):
            return sizes.method_n_train, self.longer
        return sizes.n_train, sizes.epochs * self.longer


def lesson_settings(profile: str, modality: str) -> TrainingSettings:
    """Sizes of notebooks 08, 09 and 13 for the profile's data set in use; `modality` is "image" or "text"."""
    return settings_in_use(profile, modality)[0].lessons


def trained_variant(profile: str, modality: str, variant: Variant, *, seed: int = 0) -> Study:
    """The study of a model trained as the variant says, with the sizes of the profile's training lessons.

    ValueError: a method of the other modality; FetchError: no data.
    """
    sizes = lesson_settings(profile, modality)
    steps = method_definition(variant.method).steps or variant.steps or sizes.steps
    (n_train, epochs), suffix = variant.extent(sizes), ""
    if variant.longer > 1:
        suffix = f"(epochs={epochs})"
    if variant.brief:
        suffix = f"{suffix}(n={n_train})"
    if variant.n_train is not None:
        if sizes.n_train is None:
            raise ValueError(f"profile {profile} trains on all examples there are: n_train cannot be raised")
        epochs, suffix = max(1, round(epochs * sizes.n_train / variant.n_train)), f"{suffix}(n={variant.n_train})"
    changes = {
        "n_train": variant.n_train or n_train,
        "n_test": sizes.n_test,
        "epochs": epochs,
        "learning_rate": sizes.learning_rate,
        "gradient_rule": variant.rule,
        "training_temperature": variant.temperature,
        "temperature_schedule": variant.schedule,
        "suffix": suffix,
    }
    if sizes.batch_size is not None:
        changes["batch_size"] = sizes.batch_size
    if modality == "image":
        method = image_method(variant.method, sizes.epsilon, steps=steps, solutions=variant.solutions)
        study = image_study(profile, seed=seed, **changes, method=method if variant.method != "standard" else Method())
        settings = replace(study.settings, epsilon_linf=sizes.epsilon, n_test=sizes.n_test, n_search=sizes.n_opt)
    else:
        from robustlib.study.texts import text_study

        method = Method(variant.method, steps, variant.solutions) if variant.method != "standard" else Method()
        if sizes.layers != 0:
            changes |= {"encoder": settings_in_use(profile, "text")[0].encoder, "layers": sizes.layers}
        study = text_study(profile, seed=seed, **changes, method=method)
        attacks = tuple(dict.fromkeys([*study.settings.attacks, *sizes.attacks]))
        own = {"n_test": sizes.n_test, "n_slow": sizes.n_test, "n_search": sizes.n_opt}
        settings = replace(study.settings, **own, attacks=attacks)
    return replace(study, settings=settings)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with its evaluations by attack and adversary."""

    variant: Variant
    study: Study
    evaluations: Mapping[tuple[str, str], Evaluation]

    @cached_property
    def logits(self) -> Tensor:
        """Undivided logits of the test examples, (n, n_classes)."""
        return logits_of(self.study.model, self.study.inputs)

    @property
    def validation_logits(self) -> Tensor:
        """Undivided logits of the validation examples, of which there are more than attacked ones."""
        return self.study.validation_logits

    @cached_property
    def confidences(self) -> np.ndarray:
        """Largest probability of each validation example as served, (n_validation,)."""
        return self.validation_logits.double().softmax(dim=1).amax(dim=1).numpy()

    @cached_property
    def correct(self) -> np.ndarray:
        """Which clean validation examples are classified correctly, (n_validation,) bool."""
        return (self.validation_logits.argmax(dim=1) == self.study.validation_labels.cpu()).numpy()

    @property
    def clean_columns(self) -> dict[str, object]:
        return {**self.study.columns(1.0), "adversary": "naive", "attack": "clean"}

    @property
    def as_reference(self) -> Reference:
        return Reference(self.study.method_name(1.0), training_temperature=self.variant.temperature)

    def correct_minus(self, other: TrainedModel) -> PairedDifference:
        """Clean accuracy of this model minus that of another, on the same examples."""
        return paired_difference(other.correct, self.correct)


def judge(
    study: Study,
    variant: Variant,
    book: RecordBook,
    *,
    attacks: Sequence[str],
    adversaries: Sequence[str] = ADVERSARIES,
    reference: TrainedModel | None = None,
) -> TrainedModel:
    """Attack a trained model as each adversary does and record the results.

    On validation examples (more, and unseen in training): clean accuracy, mean confidence, logit range and margin; the
    training loss of the last epoch; adversarial accuracy for each attack and adversary; its difference to that of
    `margin`, which is the illusion that an adversary leaves standing; and, with a `reference`, the paired differences
    to it under the same adversary, on clean examples, and in confidence.
    """
    evaluations = {
        (attack, adversary): study.measure(book, attack, adversary, n=study.size(attack))
        for attack in attacks
        for adversary in adversaries
    }
    model = TrainedModel(variant, study, evaluations)
    book.add_accuracy(np.asarray(model.correct, bool), **model.clean_columns)
    for metric, values in (
        ("confidence_clean", 100 * model.confidences),
        ("logit_range", logit_ranges(model.validation_logits.double()).numpy()),
        ("margin", -Margin()(model.validation_logits.double(), study.validation_labels.cpu()).numpy()),
    ):
        book.add(**model.clean_columns, metric=metric, **mean_of(values))
    book.add(**model.clean_columns, metric="training_loss", mean=study.model.history[-1]["loss"], n=1)
    for (attack, adversary), evaluation in evaluations.items():
        if adversary != "margin" and (attack, "margin") in evaluations:
            study.compare(book, evaluation, evaluations[attack, "margin"])
    if reference is not None:
        for key in (key for key in evaluations if key in reference.evaluations):
            study.compare(book, evaluations[key], reference.evaluations[key], reference_study=reference.study)
        book.add_difference(model.correct_minus(reference), reference=reference.as_reference, **model.clean_columns)
        change = mean_of(100 * (model.confidences - reference.confidences))
        row = {"metric": "confidence_difference", **reference.as_reference.columns, **change}
        book.add(**model.clean_columns, **row)
    return model


@dataclass(frozen=True)
class TrainingLesson:
    """One modality's half of a lesson that trains models: its sizes, its seeds and its records."""

    experiment: str  # number and name of the notebook; records of texts are saved under it with `_text` behind
    profile: str
    seed: int  # shifts the profile's seeds
    modality: str  # "image" or "text"

    @cached_property
    def sizes(self) -> TrainingSettings:
        return lesson_settings(self.profile, self.modality)

    @property
    def main_attack(self) -> str:
        return self.sizes.attacks[0]

    @property
    def seeds(self) -> list[int]:
        return self._at_least(self.sizes.row_seeds)

    @property
    def main_seeds(self) -> list[int]:
        """Those of `seeds` first: trainings of the main rows, since trainings differ by more than their examples do."""
        return self._at_least(self.sizes.main_seeds)

    @property
    def brief(self) -> Variant | None:
        """What adversarial training is compared with where it gets fewer examples; None where it gets as many."""
        return None if self.sizes.method_n_train is None else Variant(brief=True)

    def compared_with(self, method: str) -> str:
        """The standard training that records compare a method with: one as brief as adversarial training is here."""
        few = self.sizes.method_n_train
        return BASELINE if few is None or method.startswith(BASELINE) else f"{BASELINE}(n={few})"

    def _at_least(self, n: int) -> list[int]:
        numbers = dict.fromkeys([*get_profile(self.profile).seeds, *range(self.sizes.row_seeds), *range(n)])
        return [self.seed + number for number in numbers]

    @cached_property
    def book(self) -> RecordBook:
        name = self.experiment if self.modality == "image" else f"{self.experiment}_{self.modality}"
        return RecordBook(name, profile=self.profile, seed=self.seed, modality=self.modality, part="training")

    @property
    def records(self) -> pd.DataFrame:
        return over_seeds(self.book.frame)

    def train_and_judge(
        self,
        variants: Sequence[Variant],
        *,
        references: Mapping[int, TrainedModel] | None = None,
        attacks: Sequence[str] | None = None,
        adversaries: Sequence[str] = ADVERSARIES,
        seeds: Sequence[int] | None = None,
    ) -> dict[tuple[int, Variant], TrainedModel]:
        """Train, attack and record every variant for every seed; models by (seed, variant).

        `references`: by seed, what each model is compared with, default the first variant; `attacks`: default the main
        one; `seeds`: default `seeds`, one training each in a small profile.
        """
        models, references = {}, dict(references or {})
        first = [self.seed + number for number in get_profile(self.profile).seeds]
        once = self.sizes.attacks_once
        jobs = [(seed, variant) for seed in seeds or self.seeds for variant in variants]
        for seed, variant in progress(jobs, description=f"{self.modality}: train and attack"):
            model = models[seed, variant] = judge(
                trained_variant(self.profile, self.modality, variant, seed=seed),
                variant,
                self.book,
                attacks=[a for a in attacks or (self.main_attack,) if seed in first or a not in once],
                adversaries=adversaries,
                reference=references.get(seed),
            )
            references.setdefault(seed, model)
        return models

    def compare(
        self,
        model: TrainedModel,
        reference: TrainedModel,
        adversary: str = "margin",
        *,
        reference_adversary: str | None = None,
    ) -> None:
        """Record the paired difference of two models under the main attack, by default by the same adversary."""
        model.study.compare(
            self.book,
            model.evaluations[self.main_attack, adversary],
            reference.evaluations[self.main_attack, reference_adversary or adversary],
            reference_study=reference.study,
        )

    def compare_clean(self, model: TrainedModel, reference: TrainedModel) -> None:
        self.book.add_difference(
            model.correct_minus(reference), reference=reference.as_reference, **model.clean_columns
        )

    def prices(self) -> pd.DataFrame:
        """Every model's clean accuracy beside what log-odds leave of it under the main attack, over seeds.

        By `method` (as they come) and `training_temperature` (rising): `clean` and `robust` in percent with `_low` and
        `_high`, `n_seeds`.
        """
        rows, model = (
            matching(self.records, metric="accuracy", design_temperature=1),
            ["method", "training_temperature"],
        )
        sides = {"clean": {"attack": "clean"}, "robust": {"attack": self.main_attack, "adversary": "margin"}}
        clean, robust = (
            matching(rows, **columns)
            .set_index(model)[["mean", "low", "high", "n_seeds"]]
            .rename(columns={"mean": name, "low": f"{name}_low", "high": f"{name}_high"})
            for name, columns in sides.items()
        )
        both = clean.join(robust.drop(columns="n_seeds"), how="inner")
        methods = list(both.index.unique("method"))
        return both.loc[sorted(both.index, key=lambda index: (methods.index(index[0]), index[1]))]

    def illusion(self, method: str, temperature: float = 1.0, *, adversary: str = "naive") -> pd.Series | None:
        """`claims.illusion` under the main attack and over seeds, of a method at a training temperature."""
        records = over_seeds(matching(self.book.frame, method=method))
        return illusion(records, method, attack=self.main_attack, adversary=adversary, training_temperature=temperature)

    def gain(
        self, method: str, temperature: float, adversary: str, *, attack: str | None = None, **reference: str | float
    ) -> pd.Series | None:
        """`claims.gain` over seeds; `attack` defaults to the main one, `reference` is passed on."""
        records = over_seeds(matching(self.book.frame, method=method))
        model = {"adversary": adversary, "training_temperature": temperature}
        return gain(records, method, attack=attack or self.main_attack, **model, **reference)


def training_lessons(experiment: str, profile: str, seed: int) -> dict[str, TrainingLesson]:
    """Both halves of a lesson that trains models, by modality."""
    return {modality: TrainingLesson(experiment, profile, seed, modality) for modality in ("image", "text")}
