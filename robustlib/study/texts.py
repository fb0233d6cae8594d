"""What the text notebooks share: a fine-tuned victim behind one query cache, and the paper's four attacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from robustlib.attacks.adversaries import Attack
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Margin, Score, TrueClassProbability
from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.queries import QueryCache, Victim
from robustlib.attacks.words.resources import load_recipe
from robustlib.attacks.words.search import Recipe
from robustlib.attacks.words.words import Example
from robustlib.calibration.temperature import scale_logits
from robustlib.data import load_text
from robustlib.models import precision
from robustlib.study.base import Study, check_seed
from robustlib.study.environment import pick_device
from robustlib.study.profiles import TextSettings, get_profile, settings_in_use
from robustlib.training.augmentation import augment_with_attack
from robustlib.training.masked_lm import MaskedTraining, masked_language_model
from robustlib.training.methods import Method
from robustlib.training.texts import LabelledTexts, TextTraining, train_text_classifier


@dataclass(frozen=True)
class ServedTexts:
    """A victim as a defender serves it: the cached logits of the model inside, divided by a design temperature.

    Temperature acts on logits only, so every served version shares the cache of the model inside.
    """

    cache: QueryCache
    design_temperature: float = 1.0

    def __call__(self, texts: Sequence[Example]) -> Tensor:
        """Logits (n, n_classes) float32, the design temperature applied."""
        return scale_logits(self.cache(list(texts)), self.design_temperature)


def attack_served(
    served: ServedTexts | Victim, texts: Sequence[Example], labels: Tensor, *, recipe: Recipe, score: Score
) -> AttackResult:
    """Attack a served victim through its cache: the adversary's temperature multiplies the design temperature.

    One division by the product instead of two divisions: the same score up to one rounding.

    Args:
        served: a served victim; or any other texts to logits, such as one behind a calibrator, attacked as it is.
    """
    if not isinstance(served, ServedTexts):
        return attack_texts(served, list(texts), labels, recipe=recipe, score=score)
    if isinstance(score, TrueClassProbability):
        score = TrueClassProbability(score.temperature * served.design_temperature)
    return attack_texts(served.cache, list(texts), labels, recipe=recipe, score=score)


@dataclass(frozen=True)
class TextStudy(Study):
    """A fine-tuned text classifier: inputs are lists of strings or of pairs; labels lie on the CPU."""

    settings: TextSettings
    training: TextTraining
    precision: str = "float32"  # what the victim computes in, or how its answers are rounded
    victim: Victim | None = None  # what answers instead of the model itself

    @property
    def model_name(self) -> str:
        """Name of the encoder, with the number of layers kept and the precision where it is not float32."""
        layers = self.training.layers
        name = self.training.encoder if layers is None else f"{self.training.encoder}-{layers}-layers"
        return name if self.precision == "float32" else f"{name}@{self.precision}"

    @cached_property
    def cache(self) -> QueryCache:
        """The victim's logits by text, shared by every temperature, adversary and attack."""
        return QueryCache(self.victim or self.model)

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """The profile's recipes; what they need (WordNet, neighbours, language models) is loaded at the first use."""
        return {
            name: Attack(name, partial(self._attack, name), TrueClassProbability, Margin())
            for name in self.settings.attacks
        }

    def recipe(self, name: str) -> Recipe:
        """The recipe of an attack, for `attack_texts` and `word_importance`."""
        if name not in self._recipes:
            masked_lm = self._masked_lm() if name == "bae" else None
            self._recipes[name] = load_recipe(
                name, seed=self.training.seed, device=self.training.device, masked_lm=masked_lm
            )
        return self._recipes[name]

    def options(self, attack: str) -> dict[str, Any]:
        """The recipe's name and substitutes, for bae its language model, and what else is not in the training."""
        masked_lm = [self.settings.masked_lm_name, self.settings.masked_lm_texts] if attack == "bae" else []
        return {
            "recipe": attack,
            "note": self.recipe(attack).note,
            "masked_lm": masked_lm,
            "data": self.dataset,
            "precision": self.precision,
        }

    def at_precision(self, name: str) -> TextStudy:
        """The same study of a victim that computes in another precision ("bfloat16", "float16", "int8")."""
        return replace(self, model=precision.at_precision(self.model, name), precision=name)

    def rounded(self, decimals: int) -> TextStudy:
        """The same study of a victim whose probabilities are rounded to `decimals` places."""
        victim = precision.rounded_probabilities(self.cache, decimals)
        return replace(self, victim=victim, precision=f"{decimals}-decimals")

    @cached_property
    def _recipes(self) -> dict[str, Recipe]:
        return {}

    def _attack(self, name: str, served: ServedTexts | Victim, texts: Any, labels: Tensor, *, score: Score):
        return attack_served(served, texts, labels, recipe=self.recipe(name), score=score)

    def budget(self, attack: str) -> dict[str, Any]:
        """Text attacks are bounded by their constraints, not by a radius."""
        return {}

    def served(self, design_temperature: float) -> ServedTexts:
        """The victim as a defender with this design temperature serves it."""
        return ServedTexts(self.cache, design_temperature)

    def size(self, attack: str) -> int:
        """How many test sentences an attack gets: fewer where its constraints cost more than the victim."""
        return min(len(self.inputs), self.settings.n_slow if attack in ("tf", "bae") else self.settings.n_test)

    def _masked_lm(self):
        if self.settings.masked_lm_name is not None:
            return masked_language_model(name=self.settings.masked_lm_name).to(self.training.device)
        data = load_text(self.dataset, "train", n=self.settings.n_train, seed=0)
        config = MaskedTraining(seed=self.training.seed, device=self.training.device)
        return masked_language_model(data.texts[: self.settings.masked_lm_texts], config=config)


def text_study(
    profile: str,
    *,
    seed: int = 0,
    dataset: str | None = None,
    encoder: str | None = None,
    layers: int | None = None,
    **changes: Any,
) -> TextStudy:
    """Data and fine-tuned victim of a profile; trains where the cache has no such model.

    Args:
        dataset: another data set with the sizes of the profile's first one; default: the first that can be had.
        encoder: another encoder, by name.
        layers: of that encoder; default all.
        changes: fields of `TextTraining` that differ from the profile's, for example `training_temperature=100.0`; or
            `n_train`, training texts.

    Raises:
        robustlib.data.FetchError: the data cannot be had.
        ConnectionError: the encoder cannot be had.
    """
    check_seed(seed)
    if dataset is None:
        settings, substitution = settings_in_use(profile, "text")
    else:
        settings, substitution = replace(get_profile(profile).texts[0], dataset=dataset), ""
    name = settings.dataset
    if encoder is not None:
        settings = replace(settings, encoder=encoder, layers=layers)
    if "n_train" in changes:
        settings = replace(settings, n_train=changes.pop("n_train"))
    train, validation, test = (
        load_text(name, split, n=_at_most(name, split, n), seed=0)
        for split, n in (("train", settings.n_train), ("validation", settings.n_validation), ("test", settings.n_test))
    )
    recipe = TextTraining(
        n_classes=len(train.class_names),
        encoder=settings.encoder,
        layers=settings.layers,
        epochs=settings.epochs,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
        device=pick_device().type,
    )
    recipe = replace(recipe, **changes)
    if recipe.method.name == "dg-aug":
        train = _augmented(recipe, train)
    return TextStudy(
        settings=settings,
        training=recipe,
        substitution=substitution,
        model=train_text_classifier(recipe, train),
        inputs=test.texts,
        labels=test.labels,
        validation_inputs=validation.texts,
        validation_labels=validation.labels,
        class_names=test.class_names,
    )


def _augmented(recipe: TextTraining, train: LabelledTexts) -> LabelledTexts:
    """The training set with a DeepWordBug example of each text, found against a standard model (paper, section 4)."""
    standard = replace(
        recipe,
        method=Method(),
        gradient_rule="none",
        training_temperature=1.0,
        temperature_schedule="constant",
        suffix="",
    )
    return augment_with_attack(train.texts, train.labels, train_text_classifier(standard, train), seed=recipe.seed)


def _at_most(name: str, split: str, n: int | None) -> int | None:
    """n, or None (all) where the split has fewer."""
    return n if n is not None and n < len(load_text(name, split).labels) else None
