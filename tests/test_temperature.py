import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from robustlib.calibration.temperature import TemperatureScaled, scale_logits

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
temperatures = st.floats(-38, 38).map(lambda exponent: 10.0**exponent)


@st.composite
def logit_rows(draw, dtype):
    """Rows over many magnitudes, with ties and with neighbours one representable number apart."""
    width = draw(st.integers(2, 5))
    numbers = st.one_of(
        st.floats(-30, 30),
        st.sampled_from([0.0, 1.0, 1.0 + torch.finfo(dtype).eps, 1.0 - torch.finfo(dtype).eps / 2, -1.0, -0.0]),
        st.floats(-1, 1).map(lambda x: x * float(torch.finfo(dtype).max)),
        st.floats(-1, 1).map(lambda x: x * float(torch.finfo(dtype).tiny)),
    )
    rows = draw(st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=1, max_size=4))
    return torch.tensor(rows, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=150)
@given(data=st.data(), temperature=temperatures)
def test_the_prediction_stays_at_every_temperature(dtype, data, temperature):
    logits = data.draw(logit_rows(dtype))
    before = logits.clone()
    scaled = scale_logits(logits, temperature)
    assert torch.equal(logits, before) and scaled.dtype == dtype
    assert torch.isfinite(scaled).all()
    assert torch.equal(scaled.argmax(dim=1), logits.argmax(dim=1))
    # Not by the index rule for ties alone: the set of top classes is the same.
    tops = logits == logits.amax(dim=1, keepdim=True)
    assert torch.equal(scaled == scaled.amax(dim=1, keepdim=True), tops)
    # The order of the others may tie, but never turn round.
    assert (scaled.double().gather(1, logits.double().argsort(dim=1, stable=True)).diff(dim=1) >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=80)
@given(data=st.data())
def test_temperature_one_returns_the_same_bits(dtype, data):
    logits = data.draw(logit_rows(dtype))
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[logits.element_size()]
    assert torch.equal(scale_logits(logits, 1.0).view(integer), logits.view(integer))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_neighbours_that_rounding_merges_stay_apart(dtype):
    # Numbers just below 2 lie twice as dense, relative to their size, as those just above 1.
    step = torch.finfo(dtype).eps
    logits = torch.tensor([[2 - 2 * step, 2 - step]], dtype=dtype)
    merging = [temperature for temperature in (1.5, 1.6, 1.7, 1.8, 1.9) if (logits / temperature).diff() == 0]
    assert merging
    for temperature in merging:
        assert scale_logits(logits, temperature).diff() > 0


def test_the_documented_values_at_the_extremes():
    logits = torch.tensor([[5.0, 3.0, -1.0]])
    sharp, flat = scale_logits(logits, 1e-30), scale_logits(logits, 1e30)
    assert sharp.softmax(dim=1).tolist() == [[1.0, 0.0, 0.0]]
    torch.testing.assert_close(flat, torch.tensor([[5e-30, 3e-30, -1e-30]]), rtol=1e-6, atol=0)
    assert flat.softmax(dim=1).unique().numel() == 1
    half_sharp, half_flat = scale_logits(logits.half(), 1e-30), scale_logits(logits.half(), 1e30)
    assert half_sharp.tolist() == [[65504.0, 65472.0, -65504.0]]
    assert half_flat.tolist() == [[2.0**-24, 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 2.0, 1e3, 1e30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradient_is_that_of_division_also_where_lifted_or_clamped(dtype, temperature):
    logits = torch.tensor([[1.0, 1.0 + torch.finfo(dtype).eps, -2.0]], dtype=dtype, requires_grad=True)
    weights = torch.tensor([[1.0, -2.0, 0.5]], dtype=dtype)
    (gradient,) = torch.autograd.grad((scale_logits(logits, temperature) * weights).sum(), logits)
    largest = torch.finfo(dtype).max
    expected = (weights.double() / temperature).clamp(-largest, largest).to(dtype)
    assert torch.equal(gradient, expected)


def test_first_and_second_derivatives_agree_with_finite_differences():
    logits = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    def loss(z):
        return scale_logits(z, 0.7).log_softmax(dim=1)

    assert torch.autograd.gradcheck(loss, (logits,))
    assert torch.autograd.gradgradcheck(loss, (logits,))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: scale_logits(row, 0.5)))(logits.detach())  # of a batch
    assert torch.equal(jacobian, 2 * torch.eye(4).double().expand(3, 4, 4))


def test_broken_logits_are_not_hidden():
    logits = torch.tensor([[1.0, torch.nan, 0.0], [torch.inf, 1.0, -torch.inf]])
    scaled = scale_logits(logits, 2.0)
    assert scaled[0].isnan().tolist() == [False, True, False]
    assert scaled[1].tolist() == [torch.inf, 0.5, -torch.inf]


def test_wrapper_passes_arguments_and_gradients():
    model, one, other = nn.Bilinear(3, 2, 4), torch.randn(2, 3, requires_grad=True), torch.randn(2, 2)
    wrapped = TemperatureScaled(model, 4)
    torch.testing.assert_close(wrapped(one, input2=other), model(one, other) / 4)
    wrapped(one, other)[:, 0].sum().backward()
    torch.testing.assert_close(one.grad, other @ model.weight[0].T / 4)
    assert list(wrapped.parameters()) == list(model.parameters())
    assert "temperature=4" in repr(wrapped)
