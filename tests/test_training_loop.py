"""What every training method shares: the length of a normalised step, a stop on NaN, resuming, and no side effects."""

import itertools
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from models_for_tests import letter_texts, weights
from torch.utils._python_dispatch import TorchDispatchMode

from robustlib.data import cache
from robustlib.models.forward import seeded
from robustlib.models.images import build_image_model
from robustlib.training import images, loop, texts
from robustlib.training.checkpoint import Checkpoint
from robustlib.training.images import ImageTraining, trained_image_model
from robustlib.training.loop import apply_gradient_rule, fit
from robustlib.training.methods import METHODS, Method, image_method, method_step
from robustlib.training.schedules import SCHEDULES, WARM_UP, training_temperature_at
from robustlib.training.texts import TextTraining, train_text_classifier

ON_IMAGES = [name for name, definition in METHODS.items() if not definition.text_only]
ON_TEXTS = ["standard", "pgd", "freelb", "ddi", "ascc", "dg-aug"]
IMAGES = ImageTraining(dataset="digits", n_train=200, epochs=3, batch_size=64, learning_rate=1e-2)
WORDS = TextTraining(
    encoder="tiny-bert", epochs=3, batch_size=8, learning_rate=3e-3, precision="float32", max_length=32
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of its own, a checkpoint after every epoch, and substitutes that need no data."""
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(texts, "available_source", lambda: "embedding")
    return tmp_path


def image_recipe(name, **changes):
    return replace(IMAGES, method=image_method(name, 0.1, steps=2, solutions=2), **changes)


def text_recipe(name, **changes):
    return replace(WORDS, method=Method(name, steps=2, solutions=2), **changes)


def train(recipe):
    return (
        trained_image_model(recipe)
        if isinstance(recipe, ImageTraining)
        else train_text_classifier(recipe, *letter_texts())
    )


def gradients_of(parameters):
    return torch.cat([w.grad.double().flatten() for w in parameters if w.grad is not None])


def watch_steps(recipe, monkeypatch, look):
    """Call look(model's parameters, step number from 1) before each step of the optimiser, from now on."""
    kind = torch.optim.Adam if isinstance(recipe, ImageTraining) else torch.optim.AdamW
    plain, count = kind.step, itertools.count(1)

    def step(self, *arguments, **options):
        look(self.param_groups[0]["params"], next(count))
        return plain(self, *arguments, **options)

    monkeypatch.setattr(kind, "step", step)


def train_again(recipe, monkeypatch):
    """The model, and how many steps the progress bar announced."""
    totals = []
    monkeypatch.setattr(loop, "progress", lambda iterable, description, total: totals.append(total) or iterable)
    return train(recipe), totals


RECIPES = [pytest.param(image_recipe, name, id=f"images-{name}") for name in ON_IMAGES]
RECIPES += [pytest.param(text_recipe, name, id=f"texts-{name}") for name in ON_TEXTS]
STEPS = 4  # of an epoch, without augmentation


@pytest.mark.parametrize(
    ("recipe_of", "name", "schedule"),
    [pytest.param(*recipe.values, "constant", id=recipe.id) for recipe in RECIPES]
    + [(image_recipe, "pgd", "learned")],  # whose gradient is no part of the norm
)
def test_a_normalised_step_has_length_one_for_every_method(recipe_of, name, schedule, monkeypatch):
    hot = {"training_temperature": 100.0, "temperature_schedule": schedule}
    recipe = recipe_of(name, gradient_rule="normalise", epochs=1, **hot)
    norms = []
    watch_steps(recipe, monkeypatch, lambda parameters, _: norms.append(gradients_of(parameters).norm().item()))
    (row,) = train(recipe).history
    trained = norms[STEPS:] if recipe.method.definition.augmentation else norms  # without the standard model's steps
    assert trained == pytest.approx([1.0] * len(trained), rel=1e-5) and len(trained) >= STEPS
    assert row["gradient_norm"] > 0 and abs(row["gradient_norm"] - 1) > 1e-3  # it was not 1 before


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("rule", loop.GRADIENT_RULES)
def test_gradient_rules_rescale_all_gradients_together(rule, scale):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.zeros(3, 4), torch.zeros(5), torch.zeros(2)]
    for tensor in tensors[:2]:  # the last one has no gradient
        tensor.grad = scale * torch.randn(tensor.shape, generator=generator)
    before = gradients_of(tensors)
    norm = apply_gradient_rule(tensors, rule, clip_norm=0.5)
    assert norm.item() == pytest.approx(before.norm().item(), rel=1e-5)
    length = before.norm().clamp_min(1e-300)
    factor = {"none": 1.0, "normalise": 1 / length, "clip": min(1.0, 0.5 / length)}[rule]
    torch.testing.assert_close(gradients_of(tensors), before * factor, rtol=1e-5, atol=0)  # 0 stays 0


def break_weights(parameters, step):
    """In the third epoch's second step."""
    if step == 2 * STEPS + 2:
        parameters[-1].data.fill_(torch.nan)


def interrupt(parameters, step):
    """In the second epoch."""
    if step == STEPS + 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "recipe",
    [
        image_recipe("ddi", gradient_rule="normalise"),
        text_recipe("pgd", gradient_rule="clip"),
        text_recipe("pgd", training_temperature=20.0, temperature_schedule="learned"),
    ],
    ids=["images-ddi", "texts-pgd", "texts-pgd-learned"],
)
def test_a_training_that_breaks_leaves_its_last_good_checkpoint(recipe, folder, monkeypatch):
    """One step too far: the loss is NaN in the next, and the training goes on from the second epoch."""
    whole = train(recipe)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "broken"))
    before = generators()
    with monkeypatch.context() as patch:
        watch_steps(recipe, patch, break_weights)
        pattern = rf"the loss became nan in epoch 3, step 3, of {type(recipe).__name__}\(.*'{recipe.method.name}'.*clip"
        with pytest.raises(FloatingPointError, match=pattern):
            train(recipe)
    assert generators() == before
    again, totals = train_again(recipe, monkeypatch)
    assert totals == [STEPS]  # the third epoch alone
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
    "augmented images, learned": replace(
        IMAGES, augment=True, training_temperature=30.0, temperature_schedule="learned"
    ),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_training_ends_with_the_same_weights(name, folder, monkeypatch):
    recipe = INTERRUPTED[name]
    whole = train(recipe)
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "interrupted"))
    with monkeypatch.context() as patch:
        watch_steps(recipe, patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(recipe)
    resumed, totals = train_again(recipe, monkeypatch)
    assert totals == [STEPS * 2]  # what the second epoch had done is done again
    assert torch.equal(weights(resumed), weights(whole)) and resumed.history == whole.history
    assert not list((folder / "interrupted").glob("*checkpoint/*.pt"))


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * len(raw)])
def test_a_damaged_checkpoint_is_no_checkpoint(damage):
    checkpoint = Checkpoint("test", {"seed": 0}, rooms=("training",))
    assert checkpoint.load() is None
    checkpoint.save({"model": {"weight": torch.arange(3.0)}, "history": [{"loss": 0.1}]})
    assert checkpoint.load()["history"] == [{"loss": 0.1}]
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))
    assert checkpoint.load() is None


@pytest.mark.parametrize("recipe", [text_recipe("pgd"), image_recipe("fgsm")], ids=["texts", "images"])
def test_what_is_followed_changes_no_training(recipe, folder, monkeypatch):
    """Without probes, and with one that draws from the generators as dropout or a random start would: the same bits."""
    modes = []

    def noisy(model):
        return lambda: modes.append(model.training) or {"probed": float(torch.rand(1000).mean())}

    def fit_with(probe_of, model, **options):
        return fit(model, **options | {"probe": probe_of(model)})

    followed = train(recipe)
    assert "logit_norm" in followed.history[0]
    for name, probe_of in (("none", lambda model: None), ("noisy", noisy)):
        monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / name))
        for module in (images, texts):
            monkeypatch.setattr(module, "fit", partial(fit_with, probe_of))
        other = train(recipe)
        assert torch.equal(weights(other), weights(followed)) and "logit_norm" not in other.history[0]
    assert all(0.4 < row["probed"] < 0.6 for row in other.history) and modes == [False] * 3


def generators():
    state = np.random.get_state()
    return torch.random.get_rng_state().tolist(), random.getstate(), (state[1].tolist(), state[2])


@pytest.mark.parametrize(("recipe_of", "name"), RECIPES)
def test_training_repeats_to_the_bit_and_leaves_the_global_generators_alone(recipe_of, name, folder, monkeypatch):
    recipe = recipe_of(name, epochs=1)
    torch.manual_seed(5)
    before = generators()
    first = train(recipe)
    assert generators() == before
    torch.manual_seed(6)
    with monkeypatch.context() as patch:
        patch.setenv("ROBUSTLIB_CACHE", str(folder / "again"))
        assert torch.equal(weights(train(recipe)), weights(first))
    monkeypatch.setattr(cache, "write_entry", lambda *arguments: pytest.fail("trained again"))
    again = train(recipe)
    assert torch.equal(weights(first), weights(again)) and again.history == first.history


@pytest.mark.parametrize("name", [name for name in ON_IMAGES if METHODS[name].passes(3, 2) > 1])
def test_every_image_a_method_shows_its_model_lies_in_the_set(name):
    model = build_image_model("small_cnn", 1, 8, 10, seed=0)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, :, :3] = images[:, :, :3].round()  # some pixels at either end of their range
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with seeded(0):
        method_step(image_method(name, 0.1, steps=3, solutions=2))(model, images, torch.arange(16) % 10, 1.0)
    seen = torch.stack(seen)
    assert seen.min() >= 0 and seen.max() <= 1
    distances = (seen - images).abs()
    assert distances.max() <= 0.1 + 1e-6
    assert distances.amax(dim=(1, 2, 3, 4)).max() > 0.09  # and uses it


class Synchronisations(TorchDispatchMode):
    """Collects the operators that hand a number from the device to Python."""

    def __init__(self):
        super().__init__()
        self.operators = []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        if operator._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal"):
            self.operators.append(operator._schema.name)
        return operator(*arguments, **(options or {}))


@pytest.mark.parametrize("name", ["standard", "fgsm", "pgd", "freelb", "trades"])
def test_no_step_synchronises_with_a_gpu(name):
    """Seen on any device: neither the attack nor the gradient rule asks for a number."""
    model = build_image_model("small_cnn", 1, 8, 10, seed=0)
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    step = method_step(image_method(name, 0.1, steps=2, solutions=2))
    with Synchronisations() as synchronisations, seeded(0):
        step(model, images, labels, torch.tensor(20.0))
        for rule in loop.GRADIENT_RULES:
            apply_gradient_rule(list(model.parameters()), rule)
    assert synchronisations.operators == []
    with Synchronisations() as synchronisations:
        float(images.sum())
    assert synchronisations.operators == ["aten::_local_scalar_dense"]


def test_where_each_temperature_schedule_begins_and_ends():
    ends = {
        name: (training_temperature_at(name, 100.0, 0.0), training_temperature_at(name, 100.0, 1.0))
        for name in SCHEDULES
    }
    assert {training_temperature_at(name, 1.0, share) for name in SCHEDULES for share in (0.0, 0.1, 0.5, 1.0)} == {1.0}
    assert ends["constant"] == ends["learned"] == (100, 100)
    assert ends["warm-up"] == (1, 100)
    for name in ("linear", "cosine"):
        assert ends[name] == pytest.approx((100, 1))
    assert training_temperature_at("linear", 100.0, 0.5) == training_temperature_at("cosine", 100.0, 0.5) == 50.5
    assert training_temperature_at("warm-up", 100.0, WARM_UP / 2) == pytest.approx(10)  # even in log T
