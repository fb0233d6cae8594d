"""A temperature from answers alone: right where it can be read, silent where it cannot, and every query counted."""

import math

import pandas as pd
import pytest
import torch
from models_for_tests import LinearClassifier, random_images, small_net
from record_rows import record

from robustlib.attacks import Attack, pgd
from robustlib.attacks.adversaries import plan_adversary
from robustlib.attacks.black_box import Counted, ScaleEstimate, blend, read_gaps, splice, walk
from robustlib.attacks.estimators import fit_answers, fitted_gaps, read_slopes
from robustlib.calibration.defences import Answer
from robustlib.calibration.disguises import Disguised
from robustlib.calibration.fit import typical_gap
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.models import logits_of
from robustlib.study.claims.judge import judge_claims
from robustlib.study.records import COLUMNS, Reference
from robustlib.study.services import TEMPERATURES


def service(model, temperature, **shown):
    return Counted(Disguised(TemperatureScaled(model, temperature), Answer(**shown)))


def pairs(n=60, classes=3):
    model = LinearClassifier(classes, scale=6.0)
    images = random_images(n, low=0.0, high=1.0)
    return model, images, images.roll(1, dims=0)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1e3])
def test_gaps_that_can_be_read_are_the_models_own_divided_by_the_temperature(temperature):
    model, images, _ = pairs()
    own = typical_gap(logits_of(model, images))
    asked = service(model, temperature)
    estimate = read_gaps(asked, images)
    assert estimate.temperature(own) == pytest.approx(temperature, rel=0.05)
    assert estimate.n_queries == asked.n_queries == len(images) and asked.n_batches == 1


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1.0, 1e2])
def test_a_walk_tells_the_gap_of_a_linear_model_also_where_every_answer_is_saturated(temperature):
    model, starts, ends = pairs(classes=2)
    estimate = walk(service(model, temperature), starts, ends, blend)
    own = logits_of(model, starts).topk(2, dim=1).values.double()
    different = logits_of(model, starts).argmax(1) != logits_of(model, ends).argmax(1)
    own = (own[:, 0] - own[:, 1])[different].quantile(0.5, interpolation="lower").item()
    assert estimate.temperature(own) == pytest.approx(temperature, rel=0.05)
    if temperature < 1e-3:
        assert math.isnan(read_gaps(service(model, temperature), starts).gap)


def test_where_nothing_can_be_read_nothing_is_said():
    model, starts, ends = pairs()
    assert math.isnan(read_gaps(service(model, 1e6, decimals=2), starts).gap)  # all tied
    assert math.isnan(walk(service(model, 1e6, decimals=2), starts, ends, blend).gap)
    alone = walk(service(model, 1.0), starts, starts, blend)  # no pair of two classes
    assert math.isnan(alone.gap) and alone.n_queries == 2 * len(starts)
    assert ScaleEstimate(math.nan, 0.0, 1).temperature(3.0) != 3.0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1e4])
def test_a_slope_and_a_surrogate_tell_the_temperature_where_answers_do(temperature):
    model, images, _ = pairs(n=120)
    exact = service(model, 1.0, dtype=torch.float64)
    own = read_slopes(exact, images, images[:1], blend).gap
    asked = service(model, temperature)
    slope = read_slopes(asked, images, images[:1], blend)
    assert slope.temperature(own) == pytest.approx(temperature, rel=0.05)
    assert slope.n_queries == asked.n_queries == 240 and slope.n == 120
    asked, fresh = service(model, temperature), random_images(60, low=0.0, high=1.0, seed=5)
    fitted = fitted_gaps(asked, images, fresh)
    assert fitted.temperature(typical_gap(logits_of(model, fresh))) == pytest.approx(temperature, rel=0.5)
    assert fitted.n_queries == asked.n_queries == 120 and fitted.n == 60


def test_a_slope_and_a_surrogate_admit_that_saturated_or_tied_answers_tell_nothing():
    model, images, _ = pairs(n=40)
    for served in (service(model, 1e-6), service(model, 1e7, decimals=2)):
        assert math.isnan(read_slopes(served, images, images[:1], blend).gap)
        assert math.isnan(fitted_gaps(served, images, images).gap)


def test_answers_about_texts_are_learnt_from_their_words():
    texts = [f"{word} {other}" for word in ("good", "bad") for other in "abcdefghijklmno"]
    answers = torch.tensor([[0.0, 3.0 if "good" in text else -3.0] for text in texts])
    for size in (1.0, 1e-3):
        learnt = fit_answers(texts, size * answers)(["good x", "bad x"])
        assert learnt[0, 1] - learnt[0, 0] == pytest.approx(3 * size, rel=0.6)
        assert learnt[1, 1] < learnt[1, 0]
    asked = Counted(lambda batch: torch.tensor([[0.0, 3.0 if "good" in text else -3.0] for text in batch]))
    slope = read_slopes(asked, texts, ["bad film"], splice, 0.5)
    assert asked.n_queries == 2 * len(texts) and slope.readable == 0.5  # the first word of half of them changes it


def test_a_service_with_a_limit_refuses_the_query_beyond_it():
    model, images, _ = pairs(n=5)
    asked = Counted(model, limit=8)
    asked(images)
    with pytest.raises(PermissionError, match="answers 8 queries, 5 are spent"):
        asked(images)


def test_words_of_one_text_replace_those_of_another():
    starts, ends = ["a b c d", "x"], ["k l m n", "y z"]
    assert splice(starts, ends, torch.tensor([0.0, 0.0])) == starts
    assert splice(starts, ends, torch.tensor([1.0, 1.0])) == ends
    assert splice(starts, ends, torch.tensor([0.5, 0.0])) == ["k l c d", "x"]


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e4])
def test_the_estimated_temperature_brings_every_service_to_one_scale_without_labels(temperature):
    model, images = small_net(), random_images(80, (1, 6, 6), low=0.0, high=1.0)
    attack = Attack("pgd", lambda *given, **options: pgd(*given, epsilon=0.1, steps=2, **options))
    served = Disguised(TemperatureScaled(model, temperature), Answer())
    labels = torch.zeros(80, dtype=torch.long)  # not looked at
    adversary = plan_adversary("estimated", served, attack, images, labels)
    assert adversary.temperature * temperature == pytest.approx(typical_gap(logits_of(model, images)) / 4, rel=0.7)
    assert "queries" in adversary.status


# --- claims ----------------------------------------------------------------------------------------------------


def verdict(claim, rows):
    rows = [record(half=1.0, modality="image", experiment="12_x", method="service: float32", **row) for row in rows]
    judgements = judge_claims(pd.DataFrame(rows, columns=COLUMNS)).judgements
    return next(j.verdict for j in judgements if (j.claim, j.modality) == (claim, "image"))


def told(errors):
    where = {"metric": "log10_error", "attack": "clean"}
    ends = {t: {"mean": e, "low": e - 0.05, "high": e + 0.05} for t, e in errors.items()}
    return [{"adversary": "walk", "design_temperature": t, **row, **where} for t, row in ends.items()]


def test_a_scale_must_be_told_at_every_temperature():
    right = dict.fromkeys(TEMPERATURES, -0.1)
    assert verdict("O14", told(right)) == "reproduced"
    assert verdict("O14", told(right | {TEMPERATURES[0]: 0.5})) == "partly"
    assert verdict("O14", told(dict(list(right.items())[1:]))) == "partly"  # silent at the first
    assert verdict("O14", told(right | {TEMPERATURES[0]: -0.29})) == "partly"  # open within its interval
    assert verdict("O14", []) == "not tested"
    lucky = [told(dict.fromkeys(TEMPERATURES, 0.0))[0] | {"adversary": "surrogate"}]
    assert verdict("O14", told(dict(list(right.items())[1:])) + lucky) == "partly"  # nobody knows that it was right


def test_labels_must_leave_fewer_at_both_extremes():
    where = {"metric": "accuracy_difference", "attack": "sign-hunter", "adversary": "estimated"}
    where["reference"] = Reference("baseline", "labels only")
    rows = [{"mean": m, "design_temperature": t, **where} for t, m in ((1e-3, 20.0), (1.0, -10.0), (1e6, 30.0))]
    assert verdict("O15", rows) == "reproduced"
    assert verdict("O15", [rows[0] | {"mean": 0.5}, *rows[1:]]) == "partly"
