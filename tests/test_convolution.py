"""The first convolution: torch's own values and gradients, of every order, one image independent of the others."""

import pytest
import torch
from torch import nn

from robustlib.models.convolution import FirstConv2d, _Convolution


def pair(channels=1, **options):
    """The layer and torch's own, with the same weights."""
    ours, reference = FirstConv2d(channels, 5, 3, **options), nn.Conv2d(channels, 5, 3, **options)
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def gradients(layer, images, of_weights=True):
    images = images.clone().requires_grad_()
    layer.requires_grad_(of_weights)
    value = layer(images).sin().sum()
    return torch.autograd.grad(value, [images, *(layer.parameters() if of_weights else ())])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"stride": 3, "padding": 2, "bias": False}], ids=str
)
@pytest.mark.parametrize("of_weights", [True, False])
def test_values_and_gradients_are_those_of_torch(channels, options, of_weights):
    ours, reference = pair(channels, **options)
    images = torch.rand(6, channels, 11, 8)
    torch.testing.assert_close(ours(images), reference(images), rtol=0, atol=0)
    for ours_, theirs in zip(
        gradients(ours, images, of_weights), gradients(reference, images, of_weights), strict=True
    ):
        torch.testing.assert_close(ours_, theirs, rtol=1e-5, atol=1e-6)


def test_first_and_second_derivatives_are_those_of_finite_differences():
    torch.manual_seed(0)
    weight, bias = (torch.rand(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 1, 3, 3), (2,)))
    images = torch.rand(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)

    def convolution(images, weight, bias):
        return _Convolution.apply(images, weight, bias, (2, 2), (1, 1)).sin()

    assert torch.autograd.gradcheck(convolution, (images, weight, bias))
    assert torch.autograd.gradgradcheck(convolution, (images, weight, bias))


def test_gradients_are_mapped_over_many_directions():
    ours, reference = pair(stride=2, padding=1)
    image, jacobians = torch.rand(1, 1, 7, 7), []
    for layer in (ours, reference):
        jacobians.append(
            torch.autograd.functional.jacobian(lambda x, f=layer: f(x).sum(dim=(2, 3)), image, vectorize=True)
        )
    torch.testing.assert_close(*jacobians)


def test_an_image_does_not_depend_on_the_others():
    ours, _ = pair(stride=2, padding=1)
    images = torch.rand(64, 1, 28, 28)
    together = gradients(ours, images, of_weights=False)[0]
    for n in (5, 17, 40):
        assert torch.equal(gradients(ours, images[:n], of_weights=False)[0], together[:n])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_and_autocast_go_the_usual_way(dtype):
    ours, reference = pair(stride=2, padding=1)
    images = torch.rand(3, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        for mine, theirs in zip(gradients(ours, images), gradients(reference, images), strict=True):
            assert torch.equal(mine, theirs)
    for mine, theirs in zip(*(gradients(each.to(dtype), images.to(dtype)) for each in (ours, reference)), strict=True):
        assert torch.equal(mine, theirs)


def test_without_gradients_nothing_is_kept():
    ours, _ = pair()
    with torch.no_grad():
        assert ours(torch.rand(2, 1, 5, 5).requires_grad_()).grad_fn is None


@pytest.mark.parametrize(
    "options",
    [{"dilation": 2}, {"padding": "same"}, {"padding": 1, "padding_mode": "circular"}, {"groups": 2}],
    ids=str,
)
def test_what_is_no_plain_convolution_is_computed_by_torch(options):
    ours = FirstConv2d(2, 4, 3, **options)
    reference = nn.Conv2d(2, 4, 3, **options)
    reference.load_state_dict(ours.state_dict())
    for images in (torch.rand(3, 2, 9, 8), torch.rand(2, 9, 8), torch.rand(0, 2, 9, 8)):
        for mine, theirs in zip(gradients(ours, images), gradients(reference, images), strict=True):
            assert torch.equal(mine, theirs)


def test_a_bias_is_trained_where_the_weights_are_not_and_autocast_around_the_backward_pass_changes_nothing():
    ours, _ = pair(stride=2, padding=1)
    images = torch.rand(3, 1, 8, 8, requires_grad=True)
    ours.weight.requires_grad_(False)
    wanted = torch.autograd.grad(ours(images).sin().sum(), [images, ours.bias])
    value = ours(images).sin().sum()
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(value, [images, ours.bias])
    assert all(torch.equal(*both) for both in zip(wanted, found, strict=True))
