"""Published defences as maps of logits and of inputs: predictions stay, and what is hidden is what the source says."""

import math

import pytest
import torch
from torch import nn

from robustlib.attacks.scores import DLR, Margin
from robustlib.calibration.defences import Answer, HardMax, RandomScale, Slope
from robustlib.calibration.disguises import Disguised
from robustlib.models.images import Mixture, QuantisedInputs

LABELS = torch.arange(200) % 4


def logits(n_classes=4, n=200):
    return 5 * torch.randn(n, n_classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "defence",
    [
        HardMax(),
        RandomScale(),
        *(Slope(2.0, shape) for shape in ("linear", "sine", "stairs")),
        Answer(),
        Answer("top", decimals=6),
    ],
    ids=repr,
)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_predictions_stay(defence, n_classes):
    given = logits(n_classes)
    shown = Disguised(nn.Identity(), defence)(given)
    assert shown.shape == given.shape and shown.dtype == given.dtype
    assert (shown.argmax(1) == given.argmax(1)).double().mean() > 0.97  # rounding makes ties


def test_a_random_scale_moves_the_margin_at_every_query_and_no_ratio():
    scale, given = RandomScale(), logits()
    first, second = scale(given), scale(given)
    assert not torch.allclose(Margin()(first, LABELS), Margin()(second, LABELS), rtol=0.05)
    torch.testing.assert_close(DLR()(first, LABELS), DLR()(second, LABELS))
    factors = (first / given)[:, 0]
    assert 0.5 <= factors.min() < 1.5 and 9 < factors.max() <= 10
    torch.testing.assert_close(RandomScale()(given), first)  # from its seed


@pytest.mark.parametrize(("shape", "falls"), [("linear", True), ("sine", True), ("stairs", False)])
def test_whoever_follows_the_gap_is_led_astray(shape, falls):
    gaps = torch.linspace(0.01, 7.9, 500)
    given = torch.stack([gaps, torch.zeros(500), torch.full((500,), -9.0)], dim=1)
    shown = Slope(2.0, shape)(given)
    served = shown[:, 0] - shown[:, 1]
    assert (served > 0).all()
    assert bool((served.diff() < 0).any()) == falls
    assert served[-1] > served[0] + 4  # and yet a large gap looks larger than a small one
    if shape == "stairs":
        assert len(served.unique()) == 4


def test_an_answer_holds_what_a_service_shows():
    given = torch.tensor([[3.0, 1.0, 0.0], [400.0, 0.0, -1.0]])
    exact = given.double().softmax(1)
    assert torch.allclose(Answer()(given).exp()[0].double(), exact[0])
    assert Answer()(given)[1, 1] < -87  # saturated: 0 in float32
    assert Answer(dtype=torch.float64)(given.double())[1, 1].item() == pytest.approx(-400)
    rounded = Answer(decimals=2)(given).exp()[0]
    torch.testing.assert_close(rounded, torch.tensor([0.84, 0.11, 0.04]))
    top = Answer("top")(given).exp()[0].double()
    torch.testing.assert_close(top, torch.tensor([exact[0, 0], *[(1 - exact[0, 0]) / 2] * 2]))
    half = Answer(dtype=torch.float16)(torch.tensor([[9e4, 0.0]]))
    assert half.isfinite().all()


def test_eight_levels_pass_no_gradient_and_a_mixture_is_one_of_probabilities():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.rand(5, 1, 2, 2, requires_grad=True)
    shown = QuantisedInputs(network, 8)(images)
    torch.testing.assert_close(shown, network((images * 7).round() / 7))
    shown.sum().backward()
    assert images.grad.abs().max() == 0
    other = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    mixed = Mixture(network, other, weight=0.25, sharpness=2.0)(images).exp()
    torch.testing.assert_close(mixed, 0.75 * network(images).softmax(1) + 0.25 * (2 * other(images)).softmax(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScale(2.0, 1.0), "0 < low <= high"),
        (lambda: RandomScale(1.0, math.inf), "0 < low <= high"),
        (lambda: Slope(0.0), "period must be"),
        (lambda: Slope(1.0, "ramp"), "shape must be linear, sine or stairs"),
        (lambda: Answer("best"), "shows must be all or top"),
        (lambda: Answer(decimals=0), "decimals"),
    ],
)
def test_a_bad_setting_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
