"""Units of work: a training or an attack as a small description that any process computes through the cache."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch

from robustlib.attacks.adversaries import Adversary, averaging
from robustlib.attacks.scores import DLR, Margin, TrueClassProbability
from robustlib.data.cache import cache_key, cached, computed, look_up
from robustlib.study import services
from robustlib.study.base import Study
from robustlib.study.exhibits import exhibit_study, text_exhibit_study
from robustlib.study.hiding import disguises
from robustlib.study.images import image_study
from robustlib.study.profiles import ImageSettings, TextSettings, settings_in_use
from robustlib.study.variants import Variant, trained_variant

_ROOMS = ("study.units",)


@dataclass(frozen=True)
class Victim:
    """A model of a profile, by all that determines it.

    Attributes:
        modality: "image" or "text".
        variant: a training of notebooks 08, 09 and 13; default: the model of the other notebooks.
        changes: what differs from the profile, as `image_study` and `text_study` take it, by name.
        precision: what a text model computes in, or "4-decimals" where its probabilities are rounded.
        few: judged on the first test examples only.
        exhibit: of the museum, by name; without variant and changes.
    """

    profile: str
    modality: str
    seed: int
    variant: Variant | None = None
    changes: tuple[tuple[str, Any], ...] = ()
    precision: str = "float32"
    few: int | None = None
    exhibit: str = ""

    def __str__(self) -> str:
        changes = ", ".join(f"{name} = {value}" for name, value in self.changes)
        title = self.variant.title if self.variant else changes or self.exhibit or "main"
        return f"{self.modality} model ({title}, seed {self.seed})"

    def study(self) -> Study:
        """Its study; trains where the cache has no such model. A process keeps the last few."""
        return _study(self)


@lru_cache(maxsize=4)
def _study(victim: Victim) -> Study:
    if victim.few is not None:
        study = replace(victim, few=None).study()
        return replace(study, inputs=study.inputs[: victim.few], labels=study.labels[: victim.few])
    if victim.precision != "float32":
        exact = replace(victim, precision="float32").study()
        decimals = victim.precision.removesuffix("-decimals")
        return exact.rounded(int(decimals)) if decimals.isdecimal() else exact.at_precision(decimals)
    if victim.variant is not None:
        return trained_variant(victim.profile, victim.modality, victim.variant, seed=victim.seed)
    if victim.exhibit:
        opened = exhibit_study if victim.modality == "image" else text_exhibit_study
        return opened(victim.profile, victim.exhibit, seed=victim.seed)
    if victim.modality == "image":
        return image_study(victim.profile, seed=victim.seed, **dict(victim.changes))
    from robustlib.study.texts import text_study  # brings transformers

    return text_study(victim.profile, seed=victim.seed, **dict(victim.changes))


def forget_studies() -> None:
    """Let go of the studies that this process keeps."""
    _study.cache_clear()


@dataclass(frozen=True)
class Guided:
    """An adversary whom another model guides.

    Attributes:
        name: in records.
        how: "transfer" (searches there), "margin" (searches there with the margin), "warm" or "warm-dlr" (goes on from
            there on the served model).
    """

    name: str
    source: Victim
    how: str = "transfer"

    def prepare(self, study: Study, attack: str) -> Adversary:
        """The adversary with this attack on a study."""
        chosen = study.attacks[attack]
        score = Margin() if self.how == "margin" else chosen.at_temperature(1.0)
        then = {"warm": chosen.scale_free, "warm-dlr": DLR()}.get(self.how)
        return Adversary(self.name, score, search=partial(self.source.study().found_for, study, attack), then=then)


@dataclass(frozen=True)
class Mixed:
    """An adversary who ranks words by probabilities at one temperature and compares candidates at another."""

    name: str
    ranking: float
    candidates: float

    def prepare(self, study: Study, attack: str) -> Adversary:
        """The adversary with this attack on a study."""
        scores = TrueClassProbability(self.ranking), TrueClassProbability(self.candidates)
        return study.ranked_with(attack, self.name, *scores)


@dataclass(frozen=True)
class Averaged:
    """An adversary who asks k times for each input."""

    k: int

    def prepare(self, study: Study, attack: str) -> Adversary:
        """The adversary with this attack on a study."""
        return averaging(study.attacks[attack], self.k)


@dataclass(frozen=True)
class Unit:
    """One model trained, or one attack on it as one adversary at one temperature; its result lies in the cache.

    Attributes:
        attack: by name; "" only trains, and keeps the logits by which a lesson judges the training.
        adversary: by name, or prepared from a description.
        n: attacked examples; None: as many as the profile gives the attack.
        disguise: name of one of `hiding.disguises`, or of one of `services.SERVICES` behind its prefix.
    """

    victim: Victim
    attack: str = ""
    adversary: str | Guided | Mixed | Averaged = "naive"
    design_temperature: float = 1.0
    n: int | None = None
    disguise: str = ""

    def __str__(self) -> str:
        if not self.attack:
            return f"training of {self.victim}"
        adversary = getattr(self.adversary, "name", self.adversary)
        return f"{self.attack} as {adversary} on {self.victim}, T_d = {self.design_temperature:g}"

    def is_done(self) -> bool:
        """Whether the cache has it: told without loading data or model."""
        return key_is_done(self.key)

    @property
    def key(self) -> str:
        """Of its result in the cache."""
        return cache_key("unit", self._config, _ROOMS)

    def compute(self) -> float | None:
        """Bring the result into the cache; the seconds that took, None where all was there.

        With one thread, for good: the last bits depend on how many there are, and workers fill the other processors.
        """
        torch.set_num_threads(1)
        return cached("unit", self._config, self._timed, rooms=_ROOMS)["seconds"]

    @property
    def _config(self) -> dict[str, Any]:
        return {"unit": asdict(self), "settings": settings_of(self.victim.profile, self.victim.modality)}

    def _timed(self) -> dict[str, float | None]:
        before, started = computed.total(), time.perf_counter()
        study = self.victim.study()
        if self.attack:
            self._run(study)
        elif self.victim.variant is not None:
            study.validation_logits  # noqa: B018 (by which lessons judge each of their trainings)
        return {"seconds": round(time.perf_counter() - started, 3) if computed.total() > before else None}

    def _run(self, study: Study) -> None:
        adversary, size = self.adversary, study.size(self.attack)
        if not isinstance(adversary, str):
            adversary = adversary.prepare(study, self.attack)
        with warnings.catch_warnings():
            if self.disguise.startswith(services.PREFIX):
                study = services.behind(study, self.disguise.removeprefix(services.PREFIX))
            elif self.disguise:
                hidden = {hidden.name: hidden.disguise for hidden in disguises(study)}
                study = study.disguised(self.disguise, hidden[self.disguise])
            if self.disguise or self.victim.exhibit:
                # that a temperature for each query draws random numbers is the point
                warnings.filterwarnings("ignore", message="two passes of the model")
            study.run(self.attack, adversary, design_temperature=self.design_temperature, n=self.n or size)


def key_is_done(key: str) -> bool:
    """`Unit.is_done` by `Unit.key`, for whoever asks again and again."""
    return look_up("unit", key) is not None


@lru_cache
def settings_of(profile: str, modality: str) -> ImageSettings | TextSettings:
    """`profiles.settings_in_use`, found out once in a process."""
    return settings_in_use(profile, modality)[0]
