"""The one look at a model: what it may return, how it is run, and what is given back."""

import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
from models_for_tests import LinearClassifier, predictions, random_images, sizes, small_net

from robustlib.attacks import auto_attack, carlini_wagner, fgsm, hop_skip_jump, pgd, square
from robustlib.attacks.diagnostics import input_jacobian, masking
from robustlib.calibration.fit import fit_temperature
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.models.forward import float32_mode, logits_of, warn_if_random

CONVOLUTIONS = torch.backends.cudnn.conv
QUICK = {
    pgd: {"epsilon": 0.1, "steps": 2},
    fgsm: {"epsilon": 0.1},
    square: {"epsilon": 0.1, "n_queries": 3},
    auto_attack: {"epsilon": 0.1, "attacks": ("apgd-ce",)},
    carlini_wagner: {"epsilon": 0.5, "steps": 3, "binary_search_steps": 1},
    hop_skip_jump: {"epsilon": 0.5, "steps": 1, "max_gradient_evaluations": 5},
}
every_attack = pytest.mark.parametrize("attack", QUICK, ids=lambda attack: attack.__name__)


class Wrapped(torch.nn.Module):
    """A small network and something done to its inputs or outputs."""

    def __init__(self, before=lambda images: images, after=lambda logits: logits):
        super().__init__()
        self.net, self.before, self.after = small_net(), before, after

    def forward(self, images):
        return self.after(self.net(self.before(images)))


@pytest.fixture
def problem():
    model, images = small_net(), random_images(12, (1, 6, 6), low=0.0, high=1.0)
    return model, images, predictions(model, images)


def run(attack, model, images, labels):
    return attack(model, images, labels, **QUICK[attack])


@every_attack
def test_a_callable_and_a_model_that_returns_a_mapping_are_attacked_like_the_module(attack, problem):
    model, images, labels = problem
    expected = run(attack, model, images, labels)
    for same in (lambda x: model(x), Wrapped(after=lambda logits: {"loss": None, "logits": logits})):
        assert torch.equal(run(attack, same, images, labels).adversarial, expected.adversarial)
    served = TemperatureScaled(Wrapped(after=lambda logits: {"logits": logits}), 10.0)
    torch.testing.assert_close(logits_of(served, images), logits_of(model, images) / 10)


@every_attack
@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda logits: (logits, logits), "returned a tuple of 2 .* logits"),
        (lambda logits: {"scores": logits}, "returned a dict without 'logits' .scores."),
        (lambda logits: logits[:, :1], "two classes or more"),
        (lambda logits: logits.argmax(dim=1), "a tensor of torch.int64"),
        (lambda logits: logits.softmax(dim=1), "look like probabilities"),
        (lambda logits: logits.softmax(dim=1).mul(1000).round() / 1000, "look like probabilities"),
    ],
)
def test_what_is_no_logits_is_refused_by_every_attack_alike(attack, after, message, problem):
    _, images, labels = problem
    with pytest.raises((TypeError, ValueError), match=message):
        run(attack, Wrapped(after=after), images, torch.zeros_like(labels))


@every_attack
def test_a_hidden_softmax_is_refused_behind_a_temperature_too_and_its_logarithm_taken(attack, problem):
    _, images, labels = problem
    served = TemperatureScaled(TemperatureScaled(Wrapped(after=lambda logits: logits.softmax(dim=1)), 10.0), 1e-3)
    with pytest.raises(ValueError, match="look like probabilities"):
        run(attack, served, images, labels)
    logarithms = Wrapped(after=lambda logits: logits.log_softmax(dim=1))
    assert (run(attack, logarithms, images, labels).outcome != "skipped").all()


@every_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_attacks_switch_gradients_on_for_themselves(attack, context, problem):
    model, images, labels = problem
    expected = run(attack, model, images, labels)
    with context():
        made_inside = images + 0
        result = run(attack, model, made_inside, labels + 0)
        assert not torch.is_grad_enabled()
    assert torch.equal(result.adversarial, expected.adversarial)


@every_attack
def test_labels_of_every_integer_type_and_arrays_are_taken(attack, problem):
    model, images, labels = problem
    expected = run(attack, model, images, labels).adversarial
    for other in (labels.int(), labels.to(torch.uint8), labels.short(), labels.numpy().astype(np.uint16)):
        assert torch.equal(run(attack, model, images.numpy(), other).adversarial, expected)


def test_arrays_and_small_integers_serve_calibration_and_diagnostics(problem):
    model, images, labels = problem
    logits, labels = logits_of(model, images.numpy()), (labels + 1) % 4
    labels[::2] = logits.argmax(dim=1)[::2]
    assert fit_temperature(logits.numpy(), labels.numpy().astype(np.int8)) == fit_temperature(logits, labels)
    assert masking(logits, labels.to(torch.uint8)).zero_gradient == masking(logits, labels).zero_gradient
    with pytest.raises(ValueError, match="look like probabilities"):
        masking(logits.softmax(dim=1), labels)


@every_attack
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_half_precision_are_attacked_within_the_ball(attack, dtype, problem):
    model, images, _ = problem
    model, images = model.to(dtype), images.to(dtype)
    labels = predictions(model, images)
    result = run(attack, model, images, labels)
    norm = "l2" if attack in (carlini_wagner, hop_skip_jump) else "linf"
    assert result.adversarial.dtype == dtype
    assert sizes(result.adversarial.double() - images.double(), norm).max() <= 1.001 * QUICK[attack]["epsilon"]
    assert ((predictions(model, result.adversarial) != labels).numpy() == (result.outcome == "succeeded")).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_rounding_never_leaves_a_small_ball(norm, dtype):
    images = random_images(64, (1, 8, 8), low=0.0, high=1.0).to(dtype)
    model = LinearClassifier(shape=(1, 8, 8)).to(dtype)
    result = pgd(model, images, predictions(model, images), epsilon=8 / 255, norm=norm, steps=5, leave_early=False)
    assert 0 < sizes(result.adversarial.double() - images.double(), norm).max() <= 1.001 * 8 / 255


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("form", ["exported", "frozen"])
def test_exported_and_scripted_modules_are_run_as_they_are(form, problem):
    model, images, labels = problem
    model.eval()
    if form == "exported":
        batch = torch.export.Dim("n")
        fixed = torch.export.export(model, (images,), dynamic_shapes=({0: batch},)).module()
    else:
        fixed = torch.jit.freeze(torch.jit.trace(model, images))
    torch.testing.assert_close(logits_of(TemperatureScaled(fixed, 2.0), images), logits_of(model, images) / 2)
    assert (run(pgd, fixed, images, labels).outcome == run(pgd, model, images, labels).outcome).all()


@every_attack
def test_a_model_that_works_in_place_leaves_the_callers_images_alone(attack, problem):
    _, images, _ = problem
    model, before = Wrapped(before=lambda x: x.sub_(0.5).div_(0.25)), images.clone()
    labels = logits_of(model, images).argmax(dim=1)
    result = run(attack, model, images, labels)
    assert torch.equal(images, before)
    right = (logits_of(model, result.adversarial).argmax(dim=1) == labels).numpy()
    assert (right == (result.outcome == "failed")).all()


@every_attack
def test_a_model_that_draws_random_numbers_is_noticed_and_no_other(attack, problem):
    model, images, labels = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_random(model, images)
        warn_if_random(lambda texts: torch.tensor([[float(len(text)), 2.0] for text in texts]), ["a", "bcd"])
        input_jacobian(small_net().half(), images.half())
    lost = suppress(ValueError)  # HopSkipJump's starting point may not be adversarial when it is looked at again
    with pytest.warns(UserWarning, match="two passes of the model over the same inputs differ"), lost:
        run(attack, Wrapped(before=lambda x: x + 0.01 * torch.randn_like(x)), images, labels)


def test_pixels_that_rounding_left_outside_are_clamped_and_others_named(problem):
    model, images, labels = problem
    images[0, 0, 0, :2] = torch.tensor([1.0000001, -1e-7])
    result = run(pgd, model, images, labels)
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    images[0, 0, 0, 0] = 1.00001
    with pytest.raises(ValueError, match=r"found -1\.0\d*e-07 to 1\.00001"):
        run(pgd, model, images, labels)


@pytest.mark.parametrize("attack", [pgd, square, hop_skip_jump, auto_attack])
def test_every_seed_of_0_and_above_serves(attack, problem):
    for seed in (2**32 - 1, 2**70, np.int64(5)):
        attack(*problem, **QUICK[attack], seed=seed)


def test_logits_of_takes_images_in_batches_and_texts_whole(problem):
    model, images, _ = problem
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(logits_of(model, images, batch_size=5), expected)
    assert torch.equal(logits_of(lambda texts: torch.ones(len(texts), 2), ["a", "b"]), torch.ones(2, 2))
    images[7] = torch.nan
    with pytest.raises(FloatingPointError, match="example 7"):
        logits_of(model, images, batch_size=5)


@pytest.fixture(params=["default", "newer switch", "older switch"])
def callers_mode(request):
    if request.param == "newer switch":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    if request.param == "older switch":
        torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = True


def test_what_is_measured_runs_without_tf32_and_the_callers_mode_comes_back(callers_mode, problem):
    _, images, labels = problem
    before, seen = (torch.backends.cuda.matmul.fp32_precision, CONVOLUTIONS.fp32_precision), set()

    def note(images):
        seen.add((torch.backends.cuda.matmul.fp32_precision, CONVOLUTIONS.fp32_precision))
        seen.add((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return images

    model = Wrapped(before=note)
    for attack in QUICK:
        run(attack, model, images, labels)
    logits_of(model, images)
    input_jacobian(model, images)
    assert seen == {("ieee", "ieee"), (False, False)}
    assert (torch.backends.cuda.matmul.fp32_precision, CONVOLUTIONS.fp32_precision) == before
    with float32_mode("tf32"):
        assert CONVOLUTIONS.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert CONVOLUTIONS.fp32_precision == before[1]
    with pytest.raises(ValueError, match="'ieee' or 'tf32'"), float32_mode("bfloat16"):
        pass
