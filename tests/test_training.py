"""Training: seeded, resumable to the bit, and stopped by NaN."""

from dataclasses import replace

import pytest
import torch

from robustlib import models, training
from robustlib.checkpoint import Checkpoint
from robustlib.data import load_images
from robustlib.models import Normalised, build_image_model, logits_of
from robustlib.training import ImageTraining, trained_image_model

RECIPE = ImageTraining("digits", n_train=300, epochs=4, batch_size=64, learning_rate=1e-2)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path))
    return tmp_path


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_trains_caches_and_repeats_to_the_bit(folder, monkeypatch):
    first = trained_image_model(RECIPE)
    data = load_images("digits", "test")
    assert (logits_of(first, data.images).argmax(dim=1) == data.labels).double().mean() > 0.7
    monkeypatch.setattr(training, "_fit", lambda *arguments: pytest.fail("trained again"))
    assert torch.equal(weights(first), weights(trained_image_model(RECIPE)))
    monkeypatch.undo()
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "other"))
    assert torch.equal(weights(first), weights(trained_image_model(RECIPE)))
    assert not torch.equal(weights(first), weights(trained_image_model(replace(RECIPE, seed=1))))


@pytest.mark.parametrize("augment", [False, True])
def test_an_interrupted_training_ends_with_the_same_weights(folder, monkeypatch, augment):
    recipe = replace(RECIPE, augment=augment)
    whole = trained_image_model(recipe)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "interrupted"))
    save = Checkpoint.save

    def save_then_stop(self, model, optimiser, epochs):
        save(self, model, optimiser, epochs)
        if epochs == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        trained_image_model(recipe)
    monkeypatch.setattr(Checkpoint, "save", save)
    epochs = []
    monkeypatch.setattr(training, "progress", lambda iterable, description: (epochs.extend(iterable), iter(epochs))[1])
    assert torch.equal(weights(whole), weights(trained_image_model(recipe)))
    assert epochs == [2, 3]
    assert not list((folder / "interrupted").glob("*checkpoint/*.safetensors"))


def test_a_nan_loss_stops_and_names_the_configuration():
    with pytest.raises(FloatingPointError, match=r"in epoch 1 of ImageTraining\(dataset='digits'"):
        trained_image_model(replace(RECIPE, learning_rate=1e38))


def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator():
    state = torch.random.get_rng_state()
    one, two, other = (build_image_model("small_cnn", 1, 8, 10, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


@pytest.mark.parametrize(
    ("architecture", "channels", "size"), [("small_cnn", 1, 28), ("small_cnn", 3, 32), ("resnet18", 3, 32)]
)
def test_architectures_take_pixels_and_give_logits(architecture, channels, size):
    model = build_image_model(architecture, channels, size, 7, seed=0)
    assert logits_of(model, torch.rand(2, channels, size, size)).shape == (2, 7)


def test_normalisation_is_part_of_the_model():
    inner = models.small_cnn(3, 8, 4)
    model = Normalised(inner, [0.1, 0.2, 0.3], [0.5, 0.5, 2.0])
    images = torch.rand(2, 3, 8, 8)
    by_hand = torch.stack(
        [(images[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 0.5), (0.2, 0.5), (0.3, 2.0)])], dim=1
    )
    torch.testing.assert_close(model(images), inner(by_hand))
    with pytest.raises(ValueError, match="choose small_cnn or resnet18"):
        build_image_model("vgg", 1, 8, 10, seed=0)
