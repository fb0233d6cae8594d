"""The study of images: a trained classifier, its data, and attacks with the profile's budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from robustlib import attacks
from robustlib.attacks.adversaries import Attack
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.data import load_images
from robustlib.study.base import Study, check_seed
from robustlib.study.environment import pick_device
from robustlib.study.profiles import ImageSettings, settings_in_use
from robustlib.training.images import ImageTraining, trained_image_model


@dataclass(frozen=True)
class ImageStudy(Study):
    """A trained image classifier: inputs are pixels (n, channels, height, width) on the model's device."""

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
            Attack(
                "pgd",
                partial(attacks.pgd, **linf, **steps),
                on_surrogate=partial(attacks.pgd, **linf, **steps, leave_early=False),
            ),
            Attack(
                "pgd-l2",
                partial(attacks.pgd, **l2, **steps, norm="l2"),
                on_surrogate=partial(attacks.pgd, **l2, **steps, norm="l2", leave_early=False),
            ),
            Attack("cw", partial(attacks.carlini_wagner, **l2, **search), scale_free=None),
            Attack("square", partial(attacks.square, **linf, n_queries=s.square_queries, seed=seed), scale_free=None),
            Attack("hopskipjump", partial(attacks.hop_skip_jump, **l2, **jump), scale_free=None),
            Attack("apgd-ce", partial(attacks.auto_attack, **linf, attacks=("apgd-ce",), seed=seed), scale_free=None),
            Attack(
                "autoattack",
                partial(attacks.auto_attack, **linf, n_queries=s.square_queries, seed=seed),
                scale_free=None,
            ),
        ]
        return {attack.name: attack for attack in found}

    def size(self, attack: str) -> int:
        """How many of the test images an attack gets: fewer where it asks many queries or takes many steps."""
        slow = ("cw", "square", "hopskipjump", "apgd-ce", "autoattack")
        return min(len(self.inputs), self.settings.n_slow) if attack in slow else len(self.inputs)

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

    Args:
        changes: fields of `ImageTraining` that differ from the profile's, for example `gradient_rule="normalise"`.

    Raises:
        TypeError, ValueError: a seed that is no integer, or negative.
        robustlib.data.FetchError: none of the profile's data sets is available.
    """
    check_seed(seed)
    settings, substitution = settings_in_use(profile, "image")
    device = pick_device()
    test = load_images(settings.dataset, "test", n=settings.n_test, seed=0)
    validation = load_images(settings.dataset, "validation", n=settings.n_validation, seed=0)
    training = ImageTraining(
        dataset=settings.dataset,
        n_train=settings.n_train,
        architecture=settings.architecture,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        augment=settings.augment,
        seed=seed,
        device=device.type,
    )
    training = replace(training, **changes)
    return ImageStudy(
        settings=settings,
        training=training,
        substitution=substitution,
        model=trained_image_model(training),
        inputs=test.images.to(device),
        labels=test.labels.to(device),
        validation_inputs=validation.images.to(device),
        validation_labels=validation.labels.to(device),
        class_names=test.class_names,
    )
