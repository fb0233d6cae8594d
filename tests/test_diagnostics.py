"""Masking diagnostics: the float32 walls where they are said to be, and gradients against autograd."""

import math

import pytest
import torch
from models_for_tests import classified, random_images, small_net

from robustlib.attacks.diagnostics import (
    GRADIENT_WALL,
    PROBABILITY_WALL,
    input_gradient,
    input_jacobian,
    logit_gradient,
    masking,
    tied_score_share,
)


def two_class(gap: float) -> torch.Tensor:
    return torch.tensor([[gap, 0.0]])


ZERO = torch.zeros(1, dtype=torch.long)


def test_the_probability_wall_is_where_float32_rounds_to_one():
    below, above = two_class(PROBABILITY_WALL - 0.1), two_class(PROBABILITY_WALL + 0.1)
    assert torch.softmax(below, dim=1)[0, 0] < 1
    assert torch.softmax(above, dim=1)[0, 0] == 1
    gradient = logit_gradient(above, ZERO, 1.0)[0]
    assert gradient[0] == 0
    assert gradient[1] > 0
    assert masking(above, ZERO).one_sided_gradient == 1
    assert masking(below, ZERO).one_sided_gradient == 0


def test_the_gradient_wall_is_where_float32_underflows_to_zero():
    assert (logit_gradient(two_class(GRADIENT_WALL + 0.5), ZERO, 1.0) == 0).all()
    assert (logit_gradient(two_class(GRADIENT_WALL - 1.5), ZERO, 1.0)[0, 1]) > 0
    beyond = masking(two_class(GRADIENT_WALL + 0.5), ZERO)
    assert beyond.zero_gradient == beyond.beyond_gradient_wall == beyond.beyond_probability_wall == 1
    assert masking(two_class(GRADIENT_WALL + 0.5), ZERO, temperature=10).zero_gradient == 0


@pytest.mark.parametrize("temperature", [0.05, 1.0, 300.0])
def test_the_stored_jacobian_gives_autograds_gradient(temperature):
    model, images = small_net().double(), random_images(12, (1, 6, 6)).double()
    labels = torch.arange(12) % 4
    logits, jacobian = input_jacobian(model, images, batch_size=5)
    point = images.clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(model(point) / temperature, labels, reduction="sum").backward()
    expected = point.grad.flatten(1)
    torch.testing.assert_close(input_gradient(logits, jacobian, labels, temperature), expected)
    assert jacobian.shape == (12, 4, 36)
    assert all(weight.grad is not None for weight in model.parameters())  # from our own backward call only


def test_masking_of_a_model_as_temperature_falls():
    model, images, labels = classified(60)
    logits, jacobian = input_jacobian(model, images)
    reports = [masking(logits, labels, temperature=t, jacobian=jacobian) for t in (1.0, 1e-1, 1e-2, 1e-4)]
    assert reports[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert reports[0].zero_gradient == 0
    for column in ("beyond_probability_wall", "beyond_gradient_wall", "zero_gradient", "mean_confidence"):
        values = [getattr(report, column) for report in reports]
        assert values == sorted(values)
    assert reports[-1].zero_gradient > 0.9
    assert reports[-1].zero_input_gradient >= reports[-1].zero_gradient
    gap = logits.topk(2, dim=1).values
    assert reports[0].gap_quantiles[1] == pytest.approx((gap[:, 0] - gap[:, 1]).double().quantile(0.5).item())
    assert math.isnan(masking(logits, labels).cosine)


def test_tied_scores_by_hand():
    candidates = torch.tensor([[[20.0, 0.0], [30.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]])
    labels = torch.zeros(2, dtype=torch.long)
    assert tied_score_share(candidates, labels, 1.0) == pytest.approx(2 / 6)  # 20 and 30 are both beyond the wall
    assert tied_score_share(candidates, labels, 10.0) == 0
    assert tied_score_share(candidates, labels, 0.01) == 1.0
