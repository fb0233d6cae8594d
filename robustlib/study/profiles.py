"""The sizes of the study: `profiles.toml` read into frozen settings, and those of the data set that is available."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustlib.data import resolve_dataset


@dataclass(frozen=True)
class TrainingSettings:
    """Sizes of notebooks 08, 09 and 13, which train many models: few examples, many epochs, a loss that gets near 0.

    Gradient normalisation bites only there (notebook 08). `epsilon` is Linf in pixel units; texts take the paper's set.
    """

    n_train: int | None  # None: all there are
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
    steps: int  # K of the other methods
    hotter_methods: tuple[str, ...]  # methods trained at the high temperature as well
    longer: int  # factor on the epochs, to tell the effect of T from that of a longer training; 1 leaves it out
    n_geometry: int
    batch_size: int | None = None  # None: that of the other lessons
    layers: int | None = 0  # of a text encoder; None: all, 0: as many as in the other lessons
    epsilon: float | None = None
    more_data: int | None = None  # training examples to see whether a gain survives more data; None leaves it out
    row_seeds: int = 1  # trainings of every row, at least one for each seed of the profile
    main_seeds: int = 1  # trainings of each main row, at least one for each seed of the profile
    attacks_once: tuple[str, ...] = ()  # those of `attacks` that the further seeds of a main row leave out
    # examples that adversarial training sees, each once, since a step of it costs several of standard training; None:
    # as many, and as often, as standard training
    method_n_train: int | None = None


@dataclass(frozen=True)
class ImageSettings:
    """Data, model and sizes of the image half (notebooks 00-04). Radii are in pixel units of [0, 1]."""

    dataset: str
    architecture: str
    n_train: int
    epochs: int
    learning_rate: float
    augment: bool
    n_test: int  # attacked examples
    n_validation: int  # for calibration
    n_search: int  # validation examples that `opt` attacks at every temperature it tries
    epsilon_linf: float
    epsilon_l2: float
    pgd_steps: int
    overconfident_temperatures: tuple[float, ...]  # T_d of up-conf and down-conf, the main pair first
    underconfident_temperatures: tuple[float, ...]
    sweep_decades: tuple[int, int]
    sweep_points_per_decade: int
    n_slow: int  # examples for C&W, Square, HopSkipJump and AutoAttack
    slow_sweep: tuple[float, ...]
    cw_steps: int
    cw_searches: int
    square_queries: int
    hop_skip_jump_steps: int
    hop_skip_jump_evaluations: int
    n_diagnosed: int
    n_candidates: int  # random neighbours per image whose scores are compared
    landscape_side: int
    weight_landscape_side: int
    weight_landscape_images: int
    n_exhibit: int  # attacked examples of most exhibits of notebook 10
    lessons: TrainingSettings
    autoattack_steps: int = 100  # of its gradient stages; 100 is the published suite
    # trainings of an exhibit of notebook 10, and of one that decides a claim; at least one for each seed of the profile
    exhibit_seeds: tuple[int, int] = (1, 1)

    @property
    def sweep(self) -> tuple[float, ...]:
        """Design temperatures of the fine sweep, to four digits."""
        low, high = self.sweep_decades
        steps = range((high - low) * self.sweep_points_per_decade + 1)
        return tuple(float(f"{10 ** (low + step / self.sweep_points_per_decade):.4g}") for step in steps)


@dataclass(frozen=True)
class TextSettings:
    """Data, encoder and sizes of the text half (notebooks 05-07)."""

    dataset: str
    encoder: str
    layers: int | None  # of the encoder; None: all
    n_train: int | None  # None: all there are
    epochs: int
    batch_size: int
    learning_rate: float
    max_length: int
    n_test: int  # attacked sentences
    n_validation: int  # for calibration
    n_search: int  # validation sentences that `opt` attacks at every temperature it tries
    attacks: tuple[str, ...]
    n_slow: int  # sentences for tf and bae, whose constraints cost more than the victim
    overconfident_temperatures: tuple[float, ...]  # T_d of up-conf and down-conf, the main pair first
    underconfident_temperatures: tuple[float, ...]
    sweep: tuple[float, ...]
    precisions: tuple[str, ...]
    decimals: tuple[int, ...]  # of a service that rounds its probabilities
    n_precision: int
    high_training_temperature: float
    masked_lm_texts: int  # training sentences the masked language model of bae is fine-tuned on
    breadth: tuple[tuple[str, ...], ...]  # further data sets, notebook 07: of each group the first available
    n_breadth_train: int | None  # training texts of these; None: all there are
    breadth_encoders: tuple[tuple[str, int | None], ...]  # and layers kept, on the first data set
    n_breadth: int
    lessons: TrainingSettings
    # 1 and a high one, for `breadth_encoders`; () leaves them out
    encoder_training_temperatures: tuple[float, ...] = ()
    exhibit_seeds: tuple[int, int] = (1, 1)  # as of images
    masked_lm_name: str | None = None  # a checkpoint instead of one fine-tuned on `masked_lm_texts`


@dataclass(frozen=True)
class Profile:
    """One size of the whole study."""

    name: str
    seeds: tuple[int, ...]  # of training and attack; the main tables are measured once for each
    images: tuple[ImageSettings, ...]  # settings in order of preference; the first whose data set is available is used
    texts: tuple[TextSettings, ...]  # the same for the text half

    @property
    def datasets(self) -> tuple[str, ...]:
        """Image sets in order of preference; the first that is available is enough."""
        return tuple(settings.dataset for settings in self.images)

    @property
    def text_datasets(self) -> tuple[str, ...]:
        """Text sets in order of preference; the first that is available is enough."""
        return tuple(settings.dataset for settings in self.texts)


def read_profiles(text: str) -> dict[str, Profile]:
    """Profiles by name from the text of a file like `profiles.toml`.

    TypeError: a table lacks a setting, or has one that is not known; KeyError: it names a table that is not there.
    """
    file = tomllib.loads(text)
    profiles = {}
    for name in file["profiles"]:
        table = _inherited(file["profiles"], name)
        for half, kind in (("image", ImageSettings), ("text", TextSettings)):
            lessons = {"lessons": table.pop(f"{half}_lessons", {})}
            wanted = [_merged(_inherited(file[f"{half}s"], chosen), lessons) for chosen in table[f"{half}s"]]
            table[f"{half}s"] = tuple(_settings(kind, settings) for settings in wanted)
        profiles[name] = Profile(name, **{key: _plain(value) for key, value in table.items()})
    return profiles


def _inherited(tables: dict[str, dict], name: str) -> dict[str, Any]:
    table = dict(tables[name])
    base = table.pop("base", None)
    return _merged(_inherited(tables, base), table) if base else table


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merged(base.get(key, {}), value) if isinstance(value, dict) else value for key, value in changes.items()
    }


def _settings(kind: type, table: dict[str, Any]) -> Any:
    return kind(**{key: _plain(value) for key, value in table.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _settings(TrainingSettings, value)
    if isinstance(value, list):
        return tuple(_plain(part) for part in value)
    return None if value == "all" else value


PROFILES = read_profiles((Path(__file__).parent / "profiles.toml").read_text(encoding="utf-8"))


def get_profile(name: str) -> Profile:
    """The profile of that name; a ValueError lists those there are."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def settings_in_use(profile: str, modality: str) -> tuple[ImageSettings | TextSettings, str]:
    """Settings for the first available data set of a profile (fetched if need be); `modality`: "image" or "text".

    With them, why each data set before it is not used: one sentence each, empty for the first choice. FetchError: none
    is available.
    """
    chosen = get_profile(profile)
    candidates = {settings.dataset: settings for settings in (chosen.images if modality == "image" else chosen.texts)}
    name, reasons = resolve_dataset(tuple(candidates))
    sentences = (f"{other} is unavailable ({reason.splitlines()[0]})." for other, reason in reasons.items())
    return candidates[name], " ".join(sentences)
