"""The benchmarks run on the smallest profile and write finite numbers; no time is asserted."""

import importlib
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from robustlib.data.folders import repository_root
from robustlib.study.environment import pick_device
from robustlib.training.autocast import resolve_precision

# how many units the rows of each part have: every part of a benchmark leaves some
UNITS = {"images": 5, "texts": 5, "training": 2, "overhead": 2}
IMAGE_STEPS = ("standard", "fgsm", "pgd K=3", "pgd K=5", "freelb K=3", "trades K=3", "ddi M=3 K=3")
FOLDER = repository_root() / "benchmarks"
STEPS = {  # passes of each method's training step, worked out by hand
    "images": dict(zip(IMAGE_STEPS, (1, 2, 4, 6, 3, 5, 12), strict=True)),
    "texts": {"standard": 1, "pgd K=3": 4, "freelb K=3": 3, "ddi M=2 K=2": 6, "ascc K=5": 7},
}


@pytest.fixture(scope="module")
def script():
    """`script(name)`: that script as a module, where its spawned processes and dataclasses look for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for path in FOLDER.glob("*.py"):
            patch.delitem(sys.modules, path.stem, raising=False)
        yield importlib.import_module


@pytest.fixture(scope="module")
def tables(script, tmp_path_factory):
    """What is written, by part; one cache, so that the model is trained once."""
    out, state = tmp_path_factory.mktemp("benchmarks"), torch.random.get_rng_state()
    options = ["--profile", "smoke", "--repeats", "1", "--threads", "1", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TEXTATTACK_PYTHON", raising=False)
        patch.setenv("ROBUSTLIB_CLOCK", "wall")  # which `run` sets for its parts
        script("run").main(options)
    assert torch.equal(torch.random.get_rng_state(), state)
    table = pd.read_csv(out / "benchmarks.csv")
    parts = {part: rows.reset_index(drop=True) for part, rows in table.groupby("part")}
    return parts | {"targets": pd.read_csv(out / "targets.csv")}


def test_targets_are_judged_where_both_sides_were_measured(tables):
    met = tables["targets"].set_index("target").met
    assert set(met[met.index.str.contains("TextAttack")]) == {"not measured"}
    assert set(met[met.index.str.contains("foolbox|calibration|unit|float32")]) <= {"yes", "no"}


def test_what_is_measured_stays_when_a_later_part_fails(script, tmp_path, monkeypatch):
    run = script("run")
    row = {"name": "a", "value": 1.0, "unit": "s", "reference": "a", "ratio": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    good = (lambda study, repeats: [row | {"repeats": 1}],)

    def bad(study, repeats):
        raise OSError("disk full")

    monkeypatch.setenv("ROBUSTLIB_CLOCK", "wall")
    monkeypatch.setattr(run, "parts", lambda chosen: {"images": good, "overhead": (bad,)})
    options = ["--profile", "smoke", "--threads", "1", "--out", str(tmp_path)]
    with pytest.raises(OSError, match="disk full"):
        run.main([*options, "--parts", "images", "overhead"])
    assert pd.read_csv(tmp_path / "benchmarks.csv").name.tolist() == ["a"]


def test_missing_resources_of_textattack_are_named_before_anything_runs(script, tmp_path, monkeypatch):
    run = script("run")
    monkeypatch.setenv("ROBUSTLIB_CLOCK", "wall")
    monkeypatch.delenv("NLTK_DATA", raising=False)
    options = ["--profile", "smoke", "--out", str(tmp_path), "--parts", "images", "texts"]
    with pytest.raises(FileNotFoundError, match="no interpreter nowhere/python"):
        run.main([*options, "--textattack-python", "nowhere/python"])
    with pytest.raises(FileNotFoundError, match=r"corpora.wordnet with index"):
        run.main([*options, "--textattack-python", sys.executable, "--recipes", "dg", "pwws"])
    assert not list(tmp_path.iterdir())


def test_gpu_costs_are_measured_once_and_a_second_run_goes_on(script, tmp_path, capsys):
    gpu = script("gpu")
    gpu.main(["--out", str(tmp_path), "--sizes", "small", "--only", "images"])
    gpu.main(["--out", str(tmp_path), "--sizes", "small"])
    table = pd.read_csv(tmp_path / "gpu.csv")
    assert table.name.is_unique and (table.per_second > 0).all()
    assert set(table.unit) == {"image passes", "training steps", "texts"}
    assert capsys.readouterr().out.count("images, float32") == 1


def test_scaling_says_what_was_not_measured(script, tmp_path, monkeypatch):
    scaling = script("scaling")
    curves = {"T sweep": pd.DataFrame({"temperatures": [1, 2, 4], "texts asked": [100, 120, 150]})}
    monkeypatch.setattr(scaling, "growth", lambda: curves)
    gpu = tmp_path / "gpu.csv"
    gpu.write_text('name,per_second\n"steps, 16 models at a time",1000\n"queries, 16 processes",50000\n')
    scaling.main(["--gpu", str(gpu), "--out", str(tmp_path / "scaling.md")])
    text = (tmp_path / "scaling.md").read_text()
    grid = [line.split(" | ") for line in text.splitlines() if line.startswith("| the paper's grid | one GPU")]
    hours = [float(line[-1].strip(" |").replace(",", "")) for line in grid]
    assert hours[0] > hours[1] > hours[2] and hours[0] == pytest.approx(8 * hours[1], rel=0.01)
    assert "| text lessons of `full` | one CPU core | 1 | not measured |" in text
    assert "| T sweep | 0.29 |" in text


@pytest.mark.parametrize("name", UNITS)
def test_every_number_is_finite_and_says_what_it_depends_on(name, tables):
    table = tables[name]
    assert table.unit.nunique() == UNITS[name]
    for column in ("value", "low", "high"):
        assert np.isfinite(table[column]).all(), column
    assert np.isfinite(table.loc[table.unit == "s", "ratio"]).all()  # a share of 0 % has no ratio
    assert (table.loc[table.unit == "s", "value"] > 0).all()
    assert ((table.low <= table.value) & (table.value <= table.high)).all()
    assert (table.n > 0).all() and (table.threads == 1).all()
    assert table.versions.str.contains("torch").all()
    assert not table[["name", "reference", "versions", "device", "dataset", "profile"]].isna().any(axis=None)


def test_foolbox_and_ours_did_the_same(tables):
    """From one start, with one step and as many of them: the same accuracy; leaving early saves passes only."""
    whole = tables["images"]
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
