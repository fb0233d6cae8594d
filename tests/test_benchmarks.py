"""The benchmarks run on the smallest profile and write finite numbers; no time is asserted."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from robustlib.data.folders import repository_root
from robustlib.study.environment import pick_device
from robustlib.training.autocast import resolve_precision

# every part of a benchmark must have left rows with these units, on the smallest profile as on the others
UNITS = {
    "image_attacks": {"s", "adversarial accuracy", "passes per example", "NLL (nats)"},
    "training": {"s", "examples per second"},
}
IMAGE_STEPS = ("standard", "fgsm", "pgd K=3", "pgd K=5", "freelb K=3", "trades K=3", "ddi M=3 K=3")
STEPS = {  # passes of each method's training step, worked out by hand
    "images": dict(zip(IMAGE_STEPS, (1, 2, 4, 6, 3, 5, 12), strict=True)),
    "texts": {"standard": 1, "pgd K=3": 4, "freelb K=3": 3, "ddi M=2 K=2": 6, "ascc K=5": 7},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What each script writes, by its name; one cache, so that the model is trained once."""
    folder = repository_root() / "benchmarks"
    out, state = tmp_path_factory.mktemp("benchmarks"), torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in UNITS:
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            script = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, spec.name, script)  # where its dataclasses look for their names
            spec.loader.exec_module(script)
            script.main(["--profile", "smoke", "--repeats", "1", "--threads", "1", "--out", str(out)])
    assert torch.equal(torch.random.get_rng_state(), state)
    return {name: pd.read_csv(out / f"{name}.csv") for name in UNITS}


@pytest.mark.parametrize("name", UNITS)
def test_every_number_is_finite_and_says_what_it_depends_on(name, tables):
    table = tables[name]
    assert set(table.unit) == UNITS[name]
    for column in ("value", "ratio", "low", "high"):
        assert np.isfinite(table[column]).all(), column
    assert (table.loc[table.unit == "s", "value"] > 0).all()
    assert ((table.low <= table.value) & (table.value <= table.high)).all()
    assert (table.n > 0).all() and (table.threads == 1).all()
    assert table.versions.str.contains("torch").all()
    assert not table[["name", "reference", "versions", "device", "dataset", "profile"]].isna().any(axis=None)


def test_foolbox_and_ours_did_the_same(tables):
    """From one start, with one step and as many of them: the same accuracy; leaving early saves passes only."""
    whole = tables["image_attacks"]
    assert set(whole.reference) <= set(whole.name) and (whole.loc[whole.name == whole.reference, "ratio"] == 1).all()
    table = whole.query("name.str.contains('from the image: ')", engine="python")
    accuracy = table[table.unit == "adversarial accuracy"].value
    assert len(accuracy) == 3
    # a step decided by rounding may flip an image that the attack has just fooled or just not
    assert np.ptp(accuracy) <= 0.02
    passes = table[table.unit == "passes per example"].set_index("name").value
    every, early = (passes[f"PGD from the image: ours, {how}"] for how in ("every step", "leaving early"))
    assert early < every


@pytest.mark.parametrize("kind", STEPS)
def test_every_training_method_is_held_to_its_passes(kind, tables):
    """One round: the ratio is the time over as many standard steps, and the rate the batch over the time."""
    table = tables["training"].set_index("name")
    times, rates = table[table.unit == "s"], table[table.unit == "examples per second"]
    standard = f"{kind}, float32: standard"
    for name, passes in STEPS[kind].items():
        row, rate = times.loc[f"{kind}, float32: {name}"], rates.loc[f"{kind}, float32: {name}"]
        assert row.reference == f"{passes} x {standard}"
        assert row.ratio == pytest.approx(row.value / (passes * times.loc[standard].value))
        assert rate.value == pytest.approx(row.n / row.value) and rate.reference == standard
        assert rate.ratio == pytest.approx(rate.value / rates.loc[standard].value)
    names = {name for name in times.index if name.startswith(f"{kind}, float32: ")}
    assert len(names) == len(STEPS[kind]) + 1  # and a standard step without the optimiser


def test_bfloat16_training_is_measured_where_the_hardware_has_it(tables):
    expected = resolve_precision("auto", pick_device().type) == "bfloat16"
    beside = tables["training"][tables["training"].name.str.endswith("beside float32")]
    assert len(beside) == expected * sum(len(steps) for steps in STEPS.values())
    assert set(beside.reference) <= set(tables["training"].name)
