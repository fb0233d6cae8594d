"""The trainings of notebooks 08, 09 and 13 on the smallest profile: what is trained, and what is recorded of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustlib.data import FetchError, load_images
from robustlib.data.cache import computed
from robustlib.models.forward import logits_of
from robustlib.models.images import build_image_model
from robustlib.study import images as study
from robustlib.study import variants
from robustlib.study.claims import trained as claims_training
from robustlib.study.claims.findings import evidence
from robustlib.study.claims.rules import SMALLEST
from robustlib.study.profiles import get_profile
from robustlib.study.records import RecordBook, Reference, difference, differences
from robustlib.study.units import Unit, Victim
from robustlib.study.variants import TrainingLesson, Variant, judge, lesson_settings, trained_variant

COLD, HOT = Variant(rule="normalise"), Variant(rule="normalise", temperature=100.0)
ADVERSARIES = ("naive", "cal", "cal-exact", "opt", "margin")
TRAINED = (Variant(), Variant(rule="clip"), COLD, HOT, Variant("pgd"), Variant("pgd", rule="normalise"))


@pytest.fixture(scope="module")
def image_book():
    """What judging a few variants records, each after the ones it is compared with."""
    book = RecordBook("09_high_temperature_hides", profile="smoke", seed=0, modality="image", part="training")
    models = {}
    for variant in TRAINED:
        reference = models.get(COLD if variant == HOT else Variant())
        trained = trained_variant("smoke", "image", variant)
        models[variant] = judge(trained, variant, book, attacks=("pgd",), adversaries=ADVERSARIES, reference=reference)
    return book, models


@pytest.fixture
def untrained(monkeypatch):
    """Image studies with initial weights instead of trained ones."""
    monkeypatch.setattr(
        study, "trained_image_model", lambda recipe: build_image_model(recipe.architecture, 1, 8, 10, seed=recipe.seed)
    )


def pick(frame, **wanted):
    """The one row with these values."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, (wanted, frame)
    return frame.iloc[0]


def test_a_variant_sets_what_it_says_and_leaves_the_rest_to_the_profile(untrained):
    sizes = lesson_settings("smoke", "image")
    plain = trained_variant("smoke", "image", Variant()).training
    assert (plain.epochs, plain.learning_rate, plain.n_train) == (sizes.epochs, sizes.learning_rate, sizes.n_train)
    assert (plain.label, plain.training_temperature, plain.method.name) == ("baseline", 1.0, "standard")
    hot = trained_variant("smoke", "image", Variant("pgd", "clip", 100.0, "cosine"), seed=4).training
    assert hot.method.name == "pgd" and hot.label == "pgd_gradclip(cosine)"
    set_by_it = {"gradient_rule": "clip", "training_temperature": 100.0, "temperature_schedule": "cosine", "seed": 4}
    assert replace(plain, method=hot.method, **set_by_it) == hot


def test_the_radius_of_the_lessons_is_trained_against_and_attacked_with(untrained):
    sizes = lesson_settings("smoke", "image")
    trained = trained_variant("smoke", "image", Variant("pgd"))
    assert trained.training.method.perturbations.radius == trained.budget("pgd")["epsilon"] == sizes.epsilon
    assert sizes.epsilon != get_profile("smoke").images[0].epsilon_linf
    assert trained.settings.n_search == sizes.n_opt


def test_text_lessons_may_train_more_layers_than_the_other_lessons(monkeypatch):
    texts = pytest.importorskip("robustlib.study.texts")
    monkeypatch.setattr(texts, "train_text_classifier", lambda training, *_: training)
    sizes = lesson_settings("smoke", "text")
    assert trained_variant("smoke", "text", Variant()).training.layers == get_profile("smoke").texts[0].layers
    monkeypatch.setattr(variants, "lesson_settings", lambda *_: replace(sizes, layers=None))
    assert trained_variant("smoke", "text", Variant()).training.layers is None


def test_training_lessons_have_attacks_and_more_sentences_of_their_own(monkeypatch):
    texts = pytest.importorskip("robustlib.study.texts")
    monkeypatch.setattr(texts, "train_text_classifier", lambda training, *_: training)
    sizes, others = lesson_settings("smoke", "text"), get_profile("smoke").texts[0]
    assert "dg-10" not in others.attacks
    larger = replace(sizes, n_test=others.n_test + 7, attacks=("dg-10", "tf-10"))
    monkeypatch.setattr(variants, "lesson_settings", lambda *_: larger)
    study = trained_variant("smoke", "text", Variant())
    assert (len(study.inputs), len(study.labels)) == (others.n_test + 7, others.n_test + 7)
    assert study.attacks["dg-10"].name == "dg-10"
    assert study.size("tf-10") == study.size("dg-10") == others.n_test + 7


def test_steps_solutions_epochs_and_titles(untrained):
    sizes = lesson_settings("smoke", "image")
    for variant, steps, solutions, epochs, title in (
        (Variant("pgd", rule="clip"), sizes.steps, 3, sizes.epochs, "PGD, clipped"),
        (Variant("ddi", steps=7, solutions=5), 7, 5, sizes.epochs, "DDi (M = 5, K = 7)"),
        (Variant("fgsm", steps=7), 1, 3, sizes.epochs, "FGSM"),
        (replace(HOT, longer=3), 5, 3, 3 * sizes.epochs, "standard, normalised, T = 100, 3x epochs"),
    ):
        training = trained_variant("smoke", "image", variant).training
        assert (training.method.steps, training.method.solutions, training.epochs) == (steps, solutions, epochs), (
            variant
        )
        assert variant.title == title
    longer = trained_variant("smoke", "image", replace(HOT, longer=3))
    assert longer.method_name(1.0) == f"baseline_gradnorm(epochs={3 * sizes.epochs})"


def test_more_data_is_seen_for_about_as_many_steps(untrained):
    sizes = lesson_settings("smoke", "image")
    training = trained_variant("smoke", "image", replace(HOT, n_train=600)).training
    assert (training.n_train, training.label) == (600, "baseline_gradnorm(n=600)")
    assert training.epochs * 600 == pytest.approx(sizes.epochs * sizes.n_train, abs=300)  # a number of whole epochs
    assert trained_variant("smoke", "image", Variant(n_train=100_000)).training.epochs == 1


def test_where_adversarial_training_gets_fewer_examples_so_does_what_it_is_compared_with(untrained, monkeypatch):
    sizes = replace(lesson_settings("smoke", "image"), method_n_train=40)
    monkeypatch.setattr(variants, "lesson_settings", lambda profile, modality: sizes)
    trained = {
        v: trained_variant("smoke", "image", v).training for v in (Variant(), Variant("pgd"), Variant(brief=True))
    }
    assert [(t.n_train, t.epochs, t.label) for t in trained.values()] == [
        (sizes.n_train, sizes.epochs, "baseline"),
        (40, 1, "pgd"),
        (40, 1, "baseline(n=40)"),
    ]
    lesson = TrainingLesson("08_illusion_by_training", "smoke", 0, "image")
    assert lesson.brief == Variant(brief=True)
    assert lesson.compared_with("pgd_gradnorm") == trained[lesson.brief].label
    assert lesson.compared_with("baseline_gradnorm") == "baseline"
    monkeypatch.setattr(variants, "lesson_settings", lambda profile, modality: replace(sizes, method_n_train=None))
    usual = TrainingLesson("08_illusion_by_training", "smoke", 0, "image")
    assert usual.brief is None
    assert usual.compared_with("pgd") == "baseline"


def test_all_variants_are_judged_on_the_same_examples(untrained):
    n = lesson_settings("smoke", "image").n_test
    one, other = (trained_variant("smoke", "image", variant) for variant in (Variant(), HOT))
    assert len(one.inputs) == len(one.labels) == n
    assert torch.equal(one.inputs, other.inputs) and torch.equal(one.labels, other.labels)
    test = load_images("digits", "test", n=get_profile("smoke").images[0].n_test, seed=0)
    assert torch.equal(one.inputs.cpu(), test.images[:n])
    validation = load_images("digits", "validation", n=get_profile("smoke").images[0].n_validation, seed=0)
    assert torch.equal(one.validation_inputs.cpu(), validation.images)


def test_the_numbers_are_those_of_the_evaluations(image_book):
    book, models = image_book
    hot, cold = models[HOT], models[COLD]
    rows = book.frame[(book.frame.method == "baseline_gradnorm") & (book.frame.training_temperature == 100)]
    assert len(rows) == 21  # 5 attacked, 5 on clean examples or in training; 4 to its own margin; 7 to the reference
    assert set(rows.reference_method.dropna()) == {"baseline_gradnorm"}
    assert set(book.frame[book.frame.method == "pgd"].reference_method.dropna()) == {"pgd", "baseline"}
    assert (book.frame.design_temperature == 1).all() and (book.frame.dataset == "digits").all()
    assert (book.frame[book.frame.attack == "pgd"].epsilon == lesson_settings("smoke", "image").epsilon).all()
    with torch.no_grad():
        logits = hot.study.model(hot.study.validation_inputs).double().cpu()
    correct = (logits.argmax(dim=1) == hot.study.validation_labels.cpu()).numpy()
    assert hot.correct.tolist() == correct.tolist() and 0.2 < correct.mean() < 1
    row = pick(rows, metric="accuracy", attack="clean")
    assert (row["mean"], row["n"]) == (pytest.approx(100 * correct.mean()), 180)
    assert pick(rows, metric="training_loss")["mean"] == hot.study.model.history[-1]["loss"]
    confidence = (logits - logits.logsumexp(dim=1, keepdim=True)).exp().amax(dim=1).numpy()
    assert pick(rows, metric="confidence_clean")["mean"] == pytest.approx(100 * confidence.mean())
    spread = (logits.max(dim=1).values - logits.min(dim=1).values).numpy()
    row = pick(rows, metric="logit_range")
    assert (row["mean"], row["n"]) == (pytest.approx(spread.mean()), 180)
    reach = 1.96 * spread.std(ddof=1) / math.sqrt(len(spread))
    assert (row["low"], row["high"]) == pytest.approx((spread.mean() - reach, spread.mean() + reach))
    margins = []
    for line, label in zip(logits.tolist(), hot.study.validation_labels.tolist(), strict=True):
        margins.append(line.pop(label) - max(line))
    assert pick(rows, metric="margin")["mean"] == pytest.approx(np.mean(margins))
    stands = {adversary: hot.evaluations["pgd", adversary].correct for adversary in ADVERSARIES}
    for adversary, flags in stands.items():
        row = pick(rows, metric="accuracy", attack="pgd", adversary=adversary)
        assert (row["mean"], row["n"]) == (pytest.approx(100 * flags.mean()), 60)
        before = cold.evaluations["pgd", adversary].correct
        row = pick(
            rows, metric="accuracy_difference", attack="pgd", adversary=adversary, reference_training_temperature=1
        )
        assert row["mean"] == pytest.approx(100 * (flags.mean() - before.mean()))
        assert row["low"] <= row["mean"] <= row["high"]
        if adversary != "margin":
            row = pick(rows, metric="accuracy_difference", adversary=adversary, reference_training_temperature=100)
            assert row["mean"] == pytest.approx(100 * (flags.mean() - stands["margin"].mean()))
    clean = pick(rows, metric="accuracy_difference", attack="clean")
    assert clean["mean"] == pytest.approx(100 * (correct.mean() - cold.correct.mean()))
    assert clean["mean"] == pytest.approx(100 * hot.correct_minus(cold).difference)
    change = pick(rows, metric="confidence_difference")
    assert change["mean"] == pytest.approx(100 * (confidence - cold.confidences).mean(), abs=1e-4)


def test_the_claims_find_every_number_they_ask_for(image_book):
    book, models = image_book
    (data,) = evidence(book.frame, "image").values()
    asked = {"C4": 2, "C5": 2, "C12": 1, "C17": 3, "C20": 2, "C24": 1, "C27": 2}
    absent = {  # one attack, two temperatures, and none divided by
        "C20": ["a second attack", "pgd beyond T = 100", "clean accuracy at T = 100"],
        "C24": ["divided by T = 100"],
    }
    for claim, n_findings in asked.items():
        findings = claims_training.TESTS[claim][0](data, SMALLEST)
        missing = [finding.where for finding in findings if finding.outcome == "missing"]
        assert missing == absent.get(claim, [])
        recorded = [finding for finding in findings if finding.outcome != "missing"]
        assert len(recorded) == n_findings, (claim, findings)
        assert all(finding.measured for finding in recorded), (claim, findings)
    hot = claims_training.TESTS["C24"][0](data, SMALLEST)[0]
    cells = models[HOT].evaluations
    points = 100 * (cells["pgd", "naive"].adversarial_accuracy - cells["pgd", "margin"].adversarial_accuracy)
    assert hot.measured.startswith(f"{points:+.1f} ")


def test_only_what_both_have_is_compared(image_book):
    _, models = image_book
    book = RecordBook("08_illusion_by_training", profile="smoke", seed=0, modality="image")
    naive = {("pgd", "naive"): models[COLD].evaluations["pgd", "naive"]}
    reference = replace(models[COLD], evaluations=naive)
    judge(models[HOT].study, HOT, book, attacks=("pgd",), adversaries=("naive", "cal-exact"), reference=reference)
    rows = differences(book.frame)
    assert list(zip(rows.attack, rows.adversary, strict=True)) == [("pgd", "naive"), ("clean", "naive")]
    assert (rows.reference_adversary == "naive").all()


def test_the_logits_that_judge_a_training_are_computed_with_it_and_once():
    unit = Unit(Victim("smoke", "image", 4, COLD))
    unit.compute()
    study, before = trained_variant("smoke", "image", COLD, seed=4), computed.total()
    assert torch.equal(study.validation_logits, logits_of(study.model, study.validation_inputs))
    assert computed.total() == before
    other = replace(study, validation_inputs=study.validation_inputs[1:], validation_labels=study.validation_labels[1:])
    assert torch.allclose(other.validation_logits, study.validation_logits[1:], atol=1e-5)


def test_a_lesson_trains_every_variant_for_every_seed_and_finds_its_differences(monkeypatch):
    monkeypatch.setattr(TrainingLesson, "seeds", [3, 4])
    lesson = TrainingLesson("09_high_temperature_hides", "smoke", 3, "image")
    models = lesson.train_and_judge([COLD, HOT])
    assert list(models) == [(seed, variant) for seed in (3, 4) for variant in (COLD, HOT)]
    assert set(lesson.book.frame.seed) == {3, 4} and set(lesson.records.n_seeds) == {2}
    lesson.compare(models[3, HOT], models[3, COLD], "cal", reference_adversary="naive")
    accuracy = {
        (seed, variant.temperature, name): 100 * model.evaluations["pgd", name].adversarial_accuracy
        for (seed, variant), model in models.items()
        for name in ("naive", "cal", "margin")
    }
    star = "baseline_gradnorm"
    illusions = [accuracy[seed, 100.0, "naive"] - accuracy[seed, 100.0, "margin"] for seed in (3, 4)]
    assert lesson.illusion(star, 100.0)["mean"] == pytest.approx(np.mean(illusions))
    gains = [accuracy[seed, 100.0, "margin"] - accuracy[seed, 1.0, "margin"] for seed in (3, 4)]
    assert lesson.gain(star, 100.0, "margin")["mean"] == pytest.approx(np.mean(gains))
    mixed = difference(lesson.book.frame, reference=Reference(star), adversary="cal", attack="pgd")
    assert mixed["mean"] == pytest.approx(accuracy[3, 100.0, "cal"] - accuracy[3, 1.0, "naive"])
    clean = [100 * (models[seed, HOT].correct.mean() - models[seed, COLD].correct.mean()) for seed in (3, 4)]
    assert lesson.gain(star, 100.0, "naive", attack="clean")["mean"] == pytest.approx(np.mean(clean))
    assert lesson.gain(star, 1.0, "margin", reference_method="baseline") is None
    prices = lesson.prices()
    assert prices.loc[(star, 100.0), "clean"] == pytest.approx(
        100 * np.mean([models[seed, HOT].correct.mean() for seed in (3, 4)])
    )
    robust = np.mean([accuracy[seed, 1.0, "margin"] for seed in (3, 4)])
    assert prices.loc[(star, 1.0), "robust"] == pytest.approx(robust)
    assert len(prices) == 2 and (prices.n_seeds == 2).all() and (prices.robust_low < prices.robust).all()
    backwards = TrainingLesson("13_high_temperature_adds", "smoke", 3, "image")
    backwards.train_and_judge([HOT, COLD])
    assert list(backwards.prices().index) == [(star, 1.0), (star, 100.0)]  # as a figure numbers them


def test_main_rows_get_more_seeds_than_the_others_and_are_compared_seed_by_seed():
    lesson = TrainingLesson("09_high_temperature_hides", "smoke", 3, "image")
    assert (lesson.seeds, lesson.main_seeds) == ([3], [3, 4])
    models = lesson.train_and_judge([COLD, HOT], adversaries=("naive", "margin"), seeds=lesson.main_seeds)
    lesson.train_and_judge([Variant()], references={3: models[3, COLD]}, adversaries=("naive", "margin"))
    counts = lesson.records.groupby("method").n_seeds.unique()
    assert counts["baseline_gradnorm"].tolist() == [2] and counts["baseline"].tolist() == [1]
    full = TrainingLesson("09_high_temperature_hides", "full", 5, "text")
    assert full.main_seeds == full.seeds == [5, 6, 7]


def test_texts_are_trained_and_judged_alike():
    sizes = lesson_settings("smoke", "text")
    book = RecordBook("08_illusion_by_training_text", profile="smoke", seed=0, modality="text")
    options = {"attacks": ("dg",), "adversaries": ("naive", "margin")}
    try:
        plain = judge(trained_variant("smoke", "text", Variant()), Variant(), book, **options)
    except (FetchError, ModuleNotFoundError) as error:
        pytest.skip(str(error).splitlines()[0])
    variant = Variant("pgd", rule="normalise", temperature=100.0)
    model = judge(trained_variant("smoke", "text", variant), variant, book, reference=plain, **options)
    training = model.study.training
    assert sizes.method_n_train and training.epochs == 1
    assert training.learning_rate == sizes.learning_rate
    assert (training.method.steps, training.method.perturbations.norm) == (sizes.steps, "l2")
    assert model.study.inputs == plain.study.inputs and len(model.study.inputs) == sizes.n_test
    rows = book.frame[book.frame.method == "pgd_gradnorm"]
    assert len(rows) == 12  # 2 attacked, 5 on clean examples or in training; 1 to its own log-odds; 4 to the reference
    difference = pick(rows, metric="accuracy_difference", attack="dg", reference_method="baseline", adversary="margin")
    assert difference["mean"] == pytest.approx(
        100 * (model.evaluations["dg", "margin"].correct.mean() - plain.evaluations["dg", "margin"].correct.mean())
    )
    assert pick(rows, metric="accuracy", attack="clean")["mean"] == pytest.approx(100 * model.correct.mean())
