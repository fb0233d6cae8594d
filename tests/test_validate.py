"""Each bad input is named, with the way out."""

import pytest
import torch

from robustlib.calibration.checks import (
    check_labels,
    check_logits,
    check_pixels,
    check_temperature,
    looks_like_probabilities,
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_probabilities_are_recognised_at_every_precision_and_logits_of_any_scale_are_not(dtype):
    probs = torch.softmax(torch.randn(40, 6), dim=1).to(dtype)
    assert looks_like_probabilities(probs)
    with pytest.raises(ValueError, match="look like probabilities"):
        check_logits(probs)
    for scale in (1e-8, 1e-3, 1.0, 1e6):
        check_logits(torch.randn(40, 6) * scale)
        check_logits(torch.rand(40, 6) * scale)
    check_logits(torch.log_softmax(torch.randn(40, 6), dim=1))


@pytest.mark.parametrize(
    ("check", "error", "message"),
    [
        (lambda: check_logits(torch.tensor([[1.0, 2.0], [torch.nan, 0.0]])), ValueError, "first in row 1"),
        (lambda: check_logits(torch.zeros(3, 2, dtype=torch.long)), TypeError, "floating-point tensor"),
        (lambda: check_logits(torch.zeros(3)), ValueError, r"shape \(n, n_classes\)"),
        (lambda: check_labels(torch.tensor([0, 5]), 2, 3), ValueError, "found 0 to 5"),
        (lambda: check_labels(torch.tensor([0.0]), 1), TypeError, "integer tensor"),
        (lambda: check_pixels(torch.rand(2, 1, 4, 4) * 255), ValueError, "put normalisation into the model"),
        (lambda: check_temperature(0), ValueError, "above 0, got 0"),
    ],
)
def test_bad_input_is_named(check, error, message):
    with pytest.raises(error, match=message):
        check()
