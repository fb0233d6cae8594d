"""Training methods: what their gradients are, on models where it can be worked out; and their cost in passes."""

import pytest
import torch
from models_for_tests import sizes
from torch import nn
from torch.nn import functional

from robustlib.models.texts import TextClassifier
from robustlib.training.loop import Training
from robustlib.training.methods import METHODS, Method, image_method, method_step, worst_perturbation
from robustlib.training.minimum_norm import minimum_norm_weights
from robustlib.training.perturbation import ContinuousInput, PerturbationSet, continuous

CONTINUOUS = ("standard", "fgsm", "pgd", "freelb", "ddi", "trades")


def problem(n=6, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return model, torch.rand(n, 3, 2, 2).double(), torch.randint(0, 3, (n,))


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def plain_gradient(model, images, labels, temperature=1.0):
    """The loss of standard training and its gradient."""
    model.zero_grad()
    loss = functional.cross_entropy(model(images) / temperature, labels)
    loss.backward()
    return loss, gradients(model)


def after(name, model, images, labels, *, epsilon, temperature=1.0, **options):
    torch.manual_seed(7)
    model.zero_grad()
    loss = method_step(image_method(name, epsilon, **options))(model, images, labels, temperature)
    assert not loss.requires_grad
    return loss, gradients(model)


@pytest.mark.parametrize("temperature", [1.0, 50.0])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_with_no_room_every_method_is_standard_training(name, temperature):
    model, images, labels = problem()
    loss, gradient = after(name, model, images, labels, epsilon=0.0, temperature=temperature)
    expected, plain = plain_gradient(model, images, labels, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(gradient, plain, rtol=1e-6, atol=1e-12)


def test_pgd_is_the_gradient_at_the_worst_corner_of_a_linear_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    images, labels, epsilon = torch.full((5, 1, 2, 2), 0.5).double(), torch.tensor([0, 1, 0, 1, 1]), 0.1
    _, gradient = after("pgd", model, images, labels, epsilon=epsilon, steps=4)
    weight = model[1].weight.detach()
    towards = torch.stack([(weight[1 - label] - weight[label]).sign() for label in labels]).reshape(images.shape)
    torch.testing.assert_close(gradient, plain_gradient(model, images + epsilon * towards, labels)[1])


def test_freelb_averages_the_gradients_along_the_walk():
    model, images, labels = problem()
    method = image_method("freelb", 0.1, steps=3)
    _, gradient = after("freelb", model, images, labels, epsilon=0.1, steps=3)
    torch.manual_seed(7)
    batch = continuous(model, images)
    delta = method.perturbations.start(batch)
    model.zero_grad()
    for _ in range(3):
        at = delta.clone().requires_grad_(True)
        loss = functional.cross_entropy(model(images + at), labels)
        (loss / 3).backward()
        delta = method.perturbations.ascend(delta, at.grad, batch)
    torch.testing.assert_close(gradient, gradients(model))


def test_freelb_keeps_the_dropout_masks_of_a_step_and_draws_new_ones_for_the_next():
    model = TextClassifier.from_name("tiny-bert", 2).train()
    inputs, labels = model.collate(model.tokenise(["a b c d", "a", "k k"])), torch.tensor([0, 1, 1])

    def gradient(steps):
        model.zero_grad()
        method_step(Method("freelb", steps, perturbations=PerturbationSet("l2", 0.0, 0.0, 0.0)))(
            model, inputs, labels, 1.0
        )
        return model.body.get_input_embeddings().weight.grad.clone()

    torch.manual_seed(3)
    single, following = gradient(1), gradient(1)
    torch.manual_seed(3)
    torch.testing.assert_close(gradient(3), single)  # as the points of the walk coincide
    assert not torch.allclose(single, following)


def test_ddi_combines_the_gradients_of_its_solutions_into_the_shortest():
    model, images, labels = problem()
    _, gradient = after("ddi", model, images, labels, epsilon=0.2, steps=2, solutions=4)
    torch.manual_seed(7)
    batch, method = continuous(model, images), image_method("ddi", 0.2, steps=2)
    columns = []
    for _ in range(4):
        delta = worst_perturbation(
            batch, lambda logits: functional.cross_entropy(logits, labels), method.perturbations, 2
        )
        columns.append(plain_gradient(model, images + delta, labels)[1])
    columns = torch.stack(columns)
    torch.testing.assert_close(gradient, minimum_norm_weights(columns @ columns.T) @ columns)
    assert gradient.norm() <= columns.norm(dim=1).min() * (1 + 1e-9)


def test_trades_is_cross_entropy_plus_the_divergence_at_its_perturbation():
    model, images, labels = problem()
    method = image_method("trades", 0.1, steps=3)
    loss, _ = after("trades", model, images, labels, epsilon=0.1, steps=3)
    clean = functional.cross_entropy(model(images), labels).item()
    target = functional.softmax(model(images), dim=1).detach()
    torch.manual_seed(7)
    delta = worst_perturbation(
        continuous(model, images),
        lambda logits: functional.kl_div(functional.log_softmax(logits, 1), target, reduction="batchmean"),
        method.perturbations,
        3,
    )
    perturbed = functional.softmax(model(images + delta), dim=1)
    divergence = (target * (target / perturbed).log()).sum(dim=1).mean().item()
    assert divergence > 0
    assert loss.item() == pytest.approx(clean + 6 * divergence, rel=1e-9)
    assert model.training


@pytest.mark.parametrize("name", ["fgsm", "pgd", "freelb", "ddi"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_texts_perturb_embeddings_inside_the_set_and_leave_padding(name, norm, monkeypatch):
    model = TextClassifier.from_name("tiny-bert", 2).train()
    inputs = model.collate(model.tokenise(["a b c d", "a", "k k"]))
    seen, plain = [], TextClassifier.forward_from_embedding

    def spy(self, embeddings, attention_mask, token_type_ids=None):
        seen.append(embeddings.detach() - self.embed(inputs["input_ids"]).detach())
        return plain(self, embeddings, attention_mask, token_type_ids)

    monkeypatch.setattr(TextClassifier, "forward_from_embedding", spy)
    steps = METHODS[name].steps or 2
    method = Method(name, steps, solutions=2, perturbations=PerturbationSet(norm, 0.2, 0.15, 0.1))
    method_step(method)(model, inputs, torch.tensor([0, 1, 1]), 1.0)
    assert all(parameter.grad is not None for parameter in model.body.get_input_embeddings().parameters())
    for delta in seen:
        assert sizes(delta, norm).max() <= 0.2 + 1e-5
        assert delta[inputs["attention_mask"] == 0].abs().max() == 0
    assert max(float(delta.abs().max()) for delta in seen) > 0


def test_the_steps_written_out():
    gradient = torch.tensor([[3.0, -4.0]])
    batch = ContinuousInput(torch.zeros(1, 2), lambda x: x)
    at = torch.zeros(1, 2)
    l2 = PerturbationSet("l2", radius=1.0, step_size=0.5, initial=0.0)
    torch.testing.assert_close(l2.ascend(at, gradient, batch), torch.tensor([[0.3, -0.4]]))
    torch.testing.assert_close(l2.ascend(torch.tensor([[0.6, -0.8]]), gradient, batch), torch.tensor([[0.6, -0.8]]))
    linf = PerturbationSet("linf", radius=0.4, step_size=0.5, initial=0.0)
    torch.testing.assert_close(linf.ascend(at, gradient, batch), torch.tensor([[0.4, -0.4]]))
    assert torch.equal(l2.ascend(at, torch.zeros(1, 2), batch), at)  # no gradient, no step, no NaN
    padded = ContinuousInput(torch.zeros(1, 2, 1), lambda x: x, torch.tensor([[[1], [0]]]))
    assert l2.ascend(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), padded).tolist() == [[[0.5], [0.0]]]


def test_the_start_of_freelb_has_its_size():
    chosen = PerturbationSet("l2", radius=1.0, initial=0.05)
    torch.manual_seed(1)
    many = ContinuousInput(torch.zeros(1000, 5, 40), lambda h: h, torch.tensor([1, 1, 1, 0, 0])[None, :, None])
    norms = torch.linalg.vector_norm(chosen.start(many).flatten(1), dim=1)
    assert norms.max() <= 0.05
    assert norms.mean() == pytest.approx(0.05 / 3**0.5, rel=0.02)  # components uniform in [-1, 1]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_cost_in_passes_is_what_is_said_and_a_learned_temperature_gets_a_gradient(name):
    model, images, labels = problem()
    calls = []
    model.register_forward_hook(lambda *arguments: calls.append(1))
    method = image_method(name, 0.1, steps=3, solutions=2)
    method_step(method)(model, images, labels, 1.0)
    extra = 1 if name == "trades" else 0  # TRADES needs a target: one more forward pass, which has no backward
    assert len(calls) == method.passes + extra
    log_temperature = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    if name == "ddi":
        with pytest.raises(ValueError, match="ddi cannot learn its temperature"):
            method_step(method)(model, images, labels, log_temperature.exp())
    else:
        method_step(method)(model, images, labels, log_temperature.exp())
        assert log_temperature.grad is not None and log_temperature.grad != 0


@pytest.mark.parametrize("name", ["smoothing", "squeezing", "superfitting", "entropy"])
def test_without_weight_a_lure_is_standard_training_and_with_weight_it_is_not(name):
    model, images, labels = problem()
    loss, plain = plain_gradient(model, images, labels, 3.0)
    found = {}
    for weight in (0.0, 0.5):
        model.zero_grad()
        found[weight] = method_step(Method(name, weight=weight))(model, images, labels, 3.0), gradients(model)
    assert found[0.0][0].item() == pytest.approx(loss.item())
    torch.testing.assert_close(found[0.0][1], plain)
    assert not torch.allclose(found[0.5][1], plain, rtol=1e-2)


def test_super_fitting_pushes_the_gap_on_where_cross_entropy_has_ended_and_squeezing_pulls_it_back():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    pushes = {}
    for name in ("standard", "superfitting", "squeezing"):
        logits.grad = None
        method_step(Method(name))(lambda batch: logits, torch.zeros(1, 1), torch.tensor([0]), 1.0)
        pushes[name] = -float(logits.grad[0, 0])
    assert pushes["standard"] == 0 and pushes["superfitting"] > 0 > pushes["squeezing"]


def test_distillation_follows_the_teachers_answers_at_the_training_temperature():
    model, images, labels = problem()
    teacher, _, _ = problem(seed=1)
    method_step(Method("distilled"), teacher=teacher)(model, images, labels, 5.0)
    found = gradients(model)
    model.zero_grad()
    target = (teacher(images) / 5).softmax(1).detach()
    functional.cross_entropy(model(images) / 5, target).backward()
    torch.testing.assert_close(found, gradients(model))


def test_names_follow_the_tables():
    assert Training().label == "baseline"
    assert Training(gradient_rule="normalise").label == "baseline_gradnorm"
    assert Training(method=Method("ddi", steps=5), gradient_rule="clip").label == "ddi-at(M=3,K=5)_gradclip"
    assert Training(temperature_schedule="cosine").label == "baseline(cosine)"
    others = set(METHODS) - {"standard", "ddi"}
    assert {Method(name, steps=METHODS[name].steps or 5).label for name in others} == others
