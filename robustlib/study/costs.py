"""What units of work cost: passes of a model, by a table; seconds of a pass, measured; and what earlier units took."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from robustlib.data.folders import ReadOnlyFolderError, cache_dir, replace_file
from robustlib.models.forward import logits_of
from robustlib.models.images import build_image_model
from robustlib.models.pretrained import ENCODERS
from robustlib.models.texts import TextClassifier
from robustlib.study.environment import pick_device
from robustlib.study.profiles import ImageSettings
from robustlib.study.units import Guided, Unit, settings_of
from robustlib.training.methods import method_definition

_PASSES = tomllib.loads((Path(__file__).parent / "costs.toml").read_text(encoding="utf-8"))
_TOKENS = 24  # of the sentences that a text model is timed on


@dataclass
class Costs:
    """Estimates of units in seconds of one worker.

    Attributes:
        seconds: of a forward pass of one example, by device and model; measured when first asked for.
        factors: what units of a kind took, as a multiple of what the table says.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)

    @classmethod
    def remembered(cls) -> Costs:
        """Those that earlier runs left in the cache folder."""
        try:
            saved = json.loads(_path().read_text(encoding="utf-8"))
            return cls(dict(saved["seconds"]), dict(saved["factors"]))
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: measured again
            return cls()

    def remember(self) -> None:
        """Leave them in the cache folder, where it can be written to."""
        try:
            replace_file(_path(), json.dumps(vars(self), indent=1, sort_keys=True))
        except ReadOnlyFolderError:
            return

    def estimate(self, unit: Unit, again: bool = False) -> float:
        """Seconds that a unit will take, its model being trained.

        Args:
            again: right after another adversary with this attack on this model, whose answers a text model remembers.
        """
        model = _model(unit)
        if model not in self.seconds:
            self.seconds[model] = _timed(unit)
        seconds = passes(unit, again) * _layers(unit) * self.seconds[model] + _PASSES["unit_seconds"]
        return seconds * self.factors.get(kind(unit, again), 1.0)

    def learn(self, unit: Unit, seconds: float, again: bool = False) -> None:
        """Take into account what a unit took."""
        named = kind(unit, again)
        expected, known = self.estimate(unit, again) / self.factors.get(named, 1.0), self.factors.get(named)
        ratio = seconds / max(expected, 1e-6)
        self.factors[named] = ratio if known is None else 0.7 * known + 0.3 * ratio

    def total(self, units: Iterable[Unit]) -> float:
        """Seconds of several units, those of `same_answers` one after the other."""
        seen, seconds = set(), 0.0
        for unit in units:
            seconds += self.estimate(unit, same_answers(unit) in seen)
            seen.add(same_answers(unit))
        return seconds


def same_answers(unit: Unit) -> tuple[str, str, str]:
    """Whose questions a unit repeats: one attack on one model, by any adversary but those who ask otherwise.

    An adversary whom a model guides asks that one, whoever is to judge what it finds.
    """
    adversary = _adversary(unit)
    answering = unit.adversary.source if isinstance(unit.adversary, Guided) else unit.victim
    if answering.precision.endswith("-decimals"):  # the exact model answers, its answers are rounded
        answering = replace(answering, precision="float32")
    if isinstance(unit.adversary, Guided):  # another score, budget, seed or other examples make another search
        adversary = (
            f"{adversary}, {unit.adversary.how == 'margin'}, {unit.victim.profile}, {unit.victim.seed}, {unit.n}"
        )
        return repr(answering), unit.attack, adversary
    return repr(answering), unit.attack, adversary if adversary in _PASSES["asking_otherwise"] else ""


def _adversary(unit: Unit) -> str:
    return unit.adversary if isinstance(unit.adversary, str) else type(unit.adversary).__name__


def kind(unit: Unit, again: bool = False) -> str:
    """Units of one kind take times that are proportional to their sizes."""
    if not unit.attack:
        variant = unit.victim.variant
        return f"{unit.victim.modality} training" + (f" {variant.method}" if variant else "")
    return f"{unit.attack} {_adversary(unit)}" + (" disguised" if unit.disguise else "") + (", again" if again else "")


def passes(unit: Unit, again: bool = False) -> float:
    """Forward passes of one example that a unit takes, by the table costs.toml; `again` as in `Costs.estimate`."""
    settings, modality = settings_of(unit.victim.profile, unit.victim.modality), unit.victim.modality
    if not unit.attack:
        derived = unit.victim.precision != "float32" or unit.victim.few is not None
        return 0.0 if derived else _training_passes(unit, settings)
    sizes = settings.lessons if unit.victim.variant else settings
    slow = unit.attack in _PASSES["few"] if modality == "image" else unit.attack.startswith(("tf", "bae"))
    n = unit.n or (settings.n_slow if slow and not unit.victim.variant else sizes.n_test)
    adversary = _adversary(unit)
    n_search = sizes.n_opt if unit.victim.variant else sizes.n_search
    searched = _PASSES["searches"].get(adversary, 0) * n_search
    each = _PASSES["attacks"][unit.attack.partition("-")[0] if modality == "text" else unit.attack] * _PASSES[
        "adversaries"
    ].get(adversary, 1.0)
    if modality == "image":
        stages = settings.autoattack_steps if unit.attack.startswith(("apgd", "autoattack")) else 1
        each *= settings.pgd_steps if unit.attack.startswith("pgd") else stages
    guided_there = isinstance(unit.adversary, Guided) and not unit.adversary.how.startswith("warm")
    if again and (modality == "text" or guided_there):
        each *= _PASSES["again"]
    return each * (n + searched)


def _training_passes(unit: Unit, settings: Any) -> float:
    sizes, variant, changes = settings, unit.victim.variant, dict(unit.victim.changes)
    of_step = 1
    if variant is not None:
        sizes, definition = settings.lessons, method_definition(variant.method)
        of_step = definition.passes(definition.steps or variant.steps or sizes.steps, variant.solutions)
    n, epochs = variant.extent(sizes) if variant else (changes.get("n_train", sizes.n_train), sizes.epochs)
    n = n or _PASSES["all"]
    trained = 3 * n * epochs  # backward takes twice as long as forward
    augmentation = variant and method_definition(variant.method).augmentation
    if not augmentation:
        return trained * of_step
    return trained + _PASSES["attacks"][augmentation] * n + 2 * trained  # a model, attacked copies, training on both


def _model(unit: Unit) -> str:
    """The model that is timed in place of the unit's: an architecture on its images, or one layer of an encoder."""
    settings = settings_of(unit.victim.profile, unit.victim.modality)
    device = pick_device().type
    if isinstance(settings, ImageSettings):
        return f"{settings.architecture} on {settings.dataset}, {device}"
    return f"a layer of MiniLM, {device}"


def _layers(unit: Unit) -> float:
    """How many layers of MiniLM a unit's encoder is worth, by its parameters; 1 for images."""
    settings, changes = settings_of(unit.victim.profile, unit.victim.modality), dict(unit.victim.changes)
    if isinstance(settings, ImageSettings):
        return 1.0
    name = changes.get("encoder", settings.encoder)
    kept = changes.get("layers") if "encoder" in changes else settings.layers
    if unit.victim.variant is not None and settings.lessons.layers != 0:
        kept = settings.lessons.layers
    encoder = ENCODERS.get(name, ENCODERS["bert-base-uncased"])
    return (kept or encoder.layers) * encoder.of_a_layer / ENCODERS["minilm"].of_a_layer


def _timed(unit: Unit) -> float:
    """Seconds of a forward pass of one example of what `_model` names, untrained and with one thread."""
    settings, threads = settings_of(unit.victim.profile, unit.victim.modality), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if isinstance(settings, ImageSettings):
            channels, size, n_classes = _PASSES["shapes"][settings.dataset]
            model = build_image_model(settings.architecture, channels, size, n_classes, seed=0)
            inputs: Any = torch.zeros(128, channels, size, size)
            inputs = inputs.to(pick_device())
        else:
            model = TextClassifier.from_name("minilm", 2, layers=1)
            inputs = ["the film is fine " * (_TOKENS // 4)] * 128
        model.to(pick_device())
        # Of the process, on a CPU: what else runs at the moment may have ended by then.
        clock, seconds = time.perf_counter if pick_device().type == "cuda" else time.process_time, []
        for _ in range(4):
            started = clock()
            logits_of(model, inputs)
            seconds.append(clock() - started)
        return min(seconds) / len(inputs)
    finally:
        torch.set_num_threads(threads)


def _path() -> Path:
    return cache_dir() / "costs.json"
