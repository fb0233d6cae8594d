"""Figures draw what they are given and are labelled."""

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
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0, 3), "the stored interval, not one computed"


def test_adversaries_show_their_intervals():
    frame = pd.DataFrame(
        {"model": ["m", "m"], "who": ["naive", "cal"], "mean": [90, 10], "low": [88, 8], "high": [92, 12]}
    )
    ax = plots.plot_adversaries(frame, row="model", by="who", title="t")
    drawn = [list(line.get_xdata()) for line in ax.lines]
    for expected in ([90], [10], [88, 92], [8, 12]):
        assert expected in drawn
    assert [label.get_text() for label in ax.get_yticklabels()] == ["m"]


def test_prices_label_every_model_and_reach_as_far_as_its_intervals():
    frame = pd.DataFrame({"method": ["baseline_gradnorm", "pgd"], "training_temperature": [100.0, 1.0]})
    for name in ("clean", "robust"):
        frame = frame.assign(**{name: [80.0, 82.0], f"{name}_low": [79.0, 81.0], f"{name}_high": [83.0, 84.0]})
    ax = plots.plot_prices(frame.assign(kind=["hot", "adversarial"]), by="kind", title="t")
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    ends = [collection.get_segments()[0][:, axis] for collection, axis in zip(ax.collections, (0, 1), strict=False)]
    assert [list(end) for end in ends] == [[79.0, 83.0]] * 2
    names = ["1  standard training, normalised gradients, T = 100", "2  PGD, T = 1"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names


def test_panels_share_colours_and_one_legend():
    frame = pd.DataFrame({"row": ["m", "m"], "who": ["naive", "cal"], "mean": [90.0, 10.0]})
    panels = {"both": frame, "one": frame[1:].assign(who="cal"), "other": frame.assign(who=["cal", "margin"])}
    figure = plots.side_by_side(panels, plots.plot_adversaries, row="row", by="who")
    assert [ax.get_title() for ax in figure.axes] == list(panels)
    assert [ax.get_legend() is None for ax in figure.axes] == [True, True, False]
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["naive", "cal", "margin"]
    colours = [
        {line.get_color() for line in ax.lines if len(line.get_xdata()) == 1 and line.get_xdata()[0] == value}
        for ax, value in zip(figure.axes, (10.0, 10.0, 90.0), strict=True)
    ]
    assert colours[0] == colours[1] == colours[2] != set(), "cal has one colour in all panels"
    many = plots.side_by_side({str(n): frame for n in range(7)}, plots.plot_adversaries, row="row", by="who")
    assert len(many.axes) == 7 and many.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 4)


def test_verdicts_are_written_into_the_heatmap():
    card = pd.DataFrame({"modality": ["image", "text"] * 2, "claim": ["C1", "C1", "C10", "C10"]})
    card["verdict"] = ["reproduced", "partly", "not reproduced", "not tested"]
    ax = plots.plot_verdicts(card)
    assert [text.get_text() for text in ax.texts] == ["✓", "✗", "~", ""]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["C1", "C10"]


HALF = np.where(np.arange(9)[:, None] < 5, 0.0, np.arange(9.0)[:, None]) * np.ones(9)


@pytest.mark.parametrize(
    ("surface", "words"),
    [
        (np.zeros((9, 9)), ["exactly flat"]),
        (HALF, ["hatched: exactly flat"]),
        (1e-12 * np.arange(81.0).reshape(9, 9), []),
    ],
    ids=["flat", "half", "small slope"],
)
def test_only_what_has_no_slope_at_all_is_called_flat(surface, words):
    labels = {"xlabel": "x", "ylabel": "y", "title": "t", "unit": "nats"}
    ax = plots.plot_landscape(surface, np.linspace(-1, 1, 9), **labels)
    assert [text.get_text() for text in ax.texts] == words


def test_figures_are_saved_under_the_profile_and_shown_once_with_their_words(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_RESULTS", str(tmp_path))
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda figure, metadata: shown.append((figure, metadata)))
    ax = plots.plot_probabilities(np.array([0.2, 0.8]), ["a", "b"], 1, title="t")
    plots.show(ax, "fig", "smoke")
    assert (tmp_path / "smoke" / "figures" / "fig.png").stat().st_size > 1000
    words = {"caption": "t. Probability", "alt": "t. Probability. 2 bars, the tallest: b 0.8, a 0.2"}
    assert shown == [(ax.figure, {"image/png": words})]
    assert plt.get_fignums() == [], "the notebook would show it a second time"


def test_pictures_of_an_attack_have_their_titles():
    for channels in (1, 3):  # grey and colour
        image = np.random.default_rng(0).random((channels, 6, 6))
        axes = plots.plot_attack(image, np.clip(image + 0.1, 0, 1), ("a", "b", "c"))
        assert [ax.get_title() for ax in axes] == ["a", "b", "c"]


def test_a_table_of_what_hides_has_a_panel_for_each_modality():
    rows = [
        ("image", "T(x) gap", "margin", 73.2, 60, 80, 9, "counterexample"),
        ("image", "T(x) gap", "dlr", 1, -2, 4, 9, "theorem"),
    ]
    rows += [("text", name, "margin", 50, 40, 60, 9, "") for name in ("floor 2.5", "float16", "two decimals")]
    rows += [("text", "T(x) gap", "labels only", 15, 7, 22, 9, "theorem")]
    columns = ["modality", "hides", "pierces", "mean", "low", "high", "n", "mark"]
    figure = plots.plot_hiding(pd.DataFrame(rows, columns=columns))
    image, text = (ax for ax in figure.axes if ax.get_title())
    assert [label.get_text() for label in image.get_xticklabels()] == ["margin", "dlr"]
    assert "+73 ✗\n[60, 80]" in [note.get_text() for note in image.texts]
    assert [label.get_text() for label in text.get_yticklabels()][:2] == ["floor 2.5", "float16"]
    marked = [note.get_position() for note in text.texts if note.get_text() == "∎"]
    assert marked == [(1.5, 0.5)], "a theorem about numbers that are rounded"
