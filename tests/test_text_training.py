"""Fine-tuning: one step, temperature, gradient rule; and that an interruption changes nothing."""

from types import SimpleNamespace

import pytest
import torch

from robustlib.models.texts import TextClassifier
from robustlib.training import texts as training
from robustlib.training.autocast import autocast_context, resolve_precision
from robustlib.training.checkpoint import Checkpoint
from robustlib.training.loop import apply_gradient_rule
from robustlib.training.methods import standard_step
from robustlib.training.texts import TextTraining, data_digest, fit_text, length_bucketed, train_text_classifier

QUICK = TextTraining(
    encoder="tiny-bert", epochs=3, batch_size=8, learning_rate=3e-3, precision="float32", max_length=32
)
PLAIN = autocast_context("float32", "cpu")


def toy(n=48):
    """Sentences whose class is one of two letters."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    fillers = torch.randint(1, 6, (n,), generator=generator).tolist()
    texts = [f"{'k' * filler} {'ab'[label]} k" for filler, label in zip(fillers, labels.tolist(), strict=True)]
    return SimpleNamespace(texts=texts, labels=labels)


def run_fit(config, *, step=None, checkpoint=None):
    """`fit` on the toy data; returns the model and the history."""
    data, model = toy(), TextClassifier.from_name(config.encoder, 2, seed=config.seed, max_length=32)
    encodings = model.tokenise(data.texts)
    history = fit_text(
        model,
        plan=lambda epoch: length_bucketed([len(e) for e in encodings], config.batch_size, config.seed, epoch),
        load=lambda rows: (model.collate([encodings[row] for row in rows]), data.labels[rows]),
        step=step or standard_step(PLAIN),
        config=config,
        checkpoint=checkpoint,
        checkpoint_seconds=0,
    )
    return model, history


def failing_after(n_steps, failure):
    """Standard step that fails at step `n_steps`: raises, or returns the given loss."""
    plain, count = standard_step(PLAIN), 0

    def step(model, inputs, labels, temperature):
        nonlocal count
        count += 1
        if count < n_steps:
            return plain(model, inputs, labels, temperature)
        if isinstance(failure, BaseException):
            raise failure
        return torch.tensor(failure)

    return step


def assert_same_weights(one, other):
    for (name, first), second in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(first, second), name


def test_training_learns_and_reports_each_epoch():
    config = TextTraining(encoder="tiny-bert", epochs=12, batch_size=8, learning_rate=5e-3, max_length=32)
    model = train_text_classifier(config, toy())
    assert (model(toy().texts).argmax(dim=1) == toy().labels).float().mean() > 0.95
    assert [row["epoch"] for row in model.history] == list(range(1, 13))
    assert model.history[-1]["loss"] < 0.5 * model.history[0]["loss"]
    assert not model.training and next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("rule", ["none", "normalise"])
def test_resumed_training_gives_the_weights_of_an_uninterrupted_one(rule):
    config = TextTraining(**{**vars(QUICK), "gradient_rule": rule})
    whole, history = run_fit(config)
    checkpoint = Checkpoint("test_resume", config)
    with pytest.raises(KeyboardInterrupt):
        run_fit(config, step=failing_after(15, KeyboardInterrupt()), checkpoint=checkpoint)  # in the third epoch of six
    assert checkpoint.path.exists()
    resumed, resumed_history = run_fit(config, checkpoint=checkpoint)
    assert_same_weights(whole, resumed)
    assert resumed_history == history and not checkpoint.path.exists()


def test_training_twice_gives_the_same_weights_and_leaves_the_callers_generator_alone():
    state = torch.random.get_rng_state()
    first, _ = run_fit(QUICK)
    torch.manual_seed(99)
    second, _ = run_fit(QUICK)
    assert_same_weights(first, second)
    torch.random.set_rng_state(state)
    run_fit(QUICK)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_lost_loss_stops_and_leaves_the_last_checkpoint(loss):
    checkpoint = Checkpoint("test_nan", {"loss": str(loss)})
    with pytest.raises(
        FloatingPointError, match=r"the loss became (nan|inf) in epoch 2, step 4, of TextTraining\(.*clip"
    ):
        run_fit(QUICK, step=failing_after(10, loss), checkpoint=checkpoint)  # six steps an epoch
    model = TextClassifier.from_name("tiny-bert", 2, max_length=32)
    optimiser = torch.optim.AdamW(model.parameters())
    assert checkpoint.load(model, optimiser) == 1
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("temperature", [0.1, 1.0, 100.0])
def test_the_step_is_cross_entropy_of_logits_over_temperature(temperature):
    model = TextClassifier.from_name("tiny-bert", 2)
    data = toy(8)
    batch = model.collate(model.tokenise(data.texts))
    loss = standard_step(PLAIN)(model, batch, data.labels, temperature)
    probabilities = torch.softmax(model(batch).double() / temperature, dim=1)
    expected = -probabilities.gather(1, data.labels[:, None]).log().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    wanted = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_gradient_rules(scale):
    generator = torch.Generator().manual_seed(0)

    def parameters():
        generator.manual_seed(0)
        tensors = [torch.zeros(3, 4), torch.zeros(5)]
        for tensor in tensors:
            tensor.grad = scale * torch.randn(tensor.shape, generator=generator)
        return [*tensors, torch.zeros(2)]  # the last one has no gradient

    plain = torch.cat([p.grad.flatten() for p in parameters() if p.grad is not None]).double()
    for rule, factor in (("none", 1), ("normalise", 1 / plain.norm()), ("clip", min(1, 0.5 / plain.norm()))):
        tensors = parameters()
        norm = apply_gradient_rule(tensors, rule, clip_norm=0.5)
        after = torch.cat([p.grad.flatten() for p in tensors if p.grad is not None]).double()
        assert norm.item() == pytest.approx(plain.norm().item(), rel=1e-5)
        torch.testing.assert_close(after, plain * factor, rtol=1e-5, atol=0)


def test_a_zero_gradient_is_not_normalised_into_nan():
    parameter = torch.zeros(3)
    parameter.grad = torch.zeros(3)
    apply_gradient_rule([parameter], "normalise")
    assert torch.equal(parameter.grad, torch.zeros(3))


@pytest.mark.parametrize(("rule", "low", "high"), [("normalise", 1, 1), ("clip", 0, 0.01)])
def test_the_optimiser_sees_rescaled_gradients(rule, low, high, monkeypatch):
    seen = []
    plain = torch.optim.AdamW.step

    def spy(self, *arguments, **options):
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        seen.append(torch.nn.utils.get_total_norm(gradients).item())
        return plain(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run_fit(TextTraining(**{**vars(QUICK), "gradient_rule": rule, "clip_norm": 0.01, "epochs": 1}))
    assert len(seen) == 6 and all(low - 1e-5 <= norm <= high + 1e-5 for norm in seen)


def test_the_learning_rate_falls_linearly_to_zero(monkeypatch):
    seen = []
    plain = torch.optim.AdamW.step

    def spy(self, *arguments, **options):
        seen.append(self.param_groups[0]["lr"])
        return plain(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    run_fit(QUICK)
    assert seen == pytest.approx([3e-3 * (1 - step / 18) for step in range(18)])


def test_a_trained_model_comes_from_the_cache(monkeypatch):
    config = TextTraining(**{**vars(QUICK), "seed": 11})
    first = train_text_classifier(config, toy())
    monkeypatch.setattr(training, "fit_text", lambda *arguments, **options: pytest.fail("trained again"))
    again = train_text_classifier(config, toy())
    assert_same_weights(first, again)
    assert again.history == first.history
    assert data_digest(["a"], torch.tensor([0])) != data_digest(["a"], torch.tensor([1]))


def test_bfloat16_training_keeps_float32_weights():
    config = TextTraining(**{**vars(QUICK), "precision": "bfloat16", "seed": 4})
    low = train_text_classifier(config, toy())
    high = train_text_classifier(TextTraining(**{**vars(config), "precision": "float32"}), toy())
    assert {parameter.dtype for parameter in low.parameters()} == {torch.float32}
    assert not torch.equal(low(toy().texts), high(toy().texts))


def test_auto_precision_is_one_of_the_two():
    assert resolve_precision("auto", "cpu") in ("float32", "bfloat16")
    assert resolve_precision("float32", "cpu") == "float32"


def test_batches_hold_every_row_once_and_pad_little():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 60, (1001,), generator=generator).tolist()
    plan = length_bucketed(lengths, 8, seed=0, epoch=0)
    assert sorted(row for rows in plan for row in rows) == list(range(1001))
    assert len(plan) == 126  # three pools of 400, 400 and 201 rows
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in plan)
    assert padded < 1.1 * sum(lengths)
    assert plan == length_bucketed(lengths, 8, seed=0, epoch=0)
    assert plan != length_bucketed(lengths, 8, seed=0, epoch=1) != length_bucketed(lengths, 8, seed=1, epoch=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training_temperature": 0.0}, "training_temperature must be finite and above 0"),
        ({"gradient_rule": "normalize"}, "gradient_rule must be one of none, clip, normalise, got 'normalize'"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16"),
        ({"epochs": 0}, "epochs must be above 0"),
    ],
)
def test_a_bad_configuration_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        TextTraining(**options)


def test_labels_must_fit_the_head():
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\]"):
        train_text_classifier(QUICK, SimpleNamespace(texts=["a", "b"], labels=torch.tensor([0, 2])))
