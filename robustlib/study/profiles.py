"""The four sizes of the study. Every number that a profile sets stands here and nowhere else.

`smoke` is for tests, `quick` for two CPU cores, `full` for a GPU, `paper` for the paper's own encoders and data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TrainingSettings:
    """Sizes of notebooks 08 and 09, which train many models: few examples, many epochs, a loss that gets near 0.

    Gradient normalisation bites only there (notebook 08). `epsilon` is Linf in pixel units; texts take the paper's set.
    """

    n_train: int | None
    epochs: int
    learning_rate: float
    n_test: int  # attacked examples
    n_opt: int  # validation examples that `opt` attacks at every temperature it tries
    methods: tuple[str, ...]  # adversarial training, each without and with normalised gradients
    solutions_and_steps: tuple[tuple[int, int], ...]  # (M, K) of DDi
    temperatures: tuple[float, ...]  # training temperatures, all with normalised gradients
    high_temperature: float  # the one of them that is compared in every other way
    schedules: tuple[str, ...]
    attacks: tuple[str, ...]  # the first is the main one
    steps: int = 3  # K of the other methods
    epsilon: float | None = None
    hotter_methods: tuple[str, ...] = ()  # methods trained at the high temperature as well
    longer: int = 2  # factor on the epochs, to tell the effect of T from that of a longer training; 1 leaves it out
    more_data: int | None = None  # training examples to see whether a gain survives more data; None leaves it out
    n_geometry: int = 200


@dataclass(frozen=True)
class ImageSettings:
    """Data, model and sizes of the image half (notebooks 00-04). Radii are in pixel units of [0, 1]."""

    dataset: str
    architecture: str = "small_cnn"
    n_train: int = 50_000
    epochs: int = 6
    learning_rate: float = 4e-3
    augment: bool = False
    n_test: int = 600  # attacked examples
    n_validation: int = 2000  # for calibration
    n_search: int = 100  # validation examples that `opt` attacks at every temperature it tries
    epsilon_linf: float = 0.05
    epsilon_l2: float = 1.0
    pgd_steps: int = 20
    # T_d of up-conf and down-conf. The paper gives no number; its mean confidence of 50.00007 % implies about 1e6.
    # The milder pair shows that what an adversary can do depends on how extreme the miscalibration is.
    overconfident_temperatures: tuple[float, ...] = (1e-3, 1e-2)
    underconfident_temperatures: tuple[float, ...] = (1e6, 1e2)
    sweep_decades: tuple[int, int] = (-6, 8)
    sweep_points_per_decade: int = 2
    n_slow: int = 100  # examples for C&W, Square, HopSkipJump and AutoAttack
    slow_sweep: tuple[float, ...] = (1e-6, 1e-3, 1e-2, 1.0, 1e2, 1e4, 1e6, 1e8)
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
    lessons: TrainingSettings = TrainingSettings(
        n_train=1000,
        epochs=60,
        learning_rate=4e-3,
        n_test=400,
        n_opt=100,
        methods=("pgd",),
        solutions_and_steps=((3, 3),),
        temperatures=(1.0, 10.0, 100.0, 1000.0),
        high_temperature=100.0,
        schedules=("linear", "warm-up", "learned"),
        attacks=("pgd", "pgd-l2"),
        epsilon=0.02,
        hotter_methods=("pgd",),
        more_data=10_000,
    )


@dataclass(frozen=True)
class TextSettings:
    """Data, encoder and sizes of the text half (notebooks 05-07)."""

    dataset: str
    encoder: str = "minilm"
    layers: int | None = 2
    n_train: int | None = 4000  # None: all there are
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 2e-4
    max_length: int = 128
    n_test: int = 200  # attacked sentences
    n_validation: int = 500  # for calibration
    n_search: int = 30  # validation sentences that `opt` attacks at every temperature it tries
    attacks: tuple[str, ...] = ("dg", "pwws", "tf", "bae")
    n_slow: int = 40  # sentences for tf and bae, whose constraints cost more than the victim
    # T_d of up-conf and down-conf, the main pair first: see ImageSettings.
    overconfident_temperatures: tuple[float, ...] = (1e-3, 1e-2)
    underconfident_temperatures: tuple[float, ...] = (1e6, 1e7)
    sweep: tuple[float, ...] = (1e-6, 1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0, 3.0, 1e2, 1e4, 1e5, 1e6, 1e7, 1e8)
    precisions: tuple[str, ...] = ("float32", "bfloat16", "int8")
    decimals: tuple[int, ...] = (4, 2)  # of a service that rounds its probabilities
    n_precision: int = 80
    high_training_temperature: float = 100.0
    masked_lm_texts: int = 600  # training sentences the masked language model of bae is fine-tuned on
    masked_lm_name: str | None = None  # a checkpoint by name instead
    breadth: tuple[str, ...] = ("vader_tweets", "vader_amazon")  # further data sets, notebook 07
    breadth_encoders: tuple[tuple[str, int | None], ...] = (("minilm", 1),)  # and layers kept, on the first data set
    n_breadth: int = 100
    lessons: TrainingSettings = TrainingSettings(
        n_train=500,
        epochs=10,
        learning_rate=5e-4,
        n_test=150,
        n_opt=20,
        methods=("pgd",),
        solutions_and_steps=(),
        temperatures=(1.0, 10.0, 100.0),
        high_temperature=100.0,
        schedules=(),
        attacks=("dg",),
        steps=2,
        longer=1,
    )


@dataclass(frozen=True)
class Profile:
    """One size of the whole study.

    Attributes:
        seeds: of training and attack; the main tables are measured once for each.
        images: settings in order of preference; the first whose data set can be had is used, and the
            notebooks say which and why.
        texts: the same for the text half.
    """

    name: str
    seeds: tuple[int, ...]
    images: tuple[ImageSettings, ...]
    texts: tuple[TextSettings, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Image sets in order of preference; the first that can be had is enough."""
        return tuple(settings.dataset for settings in self.images)

    @property
    def text_datasets(self) -> tuple[str, ...]:
        """Text sets in order of preference; the first that can be had is enough."""
        return tuple(settings.dataset for settings in self.texts)


_ALL_METHODS = ("pgd", "freelb", "trades", "fgsm")
_ALL_TEXT_METHODS = ("pgd", "freelb", "ascc", "dg-aug")
_ALL_SOLUTIONS = ((3, 3), (3, 5), (3, 7), (5, 5), (5, 7))  # the paper's table 10
_ALL_SCHEDULES = ("linear", "cosine", "warm-up", "learned")
_SWEEP = (1.0, 10.0, 20.0, 100.0, 200.0, 2000.0)  # the paper's table 25

_DIGITS = ImageSettings(
    "digits",
    n_train=1200,
    epochs=15,
    n_test=100,
    n_validation=180,
    n_search=40,
    epsilon_linf=0.15,
    epsilon_l2=0.8,
    pgd_steps=8,
    sweep_decades=(-4, 6),
    sweep_points_per_decade=1,
    n_slow=16,
    slow_sweep=(1e-3, 1.0, 1e4),
    cw_steps=20,
    cw_searches=4,
    square_queries=60,
    hop_skip_jump_steps=2,
    hop_skip_jump_evaluations=30,
    n_diagnosed=50,
    n_candidates=10,
    landscape_side=15,
    weight_landscape_side=7,
    weight_landscape_images=32,
    lessons=TrainingSettings(
        n_train=300,
        epochs=5,
        learning_rate=1e-2,
        n_test=60,
        n_opt=20,
        methods=("fgsm",),
        solutions_and_steps=((3, 3), (3, 5)),
        temperatures=(1.0, 100.0),
        high_temperature=100.0,
        schedules=("warm-up",),
        attacks=("pgd",),
        epsilon=0.05,
        steps=2,
        hotter_methods=("fgsm",),
        more_data=600,
        n_geometry=20,
    ),
)
_FASHION = ImageSettings("fashion_mnist")
_CIFAR = ImageSettings(
    "cifar10",
    architecture="resnet18",
    n_train=45_000,
    epochs=25,
    augment=True,
    n_test=2000,
    n_validation=4000,
    n_search=500,
    epsilon_linf=2 / 255,
    epsilon_l2=0.25,
    pgd_steps=50,
    n_slow=500,
    cw_steps=300,
    cw_searches=9,
    square_queries=2000,
    hop_skip_jump_steps=15,
    hop_skip_jump_evaluations=500,
    n_diagnosed=1000,
    landscape_side=81,
    weight_landscape_side=31,
    weight_landscape_images=512,
    lessons=TrainingSettings(
        n_train=10_000,
        epochs=60,
        learning_rate=2e-3,
        n_test=2000,
        n_opt=500,
        methods=_ALL_METHODS,
        solutions_and_steps=_ALL_SOLUTIONS,
        temperatures=_SWEEP,
        high_temperature=200.0,
        schedules=_ALL_SCHEDULES,
        attacks=("pgd", "pgd-l2", "fgsm"),
        epsilon=2 / 255,
        steps=5,
        hotter_methods=("pgd", "freelb", "trades"),
        more_data=45_000,
        n_geometry=1000,
    ),
)
_FULL_IMAGES = (_CIFAR, replace(_CIFAR, dataset="cifar10_jpeg"), replace(_FASHION, n_test=5000, n_slow=500), _DIGITS)

_RATED = TextSettings("rotten_tomatoes_rated")
_TINY_TEXT = replace(
    _RATED,
    layers=1,
    n_train=300,
    epochs=3,
    learning_rate=1e-4,
    n_test=20,
    n_validation=60,
    n_search=8,
    n_slow=6,
    attacks=("dg", "pwws"),
    sweep=(1e-6, 1e-3, 1.0, 1e4, 1e8),
    n_precision=12,
    precisions=("float32", "bfloat16"),
    decimals=(2,),
    breadth=("vader_tweets",),
    n_breadth=12,
    breadth_encoders=(("minilm", 2),),
    lessons=TrainingSettings(
        n_train=60,
        epochs=2,
        learning_rate=3e-4,
        n_test=12,
        n_opt=6,
        methods=("pgd",),
        solutions_and_steps=(),
        temperatures=(1.0, 100.0),
        high_temperature=100.0,
        schedules=(),
        attacks=("dg",),
        steps=1,
        longer=1,
        n_geometry=12,
    ),
)
_ROTTEN = replace(
    _RATED,
    dataset="rotten_tomatoes",
    layers=None,
    n_train=None,
    epochs=5,
    learning_rate=5e-5,
    n_test=1066,
    n_validation=1066,
    n_search=200,
    n_slow=1066,
    n_precision=500,
    precisions=("float32", "bfloat16", "float16", "int8"),
    decimals=(6, 4, 2),
    masked_lm_texts=8000,
    n_breadth=800,
    breadth=("emotion", "ag_news", "cola", "mrpc", "qnli", "vader_tweets", "vader_amazon", "vader_nyt"),
    breadth_encoders=(("minilm", 2), ("bert-base-uncased", None)),
    lessons=TrainingSettings(
        n_train=None,
        epochs=5,
        learning_rate=5e-5,
        n_test=1066,
        n_opt=200,
        methods=_ALL_TEXT_METHODS,
        solutions_and_steps=_ALL_SOLUTIONS,
        temperatures=_SWEEP,
        high_temperature=200.0,
        schedules=_ALL_SCHEDULES,
        attacks=("dg", "pwws", "tf", "bae"),
        steps=5,
        hotter_methods=_ALL_TEXT_METHODS,
    ),
)
_FULL_TEXTS = (_ROTTEN, replace(_ROTTEN, dataset="rotten_tomatoes_rated", n_test=1000, n_validation=1000, n_slow=1000))
# The paper's main encoder with its settings (section 4); the other two are run in notebook 07.
_PAPER_TEXT = replace(
    _ROTTEN,
    encoder="microsoft/deberta-base",
    epochs=5,
    batch_size=8,
    learning_rate=1e-5,
    masked_lm_name="bert-base-uncased",
    breadth_encoders=(("roberta-base", None), ("bert-base-uncased", None)),
    lessons=replace(_ROTTEN.lessons, learning_rate=1e-5),
)

PROFILES: dict[str, Profile] = {
    "smoke": Profile("smoke", (0,), (_DIGITS,), (_TINY_TEXT,)),
    "quick": Profile("quick", (0,), (_FASHION, _DIGITS), (_RATED,)),
    "full": Profile("full", (0, 1, 2), _FULL_IMAGES, _FULL_TEXTS),
    # The paper studies text only: its image half is that of `full`.
    "paper": Profile("paper", (0, 1, 2), _FULL_IMAGES, (_PAPER_TEXT,)),
}


def get_profile(name: str) -> Profile:
    """The profile of that name; of `quick`, with every training method where ROBUSTLIB_ALL_METHODS is set.

    Raises:
        ValueError: no such profile; the message lists those there are.
    """
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    if name == "quick" and os.environ.get("ROBUSTLIB_ALL_METHODS"):
        return _with_all_methods(PROFILES[name])
    return PROFILES[name]


def _with_all_methods(profile: Profile) -> Profile:
    """The rows of `full` in notebooks 08 and 09, in this profile's sizes: half an hour on two cores instead of six
    minutes. DDi on texts once only, and fewer temperatures there, since a training of them costs most.
    """
    common = {"schedules": _ALL_SCHEDULES, "high_temperature": 200.0}
    images = {
        "methods": _ALL_METHODS,
        "solutions_and_steps": _ALL_SOLUTIONS,
        "temperatures": _SWEEP,
        "hotter_methods": ("pgd", "freelb", "trades"),
        **common,
    }
    texts = {
        "methods": _ALL_TEXT_METHODS,
        "solutions_and_steps": ((3, 3),),
        "longer": 2,
        "temperatures": (1.0, 10.0, 200.0, 2000.0),
        "hotter_methods": _ALL_TEXT_METHODS,
        **common,
    }
    return replace(
        profile,
        images=tuple(replace(each, lessons=replace(each.lessons, **images)) for each in profile.images),
        texts=tuple(replace(each, lessons=replace(each.lessons, **texts)) for each in profile.texts),
    )
