"""What the notebooks share: a trained model, its data, and attacks with the profile's budgets.

Results of attacks go through the cache, keyed by model, attack, adversary and data, so that notebooks share them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

from torch import Tensor, nn

from robustlib import attacks, calibration, evaluation, models, scores, temperature, temperature_search
from robustlib.attacks import gradient, libraries, result
from robustlib.cache import cached, content_digest
from robustlib.data import DATASETS, load_images, resolve_dataset
from robustlib.environment import pick_device
from robustlib.evaluation import Adversary, Attack, Evaluation, evaluate, plan_adversary
from robustlib.profiles import ImageSettings, get_profile
from robustlib.records import RecordBook
from robustlib.statistics import PairedDifference
from robustlib.temperature import TemperatureScaled
from robustlib.training import ImageTraining, trained_image_model

PROTOCOL = (result, calibration, evaluation, scores, temperature, temperature_search)


@dataclass(frozen=True)
class Study(ABC):
    """A trained classifier with the examples it is judged on and the attacks it is judged by.

    Attributes:
        settings: sizes and radii of the profile, for the data set in use.
        training: what determines the weights.
        substitution: why a preferred data set is not used; empty where the first choice is.
        model: inputs to logits, as trained (T_d = 1), in evaluation mode.
        inputs, labels: n test examples that are attacked.
        validation_inputs, validation_labels: what adversaries prepare on.
        class_names: name of each label.
    """

    code: ClassVar[tuple] = PROTOCOL  # modules whose source is part of the key of a cached evaluation

    settings: Any
    training: Any
    substitution: str
    model: nn.Module
    inputs: Any
    labels: Tensor
    validation_inputs: Any
    validation_labels: Tensor
    class_names: tuple[str, ...]

    @property
    @abstractmethod
    def attacks(self) -> dict[str, Attack]:
        """The attacks of the study by name, with the profile's budgets."""

    @abstractmethod
    def served(self, design_temperature: float) -> Any:
        """The model as a defender with this design temperature serves it."""

    @abstractmethod
    def budget(self, attack: str) -> dict[str, Any]:
        """What an attack may do, as columns of a record."""

    @property
    @abstractmethod
    def model_name(self) -> str:
        """Name of the model, as in records."""

    def options(self, attack: str) -> dict[str, Any]:
        """Everything that determines an attack besides its code: part of the key of a cached evaluation."""
        return dict(self.attacks[attack].run.keywords)

    @cached_property
    def content(self) -> str:
        """Digest of weights and examples: whatever changed them, an evaluation of the old ones is not reused."""
        examples = [self.inputs, self.labels, self.validation_inputs, self.validation_labels]
        return content_digest([*self.model.state_dict().values(), *examples])

    @property
    def dataset(self) -> str:
        """Name of the data set in use, as in records."""
        return self.settings.dataset

    @property
    def title(self) -> str:
        """How to call the data set in a figure."""
        return DATASETS[self.dataset].title

    def run(
        self, attack: str, adversary: str | Adversary = "none", *, design_temperature: float = 1.0, n: int | None = None
    ) -> Evaluation:
        """Attack the served model as an adversary does, on the first n test examples; from the cache where known.

        An `Adversary` made by hand (a surrogate, a calibrator) must have a name that says all that determines it.
        """
        chosen, served = self.attacks[attack], self.served(design_temperature)
        inputs, labels = self.inputs[:n], self.labels[:n]
        name = adversary if isinstance(adversary, str) else adversary.name
        config = {
            "training": asdict(self.training), "content": self.content, "attack": attack,
            "options": self.options(attack), "adversary": name, "design_temperature": design_temperature,
            "n": len(inputs), "n_search": self.settings.n_search,
        }  # fmt: skip

        def compute() -> dict:
            plan = adversary
            if isinstance(plan, str):
                plan = plan_adversary(plan, served, chosen, self.validation_inputs, self.validation_labels,
                                      n_search=self.settings.n_search)  # fmt: skip
            return vars(evaluate(served, chosen, plan, inputs, labels))

        return Evaluation(**cached("evaluation", config, compute, code=self.code))

    def measure(
        self,
        book: RecordBook,
        attack: str,
        adversary: str | Adversary = "none",
        *,
        design_temperature: float = 1.0,
        n: int | None = None,
    ) -> Evaluation:
        """`run`, and record what came out."""
        found = self.run(attack, adversary, design_temperature=design_temperature, n=n)
        book.add_evaluation(found, **self.columns(design_temperature), **self.budget(attack))
        return found

    def compare(
        self,
        book: RecordBook,
        found: Evaluation,
        reference: Evaluation,
        *,
        at: float = 1.0,
        reference_at: float = 1.0,
        reference_study: Study | None = None,
    ) -> PairedDifference:
        """Record the paired difference of two evaluations, served at `at` and at `reference_at`; returns it.

        Args:
            reference_study: where the reference is of another model: the study it comes from, on the same examples.
        """
        difference = found.minus(reference)
        other = reference_study or self
        name = f"{other.method_name(reference_at)}|{reference.adversary}|{reference_at:g}"
        if reference_study is not None:
            name += f"|T={other.training.training_temperature:g}"
        book.add_difference(
            difference, reference=name, adversary=found.adversary, attack=found.attack, **self.columns(at),
            **self.budget(found.attack),
        )  # fmt: skip
        return difference

    def columns(self, design_temperature: float) -> dict[str, object]:
        """What a record says of the model served at a design temperature."""
        return {
            "dataset": self.dataset, "model": self.model_name, "method": self.method_name(design_temperature),
            "design_temperature": design_temperature, "seed": self.training.seed,
            "training_temperature": self.training.training_temperature,
        }  # fmt: skip

    def method_name(self, design_temperature: float) -> str:
        """The paper's name for the model served at a design temperature, as in the tables' column `method`.

        Explicit miscalibration has a name of its own for a model trained in the standard way; any other model keeps
        that of its training.
        """
        label = self.training.label
        if label != "baseline" or design_temperature in (1, self.training.training_temperature):
            return label
        return "conf_up(T_d<<1)" if design_temperature < 1 else "conf_down(T_d>>1)"


@dataclass(frozen=True)
class ImageStudy(Study):
    """A trained image classifier: inputs are pixels (n, channels, height, width) on the model's device."""

    code: ClassVar[tuple] = (*PROTOCOL, gradient, libraries, models)

    settings: ImageSettings
    training: ImageTraining

    @property
    def images(self) -> Tensor:
        """The attacked test images."""
        return self.inputs

    @property
    def model_name(self) -> str:
        """Name of the architecture."""
        return self.settings.architecture

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """FGSM, PGD (Linf, L2), C&W, Square, HopSkipJump, AutoAttack and its first stage with the profile's budgets."""
        s, seed = self.settings, self.training.seed
        linf, l2 = {"epsilon": s.epsilon_linf}, {"epsilon": s.epsilon_l2}
        steps = {"steps": s.pgd_steps, "seed": seed}
        jump = {"steps": s.hop_skip_jump_steps, "max_gradient_evaluations": s.hop_skip_jump_evaluations, "seed": seed}
        search = {"steps": s.cw_steps, "binary_search_steps": s.cw_searches}
        found = [
            Attack("fgsm", partial(attacks.fgsm, **linf)),
            Attack("pgd", partial(attacks.pgd, **linf, **steps),
                   on_surrogate=partial(attacks.pgd, **linf, **steps, leave_early=False)),
            Attack("pgd-l2", partial(attacks.pgd, **l2, **steps, norm="l2"),
                   on_surrogate=partial(attacks.pgd, **l2, **steps, norm="l2", leave_early=False)),
            Attack("cw", partial(attacks.carlini_wagner, **l2, **search), scale_free=None),
            Attack("square", partial(attacks.square, **linf, n_queries=s.square_queries, seed=seed), scale_free=None),
            Attack("hopskipjump", partial(attacks.hop_skip_jump, **l2, **jump), scale_free=None),
            Attack("apgd-ce", partial(attacks.auto_attack, **linf, attacks=("apgd-ce",), seed=seed), scale_free=None),
            Attack("autoattack", partial(attacks.auto_attack, **linf, n_queries=s.square_queries, seed=seed),
                   scale_free=None),
        ]  # fmt: skip
        return {attack.name: attack for attack in found}

    def budget(self, attack: str) -> dict[str, object]:
        """Norm and radius of an attack."""
        keywords = self.attacks[attack].run.keywords
        norm = keywords.get("norm", "l2" if attack in ("cw", "hopskipjump") else "linf")
        return {"norm": norm, "epsilon": keywords["epsilon"]}

    def served(self, design_temperature: float) -> nn.Module:
        """The model as a defender with this design temperature serves it."""
        return self.model if design_temperature == 1.0 else TemperatureScaled(self.model, design_temperature)


def image_study(profile: str, *, seed: int = 0, **changes: Any) -> ImageStudy:
    """Data and trained model of a profile; trains where the cache has no such model.

    Taught in: every image notebook starts with it.

    Args:
        changes: fields of `ImageTraining` that differ from the profile's, for example `gradient_rule="normalise"`.

    Raises:
        robustlib.data.FetchError: none of the profile's data sets can be had.
    """
    candidates = {settings.dataset: settings for settings in get_profile(profile).images}
    name, reasons = resolve_dataset(tuple(candidates))
    settings = candidates[name]
    device = pick_device()
    test = load_images(name, "test", n=settings.n_test, seed=0)
    validation = load_images(name, "validation", n=settings.n_validation, seed=0)
    recipe = ImageTraining(
        dataset=name, n_train=settings.n_train, architecture=settings.architecture, epochs=settings.epochs,
        learning_rate=settings.learning_rate, augment=settings.augment, seed=seed, device=device.type,
    )  # fmt: skip
    recipe = replace(recipe, **changes)
    return ImageStudy(
        settings=settings,
        training=recipe,
        substitution=substitution(reasons),
        model=trained_image_model(recipe),
        inputs=test.images.to(device),
        labels=test.labels.to(device),
        validation_inputs=validation.images.to(device),
        validation_labels=validation.labels.to(device),
        class_names=test.class_names,
    )


def substitution(reasons: dict[str, str]) -> str:
    """One sentence for each preferred data set that cannot be had; `reasons` as from `resolve_dataset`."""
    return " ".join(f"{name} cannot be had here ({why.splitlines()[0]})." for name, why in reasons.items())
