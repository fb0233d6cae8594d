"""The study of images: a trained classifier, its data, and attacks with the profile's budgets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor, nn

from robustlib import attacks
from robustlib.attacks.adversaries import Attack
from robustlib.attacks.scores import Margin
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
        return self.inputs

    @property
    def model_name(self) -> str:
        return self.settings.architecture

    @cached_property
    def attacks(self) -> dict[str, Attack]:
        """The attacks with the profile's budgets; "-long" names one with several times as much, to judge others by."""
        s, seed = self.settings, {"seed": self.training.seed}
        steps = {"steps": s.pgd_steps, **seed}
        search = {"steps": s.cw_steps, "binary_search_steps": s.cw_searches}
        queries = {"n_queries": s.square_queries, **seed}
        auto = {"steps": s.autoattack_steps, **seed}
        jump = {"steps": s.hop_skip_jump_steps, "max_gradient_evaluations": s.hop_skip_jump_evaluations, **seed}
        long = {"steps": 5 * s.pgd_steps, "restarts": 5, **seed}
        far = {name: 2 * size for name, size in jump.items() if name != "seed"} | {**seed, "norm": "linf"}
        table = (
            self._attack("fgsm", "linf", attacks.fgsm),
            self._attack("pgd", "linf", attacks.pgd, **steps),
            self._attack("pgd-l2", "l2", attacks.pgd, **steps, norm="l2"),
            self._attack("pgd-long", "linf", attacks.pgd, **long),
            self._attack("pgd-float64", "linf", attacks.pgd_in_float64, **steps),
            self._attack("cw", "l2", attacks.carlini_wagner, own_loss=True, **search),
            self._attack("square", "linf", attacks.square, own_loss=True, **queries),
            self._attack("square-long", "linf", attacks.square, own_loss=True, n_queries=10 * s.square_queries, **seed),
            self._attack("sign-hunter", "linf", attacks.sign_hunter, **queries),
            self._attack("rays", "linf", attacks.rays, own_loss=True, n_queries=2 * s.square_queries, **seed),
            self._attack("hopskipjump", "l2", attacks.hop_skip_jump, own_loss=True, **jump),
            self._attack("hopskipjump-long", "linf", attacks.hop_skip_jump, own_loss=True, **far),
            self._attack("apgd-ce", "linf", attacks.auto_attack, own_loss=True, attacks=("apgd-ce",), **auto),
            self._attack("apgd-t", "linf", attacks.auto_attack, own_loss=True, attacks=("apgd-t",), **auto),
            self._attack("autoattack", "linf", attacks.auto_attack, own_loss=True, **(queries | auto)),
        )
        return {attack.name: attack for attack in table}

    def _attack(self, name: str, ball: str, run: Callable, *, own_loss: bool = False, **options: Any) -> Attack:
        epsilon = self.settings.epsilon_linf if ball == "linf" else self.settings.epsilon_l2
        bounded = partial(run, epsilon=epsilon, **options)
        on_surrogate = partial(bounded, leave_early=False) if run is attacks.pgd else None
        scale_free = None if own_loss else Margin()
        return Attack(name, bounded, scale_free=scale_free, on_surrogate=on_surrogate, norm=ball, epsilon=epsilon)

    def size(self, attack: str) -> int:
        slow = self.attacks[attack].scale_free is None or attack in ("pgd-long", "pgd-float64")
        return min(len(self.inputs), self.settings.n_slow) if slow else len(self.inputs)

    @property
    def answering(self) -> nn.Module:
        return self.model


def image_study(profile: str, *, seed: int = 0, n_test: int | None = None, **changes: Any) -> ImageStudy:
    """Data and trained model of a profile; trains where the cache has no such model.

    `n_test`: attacked images, default the profile's. `changes`: fields of `ImageTraining` that differ from the
    profile's, for example `gradient_rule="normalise"`.

    TypeError, ValueError: as `check_seed`; FetchError: none of the profile's data sets is available.
    """
    check_seed(seed)
    settings, substitution = settings_in_use(profile, "image")
    device = pick_device()
    test = load_images(settings.dataset, "test", n=n_test or settings.n_test, seed=0)
    validation = load_images(settings.dataset, "validation", n=settings.n_validation, seed=0)
    shared = ("dataset", "n_train", "architecture", "epochs", "learning_rate", "augment")
    sizes = {name: getattr(settings, name) for name in shared}
    training = ImageTraining(**{**sizes, "seed": seed, "device": device.type, **changes})
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
