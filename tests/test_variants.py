"""The trainings of notebooks 08 and 09 on the smallest profile: what is trained, and what is recorded of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustlib.attacks.statistics import mean_of
from robustlib.data import FetchError, load_images
from robustlib.models.images import build_image_model
from robustlib.study import images as study
from robustlib.study import variants
from robustlib.study.claims import gain, illusion
from robustlib.study.claims import trained as claims_training
from robustlib.study.claims.findings import evidence
from robustlib.study.profiles import get_profile
from robustlib.study.records import REFERENCE, RecordBook, Reference, difference, differences
from robustlib.study.variants import Variant, judge, lesson_settings, trained_variant

COLD, HOT = Variant(rule="normalise"), Variant(rule="normalise", temperature=100.0)
TRAINED = (Variant(), Variant(rule="clip"), COLD, HOT, Variant("pgd"), Variant("pgd", rule="normalise"))


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_CACHE", str(tmp_path_factory.mktemp("variants")))
        patch.setenv("ROBUSTLIB_PROGRESS", "0")
        yield


@pytest.fixture(scope="module")
def image_book():
    """What judging a few variants records, each after the ones it is compared with."""
    book = RecordBook("09_high_temperature_training", profile="smoke", seed=0, modality="image")
    judged = {}
    for variant in TRAINED:
        reference = judged.get(COLD if variant == HOT else Variant())
        trained = trained_variant("smoke", "image", variant)
        judged[variant] = judge(trained, variant, book, attacks=("pgd",), reference=reference)
    return book, judged


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


@pytest.mark.parametrize(
    ("variant", "title"),
    [
        (Variant(), "standard"),
        (COLD, "standard, normalised"),
        (HOT, "standard, normalised, T = 100"),
        (Variant("pgd", rule="clip"), "PGD, clipped"),
        (Variant("ddi", solutions=5, steps=7), "DDi (M = 5, K = 7)"),
        (Variant(temperature=0.5, schedule="warm-up", longer=2), "standard, T = 0.5 (warm-up), 2x epochs"),
        (Variant("dg-aug"), "augmented (dg)"),
        (Variant(rule="normalise", n_train=600), "standard, normalised, n = 600"),
    ],
)
def test_titles(variant, title):
    assert variant.title == title


def test_a_variant_sets_what_it_says_and_leaves_the_rest_to_the_profile(untrained):
    sizes = lesson_settings("smoke", "image")
    plain = trained_variant("smoke", "image", Variant()).training
    assert (plain.epochs, plain.learning_rate, plain.n_train) == (sizes.epochs, sizes.learning_rate, sizes.n_train)
    assert (plain.label, plain.training_temperature, plain.method.name) == ("baseline", 1.0, "standard")
    hot = Variant("pgd", "clip", 100.0, "cosine")
    assert (
        replace(
            trained_variant("smoke", "image", hot).training,
            method=plain.method,
            gradient_rule="none",
            training_temperature=1.0,
            temperature_schedule="constant",
        )
        == plain
    )
    found = trained_variant("smoke", "image", hot, seed=4).training
    assert (found.gradient_rule, found.training_temperature, found.temperature_schedule, found.seed) == (
        "clip",
        100.0,
        "cosine",
        4,
    )
    assert found.label == "pgd_gradclip(cosine)"


def test_the_radius_of_the_lessons_is_trained_against_and_attacked_with(untrained):
    sizes = lesson_settings("smoke", "image")
    found = trained_variant("smoke", "image", Variant("pgd"))
    assert found.training.method.perturbations.radius == found.settings.epsilon_linf == sizes.epsilon
    assert found.attacks["pgd"].run.keywords["epsilon"] == sizes.epsilon
    assert sizes.epsilon != get_profile("smoke").images[0].epsilon_linf
    assert found.settings.n_search == sizes.n_opt


def test_steps_and_solutions(untrained):
    for variant, steps, solutions in (
        (Variant("pgd"), lesson_settings("smoke", "image").steps, 3),
        (Variant("ddi", steps=7, solutions=5), 7, 5),
        (Variant("fgsm", steps=7), 1, 3),
    ):
        method = trained_variant("smoke", "image", variant).training.method
        assert (method.steps, method.solutions) == (steps, solutions), variant


def test_a_longer_training_says_so_in_its_name(untrained):
    found = trained_variant("smoke", "image", replace(HOT, longer=3))
    assert found.training.epochs == 3 * lesson_settings("smoke", "image").epochs == 15
    assert found.method_name(1.0) == "baseline_gradnorm(epochs=15)"
    assert trained_variant("smoke", "image", HOT).method_name(1.0) == "baseline_gradnorm"


def test_more_data_is_seen_for_about_as_many_steps(untrained):
    sizes = lesson_settings("smoke", "image")
    found = trained_variant("smoke", "image", replace(HOT, n_train=600)).training
    assert (found.n_train, found.label) == (600, "baseline_gradnorm(n=600)")
    assert found.epochs * 600 == pytest.approx(sizes.epochs * sizes.n_train, abs=300)  # a number of whole epochs
    assert trained_variant("smoke", "image", Variant(n_train=100_000)).training.epochs == 1


def test_all_variants_are_judged_on_the_same_examples(untrained):
    n = lesson_settings("smoke", "image").n_test
    one, other = (trained_variant("smoke", "image", variant) for variant in (Variant(), HOT))
    assert len(one.inputs) == len(one.labels) == n
    assert torch.equal(one.inputs, other.inputs) and torch.equal(one.labels, other.labels)
    test = load_images("digits", "test", n=get_profile("smoke").images[0].n_test, seed=0)
    assert torch.equal(one.inputs.cpu(), test.images[:n])
    validation = load_images("digits", "validation", n=get_profile("smoke").images[0].n_validation, seed=0)
    assert torch.equal(one.validation_inputs.cpu(), validation.images)


def test_ascc_is_refused_for_images():
    with pytest.raises(ValueError, match=r"ascc .*for texts"):
        trained_variant("smoke", "image", Variant("ascc"))


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"method must be one of standard, .* got 'mixup'"):
        trained_variant("smoke", "image", Variant("mixup"))


def test_which_rows_are_recorded(image_book):
    book, _ = image_book
    rows = book.frame
    assert set(rows.columns[rows.notna().any()]) >= {"norm", "epsilon", "reference_method", "training_temperature"}
    for variant in TRAINED:
        label = {"none": "", "clip": "_gradclip", "normalise": "_gradnorm"}[variant.rule]
        label = variant.method.replace("standard", "baseline") + label
        own = rows[(rows.method == label) & (rows.training_temperature == variant.temperature)]
        accuracies = own[own.metric == "accuracy"]
        assert sorted(zip(accuracies.attack, accuracies.adversary, strict=True)) == [
            ("clean", "none"),
            ("pgd", "cal"),
            ("pgd", "cal-exact"),
            ("pgd", "margin"),
            ("pgd", "none"),
            ("pgd", "opt"),
        ]
        measured = own[own.metric.isin(["confidence_clean", "logit_range", "margin"])]
        assert sorted(zip(measured.metric, measured.attack, measured.adversary, strict=True)) == [
            ("confidence_clean", "clean", "none"),
            ("logit_range", "clean", "none"),
            ("margin", "clean", "none"),
        ]
        every = differences(own)
        itself = Reference(label, "margin", training_temperature=variant.temperature)
        illusions = differences(own, reference=itself)
        illusions = illusions[illusions.adversary != "margin"]
        assert sorted(illusions.adversary) == ["cal", "cal-exact", "none", "opt"]
        paired = every.drop(illusions.index)
        if variant == Variant():
            assert paired.empty and not (own.metric == "confidence_difference").any()
            continue
        name = "baseline_gradnorm" if variant == HOT else "baseline"
        assert sorted(paired.reference_adversary) == ["cal", "cal-exact", "margin", "none", "none", "opt"]
        assert (paired.reference_adversary == paired.adversary).all()
        compared = [*paired.to_dict("records"), pick(own, metric="confidence_difference")]
        for row in compared:
            assert Reference(*(row[column] for column in REFERENCE)) == Reference(name, row["adversary"])
    assert (rows.design_temperature == 1).all() and (rows.dataset == "digits").all()
    assert (rows[rows.attack == "pgd"].epsilon == lesson_settings("smoke", "image").epsilon).all()


def test_the_numbers_are_those_of_the_evaluations(image_book):
    book, judged = image_book
    here, there = judged[HOT], judged[COLD]
    rows = book.frame[(book.frame.method == "baseline_gradnorm") & (book.frame.training_temperature == 100)]
    with torch.no_grad():
        logits = here.study.model(here.study.images).double().cpu()
    labels = here.study.labels.cpu()
    correct = (logits.argmax(dim=1) == labels).numpy()
    assert here.accuracy == correct.mean() and 0.2 < here.accuracy < 1
    assert pick(rows, metric="accuracy", attack="clean")["mean"] == pytest.approx(100 * correct.mean())
    with torch.no_grad():
        logits = here.study.model(here.study.validation_inputs).double().cpu()
    confidence = (logits - logits.logsumexp(dim=1, keepdim=True)).exp().amax(dim=1).numpy()
    assert pick(rows, metric="confidence_clean")["mean"] == pytest.approx(100 * confidence.mean())
    spread = (logits.max(dim=1).values - logits.min(dim=1).values).numpy()
    row = pick(rows, metric="logit_range")
    assert (row["mean"], row["n"]) == (pytest.approx(spread.mean()), 180)
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * spread.std(ddof=1) / math.sqrt(len(spread)))
    margins = []
    for line, label in zip(logits.tolist(), here.study.validation_labels.tolist(), strict=True):
        margins.append(line.pop(label) - max(line))
    assert pick(rows, metric="margin")["mean"] == pytest.approx(np.mean(margins))
    stands = {adversary: here.found["pgd", adversary].correct for adversary in variants.ADVERSARIES}
    for adversary, flags in stands.items():
        row = pick(rows, metric="accuracy", attack="pgd", adversary=adversary)
        assert (row["mean"], row["n"]) == (pytest.approx(100 * flags.mean()), 60)
        before = there.found["pgd", adversary].correct
        row = gain(rows, "baseline_gradnorm", attack="pgd", adversary=adversary, training_temperature=HOT.temperature)
        assert row["mean"] == pytest.approx(100 * (flags.mean() - before.mean()))
        assert row["low"] <= row["mean"] <= row["high"]
        if adversary != "margin":
            hot = {"training_temperature": HOT.temperature, "attack": "pgd"}
            row = illusion(rows, "baseline_gradnorm", adversary=adversary, **hot)
            assert row["mean"] == pytest.approx(100 * (flags.mean() - stands["margin"].mean()))
    clean = pick(rows, metric="accuracy_difference", attack="clean")
    assert clean["mean"] == pytest.approx(100 * (correct.mean() - there.correct.mean()))
    assert clean["mean"] == pytest.approx(100 * here.correct_minus(there).difference)
    change = pick(rows, metric="confidence_difference")
    assert change["mean"] == pytest.approx(100 * (confidence - there.confidences).mean(), abs=1e-4)


def test_the_claims_find_every_number_they_ask_for(image_book):
    book, judged = image_book
    (data,) = evidence(book.frame, "image").values()
    asked = {"C4": 2, "C5": 2, "C12": 1, "C17": 2, "C20": 2, "C24": 1, "C27": 1}
    for claim, n_findings in asked.items():
        found = claims_training.TESTS[claim][0](data)
        if claim == "C20":  # made with one attack, which the test says
            assert [finding.where for finding in found if finding.outcome == "missing"] == ["a second attack"]
            found = [finding for finding in found if finding.outcome != "missing"]
        assert len(found) == n_findings, (claim, found)
        assert all(finding.outcome in ("holds", "fails") and finding.measured for finding in found), (claim, found)
    (hot,) = claims_training.TESTS["C24"][0](data)
    cells = judged[HOT].found
    points = 100 * (cells["pgd", "none"].adversarial_accuracy - cells["pgd", "margin"].adversarial_accuracy)
    assert hot.measured.startswith(f"{points:+.1f} ")


def test_only_what_both_have_is_compared(image_book):
    _, judged = image_book
    book = RecordBook("08_illusion_by_training", profile="smoke", seed=0, modality="image")
    reference = replace(judged[COLD], found={("pgd", "none"): judged[COLD].found["pgd", "none"]})
    judge(judged[HOT].study, HOT, book, attacks=("pgd",), adversaries=("none", "cal-exact"), reference=reference)
    assert sorted(differences(book.frame).attack) == ["clean", "pgd"]
    assert len(differences(book.frame, reference=Reference("baseline_gradnorm"))) == 2


def test_mean_of_written_out():
    found = mean_of(np.array([1.0, 2.0, 3.0, 6.0]))
    reach = 1.96 * math.sqrt((4 + 1 + 0 + 9) / 3) / 2
    assert found == {"mean": 3.0, "low": pytest.approx(3 - reach), "high": pytest.approx(3 + reach), "n": 4}


def test_texts_are_trained_and_judged_alike():
    sizes = lesson_settings("smoke", "text")
    book = RecordBook("08_illusion_by_training_text", profile="smoke", seed=0, modality="text")
    options = {"attacks": ("dg",), "adversaries": ("none", "margin")}
    try:
        plain = judge(trained_variant("smoke", "text", Variant()), Variant(), book, **options)
    except (FetchError, ModuleNotFoundError) as error:
        pytest.skip(str(error).splitlines()[0])
    variant = Variant("pgd", rule="normalise", temperature=100.0)
    found = judge(trained_variant("smoke", "text", variant), variant, book, reference=plain, **options)
    training = found.study.training
    assert (training.epochs, training.learning_rate) == (sizes.epochs, sizes.learning_rate)
    assert (training.method.steps, training.method.perturbations.norm) == (sizes.steps, "l2")
    assert found.study.inputs == plain.study.inputs and len(found.study.inputs) == sizes.n_test
    rows = book.frame[book.frame.method == "pgd_gradnorm"]
    assert len(rows) == 11  # 2 attacked, clean, confidence, range, margin; 1 to its own log-odds; 4 to the reference
    added = difference(rows, reference=Reference("baseline", "margin"), attack="dg", adversary="margin")
    assert added["mean"] == pytest.approx(
        100 * (found.found["dg", "margin"].correct.mean() - plain.found["dg", "margin"].correct.mean())
    )
    assert pick(rows, metric="accuracy", attack="clean")["mean"] == pytest.approx(100 * found.accuracy)


def test_records_come_in_the_same_order_every_time(image_book):
    rows = image_book[0].frame
    compared = differences(rows, attack="pgd", reference_training_temperature=1.0)
    compared = compared[compared.reference_adversary == compared.adversary]
    assert list(dict.fromkeys(compared.adversary)) == list(variants.ADVERSARIES)
