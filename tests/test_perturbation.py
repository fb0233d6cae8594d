"""The set of perturbations: nothing leaves it, padding is never touched, and a step climbs."""

import pytest
import torch

from robustlib.models.texts import TextClassifier
from robustlib.training.perturbation import ContinuousInput, PerturbationSet, continuous

GENERATOR = torch.Generator().manual_seed(0)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])[..., None]
TOKENS = ContinuousInput(torch.randn(3, 4, 6, generator=GENERATOR), lambda h: h.sum(dim=(1, 2))[:, None], MASK)
PIXELS = ContinuousInput(torch.rand(3, 2, 5, 5, generator=GENERATOR), lambda x: x, pixels=True)


def length(delta, batch, chosen):
    if chosen.norm == "linf":
        return delta.abs().amax()
    return torch.linalg.vector_norm(delta, dim=tuple(range(1, delta.ndim))).max()


@pytest.mark.parametrize("batch", [TOKENS, PIXELS], ids=["tokens", "pixels"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("radius", [0.01, 1.0])
def test_starts_and_steps_stay_inside_and_off_the_padding(batch, norm, radius):
    chosen = PerturbationSet(norm, radius, step_size=0.7 * radius, initial=radius)
    torch.manual_seed(0)
    delta = chosen.start(batch)
    for _ in range(4):
        assert length(delta, batch, chosen) <= radius * (1 + 1e-5) and delta.abs().sum() > 0
        if batch.mask is not None:
            assert not (delta * (1 - batch.mask)).any()
        else:
            assert (batch.values + delta).amin() >= 0 and (batch.values + delta).amax() <= 1
        delta = chosen.ascend(delta, torch.randn(batch.values.shape), batch)


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


def test_the_start_of_freelb_has_its_size():
    chosen = PerturbationSet("l2", radius=1.0, initial=0.05)
    torch.manual_seed(1)
    many = ContinuousInput(torch.zeros(1000, 5, 40), lambda h: h, torch.tensor([1, 1, 1, 0, 0])[None, :, None])
    norms = torch.linalg.vector_norm(chosen.start(many).flatten(1), dim=1)
    assert norms.max() <= 0.05
    assert norms.mean() == pytest.approx(0.05 / 3**0.5, rel=0.02)  # components uniform in [-1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm must be linf or l2"),
        ({"radius": -1.0}, "radius must be finite and at least 0"),
        ({"initial": 2.0}, "initial must be at most the radius"),
    ],
)
def test_a_bad_set_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PerturbationSet(**options)


def test_texts_and_images_give_the_model_s_own_logits():
    model = TextClassifier.from_name("tiny-bert", 2)
    inputs = model.collate(model.tokenise(["a b c", "a"]))
    batch = continuous(model, inputs)
    torch.testing.assert_close(batch.forward(batch.values), model(inputs))
    assert batch.mask.shape == (*inputs["input_ids"].shape, 1) and not batch.mask.all()
    assert torch.equal(continuous(torch.sigmoid, PIXELS.values).forward(PIXELS.values), torch.sigmoid(PIXELS.values))
