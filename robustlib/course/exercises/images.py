"""Checks of the exercises. Each holds cases worked by hand and says what a wrong answer got wrong."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from robustlib.course.exercises import solutions
from robustlib.course.exercises.base import answered, exercise, expect, tensor


@exercise("0.1", solutions.adversarial_accuracy)
def adversarial_accuracy(answer: Callable[[Sequence[str]], float]) -> None:
    """Exercise 0.1: adversarial accuracy from the outcomes of an attack, one for each example."""
    result = answered(answer(["failed", "failed", "failed", "succeeded"]))
    expect(
        result != 0.25,
        "0.25 is the share of attacks that succeeded; adversarial accuracy is the share of examples on which the model "
        "still stands, where the attack failed",
    )
    expect(result == 0.75, f"the model is right on three of four after the attack: the answer is 0.75, got {result}")
    result = answered(answer(["failed", "succeeded", "skipped", "skipped"]))
    expect(
        result == 0.25,
        f"one failed attack, one success, two skipped: expected 0.25, got {result}. A skipped example was wrong before "
        "the attack: it belongs below the fraction line, but not above",
    )


@exercise("0.2", solutions.undo)
def undo_temperature(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 0.2: logits for the attacker's copy, given served logits and the design temperature."""
    logits = torch.tensor([[3.0, -1.0], [0.5, 2.0]])
    for design_temperature in (1e-3, 50.0):
        served = logits / design_temperature
        result = tensor(answer(served.clone(), design_temperature), 2, 2)
        expect(not torch.allclose(result, served, rtol=1e-5), "these are the served logits as they came: divide by T_a")
        expect(
            not torch.allclose(result, served / design_temperature, rtol=1e-5),
            "you divided by T_d, as the service did: the logits are now divided twice. T_a has to undo T_d",
        )
        expect(
            torch.allclose(result, logits, rtol=1e-5),
            f"served at T_d = {design_temperature:g}, your copy should have the logits {logits.tolist()}, got "
            f"{result}. The adversary's temperature divides too: which T_a makes T_d * T_a = 1?",
        )


@exercise("1.1", solutions.ece)
def expected_calibration_error(answer: Callable[[dict[str, np.ndarray]], float]) -> None:
    """Exercise 1.1: ECE from reliability bins."""
    bins = {
        "count": np.array([10, 0, 30]),
        "confidence": np.array([0.4, np.nan, 0.9]),
        "accuracy": np.array([0.5, np.nan, 0.7]),
    }
    result = answered(answer(bins))
    expect(not np.isnan(result), "an empty bin has no accuracy (NaN): leave it out of the sum")
    expect(
        not np.isclose(abs(result), 0.125),
        "gaps in opposite directions must not cancel: take the absolute value of each bin's gap",
    )
    expect(
        not np.isclose(result, 0.15), "0.15 is the plain mean over bins: weight each bin by its share of the examples"
    )
    expect(np.isclose(result, 0.175), f"10 of 40 are off by 0.1 and 30 of 40 by 0.2: expected 0.175, got {result}")


@exercise("1.2", solutions.new_temperature)
def temperature_for_scaled_logits(answer: Callable[[float, float], float]) -> None:
    """Exercise 1.2: the calibrated temperature after all logits were multiplied by s."""
    for temperature, scale in ((1.3, 1000.0), (0.7, 1e-6)):
        result = answered(answer(temperature, scale))
        expect(
            not np.isclose(result, temperature / scale),
            "that is T / s: logits s times as long need a divisor s times as large",
        )
        expect(
            not np.isclose(result, temperature), "the T of before: for logits s times as long it is s times too small"
        )
        expect(
            np.isclose(result, temperature * scale),
            f"logits that needed T = {temperature}, times {scale:g}: which T gives the same quotient? Got {result}",
        )


@exercise("2.1", solutions.step)
def pgd_step(answer: Callable[[Tensor, Tensor, Tensor, float, float], Tensor]) -> None:
    """Exercise 2.1: one Linf step, projected onto the ball and the pixel range."""
    image = torch.tensor([[[[0.5, 0.02, 0.98, 0.5]]]])
    gradient = torch.tensor([[[[3.0, -1e-9, 7.0, 0.0]]]])
    before = image.clone()
    result = tensor(answer(image, image, gradient, 0.03, 0.1), *image.shape)
    expect(torch.equal(image, before), "your step changed the caller's image: make a new tensor")
    expect(
        torch.isclose(result[0, 0, 0, 0], torch.tensor(0.53)),
        f"a gradient of 3 and a step of 0.03 move 0.5 to 0.53, got {result[0, 0, 0, 0]}: use the sign of the gradient",
    )
    expect((result >= 0).all() and (result <= 1).all(), f"pixels left [0, 1]: {result.flatten().tolist()}")
    grey, upwards = torch.full_like(image, 0.5), torch.ones_like(image)
    near = answered(answer(grey + 0.02, grey, upwards, 0.03, 0.1))
    expect(
        not torch.allclose(near, grey + 0.03),
        "the step starts from the clean image: it must start from where the attack is, `current`",
    )
    expect(torch.allclose(near, grey + 0.05), f"from 0.52 a step of 0.03 leads to 0.55, got {near.flatten()[0]:.3f}")
    far = answered(answer(grey + 0.09, grey, upwards, 0.05, 0.1))
    expect(((far - grey) <= 0.1 + 1e-6).all(), "the step left the ball of radius epsilon around the clean image")
    expect(
        torch.allclose(far, grey + 0.1),
        "a step that would leave the ball ends on its surface: here at the clean image + epsilon, not before it",
    )
    expect(result[0, 0, 0, 3] == 0.5, "where the gradient is exactly 0 nothing moves: that is what the illusion uses")


@exercise("2.2", solutions.my_score)
def scale_free_score(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 2.2: a score whose order of candidates no temperature can change."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 5, generator=generator)
    labels = torch.randint(0, 5, (64,), generator=generator)
    before = logits.clone()
    result = tensor(answer(logits, labels), 64)
    expect(torch.equal(logits, before), "your score changed the caller's logits: work on a copy, logits.clone()")
    fooled = logits.argmax(dim=1) != labels
    standing = result[~fooled].unique()
    expect(
        len(standing) == int((~fooled).sum()),
        "already at T = 1 examples that are not yet fooled tie: there is nothing to climb. So it is with the largest "
        "of *all* logits: the true class must not count among its rivals",
    )
    # DLR rightly ties some fooled examples at every T: only pairs that it tells apart at T = 1 can lose something.
    apart = result[:, None] < result
    for temperature in (1e-6, 1e6):
        scaled = answered(answer(logits / temperature, labels))
        tied, swapped = scaled[:, None] == scaled, scaled[:, None] > scaled
        expect(
            not (tied & apart).any(),
            f"at T = {temperature:g} candidates that differ at T = 1 get the same score: the signal is gone",
        )
        expect(not (swapped & apart).any(), f"at T = {temperature:g} the order of the candidates changes")
    expect(
        result[fooled].min() >= result[~fooled].max(),
        "every fooled example must score at least as high as every example that is not fooled",
    )


@exercise("3.1", solutions.one_sided)
def one_sided(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 3.1: which examples have a gradient of 0 for the true class only."""
    probs = torch.tensor([[1.0, 1e-20, 0.0], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 0])
    result = tensor(answer(probs, labels), 4)
    expect(result.dtype == torch.bool, "return one bool per example")
    expect(result[0], "row 0: p - 1 is exactly 0 for the true class, 1e-20 for another: one-sided")
    expect(not result[1], "row 1 has a gradient in the true class: not one-sided")
    expect(not result[2], "row 2 has no gradient at all: that is zero, not one-sided")
    expect(not result[3], "row 3 is misclassified: its true class has gradient -1")


@exercise("3.2", solutions.wall_temperature)
def temperature_of_wall(answer: Callable[[float, float], float]) -> None:
    """Exercise 3.2: below which temperature does a logit gap cross a wall?"""
    for gap, wall in ((5.0, 16.6), (12.0, 104.0)):
        result = answered(answer(gap, wall))
        expect(not np.isclose(result, wall / gap), "that is upside down: a wall further away is met at a smaller T")
        expect(
            not np.isclose(result, wall * gap), "gap / T is what meets the wall: solve gap / T = wall, do not multiply"
        )
        expect(
            np.isclose(result, gap / wall),
            f"a gap of {gap} divided by T exceeds {wall} once T is below {gap / wall:.4f}, got {result}",
        )


@exercise("4.1", solutions.slope)
def nll_slope(answer: Callable[[Tensor, Tensor, float], float]) -> None:
    """Exercise 4.1: derivative of the mean NLL with respect to beta = 1 / T, from logits."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0])
    for beta in (0.0, 0.5, 2.0):
        scale = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
        torch.nn.functional.cross_entropy(scale * logits, labels).backward()
        result = answered(answer(logits, labels, beta))
        expect(torch.as_tensor(result).numel() == 1, "one number is wanted, the mean over the examples")
        expect(
            not np.isclose(float(result), -float(scale.grad)),
            "the sign is flipped: expected logit minus true logit, since the NLL falls where the true logit is larger",
        )
        expect(
            not np.isclose(float(result), len(labels) * float(scale.grad)),
            "that is the sum over the examples: the mean NLL has a mean as its slope",
        )
        expect(
            np.isclose(float(result), float(scale.grad)),
            f"at beta = {beta} the slope is {float(scale.grad):.6f}, got {float(result):.6f}: mean of "
            "(expected logit under softmax(beta * logits)) - (logit of the true class)",
        )


@exercise("4.2", solutions.flips)
def flips(answer: Callable[[np.ndarray, np.ndarray], tuple[int, int]]) -> None:
    """Exercise 4.2: examples that only one of two adversaries breaks."""
    a = np.array([True, True, False, False, True])
    b = np.array([True, False, False, True, False])
    result = answered(answer(a, b))
    expect(np.shape(result) == (2,), "return two numbers: how many are right only under a, how many only under b")
    result = tuple(int(value) for value in result)
    expect(result != (3, 2), "those are all that are right under a, and under b: leave out where they agree")
    expect(result != (1, 2), "these are the two numbers in the other order: only under a, then only under b")
    expect(result == (2, 1), f"2 are right only under a, 1 only under b: expected (2, 1), got {result}")
