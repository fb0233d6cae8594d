"""The benchmark of training steps runs on the smallest sizes, on every method; no time is asserted."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from robustlib.data.folders import repository_root

STEPS = {  # passes of each method's step, worked out by hand
    "images": {
        "standard": 1,
        "fgsm": 2,
        "pgd K=3": 4,
        "pgd K=5": 6,
        "freelb K=3": 3,
        "trades K=3": 5,
        "ddi M=3 K=3": 12,
    },
    "texts": {"standard": 1, "pgd K=3": 4, "freelb K=3": 3, "ddi M=2 K=2": 6, "ascc K=5": 7},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder, out = repository_root() / "benchmarks", tmp_path_factory.mktemp("benchmark")
    state = torch.random.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_CACHE", str(out / "cache"))
        patch.setenv("ROBUSTLIB_PROGRESS", "0")
        patch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location("benchmark_training", folder / "training.py")
        script = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, script)  # where its dataclasses look for their names
        spec.loader.exec_module(script)
        script.main(["--profile", "smoke", "--repeats", "1", "--out", str(out)])
    assert torch.equal(torch.random.get_rng_state(), state)
    return pd.read_csv(out / "training.csv")


def test_every_number_is_finite_and_says_what_it_depends_on(table):
    assert set(table.unit) == {"s", "examples per second"}
    for column in ("value", "ratio", "low", "high"):
        assert np.isfinite(table[column]).all() and (table[column] > 0).all(), column
    assert ((table.low <= table.value) & (table.value <= table.high)).all()
    assert (table.threads == 1).all() and (table.repeats == 1).all()
    assert table.versions.str.contains("torch").all()
    assert not table[["name", "reference", "versions", "device", "dataset", "profile"]].isna().any(axis=None)


@pytest.mark.parametrize("kind", STEPS)
def test_every_method_is_held_to_its_passes(kind, table):
    """One round: the ratio is the time over as many standard steps, and the rate the batch over the time."""
    times = table[table.unit == "s"].set_index("name")
    rates = table[table.unit == "examples per second"].set_index("name")
    standard = f"{kind}, float32: standard"
    for name, passes in STEPS[kind].items():
        row, rate = times.loc[f"{kind}, float32: {name}"], rates.loc[f"{kind}, float32: {name}"]
        assert row.reference == f"{passes} x {standard}"
        assert row.ratio == pytest.approx(row.value / (passes * times.loc[standard].value))
        assert rate.value == pytest.approx(row.n / row.value) and rate.reference == standard
        assert rate.ratio == pytest.approx(rate.value / rates.loc[standard].value)
    names = {name for name in times.index if name.startswith(f"{kind}, float32: ")}
    assert len(names) == len(STEPS[kind]) + 1  # and a standard step without the optimiser


def test_bfloat16_is_measured_where_the_hardware_has_it(table):
    from robustlib.study.environment import pick_device
    from robustlib.training.autocast import resolve_precision

    expected = resolve_precision("auto", pick_device().type) == "bfloat16"
    beside = table[table.name.str.endswith("beside float32")]
    assert len(beside) == expected * sum(len(steps) for steps in STEPS.values())
    assert set(beside.reference) <= set(table.name)
