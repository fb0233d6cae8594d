"""The benchmarks run on the smallest profile and write finite numbers; no time is asserted."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from robustlib.data.folders import repository_root

# every part of a benchmark must have left rows with these units, on the smallest profile as on the others
UNITS = {"image_attacks": {"s", "adversarial accuracy", "passes per example", "NLL (nats)"}, "slider": {"ms"}}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What each script writes, by its name; one cache, so that the model is trained once."""
    folder = repository_root() / "benchmarks"
    out = tmp_path_factory.mktemp("benchmarks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUSTLIB_CACHE", str(out / "cache"))
        patch.setenv("ROBUSTLIB_PROGRESS", "0")
        patch.syspath_prepend(str(folder))
        for name in UNITS:
            spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
            script = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(script)
            script.main(["--profile", "smoke", "--repeats", "1", "--threads", "1", "--out", str(out)])
    return {name: pd.read_csv(out / f"{name}.csv") for name in UNITS}


@pytest.mark.parametrize("name", UNITS)
def test_every_number_is_finite_and_says_what_it_depends_on(name, tables):
    table = tables[name]
    assert set(table.unit) == UNITS[name]
    for column in ("value", "ratio", "low", "high"):
        assert np.isfinite(table[column]).all(), column
    assert (table.loc[table.unit.isin(("s", "ms")), "value"] > 0).all()
    assert ((table.low <= table.value) & (table.value <= table.high)).all()
    assert (table.n > 0).all()
    assert table.versions.str.contains("torch").all()
    assert not table[["name", "reference", "versions", "device", "dataset", "profile"]].isna().any(axis=None)


def test_a_reference_is_compared_with_itself_and_every_reference_is_there(tables):
    table = tables["image_attacks"]
    assert set(table.reference) <= set(table.name)
    assert (table.loc[table.name == table.reference, "ratio"] == 1).all()


def test_foolbox_and_ours_did_the_same(tables):
    """From one start, with one step and as many of them: the same accuracy; leaving early saves passes only."""
    table = tables["image_attacks"].query("name.str.contains('from the image: ')", engine="python")
    accuracy = table[table.unit == "adversarial accuracy"].value
    assert len(accuracy) == 3
    # a step decided by rounding may flip an image that the attack has just fooled or just not
    assert np.ptp(accuracy) <= 0.02
    passes = table[table.unit == "passes per example"].set_index("name").value
    every, early = (passes[f"PGD from the image: ours, {how}"] for how in ("every step", "leaving early"))
    assert early < every


def test_every_widget_is_moved(tables):
    names = tables["slider"].name.str.partition(":")[0].unique()
    assert list(names) == [
        "temperature lab",
        "temperature lab, texts",
        "loss landscape",
        "attack replay, image",
        "attack replay, text",
        "pierce it yourself",
        "training temperature",
    ]
