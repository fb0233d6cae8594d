"""The study of images on the smallest profile, and the sizes of every profile."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from robustlib.attacks.adversaries import Adversary, evaluate, transfer, warm
from robustlib.attacks.scores import DLR, Margin
from robustlib.calibration.defences import HardMax
from robustlib.calibration.disguises import Floor, TemperaturePerQuery
from robustlib.data import FetchError
from robustlib.data.cache import computed
from robustlib.study.images import image_study
from robustlib.study.profiles import PROFILES, get_profile, settings_in_use
from robustlib.study.records import REFERENCE, RecordBook
from robustlib.study.texts import text_study
from robustlib.study.units import Guided, Victim
from robustlib.study.variants import lesson_settings


@pytest.fixture(scope="module")
def study():
    return image_study("smoke")


def test_evaluations_come_back_from_the_cache_as_they_were(study, monkeypatch):
    first = study.run("pgd", "opt", design_temperature=1e-3)
    monkeypatch.setattr("robustlib.study.base.evaluate", lambda *arguments: pytest.fail("attacked again"))
    again = study.run("pgd", "opt", design_temperature=1e-3)
    for name, value in vars(first).items():
        assert np.array_equal(value, vars(again)[name]), name
    with pytest.raises(pytest.fail.Exception):
        study.run("pgd", "opt", design_temperature=1e-2)


@pytest.mark.parametrize(
    ("modality", "how"),
    [*(("image", how) for how in ("transfer", "margin", "warm", "warm-dlr")), ("text", "transfer"), ("text", "margin")],
)
def test_what_a_guide_finds_is_searched_once_for_all_who_judge_it(modality, how):
    name, source = ("pgd" if modality == "image" else "dg"), Victim("smoke", modality, 100)
    judge = Victim("smoke", modality, 0).study()
    chosen, model, n = judge.attacks[name], source.study().served(1.0), 8
    guided = Guided("by another", source, how).prepare(judge, name)
    if how.startswith("warm"):
        by_hand = warm("by another", model, chosen, score=DLR() if how == "warm-dlr" else None)
    else:
        by_hand = transfer("by another", model, chosen)
        by_hand = replace(by_hand, score=Margin()) if how == "margin" else by_hand
    asked = computed["search"]
    for design in (1.0, 1e-3):
        served, inputs, labels = judge.served(design), judge.inputs[:n], judge.labels[:n]
        wanted, found = (evaluate(served, chosen, one, inputs, labels) for one in (by_hand, guided))
        for field, value in vars(wanted).items():
            assert np.array_equal(vars(found)[field], value, equal_nan=field == "temperature"), field
    assert computed["search"] <= asked + 1
    other = judge.disguised("floor", Floor(2.5)) if modality == "image" else judge.disguised("hard-max", HardMax())
    before = computed["search"]
    other.run(name, replace(guided, name=f"once more, {how}"), n=n)
    assert computed["search"] == before


BLACK_BOX = ("square", "square-long", "hopskipjump", "hopskipjump-long")


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd-l2", "pgd-long", "pgd-float64", "cw", "autoattack", *BLACK_BOX])
def test_every_attack_runs_within_the_profiles_budget(study, attack):
    found = study.run(attack, n=8)
    assert found.adversarial_accuracy <= found.clean_correct.mean()
    budget = study.budget(attack)
    radius = study.settings.epsilon_linf if budget["norm"] == "linf" else study.settings.epsilon_l2
    assert budget["epsilon"] == radius
    assert (found.n_backward == 0) == (attack in BLACK_BOX)


def test_a_disguise_is_the_method_and_keeps_predictions_apart_in_the_cache(study):
    book = RecordBook("99_test", profile="smoke", seed=0, modality="image")
    hidden = study.disguised("floor 0.1", Floor(0.1))
    for one in (study, hidden):
        one.measure(book, "pgd", design_temperature=1e-3)
    plain, floor = book.frame.to_dict("records")
    assert (plain["method"], floor["method"]) == ("conf_up(T_d<<1)", "floor 0.1")
    logits = hidden.served(1e-3)(study.images)
    assert logits.min().item() == pytest.approx(-0.1)
    assert torch.equal(logits.argmax(dim=1), study.model(study.images).argmax(dim=1))
    drawn = study.disguised("T per query", TemperaturePerQuery(1.0))
    first, second = (drawn.served(1.0)(study.images) for _ in range(2))
    assert torch.equal(first, second)


def test_measurements_and_differences_are_recorded(study):
    book = RecordBook("99_test", profile="smoke", seed=0, modality="image")
    naive = study.measure(book, "pgd", design_temperature=1e-3)
    surrogate = Adversary("transfer:itself", Margin(), surrogate=study.model)
    strong = study.measure(book, "pgd", surrogate, design_temperature=1e-3)
    difference = study.compare(book, strong, naive, at=1e-3, reference_at=1e-3)
    one, two, three = book.frame.to_dict("records")
    assert (one["method"], one["design_temperature"], one["epsilon"]) == ("conf_up(T_d<<1)", 1e-3, 0.15)
    assert two["adversary"] == "transfer:itself"
    assert three["metric"] == "accuracy_difference"
    assert [three[name] for name in REFERENCE] == ["conf_up(T_d<<1)", "naive", 1e-3, 1.0]
    assert three["mean"] == pytest.approx(100 * difference.difference)
    assert three["mean"] == pytest.approx(two["mean"] - one["mean"])


@pytest.mark.parametrize(("seed", "error"), [("0", TypeError), (1.0, TypeError), (True, TypeError), (-1, ValueError)])
def test_a_seed_that_is_none_is_refused_before_anything_is_loaded(seed, error, monkeypatch):
    monkeypatch.setattr("robustlib.study.profiles.resolve_dataset", lambda names: pytest.fail("loaded"))
    for make in (image_study, text_study):
        with pytest.raises(error, match=f"seed must .* got {seed!r}"):
            make("smoke", seed=seed)


HOLDS = {  # training, validation and test examples there are
    "fashion_mnist": (55_000, 5_000, 10_000),
    "cifar10": (45_000, 5_000, 10_000),
    "cifar10_jpeg": (45_000, 5_000, 10_000),
    "digits": (1_258, 180, 359),
}
IN_USE = [("image", name, settings.dataset) for name in PROFILES for settings in PROFILES[name].images]
IN_USE += [("text", name, settings.dataset) for name in PROFILES for settings in PROFILES[name].texts]


def only_available(monkeypatch, dataset):
    def fetch(name):
        if name != dataset:
            raise FetchError(f"{name}: no network\nand more")

    monkeypatch.setattr("robustlib.data.store.fetch", fetch)


@pytest.mark.parametrize(("modality", "profile", "dataset"), IN_USE)
def test_lessons_take_the_sizes_of_the_set_in_use_and_no_more_than_it_holds(modality, profile, dataset, monkeypatch):
    only_available(monkeypatch, dataset)
    settings, substitution = settings_in_use(profile, modality)
    sizes = lesson_settings(profile, modality)
    assert settings.dataset == dataset and sizes is settings.lessons
    if modality == "text":
        return
    n_train, n_validation, n_test = HOLDS[dataset]
    assert max(settings.n_train, sizes.n_train, sizes.more_data) <= n_train
    assert max(settings.n_validation, settings.n_search, sizes.n_opt, sizes.n_geometry) <= n_validation
    assert max(settings.n_test, settings.n_slow, settings.n_diagnosed, sizes.n_test) <= n_test
    before = get_profile(profile).datasets[: get_profile(profile).datasets.index(dataset)]
    assert substitution == " ".join(f"{name} is unavailable ({name}: no network)." for name in before)


def test_all_methods_of_full_on_the_networks_of_quicks_lessons_on_training():
    quick, wide, full = (get_profile(name) for name in ("quick", "quick-all-methods", "full"))
    for mine, theirs, old in ((wide.images, full.images, quick.images), (wide.texts, full.texts, quick.texts)):
        assert mine[0].lessons.methods == theirs[0].lessons.methods
        assert mine[0].lessons.schedules == theirs[0].lessons.schedules
        assert set(mine[0].lessons.temperatures) <= set(theirs[0].lessons.temperatures)
        for size in ("n_train", "epochs", "learning_rate"):
            assert getattr(mine[0].lessons, size) == getattr(old[0].lessons, size)
