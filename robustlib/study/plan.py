"""What each notebook will compute, stated beforehand: its units of work, the most important first.

A notebook whose loops ask for something else computes that itself, in its own process. tests/test_notebooks.py holds
the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robustlib.data import FetchError, resolve_dataset
from robustlib.models.precision import usable
from robustlib.study import museum, services
from robustlib.study.environment import pick_device
from robustlib.study.exhibits import EXHIBITS, TEXT_EXHIBITS
from robustlib.study.profiles import TrainingSettings, get_profile
from robustlib.study.units import Averaged, Guided, Mixed, Unit, Victim, settings_of
from robustlib.study.variants import ADVERSARIES, Variant

AUDITED_IMAGES = ("naive", "cal", "cal-mean", "cal-exact", "opt-paper", "opt", "margin", "dlr", "mifpe", "t-mifpe")
AUDITED_TEXTS = ("naive", "ties", "cal", "cal-exact", "opt-paper", "opt", "margin")
DISGUISES = {"T(x) gap": 1.0, "T(x) confidence": 1.0, "T per query": 1.0, "floor 2.5": 1.0}


def units_of(lesson: str, profile: str, seed: int = 0) -> list[Unit]:
    """The units of a notebook, by its name; none where its data are unavailable, or for one that only reads records.

    Args:
        seed: the notebook's parameter.
    """
    stated = _LESSONS.get(lesson)
    if stated is None:
        return []
    try:
        return list(dict.fromkeys(stated(_Plan(profile, seed))))
    except FetchError:
        return []  # the notebook says what is missing


@dataclass(frozen=True)
class _Plan:
    profile: str
    seed: int

    @property
    def image(self) -> Any:
        return settings_of(self.profile, "image")

    @property
    def text(self) -> Any:
        return settings_of(self.profile, "text")

    @property
    def seeds(self) -> list[int]:
        return [self.seed + number for number in get_profile(self.profile).seeds]

    @property
    def elsewhere(self) -> int:
        """Seed of the model that transfers come from."""
        return self.seeds[-1] + 100

    def victim(self, modality: str, seed: int | None = None, **changes: Any) -> Victim:
        return Victim(self.profile, modality, self.seeds[0] if seed is None else seed, changes=tuple(changes.items()))

    def victims(self, modality: str) -> list[Victim]:
        return [self.victim(modality, seed) for seed in self.seeds]


def _grid(
    victims: Victim | Iterable[Victim],
    attacks: str | Iterable[str],
    adversaries: Any,
    temperatures: Iterable[float],
    **options: Any,
) -> Iterator[Unit]:
    """Every attack on every victim, as every adversary, at every design temperature."""
    for victim in [victims] if isinstance(victims, Victim) else victims:
        yield Unit(victim)
        for attack in [attacks] if isinstance(attacks, str) else attacks:
            for adversary in [adversaries] if isinstance(adversaries, str | Guided | Mixed) else adversaries:
                for temperature in temperatures:
                    yield Unit(victim, attack, adversary, temperature, **options)


def _designs(settings: Any) -> tuple[float, ...]:
    return (1.0, *settings.overconfident_temperatures, *settings.underconfident_temperatures)


def _ends(settings: Any) -> tuple[float, float]:
    return settings.overconfident_temperatures[0], settings.underconfident_temperatures[0]


def _first_result(plan: _Plan) -> Iterator[Unit]:
    victim = plan.victim("image")
    yield from _grid(victim, "pgd", ("naive", "cal-exact", "margin"), (1.0, min(plan.image.overconfident_temperatures)))
    yield from _grid(victim, "pgd", "naive", np.logspace(-4, 4, 17).tolist())


def _only_the_model(plan: _Plan) -> Iterator[Unit]:
    yield Unit(plan.victim("image"))


def _illusion(plan: _Plan) -> Iterator[Unit]:
    settings, victim = plan.image, plan.victim("image")
    yield from _grid(plan.victims("image"), "pgd", "naive", settings.sweep)
    ends = (min(settings.overconfident_temperatures), max(settings.underconfident_temperatures))
    yield from _grid(victim, "pgd", "naive", (1.0, *ends))
    yield from _grid(victim, "pgd", "margin", settings.slow_sweep)
    slow = ("fgsm", "cw", "square", "hopskipjump")
    yield from _grid(victim, slow, "naive", settings.slow_sweep, n=settings.n_slow)


def _piercing(plan: _Plan) -> Iterator[Unit]:
    settings, victim, (over, under) = plan.image, plan.victim("image"), _ends(plan.image)
    other = plan.victim("image", plan.elsewhere)
    transferred = Guided(f"transfer:seed{plan.elsewhere}", other)
    by_others = (transferred, Guided("warm", other, "warm"), Guided("warm-dlr", other, "warm-dlr"))
    designs, few, n = _designs(settings), min(2 * settings.n_slow, settings.n_test), settings.n_slow
    yield from _grid(plan.victims("image"), "pgd", AUDITED_IMAGES, designs)
    yield Unit(other)
    yield from _grid(victim, "pgd", ("platt", "platt-exact", transferred), designs)
    hidden = DISGUISES | {"float16": 1e-3, "probabilities": 1e-2}
    searching = ("naive", "cal-exact", "opt", "margin", "dlr", "mifpe", *by_others)
    for disguise, design in hidden.items():
        yield from _grid(victim, "pgd", searching, (design,), n=few, disguise=disguise)
    yield from _grid(victim, "hopskipjump-long", "naive", (1.0,), n=n, disguise="T(x) gap")
    yield from _grid(victim, "pgd", "naive", (1.0,), n=few)
    yield from _grid(victim, "pgd", by_others[1:], (over, under))
    yield from _grid(victim, "pgd-l2", ("naive", "cal", "cal-exact", "opt", "margin"), (1.0, over, under))
    yield from _grid(victim, "cw", ("naive", "cal-exact"), (1.0, over, under))
    yield from _grid(victim, ("autoattack", "apgd-ce", "pgd", "pgd-float64"), "naive", (1.0, over, under), n=n)
    yield from _grid(victim, ("pgd", "pgd-long"), "margin", (1.0, over, under), n=n)
    yield from _grid(victim, ("square-long", "hopskipjump-long"), "naive", (1.0,), n=n)
    yield from _grid(victim, "pgd", "naive", settings.sweep)


def _text_illusion(plan: _Plan) -> Iterator[Unit]:
    settings, victim, (over, under) = plan.text, plan.victim("text"), _ends(plan.text)
    yield from _grid(victim, settings.attacks, "naive", (1.0, over, under))
    yield from _grid(victim, "dg", "naive", settings.sweep)
    yield from _grid(victim, "dg", "margin", (1.0,))
    honest, served = 1 / over, 1.0
    for attack in ("dg", "pwws"):
        if attack in settings.attacks:
            yield from _grid(victim, attack, Mixed("ranking:honest,candidates:served", honest, served), (over,))
            yield from _grid(victim, attack, Mixed("ranking:served,candidates:honest", served, honest), (over,))


def _text_piercing(plan: _Plan) -> Iterator[Unit]:
    settings, victim, (over, under) = plan.text, plan.victim("text"), _ends(plan.text)
    other = plan.victim("text", plan.elsewhere)
    transferred = Guided(f"transfer:seed{plan.elsewhere}", other)
    yield from _grid(plan.victims("text"), ("dg", "pwws"), AUDITED_TEXTS, _designs(settings))
    yield Unit(other)
    yield from _grid(victim, "dg", ("platt", "platt-exact", transferred), (1.0, over, under))
    few, hidden = min(settings.n_test, settings.n_breadth), DISGUISES | {"float16": 1e-6, "probabilities": 1e-3}
    del hidden["T(x) confidence"]
    searching = ("naive", "cal-exact", "margin", "ties", "label-only", transferred)
    for disguise, design in hidden.items():
        yield from _grid(victim, "dg", searching, (design,), n=few, disguise=disguise)
    averaged = [Averaged(4), Averaged(16)]
    yield from _grid(victim, "dg", averaged, (1.0,), n=settings.n_slow, disguise="T per query")
    yield from _grid(victim, "dg", "naive", (1.0,), n=settings.n_slow)
    yield from _grid(victim, "dg", ("naive", "label-only"), (1.0,), n=few)
    alone, n = ("naive", "cal-exact", "opt", "margin"), settings.n_precision
    for hot in (victim, plan.victim("text", training_temperature=settings.high_training_temperature)):
        yield from _grid(hot, "dg", alone, (1.0,), n=n)
        roundings = [name for name in settings.precisions if name != "float32" and usable(name, pick_device())]
        for precision in (*roundings, *(f"{decimals}-decimals" for decimals in settings.decimals)):
            rounded = replace(hot, precision=precision)
            yield from _grid(rounded, "dg", (*alone, Guided("transfer:float32", hot, "margin")), (1.0,), n=n)


def _breadth(plan: _Plan) -> Iterator[Unit]:
    settings, (over, under) = plan.text, _ends(plan.text)
    victims = [plan.victim("text")]
    for names in settings.breadth:
        try:
            dataset, _ = resolve_dataset(names)
        except FetchError:
            continue
        victims.append(plan.victim("text", dataset=dataset, n_train=settings.n_breadth_train))
    for encoder, layers in settings.breadth_encoders:
        sizes = {"dataset": settings.dataset, "n_train": settings.n_breadth_train}
        victims.append(plan.victim("text", encoder=encoder, layers=layers, **sizes))
    for encoder, layers in settings.breadth_encoders:
        for T in settings.encoder_training_temperatures:
            changes = {"gradient_rule": "normalise", "training_temperature": T}
            victim = plan.victim("text", encoder=encoder, layers=layers, **changes)
            yield from _grid(replace(victim, few=settings.n_breadth), "dg", ADVERSARIES, (1.0,))
    for victim in victims:
        yield from _grid(victim, "dg", "naive", (1.0,), n=settings.n_breadth)
        yield from _grid(victim, "dg", ("naive", "cal-exact", "margin"), (over, under), n=settings.n_breadth)


def _trainings(
    plan: _Plan,
    modality: str,
    variants: Iterable[Variant],
    *,
    attacks: tuple[str, ...] = (),
    adversaries: tuple[str, ...] = ADVERSARIES,
    main: bool = False,
) -> Iterator[Unit]:
    """What `TrainingLesson.train_and_judge` asks for; `main`: with the further seeds of the main rows."""
    sizes: TrainingSettings = settings_of(plan.profile, modality).lessons
    further = range(max(sizes.row_seeds, sizes.main_seeds) if main else sizes.row_seeds)
    for seed in dict.fromkeys([*plan.seeds, *(plan.seed + number for number in further)]):
        asked = [a for a in attacks or sizes.attacks[:1] if seed in plan.seeds or a not in sizes.attacks_once]
        for variant in variants:
            victim = Victim(plan.profile, modality, seed, variant)
            yield from _grid(victim, asked, adversaries, (1.0,))


def _training_rules(plan: _Plan) -> Iterator[Unit]:
    judged = {"adversaries": ("naive", "cal-exact", "margin")}
    for modality in ("image", "text"):
        sizes = settings_of(plan.profile, modality).lessons
        yield from _trainings(plan, modality, [Variant(), Variant(rule="normalise")], main=True, **judged)
        yield from _trainings(plan, modality, [Variant(rule="clip")], **judged)
        methods = [Variant(name, rule) for name in sizes.methods for rule in ("none", "normalise")]
        ddi = [Variant("ddi", "normalise", solutions=m, steps=k) for m, k in sizes.solutions_and_steps]
        adversarial = [*methods, *ddi]
        brief = [Variant(brief=True)] if sizes.method_n_train is not None and adversarial else []
        yield from _trainings(plan, modality, [*brief, *adversarial], **judged)


def _temperatures_swept(plan: _Plan, modality: str, **judged: Any) -> Iterator[Unit]:
    """The normalised trainings at every temperature, those of the main rows with their further seeds."""
    starred, main = _starred(plan, modality)
    yield from _trainings(plan, modality, main, main=True, **judged)
    yield from _trainings(plan, modality, [v for v in starred.values() if v not in main], **judged)
    yield from _trainings(plan, modality, [Variant()], main=True, adversaries=judged.get("adversaries", ADVERSARIES))


def _starred(plan: _Plan, modality: str) -> tuple[dict[float, Variant], list[Variant]]:
    """Normalised trainings by their temperature, and those of the main rows."""
    sizes = settings_of(plan.profile, modality).lessons
    ends = (1.0, sizes.high_temperature, sizes.temperatures[-1])
    starred = {t: Variant(rule="normalise", temperature=t) for t in (*ends, *sizes.temperatures)}
    return starred, [starred[t] for t in dict.fromkeys(ends)]


def _high_temperatures_hide(plan: _Plan) -> Iterator[Unit]:
    for modality in ("image", "text"):
        sizes = settings_of(plan.profile, modality).lessons
        yield from _temperatures_swept(plan, modality)
        starred, _ = _starred(plan, modality)
        for hot in _of_seeds(plan, modality, starred[sizes.high_temperature]):
            yield from _grid(hot, sizes.attacks[0], "naive", (sizes.high_temperature,))


def _high_temperatures_add(plan: _Plan) -> Iterator[Unit]:
    for modality in ("image", "text"):
        sizes = settings_of(plan.profile, modality).lessons
        T, (starred, _) = sizes.high_temperature, _starred(plan, modality)
        yield from _temperatures_swept(plan, modality, attacks=sizes.attacks, adversaries=("margin",))
        for hot in _of_seeds(plan, modality, starred[T]):
            cold = Guided("transfer:baseline_gradnorm", replace(hot, variant=starred[1.0]), "margin")
            yield from _grid(hot, sizes.attacks[0], cold, (1.0,))
        checked = {"adversaries": ("naive", "margin")}
        yield from _trainings(plan, modality, _controls(sizes, starred[1.0]), **checked)
        yield from _trainings(
            plan, modality, [replace(starred[T], schedule=name) for name in sizes.schedules], **checked
        )
        for name in sizes.hotter_methods:
            hidden = {"adversaries": ("naive", "cal", "margin")}
            if sizes.method_n_train is not None:
                brief = [Variant(rule="normalise", temperature=t, brief=True) for t in (1.0, T)]
                yield from _trainings(plan, modality, brief, **hidden)
            twins = [Variant(name, "normalise", temperature=t) for t in (1.0, T)]
            yield from _trainings(plan, modality, [*twins, Variant(name)], **hidden)


def _museum(plan: _Plan) -> Iterator[Unit]:
    yield from museum.units(EXHIBITS, profile=plan.profile, seeds=plan.seeds)
    yield from museum.units(("plain", *TEXT_EXHIBITS), profile=plan.profile, seeds=plan.seeds, modality="text")


def _black_box(plan: _Plan) -> Iterator[Unit]:
    for modality in ("image", "text"):
        settings, victim = settings_of(plan.profile, modality), plan.victim(modality)
        n, (scores, labels, labels_only) = services.examples(settings), services.ATTACKS[modality]
        yield from _grid(victim, labels, labels_only, (1.0,), n=n)
        if modality == "image":
            yield Unit(victim, "pgd", "margin", n=n)
        shown = {"n": n, "disguise": f"{services.PREFIX}float32"}
        yield from _grid(victim, scores, services.SCORING, services.served_at(settings), **shown)
        for name in services.DEFENCES:
            shown["disguise"] = f"{services.PREFIX}{name}"
            yield from _grid(victim, scores, services.priced(modality), (1.0,), **shown)


def _worth(plan: _Plan) -> Iterator[Unit]:
    for modality in ("image", "text"):
        sizes = settings_of(plan.profile, modality).lessons
        compared = [Variant(rule="normalise", temperature=T) for T in (1.0, sizes.high_temperature)]
        for variant in [*compared, *(Variant(name) for name in sizes.methods[:1] if modality == "image")]:
            yield Unit(Victim(plan.profile, modality, plan.seeds[0], variant))
    yield Unit(plan.victim("text"))


def _of_seeds(plan: _Plan, modality: str, variant: Variant) -> list[Victim]:
    return list(dict.fromkeys(unit.victim for unit in _trainings(plan, modality, [variant], main=True)))


def _controls(sizes: TrainingSettings, cold: Variant) -> list[Variant]:
    """A hot model without normalisation; then pairs, cold and hot, of a longer and a larger one."""
    changes = [{"longer": sizes.longer}] if sizes.longer > 1 else []
    changes += [{"n_train": sizes.more_data}] if sizes.more_data else []
    temperatures = (1.0, sizes.high_temperature)
    pairs = [replace(cold, temperature=T, **change) for change in changes for T in temperatures]
    return [Variant(temperature=sizes.high_temperature), *pairs]


_LESSONS: dict[str, Callable[[_Plan], Iterator[Unit]]] = {
    "00_first_result": _first_result,
    "01_confidence_and_temperature": _only_the_model,
    "02_illusion_of_robustness": _illusion,
    "03_masked_gradients": _only_the_model,
    "04_piercing_the_illusion": _piercing,
    "05_text_illusion": _text_illusion,
    "06_text_piercing": _text_piercing,
    "07_text_breadth": _breadth,
    "08_illusion_by_training": _training_rules,
    "09_high_temperature_hides": _high_temperatures_hide,
    "10_museum_of_illusions": _museum,
    "12_black_box_adversary": _black_box,
    "13_high_temperature_adds": _high_temperatures_add,
    "15_what_the_numbers_are_worth": _worth,
}
