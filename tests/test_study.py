"""What the image notebooks share, on the smallest profile."""

import dataclasses

import numpy as np
import pytest
import torch

from robustlib.attacks.adversaries import Adversary
from robustlib.attacks.scores import Margin
from robustlib.study.images import image_study
from robustlib.study.profiles import PROFILES, get_profile
from robustlib.study.records import REFERENCE, RecordBook


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("ROBUSTLIB_RESULTS", str(tmp_path_factory.mktemp("results")))
    yield image_study("smoke")
    patch.undo()


def test_evaluations_come_back_from_the_cache_as_they_were(study, monkeypatch):
    first = study.run("pgd", "opt", design_temperature=1e-3)
    monkeypatch.setattr("robustlib.study.base.evaluate", lambda *arguments: pytest.fail("attacked again"))
    again = study.run("pgd", "opt", design_temperature=1e-3)
    for name, value in vars(first).items():
        assert np.array_equal(value, vars(again)[name]), name
    with pytest.raises(pytest.fail.Exception):
        study.run("pgd", "opt", design_temperature=1e-2)


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd-l2", "cw", "square", "hopskipjump", "autoattack"])
def test_every_attack_runs_within_the_profiles_budget(study, attack):
    found = study.run(attack, n=8)
    assert found.adversarial_accuracy <= found.clean_correct.mean()
    budget = study.budget(attack)
    radius = study.settings.epsilon_linf if budget["norm"] == "linf" else study.settings.epsilon_l2
    assert budget["epsilon"] == radius
    assert (found.n_backward == 0) == (attack in ("square", "hopskipjump"))


def test_the_illusion_and_its_piercing_on_the_smallest_profile(study):
    honest, served = study.run("pgd", "margin"), study.run("pgd", design_temperature=1e-3)
    pierced = study.run("pgd", "cal-exact", design_temperature=1e-3)
    assert served.minus(honest).low > 0.3
    assert pierced.minus(honest).high < 0.1


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
    assert [three[name] for name in REFERENCE] == ["conf_up(T_d<<1)", "none", 1e-3, 1.0]
    assert three["mean"] == pytest.approx(100 * difference.difference)
    assert three["mean"] == pytest.approx(two["mean"] - one["mean"])


def test_served_models_predict_the_same(study):
    with torch.no_grad():
        plain = study.model(study.images).argmax(dim=1)
        for temperature in (*study.settings.overconfident_temperatures, *study.settings.underconfident_temperatures):
            assert torch.equal(study.served(temperature)(study.images).argmax(dim=1), plain)
    assert [study.method_name(t) for t in (1.0, 0.1, 10.0)] == ["baseline", "conf_up(T_d<<1)", "conf_down(T_d>>1)"]


def test_profiles_are_named_frozen_and_complete():
    assert list(PROFILES) == ["smoke", "quick", "full", "paper"]
    assert get_profile("quick").datasets[0] == "fashion_mnist"
    assert get_profile("full").datasets[:2] == ("cifar10", "cifar10_jpeg")
    assert len(get_profile("full").seeds) == 3
    assert all(profile.datasets[-1] == "digits" for profile in PROFILES.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_profile("quick").name = "other"
    with pytest.raises(ValueError, match="choose one of smoke, quick, full, paper"):
        get_profile("fast")


def test_quick_trains_every_method_where_it_is_asked_to(monkeypatch):
    plain = get_profile("quick")
    monkeypatch.setenv("ROBUSTLIB_ALL_METHODS", "1")
    wide, full = get_profile("quick"), get_profile("full")
    assert get_profile("smoke") == PROFILES["smoke"] and plain == PROFILES["quick"]
    for mine, theirs, old in ((wide.images, full.images, plain.images), (wide.texts, full.texts, plain.texts)):
        assert mine[0].lessons.methods == theirs[0].lessons.methods
        assert mine[0].lessons.schedules == theirs[0].lessons.schedules
        assert set(mine[0].lessons.temperatures) <= set(theirs[0].lessons.temperatures)
        assert mine[0].lessons.n_train == old[0].lessons.n_train
        assert dataclasses.replace(mine[0], lessons=old[0].lessons) == old[0]
