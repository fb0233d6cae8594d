"""Training of image classifiers: what is trained, what is followed; and the models themselves."""

from dataclasses import replace

import pytest
import torch
from models_for_tests import weights
from torchvision.transforms.functional import normalize

from robustlib.data import load_images
from robustlib.models.forward import logits_of
from robustlib.models.images import Normalised, build_image_model, small_cnn
from robustlib.training.images import ImageTraining, catastrophic_overfitting, trained_image_model
from robustlib.training.methods import image_method

RECIPE = ImageTraining(dataset="digits", n_train=300, epochs=4, batch_size=64, learning_rate=1e-2)


def test_training_learns_and_depends_on_the_seed():
    model = trained_image_model(RECIPE)
    data = load_images("digits", "test")
    assert (logits_of(model, data.images).argmax(dim=1) == data.labels).double().mean() > 0.7
    assert not torch.equal(weights(model), weights(trained_image_model(replace(RECIPE, seed=1))))


def test_standard_training_is_the_plain_loop_to_the_bit():
    data = load_images("digits", "train", n=RECIPE.n_train, seed=0)
    model = build_image_model("small_cnn", 1, 8, 10, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), RECIPE.learning_rate, weight_decay=5e-4, fused=True)
    step, total = 0, 5 * RECIPE.epochs
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(RECIPE.n_train, generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(RECIPE.batch_size):
            share = step / total
            factor = share / 0.2 + 1e-2 if share < 0.2 else (1 - share) / 0.8
            optimiser.param_groups[0]["lr"] = RECIPE.learning_rate * factor
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(data.images[rows]), data.labels[rows]).backward()
            optimiser.step()
            step += 1
    for schedule in ("constant", "linear", "cosine", "warm-up"):  # at T = 1 all of them are the same
        assert torch.equal(weights(model), weights(trained_image_model(replace(RECIPE, temperature_schedule=schedule))))


def test_each_epoch_is_followed():
    recipe = replace(RECIPE, training_temperature=20.0, temperature_schedule="learned", gradient_rule="normalise")
    model = trained_image_model(recipe)
    assert [row["epoch"] for row in model.history] == [1, 2, 3, 4]
    for name in ("loss", "gradient_norm", "step_length", "logit_norm", "confidence", "accuracy"):
        assert all(row[name] > 0 for row in model.history), name
    assert model.history[-1]["logit_norm"] > model.history[0]["logit_norm"]
    assert model.history[-1]["training_temperature"] != 20.0
    logits = logits_of(model, load_images("digits", "train", n=RECIPE.n_train, seed=0).images)
    assert model.history[-1]["confidence"] == pytest.approx(logits[:256].softmax(1).amax(1).mean().item(), rel=1e-5)


def test_fgsm_training_is_watched_for_catastrophic_overfitting():
    model = trained_image_model(replace(RECIPE, method=image_method("fgsm", 0.1)))
    assert all(0 <= row["pgd_accuracy"] <= row["fgsm_accuracy"] + 0.1 for row in model.history)
    rows = [{"epoch": i + 1, "pgd_accuracy": value} for i, value in enumerate((0.2, 0.5, 0.45, 0.05))]
    assert catastrophic_overfitting(rows) == 4
    assert catastrophic_overfitting(rows[:3]) is None


@pytest.mark.parametrize(
    ("architecture", "channels", "size"), [("small_cnn", 1, 28), ("small_cnn", 3, 32), ("resnet18", 3, 32)]
)
def test_architectures_take_pixels_and_their_weights_depend_on_the_seed_alone(architecture, channels, size):
    state = torch.random.get_rng_state()
    one, two, other = (build_image_model(architecture, channels, size, 7, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(weights(one), weights(two)) and not torch.equal(weights(one), weights(other))
    assert logits_of(one, torch.rand(2, channels, size, size)).shape == (2, 7)


def test_normalisation_is_part_of_the_model():
    inner = small_cnn(3, 8, 4)
    model = Normalised(inner, [0.1, 0.2, 0.3], [0.5, 0.5, 2.0])
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model(images), inner(normalize(images, [0.1, 0.2, 0.3], [0.5, 0.5, 2.0])))
