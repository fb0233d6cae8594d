"""The protocol that the studies of images and of texts share: evaluate, record, compare, through the cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from robustlib.attacks.adversaries import Adversary, Attack, Evaluation, evaluate, plan_adversary
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Score
from robustlib.attacks.statistics import PairedDifference
from robustlib.calibration.disguises import Disguised
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.data import DATASETS
from robustlib.data.cache import cached, content_digest
from robustlib.models.forward import logits_of
from robustlib.study.records import RecordBook, Reference


@dataclass(frozen=True)
class Study(ABC):
    """A trained classifier with the examples it is judged on and the attacks it is judged by."""

    settings: Any  # sizes and radii of the profile, for the data set in use
    training: Any  # what determines the weights
    substitution: str  # why a preferred data set is not used; empty where the first choice is
    model: nn.Module  # inputs to logits, as trained (T_d = 1), in evaluation mode
    # n test examples that are attacked
    inputs: Any
    labels: Tensor
    # what adversaries prepare on
    validation_inputs: Any
    validation_labels: Tensor
    class_names: tuple[str, ...]  # name of each label
    # a map of logits that a defender shows instead of them, and its name in records
    disguise: Callable[[Tensor], Tensor] | None = None
    disguise_name: str = ""

    @property
    @abstractmethod
    def attacks(self) -> dict[str, Attack]:
        """The attacks of the study by name, with the profile's budgets."""

    @property
    @abstractmethod
    def answering(self) -> Any:
        """What gives the logits that a defender starts from: inputs to logits, no temperature applied."""

    def served(self, design_temperature: float) -> Any:
        """The model as a defender with this design temperature serves it, behind the study's disguise."""
        divided = self.answering
        if design_temperature != 1:
            divided = TemperatureScaled(divided, design_temperature)
        # A new copy each time: a disguise that draws random numbers begins with its seed.
        return divided if self.disguise is None else Disguised(divided, replace(self.disguise))

    def disguised(self, name: str, disguise: Callable[[Tensor], Tensor]) -> Self:
        """The same study of a defender who shows `disguise(logits)`: a dataclass of `calibration.disguises`."""
        return replace(self, disguise=disguise, disguise_name=name)

    @property
    @abstractmethod
    def model_name(self) -> str:
        """Name of the model, as in records."""

    @property
    def model_title(self) -> str:
        """The model as tables and captions name it."""
        return self.model_name

    @abstractmethod
    def size(self, attack: str) -> int:
        """How many of the test examples an attack gets: fewer where it is slow."""

    def note(self, attack: str) -> str:
        """What stands in for unavailable parts of an attack, for its records."""
        return ""

    def options(self, attack: str) -> dict[str, Any]:
        """Everything that determines an attack besides its code: part of the key of a cached evaluation."""
        return dict(self.attacks[attack].run.keywords)

    @cached_property
    def content(self) -> str:
        """Digest of weights and examples: whatever changed them, an evaluation of the old ones is not reused."""
        examples = [self.inputs, self.labels, self.validation_inputs, self.validation_labels]
        return content_digest([*self.model.state_dict().values(), *examples])

    @cached_property
    def validation_logits(self) -> Tensor:
        """Undivided logits of the validation examples, (n, n_classes): several lessons judge one model by them."""

        def compute() -> dict:
            return {"logits": logits_of(self.model, self.validation_inputs)}

        config = {"training": asdict(self.training), "content": self.content}
        return cached("validation_logits", config, compute, rooms=("models",))["logits"]

    @property
    def dataset(self) -> str:
        return self.settings.dataset

    @property
    def title(self) -> str:
        return DATASETS[self.dataset].title

    def run(
        self,
        attack: str,
        adversary: str | Adversary = "naive",
        *,
        design_temperature: float = 1.0,
        n: int | None = None,
    ) -> Evaluation:
        """Attack the served model as an adversary does, on the first n test examples; from the cache where known.

        An `Adversary` made by hand (a surrogate, a calibrator) must have a name that says all that determines it.
        """
        chosen, served = self.attacks[attack], self.served(design_temperature)
        inputs, labels = self.inputs[:n], self.labels[:n]
        name = adversary if isinstance(adversary, str) else adversary.name
        config = {
            "training": asdict(self.training),
            "content": self.content,
            "attack": attack,
            "options": self.options(attack),
            "adversary": name,
            "design_temperature": design_temperature,
            "n": len(inputs),
            "n_search": self.settings.n_search,
        }
        if self.disguise is not None:
            config["disguise"] = repr(self.disguise)

        def compute() -> dict:
            plan = adversary
            if isinstance(plan, str):
                examples = self.validation_inputs, self.validation_labels
                plan = plan_adversary(plan, served, chosen, *examples, n_search=self.settings.n_search)
            return vars(evaluate(served, chosen, plan, inputs, labels))

        return Evaluation(**cached("evaluation", config, compute))

    def found_for(
        self, judge: Study, attack: str, served: Any, inputs: Any, labels: Tensor, *, score: Score
    ) -> AttackResult:
        """What an attack of `judge` finds on the model of this study, served at T = 1: from the cache where known.

        It depends on the judge's budget and seed, and not on how that is `served`: one search is tried on every model
        and at every temperature.
        """
        chosen, texts = judge.attacks[attack], not isinstance(inputs, Tensor)
        config = {
            "training": asdict(self.training),
            "content": self.content,
            "attack": attack,
            "precision": getattr(self, "precision", ""),
            "disguise": repr(self.disguise),
            "options": [judge.options(attack) | {"precision": ""}, judge.settings.n_train, judge.training.seed],
            "score": repr(score),
            "examples": content_digest([*inputs, labels] if texts else [inputs, labels]),
        }

        def compute() -> dict:
            result = (chosen.on_surrogate or chosen.run)(self.served(1.0), inputs, labels, score=score)
            values = vars(result) | {"outcome": result.outcome.tolist(), "details": {}}
            return values | {"changed": result.details.get("changed")}

        values = cached("search", config, compute)
        found, changed = values["adversarial"], values.pop("changed")
        # Pairs of texts come back as lists.
        found = [tuple(one) if isinstance(one, list) else one for one in found] if texts else found.to(inputs.device)
        details = {} if changed is None else {"changed": changed}
        return AttackResult(
            **values | {"adversarial": found, "outcome": np.array(values["outcome"]), "details": details}
        )

    def measure(
        self,
        book: RecordBook,
        attack: str,
        adversary: str | Adversary = "naive",
        *,
        design_temperature: float = 1.0,
        n: int | None = None,
    ) -> Evaluation:
        evaluation = self.run(attack, adversary, design_temperature=design_temperature, n=n)
        row = {**self.columns(design_temperature), **self.budget(attack)}
        book.add_evaluation(evaluation, note=self.note(attack), **row)
        return evaluation

    def compare(
        self,
        book: RecordBook,
        evaluation: Evaluation,
        reference: Evaluation,
        *,
        at: float = 1.0,
        reference_at: float = 1.0,
        reference_study: Study | None = None,
    ) -> PairedDifference:
        """Record the paired difference of two evaluations, served at `at` and at `reference_at`; returns it.

        `reference_study`: the study the reference comes from, on the same examples, where it is of another model.
        """
        difference, other = evaluation.minus(reference), reference_study or self
        method, trained_at = other.method_name(reference_at), other.training.training_temperature
        row = {"adversary": evaluation.adversary, "attack": evaluation.attack, **self.budget(evaluation.attack)}
        taken_from = Reference(method, reference.adversary, reference_at, trained_at)
        book.add_difference(difference, reference=taken_from, **self.columns(at), **row)
        return difference

    def budget(self, attack: str) -> dict[str, Any]:
        """Norm and radius of an attack as columns of a record; none where constraints bound it instead."""
        chosen = self.attacks[attack]
        return {"norm": chosen.norm, "epsilon": chosen.epsilon} if chosen.norm else {}

    def columns(self, design_temperature: float) -> dict[str, object]:
        return {
            "dataset": self.dataset,
            "model": self.model_name,
            "method": self.method_name(design_temperature),
            "design_temperature": design_temperature,
            "seed": self.training.seed,
            "training_temperature": self.training.training_temperature,
        }

    def method_name(self, design_temperature: float) -> str:
        """The paper's name for the model served at a design temperature, as in the tables' column `method`.

        Explicit miscalibration has a name of its own for a model trained in the standard way; any other model keeps
        that of its training. A disguise is the method.
        """
        if self.disguise_name:
            return self.disguise_name
        label = self.training.label
        if label != "baseline" or design_temperature in (1, self.training.training_temperature):
            return label
        return "conf_up(T_d<<1)" if design_temperature < 1 else "conf_down(T_d>>1)"


def check_seed(seed: int) -> None:
    """Refuse a seed that is no integer, as papermill's -r gives (TypeError), or negative (ValueError)."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {seed!r}: pass int(seed), or -p instead of -r to papermill")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
