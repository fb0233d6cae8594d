"""Figures draw what they are given and are labelled."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from robustlib.course import plots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_reliability_leaves_empty_bins_out():
    bins = {
        "count": np.array([4, 0, 6]),
        "confidence": np.array([0.2, np.nan, 0.9]),
        "accuracy": np.array([0.5, np.nan, 0.8]),
    }
    ax = plots.plot_reliability(bins, title="t")
    np.testing.assert_allclose(ax.collections[0].get_offsets(), [[0.2, 0.5], [0.9, 0.8]])
    assert ax.get_xlabel().startswith("confidence")


def test_curves_have_one_line_per_series_a_band_and_a_reference():
    frame = pd.DataFrame(
        {"T": [10.0, 1.0, 0.1] * 2, "y": range(6), "low": range(6), "high": range(1, 7), "s": ["a"] * 3 + ["b"] * 3}
    )
    ax = plots.plot_curves(frame, x="T", y="y", by="s", xlabel="T", ylabel="%", title="t", reference=4)
    assert ax.get_xscale() == "log"
    assert list(ax.lines[0].get_xdata()) == [0.1, 1.0, 10.0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b", "clean accuracy"]
    assert len(ax.collections) == 2


def test_adversaries_show_their_intervals():
    frame = pd.DataFrame(
        {"model": ["m", "m"], "who": ["none", "cal"], "mean": [90, 10], "low": [88, 8], "high": [92, 12]}
    )
    ax = plots.plot_adversaries(frame, row="model", by="who", title="t")
    segments = [
        collection.get_segments()[0][:, 0].tolist()
        for collection in ax.collections
        if hasattr(collection, "get_segments")
    ]
    assert [88, 92] in segments
    assert [8, 12] in segments


def test_a_flat_landscape_says_that_it_is_flat():
    coordinates = np.linspace(-1, 1, 5)
    labels = {"xlabel": "x", "ylabel": "y", "title": "t", "unit": "nats"}
    flat = plots.plot_landscape(np.zeros((5, 5)), coordinates, **labels)
    assert [text.get_text() for text in flat.texts] == ["exactly flat"]
    hill = plots.plot_landscape(np.arange(25.0).reshape(5, 5), coordinates, **labels)
    assert not hill.texts


def test_pictures_and_attacks_take_grey_and_colour():
    for channels in (1, 3):
        image = np.random.default_rng(0).random((channels, 6, 6))
        axes = plots.plot_attack(image, np.clip(image + 0.1, 0, 1), ("a", "b", "c"))
        assert [ax.get_title() for ax in axes] == ["a", "b", "c"]


def test_figures_are_saved_under_the_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    path = plots.save_figure(plots.plot_probabilities(np.array([0.2, 0.8]), ["a", "b"], 1, title="t"), "fig", "smoke")
    assert path == tmp_path / "smoke" / "figures" / "fig.png"
    assert path.stat().st_size > 1000


def test_only_the_part_without_any_slope_is_hatched():
    coordinates = np.linspace(-1, 1, 9)
    labels = {"xlabel": "x", "ylabel": "y", "title": "t", "unit": "nats"}
    half = np.zeros((9, 9))
    half[5:] = np.arange(1.0, 5.0)[:, None]
    assert [text.get_text() for text in plots.plot_landscape(half, coordinates, **labels).texts] == [
        "hatched: exactly flat"
    ]
    tiny = 1e-12 * np.arange(81.0).reshape(9, 9)
    assert not plots.plot_landscape(tiny, coordinates, **labels).texts
