"""The four sizes of the study. Every number that a profile sets stands here and nowhere else.

`smoke` is for tests, `quick` for two CPU cores, `full` for a GPU, `paper` for the paper's own encoders and data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ImageSettings:
    """Data, model and sizes of the image half (notebooks 00-04). Radii are in pixel units of [0, 1]."""

    dataset: str
    architecture: str = "small_cnn"
    n_train: int = 50_000
    epochs: int = 6
    learning_rate: float = 4e-3
    augment: bool = False
    n_test: int = 1000  # attacked examples
    n_validation: int = 2000  # for calibration
    n_search: int = 200  # validation examples that `opt` attacks at every temperature it tries
    epsilon_linf: float = 0.05
    epsilon_l2: float = 1.0
    pgd_steps: int = 20
    # T_d of up-conf and down-conf. The paper gives no number: DIGEST remark R5 infers about 1e6 for the latter.
    # The milder pair shows that what an adversary can do depends on how extreme the miscalibration is.
    overconfident_temperatures: tuple[float, ...] = (1e-3, 1e-2)
    underconfident_temperatures: tuple[float, ...] = (1e6, 1e2)
    sweep_decades: tuple[int, int] = (-6, 8)
    sweep_points_per_decade: int = 2
    n_slow: int = 150  # examples for C&W, Square, HopSkipJump and AutoAttack
    slow_sweep: tuple[float, ...] = (1e-6, 1e-3, 1e-2, 1.0, 1e2, 1e4, 1e6)
    cw_steps: int = 60
    cw_searches: int = 6
    square_queries: int = 500
    hop_skip_jump_steps: int = 8
    hop_skip_jump_evaluations: int = 100
    n_diagnosed: int = 300
    n_candidates: int = 50  # random neighbours per image whose scores are compared
    landscape_side: int = 41
    weight_landscape_side: int = 17
    weight_landscape_images: int = 64


@dataclass(frozen=True)
class Profile:
    """One size of the whole study.

    Attributes:
        seeds: of training and attack; the main tables are measured once for each.
        images: settings in order of preference; the first whose data set can be had is used, and the
            notebooks say which and why.
    """

    name: str
    seeds: tuple[int, ...]
    images: tuple[ImageSettings, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets to fetch before the notebooks run; the first image set that can be had is enough."""
        return tuple(settings.dataset for settings in self.images)


_DIGITS = ImageSettings(
    "digits", n_train=1200, epochs=15, n_test=100, n_validation=180, n_search=40, epsilon_linf=0.15, epsilon_l2=0.8,
    pgd_steps=8, sweep_decades=(-4, 6), sweep_points_per_decade=1, n_slow=16, slow_sweep=(1e-3, 1.0, 1e4),
    cw_steps=20, cw_searches=4, square_queries=60, hop_skip_jump_steps=2, hop_skip_jump_evaluations=30,
    n_diagnosed=50, n_candidates=10, landscape_side=15, weight_landscape_side=7, weight_landscape_images=32,
)  # fmt: skip
_FASHION = ImageSettings("fashion_mnist")
_CIFAR = ImageSettings(
    "cifar10", architecture="resnet18", n_train=45_000, epochs=25, augment=True, n_test=2000, n_validation=4000,
    n_search=500, epsilon_linf=2 / 255, epsilon_l2=0.25, pgd_steps=50, n_slow=500, cw_steps=300, cw_searches=9,
    square_queries=2000, hop_skip_jump_steps=15, hop_skip_jump_evaluations=500, n_diagnosed=1000,
    landscape_side=81, weight_landscape_side=31, weight_landscape_images=512,
)  # fmt: skip
_FULL_IMAGES = (_CIFAR, replace(_CIFAR, dataset="cifar10_jpeg"), replace(_FASHION, n_test=5000, n_slow=500), _DIGITS)

PROFILES: dict[str, Profile] = {
    "smoke": Profile("smoke", (0,), (_DIGITS,)),
    "quick": Profile("quick", (0,), (_FASHION, _DIGITS)),
    "full": Profile("full", (0, 1, 2), _FULL_IMAGES),
    # The paper studies text only: its image half is that of `full`.
    "paper": Profile("paper", (0, 1, 2), _FULL_IMAGES),
}


def get_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: no such profile; the message lists those there are.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
