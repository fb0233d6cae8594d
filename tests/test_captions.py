"""The words of a figure say what is drawn, with its numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell

from robustlib.course import notebook, plots
from robustlib.course.captions import LONGEST, describe
from robustlib.course.words import in_words, plain


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def curves():
    rows = [("pgd", t, mean) for t, mean in ((1e-3, 90.0), (1.0, 18.04), (1e3, 31.0))]
    frame = pd.DataFrame([*rows, ("square", 1e-3, 68.0), ("square", 1e3, 68.0)], columns=["attack", "T_d", "mean"])
    frame = frame.assign(low=frame["mean"] - 2, high=frame["mean"] + 2)
    return plots.plot_curves(frame, x="T_d", by="attack", title="six attacks", reference=92.0).figure


def test_curves_are_told_by_their_ends_and_turning_points():
    words = describe(curves())
    assert words.caption == "six attacks. Adversarial accuracy (%) against design temperature T_d (log scale)"
    assert words.alt.startswith(words.caption)
    assert "pgd: 90 at 0.001, 18 at 1, 31 at 1000" in words.alt
    assert "square: 68 at 0.001, 68 at 1000" in words.alt
    assert "clean accuracy: 92" in words.alt


def test_dots_are_told_by_row_and_panel():
    frame = pd.DataFrame({"model": ["baseline", "m"] * 2, "adversary": ["naive", "naive", "cal", "cal"]})
    frame = frame.assign(mean=[19.0, 90.8, 19.0, 20.0], low=[17.0, 88, 17, 18], high=[21.0, 93, 21, 22])
    look = {"row": "model", "by": "adversary"}
    words = describe(plots.side_by_side({"images": frame, "texts": frame[:2]}, plots.plot_adversaries, **look))
    assert words.caption == "images; texts. Adversarial accuracy (%), 95 % interval"
    assert "images: naive: 19 (standard training), 90.8 (m)" in words.alt
    assert "cal: 19 (standard training), 20 (m)" in words.alt


def test_cells_pictures_and_bars_are_told():
    card = pd.DataFrame({"modality": ["image"] * 2, "claim": ["C1", "C2"], "verdict": ["reproduced", "partly"]})
    assert "image: C1 ✓, C2 ~" in describe(plots.plot_verdicts(card).figure).alt
    picture = np.random.default_rng(0).random((1, 6, 6))
    axes = plots.plot_attack(picture, picture, ("a coat", "change", "a dress"))
    assert describe(axes[0].figure).caption == "a coat; change; a dress"
    many = plots.plot_probabilities(np.ones(99) / 99, [f"class {i}" * 9 for i in range(99)], 1, title="t")
    assert len(describe(many.figure).alt) <= LONGEST


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion_mnist, small_cnn", "Fashion-MNIST, small CNN"),
        ("minilm-2-layers", "MiniLM (2 of 6 layers)"),
        ("dg", "DeepWordBug"),
        ("conf_up(T_d<<1)", "served at T_d << 1"),
        ("baseline_gradnorm(epochs=120)", "standard training, normalised gradients (epochs=120)"),
        ("pgd_gradclip", "PGD, clipped gradients"),
        ("baseline(n=2000)", "standard training (n=2000)"),
        ("ddi-at(M=3,K=3)_gradnorm", "DDi-AT (M = 3, K = 3), normalised gradients"),
        ("freelb", "FreeLB"),
        ("whatever", "whatever"),
        ("", ""),
    ],
)
def test_short_names_have_words(name, words):
    assert plain(name) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "**vader_tweets** +1 (conf_up(T_d<<1)), pgd_gradnorm",
            "**VADER tweets** +1 (served at T_d << 1), PGD, normalised gradients",
        ),
        ("design_temperature", "T_d"),
        ("`baseline_gradnorm` in $l_c$ of 07_text.csv", "`baseline_gradnorm` in $l_c$ of 07_text.csv"),
    ],
)
def test_no_reader_meets_names_of_records_in_a_sentence(text, words):
    assert in_words(text) == words


def test_a_notebook_shows_tables_in_words_and_leaves_them_as_they_are(monkeypatch):
    shell = InteractiveShell.instance()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    table = pd.DataFrame({"training_loss": [0.5]}, index=pd.Index(["baseline_gradclip"], name="training_temperature"))
    notebook.start("smoke", 0)
    shown, _ = shell.display_formatter.format(table)
    InteractiveShell.clear_instance()
    for form in ("text/html", "text/plain"):
        assert "standard training, clipped gradients" in shown[form] and "training temperature" in shown[form]
    assert list(table.columns) == ["training_loss"]
