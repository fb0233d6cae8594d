"""What the text notebooks share: a fine-tuned victim behind one query cache, and the paper's four attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

from torch import Tensor

from robustlib.attacks.adversaries import Adversary, Attack
from robustlib.attacks.result import AttackResult
from robustlib.attacks.scores import Margin, Score, TrueClassProbability
from robustlib.attacks.words import (
    QueryCache,
    Recipe,
    Rules,
    attack_texts,
    blind,
    label_only,
    load_recipe,
    word_importance,
)
from robustlib.attacks.words.queries import Victim
from robustlib.data import load_text
from robustlib.models.precision import at_precision, rounded_probabilities, usable
from robustlib.models.pretrained import describe, load_masked_language_model, model_name
from robustlib.study.base import Study, check_seed
from robustlib.study.environment import pick_device
from robustlib.study.profiles import TextSettings, get_profile, settings_in_use
from robustlib.training.masked_lm import MaskedLanguageModel, MaskedTraining, masked_language_model
from robustlib.training.texts import TextTraining, train_text_classifier


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
        name = model_name(self.training.encoder, self.training.layers)
        return name if self.precision == "float32" else f"{name}@{self.precision}"

    @property
    def model_title(self) -> str:
        return describe(self.model_name)

    @cached_property
    def cache(self) -> QueryCache:
        """The victim's logits by text, shared by every temperature, adversary and attack."""
        return QueryCache(self.victim or self.model)

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """The profile's recipes; what they need (WordNet, neighbours, language models) is loaded at the first use."""
        return {name: self._named(name) for name in self.settings.attacks}

    def _named(self, name: str) -> Attack:
        run, seed = partial(self._attack, name), self.training.seed
        return Attack(
            name,
            run,
            TrueClassProbability,
            Margin(),
            on_surrogate=partial(run, rules=Rules(leave_early=False)),
            searches={
                "ties": partial(run, rules=Rules(accept_ties=True)),
                "label-only": partial(run, attack=label_only, seed=seed),
                "blind": partial(run, attack=blind, seed=seed),
            },
        )

    def ranked_with(self, attack: str, name: str, ranking: Score, score: Score) -> Adversary:
        """An adversary, called `name`, that ranks words with one score and compares candidates with another."""
        recipe = self.recipe(attack)

        def search(served: Victim, texts: Any, labels: Tensor, *, score: Score) -> AttackResult:
            rankings = word_importance(served, texts, labels, recipe=recipe, score=ranking)
            return attack_texts(served, texts, labels, recipe=recipe, score=score, rankings=rankings)

        return Adversary(name, score, search=search)

    def recipe(self, name: str) -> Recipe:
        sizes = self.settings
        masked_lm = (
            (sizes.masked_lm_name, self.dataset, sizes.n_train, sizes.masked_lm_texts)
            if name.startswith("bae")
            else None
        )
        return _recipe(name, self.training.seed, self.training.device, masked_lm)

    def note(self, attack: str) -> str:
        return self.recipe(attack).note

    def options(self, attack: str) -> dict[str, Any]:
        """The recipe's name and substitutes, for bae its language model, and what else is not in the training."""
        masked_lm = [self.settings.masked_lm_name, self.settings.masked_lm_texts] if attack.startswith("bae") else []
        return {
            "recipe": attack,
            "note": self.note(attack),
            "masked_lm": masked_lm,
            "data": self.dataset,
            "precision": self.precision,
        }

    def at_precision(self, name: str) -> TextStudy:
        """The same study of a victim that computes in another precision, see `models.precision`."""
        return replace(self, model=at_precision(self.model, name), precision=name)

    def rounded(self, decimals: int) -> TextStudy:
        """The same study of a victim whose probabilities are rounded to `decimals` places."""
        victim = rounded_probabilities(self.cache, decimals)
        return replace(self, victim=victim, precision=f"{decimals}-decimals")

    def disguised(self, name: str, disguise: Callable[[Tensor], Tensor]) -> TextStudy:
        """As `Study.disguised`, on the answers that the victim has given already."""
        return replace(super().disguised(name, disguise), victim=self.cache)

    def _attack(
        self, name: str, served: Victim, texts: Any, labels: Tensor, *, attack: Callable = attack_texts, **options: Any
    ) -> AttackResult:
        return attack(served, texts, labels, recipe=self.recipe(name), **options)

    @property
    def answering(self) -> Victim:
        return self.cache

    def size(self, attack: str) -> int:
        return min(len(self.inputs), self.settings.n_slow if attack.startswith(("tf", "bae")) else self.settings.n_test)


@lru_cache(maxsize=8)
def _recipe(name: str, seed: int, device: str, masked_lm: tuple | None) -> Recipe:
    """The recipe, with what its parts answered so far, once in a process; `masked_lm` as for `_masked_lm`."""
    model = None if masked_lm is None else _masked_lm(seed, device, *masked_lm)
    return load_recipe(name, seed=seed, device=device, masked_lm=model)


def _masked_lm(
    seed: int, device: str, name: str | None, dataset: str, n_train: int | None, n_texts: int
) -> MaskedLanguageModel:
    if name is not None:
        return MaskedLanguageModel(*load_masked_language_model(name)).eval().to(device)
    data = load_text(dataset, "train", n=n_train, seed=0)
    return masked_language_model(data.texts[:n_texts], MaskedTraining(seed=seed, device=device))


def text_study(
    profile: str,
    *,
    seed: int = 0,
    dataset: str | None = None,
    encoder: str | None = None,
    layers: int | None = None,
    n_test: int | None = None,
    **changes: Any,
) -> TextStudy:
    """Data and fine-tuned victim of a profile; trains where the cache has no such model.

    Args:
        dataset: another data set with the sizes of the profile's first one; default: the first that is available.
        encoder, layers: another encoder, by name, and how many of its layers; default all.
        n_test: attacked texts; default the profile's.
        changes: fields of `TextTraining` that differ from the profile's, for example `training_temperature=100.0`; or
            `n_train`, training texts.

    FetchError, ConnectionError: the data or the encoder is unavailable.
    """
    check_seed(seed)
    if dataset is None:
        settings, substitution = settings_in_use(profile, "text")
    else:
        settings, substitution = replace(get_profile(profile).texts[0], dataset=dataset), ""
    if encoder is not None:
        settings = replace(settings, encoder=encoder, layers=layers)
    device = pick_device().type
    settings = replace(
        settings,
        n_train=changes.pop("n_train", settings.n_train),
        precisions=tuple(precision for precision in settings.precisions if usable(precision, device)),
    )
    train, validation, test = (
        load_text(settings.dataset, split, n=_at_most(settings.dataset, split, n), seed=0)
        for split, n in (
            ("train", settings.n_train),
            ("validation", settings.n_validation),
            ("test", n_test or settings.n_test),
        )
    )
    shared = ("encoder", "layers", "epochs", "max_length", "batch_size", "learning_rate")
    sizes = {field: getattr(settings, field) for field in shared}
    training = TextTraining(**{"n_classes": len(train.class_names), **sizes, "seed": seed, "device": device, **changes})
    return TextStudy(
        settings=settings,
        training=training,
        substitution=substitution,
        model=train_text_classifier(training, train.texts, train.labels),
        inputs=test.texts,
        labels=test.labels,
        validation_inputs=validation.texts,
        validation_labels=validation.labels,
        class_names=test.class_names,
    )


def _at_most(name: str, split: str, n: int | None) -> int | None:
    return n if n is not None and n < len(load_text(name, split).labels) else None
