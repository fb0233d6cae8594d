"""Low-precision victims: rounded as served, different from float32, and mostly of one mind with it."""

import pytest
import torch
from models_for_tests import tiny_text_model

from robustlib.attacks.result import FAILED, SKIPPED, SUCCEEDED
from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words import attack_in_low_precision, attack_texts
from robustlib.models.forward import logits_of
from robustlib.models.precision import (
    PRECISIONS,
    Float16Linear,
    Int8Linear,
    at_precision,
    rounded_probabilities,
    usable,
)
from robustlib.models.texts import TextClassifier

WORDS = ["good", "bad", "film", "plot", "dull", "sharp", "never", "always"]


def sentences(n=200):
    """Random sentences of one to eight words."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (n,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(0, 8, (k,), generator=generator).tolist()) for k in lengths]


@pytest.fixture(scope="module", params=["tiny-bert", "tiny-roberta", "tiny-deberta"])
def model(request):
    """A tiny model with logits of some size, centred so that both classes occur."""
    model = tiny_text_model(request.param, scale=8, seed=1)
    with torch.no_grad():
        head = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
        head.weight.mul_(20)
        head.bias -= model.logits(sentences()).median(dim=0).values
    return model


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "int8"])
def test_low_precision_differs_but_mostly_agrees_and_leaves_the_original(model, precision):
    victim = at_precision(model, precision)
    exact, low = model(sentences()), victim(sentences())
    assert low.dtype == torch.float32 and low.shape == exact.shape
    assert not torch.equal(low, exact)
    assert (low.argmax(dim=1) == exact.argmax(dim=1)).float().mean() > 0.9
    assert exact.argmax(dim=1).float().mean() == pytest.approx(0.5, abs=0.4)  # both classes occur
    if precision != "int8":  # rounded as served
        rounded = exact.to(getattr(torch, precision)).float()
        assert torch.equal(low, low.to(getattr(torch, precision)).float()) and not torch.equal(exact, rounded)
    assert torch.equal(model(sentences()), exact) and all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(at_precision(model, "float32")(sentences()), exact)


@pytest.mark.parametrize("bias", [True, False])
def test_the_float16_layer_is_torchs_own(bias):
    torch_layer = torch.nn.Linear(96, 40, bias=bias).half()
    values = torch.randn(5, 3, 96, generator=torch.Generator().manual_seed(0)).half()
    ours, theirs = Float16Linear(torch_layer)(values), torch_layer(values)
    assert ours.dtype == torch.float16
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4)  # one step of float16: sums in another order
    assert (ours == theirs).float().mean() > 0.9


@pytest.mark.parametrize("bias", [True, False])
def test_the_int8_layer_equals_integer_arithmetic(bias):
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(96, 40, bias=bias)
    values = torch.randn(7, 96, generator=generator)
    weight = layer.weight.detach().double()
    weight_scale = weight.abs().amax(dim=1, keepdim=True) / 127
    scale = values.double().abs().amax(dim=1, keepdim=True) / 127
    integers = (values / scale).round().long() @ (weight / weight_scale).round().long().T
    expected = integers.double() * scale * weight_scale.T + (layer.bias.detach().double() if bias else 0)
    ours = Int8Linear(layer)
    torch.testing.assert_close(ours(values), expected.float(), rtol=1e-5, atol=1e-5)
    assert torch.equal(ours(values)[:1], ours(values[:1])), "no neighbour in the batch matters"
    assert torch.equal(ours(torch.zeros(1, 96)), torch.zeros(1, 40) + (layer.bias.detach() if bias else 0))


def fixed(*rows):
    """A victim that answers every text list with these logits."""
    return lambda texts: torch.tensor(rows)[: len(texts)]


def test_rounded_probabilities_come_back_by_softmax_and_zero_is_half_a_unit():
    logits = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.3, 0.1]])
    served = rounded_probabilities(lambda texts: logits, 2)(["a", "b"])
    torch.testing.assert_close(served.exp(), torch.softmax(logits, dim=1).round(decimals=2))
    assert served.dtype == torch.float32
    served = rounded_probabilities(fixed([20.0, 0.0], [30.0, 0.0]), 3)(["a", "b"])
    torch.testing.assert_close(served.exp(), torch.tensor([[1.0, 5e-4], [1.0, 5e-4]]))
    assert torch.equal(served[0], served[1])  # the attacker cannot tell them apart
    hot = rounded_probabilities(fixed([2.0, 0.0], [3.0, 0.0]), 3)(["a", "b"])
    assert not torch.equal(hot[0], hot[1])


def test_tf32_needs_a_gpu(monkeypatch):
    model = TextClassifier.from_name("tiny-bert", 2)
    assert [precision for precision in PRECISIONS if not usable(precision, "cpu")] == ["tf32"]
    with pytest.raises(ValueError, match=r"tf32 needs a CUDA GPU.*the model is on cpu"):
        at_precision(model, "tf32")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not usable("tf32", "cuda"), "Turing has no TF32"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert usable("tf32", "cuda")


def test_a_tf32_victim_switches_its_own_products_alone(monkeypatch):
    monkeypatch.setattr("robustlib.models.precision.usable", lambda precision, device: True)
    model = TextClassifier.from_name("tiny-bert", 2)
    victim, modes = at_precision(model, "tf32"), []
    for body in (model.body, victim.body.body):
        body.register_forward_hook(lambda *_: modes.append(torch.backends.cuda.matmul.fp32_precision))
    before = torch.backends.cuda.matmul.fp32_precision
    assert torch.equal(logits_of(victim, ["a film"]), logits_of(model, ["a film"]))  # on a CPU nothing is rounded
    assert modes == ["tf32", "ieee"] and torch.backends.cuda.matmul.fp32_precision == before
    assert torch.equal(victim.embed(torch.tensor([[7]])), model.embed(torch.tensor([[7]])))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_tf32_rounds_on_a_gpu(model):
    if not usable("tf32", "cuda"):
        pytest.skip("this GPU has no TF32")
    exact = logits_of(model.to("cuda"), sentences())
    rounded = logits_of(at_precision(model, "tf32"), sentences())
    model.to("cpu")
    assert 0 < (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("model", ["tiny-bert"], indirect=True)
@pytest.mark.parametrize(("precision", "temperature"), [("int8", 1.0), ("bfloat16", 1e-3)])
def test_a_search_in_low_precision_is_judged_and_finished_in_float32(model, precision, temperature):
    texts = sentences(8)
    labels = model(texts).argmax(dim=1)
    labels[::7] = 1 - labels[::7]  # wrong before the attack
    score = TrueClassProbability(temperature)
    result = attack_in_low_precision(model, texts, labels, precision=precision, score=score)
    expected = attack_texts(model, texts, labels, score=score)
    right_at_the_end = (model(result.adversarial).argmax(dim=1) == labels).tolist()
    assert right_at_the_end == (result.outcome == FAILED).tolist()
    assert ((result.outcome == SKIPPED) == (expected.outcome == SKIPPED)).all()
    assert all(result.adversarial[i] == texts[i] for i in range(0, 8, 7))
    robust = result.outcome == FAILED
    assert set(expected.outcome[robust]) <= {FAILED}, "what stands here stands against the search in float32"
    assert (result.outcome == SUCCEEDED).any() and (result.details["changed"][result.outcome == SUCCEEDED] > 0).all()
