"""The exhibits of notebooks/10, models that look robust or are: by name, how each is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from robustlib.calibration.defences import Answer, HardMax, RandomScale, Slope
from robustlib.calibration.disguises import Floor, TemperaturePerInput, calibrated_gap
from robustlib.models.forward import logits_of
from robustlib.models.images import Ensemble, Mixture, QuantisedInputs
from robustlib.study.base import Study
from robustlib.study.images import ImageStudy, image_study
from robustlib.study.profiles import ImageSettings, TextSettings, settings_in_use
from robustlib.training.methods import Method, image_method
from robustlib.training.perturbation import PerturbationSet

PREFIX = "exhibit: "  # before the name, in records
N_SURROGATES = 3  # plain networks that a replay searches together
Changes = dict[str, Any]  # fields of `ImageTraining` that differ from the plain network's


@dataclass(frozen=True)
class Exhibit:
    """How an image model of the museum is made.

    Attributes:
        training: from the profile's settings to what differs in the training.
        wrap: what the network (as a study, with the profile) is put behind.
        attack: by which its claim was made.
        twin: whether the plain network has the same weights.
    """

    training: Callable[[ImageSettings], Changes] = lambda settings: {}
    wrap: Callable[[ImageStudy, str], Study] = lambda study, profile: study
    attack: str = "pgd"
    twin: bool = False


def _by(name: str, *, temperature: float = 1.0, longer: int = 1, **options: Any) -> Exhibit:
    method = {"method": Method(name, **options), "training_temperature": temperature}
    return Exhibit(lambda settings: method | {"epochs": longer * settings.epochs})


def _behind(disguise: Callable[[Study], Any], attack: str = "pgd") -> Exhibit:
    return Exhibit(
        wrap=lambda study, profile: study.disguised(study.disguise_name, disguise(study)), attack=attack, twin=True
    )


def _one_gap(study: Study) -> TemperaturePerInput:
    logits = logits_of(study.answering, study.validation_inputs)
    return TemperaturePerInput(calibrated_gap(logits, study.validation_labels.cpu()))


def _one_step(settings: ImageSettings) -> Changes:
    """FGSM without a random start, which may overfit catastrophically (Wong et al. 2020)."""
    radius = settings.epsilon_linf
    return {"method": Method("fgsm", 1, perturbations=PerturbationSet("linf", radius, radius, 0.0))}


def _adversarial(settings: ImageSettings) -> Changes:
    return {"method": image_method("pgd", settings.epsilon_linf, steps=settings.lessons.steps)}


def _mixed(study: ImageStudy, profile: str) -> ImageStudy:
    robust = exhibit_study(profile, "adversarial training", seed=study.training.seed).model
    return replace(study, model=Mixture(study.model, robust).to(study.inputs.device).eval())


def _three(study: ImageStudy, profile: str) -> ImageStudy:
    seeds = (study.training.seed + number for number in range(N_SURROGATES))
    models = [exhibit_study(profile, "plain", seed=seed).model for seed in seeds]
    return replace(study, model=Ensemble(models).eval())


def _quantised(study: ImageStudy, profile: str) -> ImageStudy:
    return replace(study, model=QuantisedInputs(study.model, 8).to(study.inputs.device).eval())


EXHIBITS: dict[str, Exhibit] = {
    "plain": Exhibit(),
    # trainings
    "distilled": _by("distilled", temperature=100.0, longer=2),
    "super-fitted": _by("superfitting", weight=0.1),
    "smoothed labels": _by("smoothing"),
    "squeezed logits": _by("squeezing"),
    "T by entropy": _by("entropy", temperature=20.0, weight=1.0),
    "one-step training": Exhibit(_one_step, attack="fgsm"),
    # maps of the plain network's answers
    "hard-max": _behind(lambda study: HardMax()),
    "T(x)": _behind(_one_gap),
    "floor": _behind(lambda study: Floor(2.5)),
    "random scale": _behind(lambda study: RandomScale(), "sign-hunter"),
    "AAA-linear": _behind(lambda study: Slope(6.0), "sign-hunter"),
    "AAA-sine": _behind(lambda study: Slope(6.0, "sine"), "sign-hunter"),
    "DLD": _behind(lambda study: Slope(6.0, "stairs"), "sign-hunter"),
    # its inputs
    "quantised inputs": Exhibit(wrap=_quantised, twin=True),
    # controls
    "adversarial training": Exhibit(_adversarial),
    "mixture": Exhibit(wrap=_mixed),
}
SURROGATE = "three plain"  # what is searched by whoever never asks the exhibit, of other seeds: three plain networks
# Maps of the answers of the text model of notebooks 05 and 06, which has two classes.
TEXT_EXHIBITS = {"hard-max": HardMax(), "two decimals": Answer(decimals=2), "random scale": RandomScale()}
# Those that decide a claim of the scorecard, by modality: they are trained anew with further seeds.
DECIDING = {
    "image": (
        *("distilled", "super-fitted", "smoothed labels", "random scale", "AAA-linear", "AAA-sine", "DLD"),
        *("adversarial training", "mixture"),
    ),
    "text": ("random scale",),
}
# Of which a claim asks whether little is left, or which hide little: twice as many examples, or nothing is decided.
MORE = ("distilled", "super-fitted", "smoothed labels")


def examples(settings: ImageSettings | TextSettings, name: str) -> int:
    """How many test examples an exhibit is attacked on, of either modality."""
    if isinstance(settings, ImageSettings):
        return min(settings.n_exhibit * (2 if name in MORE else 1), settings.n_test)
    return min(settings.n_breadth, settings.n_test)


def exhibit_study(profile: str, name: str, *, seed: int = 0) -> Study:
    """The study of an image exhibit; trains where the cache has no such model. Errors as of `image_study`.

    Its training set and its test examples are smaller than those of other lessons: `more_data` of the lessons on
    training (of another seed mostly others), and `n_exhibit` examples.
    """
    settings = settings_in_use(profile, "image")[0]
    exhibit = Exhibit(wrap=_three) if name == SURROGATE else EXHIBITS[name]
    n_train = settings.lessons.more_data or settings.n_train
    study = image_study(profile, seed=seed, **({"n_train": n_train} | exhibit.training(settings)))
    n = examples(settings, name)
    longer = replace(study.settings, pgd_steps=2 * settings.pgd_steps)  # attacks are to agree where nothing is hidden
    study = replace(study, settings=longer, inputs=study.inputs[:n], labels=study.labels[:n])
    return exhibit.wrap(replace(study, disguise_name=PREFIX + name), profile)


def text_exhibit_study(profile: str, name: str, *, seed: int = 0) -> Study:
    """The study of a text exhibit, which has all test sentences; arguments and errors as of `text_study`."""
    from robustlib.study.texts import text_study  # brings transformers

    study = replace(text_study(profile, seed=seed), disguise_name=PREFIX + name)
    return study if name == "plain" else study.disguised(PREFIX + name, TEXT_EXHIBITS[name])
