"""What every training method shares: the length of a normalised step, a stop on NaN, resuming, and no side effects."""

import itertools
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from robustlib.models.images import build_image_model
from robustlib.training import images as training
from robustlib.training import loop as engine
from robustlib.training import substitutes
from robustlib.training.checkpoint import Checkpoint
from robustlib.training.images import ImageTraining, trained_image_model
from robustlib.training.loop import Training, fit
from robustlib.training.methods import METHODS, TEXT_ONLY, Method, image_method, method_step
from robustlib.training.texts import TextTraining, train_text_classifier

ON_IMAGES = [name for name in METHODS if name not in TEXT_ONLY]
ON_TEXTS = ["standard", "pgd", "freelb", "ddi", "ascc", "dg-aug"]
IMAGES = ImageTraining(dataset="digits", n_train=200, epochs=3, batch_size=64, learning_rate=1e-2)
WORDS = TextTraining(
    encoder="tiny-bert", epochs=3, batch_size=8, learning_rate=3e-3, precision="float32", max_length=32
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, a checkpoint after every epoch, and substitutes that need no data."""
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(engine, "monotonic", itertools.count(step=100).__next__)
    monkeypatch.setattr(substitutes, "resolve_substitutes", lambda: ("embedding", {}))
    return tmp_path


def toy(n=32):
    """Sentences of several lengths whose class is one of two letters."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    fillers = torch.randint(1, 6, (n,), generator=generator).tolist()
    texts = [f"{'k ' * filler}{'ab'[label]} k" for filler, label in zip(fillers, labels.tolist(), strict=True)]
    return SimpleNamespace(texts=texts, labels=labels)


def image_recipe(name, **changes):
    return replace(IMAGES, method=image_method(name, 0.1, steps=2, solutions=2), **changes)


def text_recipe(name, **changes):
    return replace(WORDS, method=Method(name, steps=2, solutions=2), **changes)


def train(recipe):
    return trained_image_model(recipe) if isinstance(recipe, ImageTraining) else train_text_classifier(recipe, toy())


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def optimiser_class(recipe):
    return torch.optim.Adam if isinstance(recipe, ImageTraining) else torch.optim.AdamW


def spied_steps(recipe, monkeypatch, look):
    """Call look(model's parameters, step number from 1) before each step of the optimiser, from now on."""
    plain, count = optimiser_class(recipe).step, itertools.count(1)

    def step(self, *arguments, **options):
        look(self.param_groups[0]["params"], next(count))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(optimiser_class(recipe), "step", step)


RECIPES = [pytest.param(image_recipe, name, id=f"images-{name}") for name in ON_IMAGES]
RECIPES += [pytest.param(text_recipe, name, id=f"texts-{name}") for name in ON_TEXTS]


@pytest.mark.parametrize(("recipe_of", "name"), RECIPES)
def test_a_normalised_step_has_length_one_for_every_method(recipe_of, name, monkeypatch):
    recipe = recipe_of(name, gradient_rule="normalise", training_temperature=100.0, epochs=1)
    norms = []

    def look(parameters, _):
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms.append(float(torch.cat([gradient.double().flatten() for gradient in gradients]).norm()))

    spied_steps(recipe, monkeypatch, look)
    (row,) = train(recipe).history
    assert len(norms) == 4
    assert norms == pytest.approx([1.0] * 4, rel=1e-5)
    assert row["gradient_norm"] > 0 and abs(row["gradient_norm"] - 1) > 1e-3  # it was not 1 before


def test_normalisation_leaves_a_learned_temperature_alone(monkeypatch):
    """Its gradient is no part of the norm: the weights' step has length 1 without it."""
    recipe = image_recipe("pgd", gradient_rule="normalise", training_temperature=5.0, temperature_schedule="learned")
    norms = []
    spied_steps(recipe, monkeypatch, lambda p, _: norms.append(float(torch.cat([w.grad.flatten() for w in p]).norm())))
    train(recipe)
    assert norms == pytest.approx([1.0] * 12, rel=1e-5)


@pytest.mark.parametrize(
    "recipe",
    [
        image_recipe("ddi", gradient_rule="normalise"),
        text_recipe("pgd", gradient_rule="clip"),
        text_recipe("pgd", training_temperature=20.0, temperature_schedule="learned"),
    ],
    ids=["images-ddi", "texts-pgd", "texts-pgd-learned"],
)
def test_a_training_that_breaks_leaves_its_last_good_checkpoint(recipe, monkeypatch):
    """One step too far, in the third epoch: the loss is NaN in the next, and the training goes on from the second."""
    whole = train(recipe)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(training.cache.cache_dir() / "broken"))

    def break_weights(parameters, step):
        if step == 4 + 4 + 2:
            parameters[-1].data.fill_(torch.nan)

    saved, save = [], Checkpoint.save

    def spy(self, model, optimiser, epochs):
        save(self, model, optimiser, epochs)
        saved.append((epochs, self.path))

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", spy)
        spied_steps(recipe, patch, break_weights)
        kind = type(recipe).__name__
        with pytest.raises(
            FloatingPointError, match=rf"became nan in epoch 3, step 3, of {kind}\(.*name='{recipe.method.name}'"
        ):
            train(recipe)
    assert [epochs for epochs, _ in saved] == [1, 2] and saved[-1][1].exists()
    shown = []
    monkeypatch.setattr(engine, "progress", lambda iterable, description, total: shown.append(total) or iterable)
    again = train(recipe)
    assert shown == [4]  # the third epoch alone
    assert torch.equal(weights(again), weights(whole)) and again.history == whole.history


INTERRUPTED = {
    "pgd": text_recipe("pgd"),
    "freelb, normalised": text_recipe("freelb", gradient_rule="normalise"),
    "ddi": text_recipe("ddi"),
    "ascc": text_recipe("ascc"),
    "learned": text_recipe("standard", training_temperature=30.0, temperature_schedule="learned"),
    "pgd, learned, normalised": text_recipe(
        "pgd", training_temperature=30.0, temperature_schedule="learned", gradient_rule="normalise"
    ),
    "warm-up": text_recipe("pgd", training_temperature=30.0, temperature_schedule="warm-up"),
    "trades on images": image_recipe("trades"),
    "fgsm on images, clipped": image_recipe("fgsm", gradient_rule="clip"),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_training_ends_with_the_same_weights(name, folder, monkeypatch):
    recipe = INTERRUPTED[name]
    whole = train(recipe)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "interrupted"))

    def interrupt(parameters, step):
        if step == 4 + 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        spied_steps(recipe, patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)
    shown = []
    monkeypatch.setattr(engine, "progress", lambda iterable, description, total: shown.append(total) or iterable)
    resumed = train(recipe)
    assert shown == [4 * 2]  # what the second epoch had done is done again
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.history == whole.history
    assert not list((folder / "interrupted").glob("*checkpoint/*.safetensors"))


def noisy_probe():
    """A measurement that draws from the global generator, as dropout or a random start would."""
    return {"probed": float(torch.rand(1000).mean())}


@pytest.mark.parametrize("name", ["standard", "pgd"])
def test_a_probe_changes_no_training(name):
    """Dropout and random starts come from the generator that the probe draws from, in training mode."""
    images, labels = torch.rand(48, 1, 4, 4), torch.arange(48) % 3
    modes = []

    def run(probe):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3))

        def watched():
            modes.append(model.training)
            return probe()

        history = fit(
            model,
            plan=lambda epoch: list(torch.arange(48).split(16)),
            load=lambda rows: (images[rows], labels[rows]),
            step=method_step(image_method(name, 0.1)),
            config=Training(epochs=3, learning_rate=1e-2),
            optimiser=torch.optim.Adam,
            decay=lambda share: 1.0,
            description="a probe",
            probe=watched if probe else None,
        )
        return weights(model), history

    (plain, alone), (probed, followed) = run(None), run(noisy_probe)
    assert torch.equal(plain, probed)
    assert [{**row, "probed": 0} for row in alone] == [{**row, "probed": 0} for row in followed]
    assert all(0.4 < row["probed"] < 0.6 for row in followed) and modes == [False] * 3


@pytest.mark.parametrize("recipe", [text_recipe("pgd"), image_recipe("fgsm")], ids=["texts", "images"])
def test_what_is_followed_changes_no_training(recipe, folder, monkeypatch):
    """The probes of the two modalities, left out: the same weights to the bit."""
    probed = train(recipe)
    assert "logit_norm" in probed.history[0]
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "unprobed"))
    monkeypatch.setattr(engine, "_probed", lambda model, probe: {})
    plain = train(recipe)
    assert "logit_norm" not in plain.history[0]
    assert torch.equal(weights(plain), weights(probed))


def generators():
    state = np.random.get_state()
    return torch.random.get_rng_state().tolist(), random.getstate(), (state[1].tolist(), state[2])


@pytest.mark.parametrize(("recipe_of", "name"), RECIPES)
def test_the_global_generators_are_left_alone(recipe_of, name):
    recipe = recipe_of(name, epochs=1)
    torch.manual_seed(5)
    before = generators()
    first = weights(train(recipe))
    assert generators() == before
    torch.manual_seed(6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_REFRESH", "1e12")  # train again
        assert torch.equal(weights(train(recipe)), first)


@pytest.mark.parametrize("recipe", [image_recipe("pgd"), text_recipe("pgd")], ids=["images", "texts"])
def test_the_global_generators_come_back_after_a_failure(recipe, monkeypatch):
    spied_steps(recipe, monkeypatch, lambda parameters, step: parameters[0].data.fill_(torch.nan))
    before = generators()
    with pytest.raises(FloatingPointError):
        train(recipe)
    assert generators() == before


@pytest.mark.parametrize("name", [name for name in ON_IMAGES if name != "standard"])
def test_every_image_a_method_shows_its_model_lies_in_the_set(name):
    model = build_image_model("small_cnn", 1, 8, 10, seed=0)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, :, :3] = images[:, :, :3].round()  # some pixels at either end of their range
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with engine.seeded(0):
        method_step(image_method(name, 0.1, steps=3, solutions=2))(model, images, torch.arange(16) % 10, 1.0)
    shown = torch.stack(seen)
    assert shown.min() >= 0 and shown.max() <= 1
    distances = (shown - images).abs()
    assert distances.max() <= 0.1 + 1e-6
    assert distances.amax(dim=(1, 2, 3, 4)).max() > 0.09  # and uses it


class Waits(TorchDispatchMode):
    """Collects the operators that hand a number from the device to Python: a GPU is waited for there."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        if operator._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.found.append(operator._schema.name)
        return operator(*arguments, **(options or {}))


NEVER_WAITS = ["standard", "fgsm", "pgd", "freelb", "trades"]


@pytest.mark.parametrize("name", NEVER_WAITS)
def test_no_step_waits_for_a_gpu(name):
    """Seen on any device: neither the attack nor the gradient rule asks for a number."""
    model = build_image_model("small_cnn", 1, 8, 10, seed=0)
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    step = method_step(image_method(name, 0.1, steps=2, solutions=2))
    with Waits() as waits, engine.seeded(0):
        step(model, images, labels, torch.tensor(20.0))
        for rule in engine.GRADIENT_RULES:
            engine.apply_gradient_rule(list(model.parameters()), rule)
    assert waits.found == []
    with Waits() as waits:
        float(images.sum())
    assert waits.found == ["aten::_local_scalar_dense"]
