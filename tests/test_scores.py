"""Scores: closed forms, and which of them a temperature can touch."""

import pytest
import torch

from robustlib.attacks.scores import DLR, MIFPE, CrossEntropy, Margin, TrueClassProbability, clearest_gap

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 2.5], [1.0, 1.0, -4.0]])
LABELS = torch.tensor([0, 2, 1])


def test_values_by_hand():
    torch.testing.assert_close(Margin()(LOGITS, LABELS), torch.tensor([-1.5, 0.5, 0.0]))
    torch.testing.assert_close(DLR()(LOGITS, LABELS), torch.tensor([-1.5 / 3, 0.5 / 3, 0.0]))
    probs = torch.softmax(LOGITS / 2, dim=1)
    torch.testing.assert_close(TrueClassProbability(2.0)(LOGITS, LABELS), 1 - probs[torch.arange(3), LABELS])
    torch.testing.assert_close(CrossEntropy(2.0)(LOGITS, LABELS), -probs[torch.arange(3), LABELS].log())
    assert DLR()(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long)).item() == 0  # equal logits
    two, labels = torch.randn(50, 2, dtype=torch.float64), torch.randint(0, 2, (50,))
    p_true = torch.softmax(two, dim=1)[torch.arange(50), labels]
    torch.testing.assert_close(Margin()(two, labels), -(p_true / (1 - p_true)).log())  # the log-odds


def test_mifpe_is_cross_entropy_with_every_gap_brought_to_ten():
    logits, labels = LOGITS[:2].clone().requires_grad_(), LABELS[:2]
    divided = LOGITS[:2] * torch.tensor([[10 / 1.5], [10 / 0.5]])
    value = MIFPE()(logits, labels)
    torch.testing.assert_close(value, CrossEntropy()(divided, labels))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    expected = (torch.softmax(divided, dim=1) - torch.eye(3)[labels]) * torch.tensor([[10 / 1.5], [10 / 0.5]])
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    assert MIFPE()(torch.zeros(1, 3), torch.tensor([0])).item() == pytest.approx(1.0986, abs=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_the_clearest_gap_gives_the_longest_gradient(n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    logits = torch.randn(40, n_classes, generator=generator, dtype=torch.float64)
    top, labels = logits.topk(2, dim=1).values, logits.argmax(dim=1)
    logits = logits / (top[:, :1] - top[:, 1:])
    grid = torch.linspace(0.01, 6, 2000, dtype=torch.float64)
    p_true = torch.softmax(grid.view(-1, 1, 1) * logits, dim=2)[:, torch.arange(40), labels]
    best = grid[(grid.unsqueeze(1) * (1 - p_true)).argmax(dim=0)]
    torch.testing.assert_close(clearest_gap(logits, labels), best, atol=4e-3, rtol=0)
    if n_classes == 2:
        torch.testing.assert_close(best, torch.full_like(best, 1.2785), atol=4e-3, rtol=0)  # t = 1 + exp(-t)
    assert (clearest_gap(logits, logits.argmin(dim=1)) == 1).all()


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_a_ratio_of_differences_and_mifpe_ignore_a_temperature_of_each_input(temperature):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 4, generator=generator), torch.randint(0, 4, (50,), generator=generator)
    own = temperature ** torch.rand(50, 1, generator=generator)
    for score in (DLR(), MIFPE(), MIFPE(gap=None)):
        torch.testing.assert_close(score(logits / own, labels), score(logits, labels), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(Margin()(logits / own, labels), Margin()(logits, labels))
