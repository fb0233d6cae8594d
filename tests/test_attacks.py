"""Gradient attacks against closed forms, foolbox, and their promises to the caller."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import LinearClassifier, predictions, random_images, small_net

from robustlib.attacks import auto_attack, carlini_wagner, fgsm, hop_skip_jump, pgd, square
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.calibration.temperature import TemperatureScaled


def two_class_margin(model, images, labels):
    with torch.no_grad():
        logits = model(images)
    return logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, 1 - labels[:, None])[:, 0]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_one_step_lowers_a_linear_margin_by_epsilon_times_the_dual_norm(norm, dual):
    model = LinearClassifier(n_classes=2).double()
    images = random_images(20).double()
    labels = predictions(model, images)
    epsilon = 1e-3
    adversarial = fgsm(model, images, labels, epsilon=epsilon, norm=norm, score=CrossEntropy()).adversarial
    drop = two_class_margin(model, images, labels) - two_class_margin(model, adversarial, labels)
    weight_norm = (model.weight[0] - model.weight[1]).norm(p=dual).item()
    moved = predictions(model, adversarial) == labels
    torch.testing.assert_close(drop[moved], torch.full_like(drop[moved], epsilon * weight_norm))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_foolbox_step_by_step(norm):
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import foolbox

    model = small_net().double().eval()
    images = random_images(24, (1, 6, 6)).double()
    labels = predictions(model, images)
    epsilon, steps, step_size = 0.05, 7, 0.013
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    oracle, _, _ = attack(abs_stepsize=step_size, steps=steps, random_start=False)(
        foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=epsilon
    )
    ours = pgd(
        model,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        steps=steps,
        step_size=step_size,
        random_start=False,
        leave_early=False,
    )
    torch.testing.assert_close(ours.adversarial, oracle, atol=1e-9, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=st.floats(0, 0.5),
    temperature=st.sampled_from([1e-6, 1e-2, 1.0, 1e4]),
    steps=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_perturbation_stays_in_the_ball_and_the_pixel_range_and_inputs_are_untouched(
    norm, epsilon, temperature, steps, seed
):
    model = small_net(seed)
    images = random_images(9, (1, 6, 6), seed, low=0.0, high=1.0)
    labels = torch.arange(9) % 4
    before, weights = images.clone(), [weight.clone() for weight in model.parameters()]
    result = pgd(
        model,
        images,
        labels,
        epsilon=epsilon,
        norm=norm,
        score=CrossEntropy(temperature),
        steps=steps,
        restarts=2,
        seed=seed,
    )
    change = (result.adversarial - images).flatten(1)
    size = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    assert (size <= epsilon * (1 + 1e-5) + 1e-7).all()
    assert result.adversarial.min() >= 0
    assert result.adversarial.max() <= 1
    assert torch.equal(images, before)
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    assert result.adversarial_accuracy <= result.clean_accuracy
    skipped = result.outcome == "skipped"
    assert torch.equal(result.adversarial[torch.tensor(skipped)], images[torch.tensor(skipped)])


def test_outcomes_are_those_of_a_fresh_forward_pass():
    model, images = small_net(), random_images(40, (1, 6, 6))
    labels = torch.where(torch.arange(40) < 30, predictions(model, images), (predictions(model, images) + 1) % 4)
    result = pgd(model, images, labels, epsilon=0.08)
    right = (predictions(model, result.adversarial) == labels).numpy()
    assert set(result.outcome) == {"succeeded", "failed", "skipped"}
    assert (right == (result.outcome == "failed")).all()
    assert result.adversarial_accuracy == pytest.approx(right.mean())
    assert (result.outcome == "skipped").sum() == 10


def test_batch_size_does_not_change_the_answer_and_early_leaving_saves_passes():
    model, images = small_net(), random_images(30, (1, 6, 6))
    labels = predictions(model, images)
    whole = pgd(model, images, labels, epsilon=0.08)
    parts = pgd(model, images, labels, epsilon=0.08, batch_size=7)
    every_step = pgd(model, images, labels, epsilon=0.08, leave_early=False)
    torch.testing.assert_close(whole.adversarial, parts.adversarial, atol=1e-6, rtol=0)
    assert (whole.outcome == parts.outcome).all()
    assert whole.n_backward < every_step.n_backward == 30 * 20
    assert every_step.n_forward == 30 * 22  # one clean pass, one before each step, one at the end


def test_restarts_only_add_successes():
    model, images = small_net(), random_images(40, (1, 6, 6))
    labels = predictions(model, images)
    one = pgd(model, images, labels, epsilon=0.05, steps=2)
    five = pgd(model, images, labels, epsilon=0.05, steps=2, restarts=5)
    assert (five.outcome[one.outcome == "succeeded"] == "succeeded").all()
    assert five.adversarial_accuracy <= one.adversarial_accuracy


def test_kept_path_starts_at_the_image_and_every_iterate_is_in_the_ball():
    model, images = small_net(), random_images(5, (1, 6, 6))
    labels = predictions(model, images)
    result = pgd(model, images, labels, epsilon=0.05, steps=6, random_start=False, keep_path=True)
    path = result.details["path"]
    assert path.shape == (7, 5, 1, 6, 6)
    assert torch.equal(path[0], images)
    assert ((path - images).abs() <= 0.05 + 1e-6).all()
    assert not torch.equal(path[1], path[0])


@pytest.mark.parametrize("score", [Margin(), DLR()])
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e3, 1e8])
def test_scale_free_scores_give_the_same_attack_at_every_temperature(score, temperature):
    model, images = small_net(), random_images(30, (1, 6, 6))
    labels = predictions(model, images)
    plain = pgd(model, images, labels, epsilon=0.06, score=score)
    scaled = pgd(TemperatureScaled(model, temperature), images, labels, epsilon=0.06, score=score)
    assert (plain.outcome == scaled.outcome).all()


def test_cross_entropy_is_blinded_by_a_low_temperature_and_healed_by_the_adversary():
    model, images = small_net(), random_images(60, (1, 6, 6))
    labels = predictions(model, images)
    honest = pgd(model, images, labels, epsilon=0.25)
    served = TemperatureScaled(model, 1e-4)
    blinded = pgd(served, images, labels, epsilon=0.25, random_start=False)
    healed = pgd(served, images, labels, epsilon=0.25, score=CrossEntropy(1e4))
    assert honest.adversarial_accuracy < 0.5
    assert blinded.adversarial_accuracy > honest.adversarial_accuracy + 0.4
    assert healed.adversarial_accuracy == pytest.approx(honest.adversarial_accuracy, abs=0.02)


def test_tiny_l2_gradients_still_move():
    """Only a gradient of exactly 0 may stop the search, not a floor under its norm."""
    model = LinearClassifier(n_classes=2, scale=1e-25)
    images = random_images(4)
    labels = predictions(model, images)
    result = pgd(model, images, labels, epsilon=0.5, norm="l2", steps=1, random_start=False, step_size=0.5)
    size = (result.adversarial - images).flatten(1).norm(dim=1)
    torch.testing.assert_close(size, torch.full_like(size, 0.5), rtol=1e-3, atol=0)


@pytest.mark.parametrize("attack", [pgd, square, auto_attack, carlini_wagner, hop_skip_jump])
def test_every_attack_keeps_the_training_mode_and_its_random_numbers_apart(attack):
    model, images = small_net(), random_images(6, (1, 6, 6))
    labels = predictions(model, images)
    model.train()
    model[2].eval()
    state = torch.random.get_rng_state()
    budget = {"epsilon": 0.05} if attack in (pgd, square, auto_attack) else {"epsilon": 0.3}
    quick = {square: {"n_queries": 20}, auto_attack: {"attacks": ("apgd-ce",)}, hop_skip_jump: {"steps": 1}}
    attack(model, images, labels, **budget, **quick.get(attack, {}))
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    assert model[0].training
    assert not model[2].training


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        (square, {"epsilon": 0.08, "n_queries": 100}),
        (carlini_wagner, {"epsilon": 0.6, "steps": 40}),
        (hop_skip_jump, {"epsilon": 0.6, "steps": 3}),
        (auto_attack, {"epsilon": 0.05, "n_queries": 50}),
    ],
)
def test_library_attacks_stay_in_their_ball_and_count_passes(attack, options):
    model, images = small_net(), random_images(20, (1, 6, 6))
    labels = torch.cat([predictions(model, images)[:15], (predictions(model, images)[15:] + 1) % 4])
    before = images.clone()
    result = attack(model, images, labels, **options)
    change = (result.adversarial - images).flatten(1)
    linf = attack in (square, auto_attack)
    size = change.abs().amax(dim=1) if linf else change.norm(dim=1)
    assert (size <= options["epsilon"] * (1 + 1e-4)).all()
    assert torch.equal(images, before)
    assert (result.outcome[15:] == "skipped").all()
    assert result.adversarial_accuracy < result.clean_accuracy == 0.75
    assert result.n_forward > 20
    assert (result.n_backward > 0) == (attack in (carlini_wagner, auto_attack))
    right = (predictions(model, result.adversarial) == labels).numpy()
    assert (right == (result.outcome == "failed")).all()


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_auto_attack_runs_with_few_classes(n_classes):
    model, images = small_net(n_classes=n_classes), random_images(8, (1, 6, 6))
    result = auto_attack(model, images, predictions(model, images), epsilon=0.08, n_queries=20)
    reference = pgd(model, images, predictions(model, images), epsilon=0.08, score=Margin())
    assert result.adversarial_accuracy <= reference.adversarial_accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": random_images(3) * 3}, r"must lie in \[0, 1\]"),
        ({"images": random_images(3)[0]}, "must have shape"),
        ({"images": torch.full((3, 1, 4, 4), torch.nan)}, "hold NaN"),
        ({"labels": torch.tensor([0, 1, 3])}, r"must lie in \[0, 2\], found 0 to 3"),
        ({"labels": torch.tensor([0, 1])}, "one for each example"),
        ({"norm": "l1"}, "norm must be one of"),
        ({"epsilon": -0.1}, "epsilon must be a finite radius"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"images": random_images(3), "labels": torch.tensor([0, 1, 2]), "epsilon": 0.1, **change}
    with pytest.raises(ValueError, match=message):
        pgd(LinearClassifier(), arguments.pop("images"), arguments.pop("labels"), **arguments)


def test_wrong_kinds_are_named():
    with pytest.raises(TypeError, match="labels must be an integer tensor"):
        pgd(LinearClassifier(), random_images(2), torch.tensor([0.0, 1.0]), epsilon=0.1)
    with pytest.raises(ValueError, match="a loss of its own"):
        square(LinearClassifier(), random_images(2), torch.tensor([0, 1]), epsilon=0.1, score=Margin())
    with pytest.raises(ValueError, match="at least 3 classes"):
        pgd(LinearClassifier(n_classes=2), random_images(2), torch.tensor([0, 1]), epsilon=0.1, score=DLR())


def test_a_model_that_returns_nan_is_named_with_the_example():
    class Broken(torch.nn.Module):
        def forward(self, images):
            logits = images.flatten(1)[:, :3].clone()
            return logits.masked_fill(images[:, 0, 0, :1] > 0.99, torch.nan)

    images = random_images(5)
    images[3, 0, 0, 0] = 1.0
    with pytest.raises(FloatingPointError, match="example 3"):
        pgd(Broken(), images, torch.zeros(5, dtype=torch.long), epsilon=0.01)


def test_empty_input_gives_an_empty_result():
    result = pgd(LinearClassifier(), torch.empty(0, 1, 4, 4), torch.empty(0, dtype=torch.long), epsilon=0.1)
    assert len(result) == 0
    assert np.isnan(result.adversarial_accuracy)
