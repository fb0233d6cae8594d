"""Landscapes: the stored logits are the model's own, and every temperature is read off them."""

import numpy as np
import pytest
import torch
from models_for_tests import classified, predictions, random_images, small_net

from robustlib.attacks.landscape import exactly_flat, filter_normalised, input_landscape, weight_landscape
from robustlib.attacks.scores import CrossEntropy, Margin


def test_input_landscape_holds_the_models_logits_and_rises_towards_the_attack():
    model, image = small_net(), random_images(1, (1, 6, 6))
    label = predictions(model, image)
    land = input_landscape(model, image, label, epsilon=0.05, side=9)
    assert land.logits.shape == (9, 9, 1, 4)
    with torch.no_grad():
        torch.testing.assert_close(land.logits[4, 4], model(image))
    point = image.clone().requires_grad_(True)
    gradient = torch.autograd.grad(Margin()(model(point), label).sum(), point)[0]
    with torch.no_grad():
        expected = model(image + 0.05 * land.coordinates[6] * gradient.sign())
    torch.testing.assert_close(land.logits[6, 4], expected, atol=1e-5, rtol=1e-5)
    surface = land.surface(Margin())
    assert surface[8, 4] > surface[4, 4] > surface[0, 4]
    with pytest.raises(ValueError, match="side must be odd"):
        input_landscape(model, image, label, epsilon=0.1, side=8)


def test_surfaces_at_any_temperature_need_no_model_and_flatten_when_it_is_low():
    model, image = small_net(), random_images(1, (1, 6, 6))
    land = input_landscape(model, image, predictions(model, image), epsilon=0.01, side=5)
    by_hand = torch.nn.functional.cross_entropy(land.logits[1, 3] / 2.5, land.labels).item()
    assert land.surface(CrossEntropy(2.5))[1, 3] == pytest.approx(by_hand, rel=1e-5)
    assert np.ptp(land.surface(CrossEntropy(1e-5))) == 0
    assert np.ptp(land.surface(Margin())) > 0


def test_weight_landscape_is_filter_normalised_and_leaves_the_model_alone():
    model, images, labels = classified(12)
    before = [weight.clone() for weight in model.parameters()]
    land = weight_landscape(model, images, labels, side=5, seed=3)
    assert land.logits.shape == (5, 5, 12, 4)
    with torch.no_grad():
        torch.testing.assert_close(land.logits[2, 2], model(images))
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    directions = filter_normalised(model, 3)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            torch.testing.assert_close(directions[name].norm(dim=1), weight.detach().norm(dim=1))
        else:
            assert (directions[name] == 0).all()
    again = weight_landscape(model, images, labels, side=5, seed=3)
    assert torch.equal(land.logits, again.logits)


def test_exactly_flat_is_decided_by_the_last_bit():
    surface = np.zeros((5, 5), dtype=np.float32)
    assert exactly_flat(surface).all()
    surface[4, 4] = 1e-45
    assert not exactly_flat(surface)[4, 4]
    assert not exactly_flat(surface)[3, 4]
    assert exactly_flat(surface)[:3].all()
