"""Widgets show what was stored, answer a move without the model, and draw live what they draw on paper."""

import io
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from robustlib.attacks.diagnostics import input_jacobian, masking
from robustlib.attacks.landscape import input_landscape, weight_landscape
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.recipes import deepwordbug
from robustlib.calibration.metrics import calibration_report
from robustlib.course import plots, widgets
from robustlib.course.widgets.hidden_gap import hidden_gap_data, hidden_gap_scene, hidden_gap_widget, plot_hidden_gap
from robustlib.models.images import small_cnn
from robustlib.study.records import COLUMNS

CLASSES = ("a", "b", "c", "d")
FEW = tuple(float(t) for t in np.logspace(-3, 3, 7))


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


class Counting(torch.nn.Module):
    """A small classifier that counts how often it is called."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.inner, self.calls = small_cnn(1, 8, len(CLASSES), width=4), 0

    def forward(self, images):
        self.calls += 1
        return 20 * self.inner(images)


@pytest.fixture(scope="module")
def model():
    return Counting()


@pytest.fixture(scope="module")
def images():
    return torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def lab(model, images):
    logits = model(images).detach()
    labels = logits.argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % len(CLASSES)
    rows = [
        ("accuracy", adversary, attack, t, mean, mean - 5, mean + 5)
        for adversary, attack in (("none", "pgd"), ("cal", "pgd"), ("none", "clean"))
        for t, mean in ((1e-2, 80.0), (1.0, 20.0), (1e2, 40.0))
    ]
    columns = ["metric", "adversary", "attack", "design_temperature", "mean", "low", "high"]
    _, jacobian = input_jacobian(model, images[:3])
    return widgets.temperature_lab_data(
        logits,
        labels,
        class_names=CLASSES,
        chosen=range(3),
        records=pd.DataFrame(rows, columns=columns).reindex(columns=COLUMNS),
        title="lab",
        pictures=images[:3],
        jacobian=jacobian,
        temperatures=FEW,
    )


@pytest.fixture(scope="module")
def landscape(model, images):
    label = model(images[:1]).argmax(dim=1)
    weights = weight_landscape(model, images[:4], model(images[:4]).argmax(dim=1), side=5)
    return widgets.loss_landscape_data(
        model, images[:1], label, epsilon=0.1, side=7, steps=4, title="land", weights=weights, temperatures=FEW
    )


@pytest.fixture(scope="module")
def image_replay(model, images):
    label = model(images[:1]).argmax(dim=1)
    return widgets.image_replay_data(
        model, images[:1], label, epsilon=0.1, steps=4, class_names=CLASSES, title="replay", temperatures=(1e-6, 1.0)
    )


@pytest.fixture(scope="module")
def text_replay():
    """A victim that knows two good words, each worth 3 logits."""

    def victim(texts):
        good = torch.tensor([[3.0 * sum(word in ("good", "fine") for word in text.split())] for text in texts])
        return torch.cat([1 - good, good - 1], dim=1)

    return widgets.text_replay_data(
        QueryCache(victim),
        "a good and really fine film",
        torch.tensor([1]),
        recipe=deepwordbug(),
        title="text",
        temperatures=(1e-3, 1.0),
    )


def riddle(naive=80.0):
    """As the paper's bowl: nothing found at a small product of temperatures, most at 1."""
    temperatures = np.logspace(-4, 4, 9)
    accuracy = dict(zip(temperatures, np.array([naive] * 3 + [40, 10] + [30] * 4) / 100, strict=True))
    logits = torch.tensor([[4.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    return widgets.pierce_data(accuracy, logits, torch.tensor([0, 1, 1]), title="riddle")


def training_rows():
    rows = [
        (t, metric, attack, adversary, mean, mean - 1, mean + 1)
        for t in (0.1, 1.0, 10.0)
        for metric, attack, adversary, mean in (
            ("accuracy", "clean", "none", 90 - t),
            ("accuracy", "pgd", "margin", 20 + t),
            ("logit_range", "clean", "none", 5 * t),
            ("margin", "clean", "none", 2 * t),
            ("ece", "clean", "none", 3),
        )
    ]
    columns = ["training_temperature", "metric", "attack", "adversary", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns).reindex(columns=COLUMNS)


@pytest.fixture(scope="module")
def hidden_gap(model, images):
    logits = model(images).detach()
    labels = torch.where(torch.arange(len(images)) % 4 > 0, logits.argmax(dim=1), 0)
    return hidden_gap_data(logits, labels, title="gap")


@pytest.fixture
def widget(request, lab, landscape, image_replay, text_replay, hidden_gap):
    return {
        "hidden gap": lambda: hidden_gap_widget(hidden_gap),
        "temperature lab": lambda: widgets.temperature_lab_widget(lab),
        "loss landscape": lambda: widgets.loss_landscape_widget(landscape),
        "image replay": lambda: widgets.image_replay_widget(image_replay, temperatures=(1.0, 1e-6)),
        "text replay": lambda: widgets.text_replay_widget(text_replay, temperatures=(1.0, 1e-3)),
        "pierce it yourself": lambda: widgets.pierce_widget(riddle()),
        "training temperature": lambda: widgets.training_temperature_widget(training_rows()),
    }[request.param]()


ALL = ("temperature lab", "loss landscape", "image replay", "text replay", "pierce it yourself", "training temperature")
ALL += ("hidden gap",)


def parts(box):
    """Controls, picture and words of a widget."""
    return box.children[0].children, box.children[-2], box.children[-1]


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("show", "message"),
    [
        (lambda made: widgets.plot_image_replay(made.image, 9, (1.0, 1.0)), "step 9 .*choose from 0, 1, 2, 3, 4$"),
        (
            lambda made: widgets.image_replay_widget(made.image, temperatures=(1.0, 0.5)),
            "right 0.5 .*choose from 1e-06, 1.0",
        ),
        (
            lambda made: widgets.text_replay_widget(made.text, temperatures=(0.5, 1.0)),
            "left 0.5 .*choose from 0.001, 1.0",
        ),
        (
            lambda made: widgets.plot_loss_landscape(made.landscape, 1.0, "hinge"),
            "'hinge'.*'cross-entropy', 'margin', 'DLR'",
        ),
        (lambda made: widgets.plot_temperature_lab(made.lab, 1.0, 3), "example 3 .*choose from 0, 1, 2"),
        (
            lambda made: widgets.plot_training_temperature(widgets.training_temperature_data(training_rows()), 5.0),
            "5.0 .*0.1, 1.0, 10",
        ),
        (
            lambda made: widgets.training_temperature_widget(training_rows(), start=5.0),
            "5.0 .*choose from 0.1, 1.0, 10.0",
        ),
        (
            lambda made: widgets.temperature_lab_widget(made.lab, start=3.0),
            "temperature T .*3.0 .*choose from 0.001, 0.01",
        ),
    ],
)
def test_a_value_that_was_not_stored_is_named_with_those_that_were(
    show, message, lab, landscape, image_replay, text_replay
):
    with pytest.raises(ValueError, match=message):
        show(SimpleNamespace(lab=lab, landscape=landscape, image=image_replay, text=text_replay))


@pytest.mark.parametrize("widget", ALL, indirect=True)
def test_every_control_changes_picture_and_words_without_the_model(widget, model):
    calls = model.calls
    controls, picture, words = parts(widget)
    for control in controls:
        assert control.description
        start = control.value
        before = picture.value, words.value
        control.value = next(value for _, value in reversed(control.options) if value != start)
        assert picture.value != before[0], control.description
        assert words.value != before[1], control.description
        control.value = start
        assert (picture.value, words.value) == before, "the way back leads to the same picture"
    assert "role=" in words.value
    assert model.calls == calls


@pytest.mark.parametrize("name", ALL)
def test_moving_there_gives_the_picture_of_starting_there(name, lab, landscape, image_replay, text_replay, hidden_gap):
    training = widgets.training_temperature.training_temperature_scene(
        widgets.training_temperature_data(training_rows())
    )
    first, last = (1.0, "cross-entropy", "towards the attack"), (1e3, "DLR", "two random directions")
    scene, start, end = {
        "temperature lab": (widgets.temperature_lab.temperature_lab_scene(lab), (1.0, 0), (1e-2, 1)),
        "loss landscape": (widgets.loss_landscape.loss_landscape_scene(landscape), first, last),
        "image replay": (widgets.image_replay.image_replay_scene(image_replay), (0, 1.0, 1.0), (3, 1e-6, 1.0)),
        "text replay": (widgets.text_replay.text_replay_scene(text_replay), (0, 1.0, 1.0), (2, 1e-3, 1.0)),
        "pierce it yourself": (widgets.pierce.pierce_scene(widgets.Game(riddle())), (1.0,), (10.0,)),
        "training temperature": (training, (0.1,), (1.0,)),
        "hidden gap": (hidden_gap_scene(hidden_gap), (hidden_gap.kappas[0],), (hidden_gap.kappas[20],)),
    }[name]
    moved, fresh = widgets.LiveFigure(scene, *start).picture(*end), widgets.LiveFigure(scene, *end).picture(*end)
    difference = np.abs(decoded(moved) - decoded(fresh)).max(axis=2) > 60
    # the layout is settled for the first values and may differ by a pixel; anything left behind would be more
    assert difference.mean() < 0.02
    assert (decoded(moved) < 128).any()


def test_a_picture_is_exactly_what_the_canvas_holds():
    def draw(figure):
        figure.subplots().axis("off")
        patch = figure.add_artist(Rectangle((0, 0), 0.5, 1, facecolor="#123456", linewidth=0))

        def update(width):
            patch.set_width(width)
            return [patch]

        return update

    scene = widgets.Scene((1, 1), draw, str)
    pixels = decoded(widgets.LiveFigure(scene, 0.5).picture(0.25))
    assert pixels.shape == (80, 80, 3)
    assert (pixels[:, :19] == (0x12, 0x34, 0x56)).all()
    assert (pixels[:, 21:] == 255).all()
    figure = widgets.plot_scene(scene, 0.25)
    assert [artist.get_width() for artist in figure.artists] == [0.25]


def test_a_slider_over_a_scene_draws_it_once():
    drawn = []

    def draw(figure):
        drawn.append(figure)
        (line,) = figure.subplots().plot([0, 1], [0, 1])
        return lambda value: [line.set_ydata([0, value]) or line]

    box = widgets.figure_slider(
        widgets.Scene((3, 2), draw, "value {}".format), [0.1, 0.5, 1.0], description="T (no unit)", start=0.5
    )
    (control,), picture, words = parts(box)
    before = picture.value
    control.value = 1.0
    assert len(drawn) == 1
    assert picture.value != before
    assert "value 1.0" in words.value
    assert picture.tooltip is None, "JupyterLab cannot show an Image with a tooltip"


def test_the_lab_shows_the_librarys_own_numbers(lab, model, images):
    logits = model(images).detach()
    labels = logits.argmax(dim=1)
    labels[::5] = (labels[::5] + 1) % len(CLASSES)
    for temperature in FEW:
        row, report = lab.sweep.loc[temperature], calibration_report(logits, labels, temperature=temperature)
        walls = masking(logits, labels, temperature=temperature)
        assert row.ece == report.expected_calibration_error
        assert row.nll == report.negative_log_likelihood
        assert (row.probability_wall, row.gradient_wall) == (walls.beyond_probability_wall, walls.beyond_gradient_wall)
    assert [bins["count"].sum() for bins in lab.reliability] == [len(labels)] * len(FEW)
    # of the records only the naive adversary's attacks are drawn
    assert lab.adversarial[["attack", "temperature", "mean"]].to_numpy().tolist() == [
        ["pgd", 1e-2, 80.0],
        ["pgd", 1.0, 20.0],
        ["pgd", 1e2, 40.0],
    ]


def test_the_lab_draws_the_example_at_its_temperature(lab):
    figure = widgets.plot_temperature_lab(lab, 10.0, 2)
    probs = torch.softmax(lab.logits[2].double() / 10, dim=0).tolist()
    bars = figure.axes[0].patches
    assert [bar.get_height() for bar in bars] == pytest.approx(probs)
    green = matplotlib.colors.to_rgba(plots.COLOURS[2])
    assert [bar.get_facecolor() == green for bar in bars] == [k == lab.labels[2] for k in range(4)]
    words = widgets.temperature_lab.temperature_lab_scene(lab).describe(10.0, 2)
    assert "pgd 20.0 % at T_d = 1" in words  # a tie in log T: the first


def test_gradients_that_are_exactly_zero_are_crossed(lab):
    for temperature in (1e-3, 1e-2, 1.0):
        figure = widgets.plot_temperature_lab(lab, temperature, 0)
        probs = torch.softmax(lab.logits[0] / temperature, dim=0)
        probs[lab.labels[0]] -= 1
        assert figure.axes[1].get_title().startswith("gradient by each logit")
        assert list(figure.axes[1].lines[0].get_xdata()) == (probs == 0).nonzero().flatten().tolist()
    assert (torch.softmax(lab.logits[0] / 1e-3, dim=0) == 0).any(), "there was something to cross"


def test_a_lab_of_texts_shows_the_sentence(lab):
    examples = torch.tensor([[2.0, -1.0], [0.0, 1.0]]), torch.tensor([0, 1])
    common = {"class_names": ("no", "yes"), "title": "texts", "records": pd.DataFrame(columns=COLUMNS)}
    made = widgets.temperature_lab_data(*examples, chosen=[1], sentences=["so it goes"], temperatures=FEW, **common)
    assert "so it goes" in widgets.plot_temperature_lab(made, 1.0).get_suptitle()
    assert "none measured" in widgets.temperature_lab.temperature_lab_scene(made).describe(1.0, 0)
    with pytest.raises(ValueError, match="chosen is empty"):
        widgets.temperature_lab_data(*examples, chosen=[], **common)


def test_a_hidden_gap_is_calibrated_where_confidence_crosses_the_accuracy(hidden_gap):
    at = list(hidden_gap.kappas).index(hidden_gap.calibrated)
    assert (np.diff(hidden_gap.confidence) > 0).all()
    assert hidden_gap.confidence[at] == pytest.approx(hidden_gap.accuracy, abs=3)
    assert hidden_gap.error[at] == hidden_gap.error.min()
    assert plot_hidden_gap(hidden_gap).axes[0].lines[0].get_xdata()[0] == hidden_gap.calibrated


def test_surfaces_are_read_off_the_stored_logits(landscape, model, images):
    label = model(images[:1]).argmax(dim=1)
    same = input_landscape(model, images[:1], label, epsilon=0.1, side=7)
    view = landscape.views["towards the attack"]
    for index, temperature in enumerate(FEW):
        np.testing.assert_array_equal(view.surfaces["cross-entropy"][index], same.surface(CrossEntropy(temperature)))
    np.testing.assert_array_equal(view.surfaces["margin"][0], same.surface(Margin()))
    np.testing.assert_array_equal(view.surfaces["DLR"][0], same.surface(DLR()))
    centre = [v.surfaces["margin"][0][3, 3] for name, v in landscape.views.items() if "weights" not in name]
    assert centre[0] == centre[1], "both planes go through the image"


def test_paths_start_in_the_middle_and_stay_where_the_loss_is_flat(landscape):
    view = landscape.views["towards the attack"]
    assert np.abs(view.paths["cross-entropy"][:, 0]).max() < 1e-5
    assert np.abs(view.paths["cross-entropy"][0]).max() < 1e-5, "at T = 0.001 every gradient is exactly zero"
    # full sign steps along the margin's gradient: the first coordinate is the budget, in units of epsilon
    assert view.paths["margin"][0, -1, 0] > 0.7
    assert not landscape.views["weights, two random directions"].paths
    assert landscape.margins["margin"].shape == (1, 5)
    assert (landscape.margins["cross-entropy"][0] == landscape.margins["cross-entropy"][0, 0]).all()


def test_a_landscape_of_two_classes_offers_no_dlr(images):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    label = model(images[:1]).argmax(dim=1)
    made = widgets.loss_landscape_data(
        model, images[:1], label, epsilon=0.1, side=3, steps=2, title="two", temperatures=FEW
    )
    assert list(made.margins) == ["cross-entropy", "margin"]
    assert widgets.plot_loss_landscape(made, 1.0).axes


def test_the_image_replay_holds_what_the_attacker_saw(image_replay, images):
    np.testing.assert_array_equal(image_replay.path[:, 0], np.repeat(images[:1].numpy(), 2, axis=0))
    assert np.abs(image_replay.path - image_replay.path[:, :1]).max() <= 0.1 + 1e-6
    assert (image_replay.largest[0] == 0).all(), "at T = 1e-6 the gradient is exactly zero, and nothing moves"
    assert (image_replay.path[0] == image_replay.path[0, 0]).all()
    step = image_replay.path[1, 1] - image_replay.path[1, 0]
    inside = (image_replay.path[1, 1] > 0) & (image_replay.path[1, 1] < 1)
    assert (np.sign(step) == np.sign(image_replay.gradients[1, 0]))[inside].all(), "the step follows the sign shown"
    words = widgets.image_replay.image_replay_scene(image_replay).describe(4, 1.0, 1e-6)
    assert "T_d = 1e-06" in words
    assert "gradient exactly 0" in words
    assert widgets.plot_image_replay(image_replay, 4, (1.0, 1e-6)).axes


def test_the_text_replay_marks_what_changed(text_replay):
    assert text_replay.outcome[1.0].startswith("succeeded")
    assert text_replay.outcome[1e-3].startswith("failed"), "at T = 0.001 all scores are exactly 0"
    first, ranking, *swaps = text_replay.steps[1.0]
    assert first.words == ranking.words == ("a", "good", "and", "really", "fine", "film")
    assert {word for word, _ in ranking.scores[:2]} == {"good", "fine"}
    assert swaps[-1].changed == {1, 4}
    assert text_replay.steps[1e-3][-1].changed == frozenset()
    words = widgets.text_replay.text_replay_scene(text_replay).describe(99, 1.0, 1e-3)
    assert f"[{swaps[-1].words[1]}]" in words
    assert "succeeded" in words
    assert "0 exactly" in words
    assert widgets.plot_text_replay(text_replay, 3, (1.0, 1e-3)).axes


def test_the_three_layers_of_a_sentence_make_up_the_sentence(text_replay):
    step = text_replay.steps[1.0][-1]
    layers = [text.get_text() for text in widgets.plot_text_replay(text_replay, 99, (1.0, 1.0)).axes[0].texts[:3]]
    width = max(map(len, layers))
    merged = "".join(
        next((letter for letter in letters if letter != " "), " ")
        for letters in zip(*(layer.ljust(width) for layer in layers), strict=True)
    )
    assert merged == " ".join(f"[{word}]" if i in step.changed else word for i, word in enumerate(step.words))


def test_a_game_is_drawn_from_its_seed_answers_from_the_store_and_ends():
    data = riddle()
    games = [widgets.Game(data, seed) for seed in range(40)]
    assert [game.hidden for game in games] == [widgets.Game(data, seed).hidden for seed in range(40)]
    assert all(game.naive - data.best >= 10 for game in games)
    assert len({game.hidden for game in games}) > 3
    game = next(game for game in games if game.hidden == pytest.approx(1e-3))
    assert (game.naive, game.score) == (80, 0)
    assert game.ask(1e2) == 40
    assert game.score == pytest.approx(100 * (80 - 40) / (80 - 10))
    assert game.ask(1e3) == 10
    assert game.score == 100
    assert game.ask(1e3) == 10
    assert len(game.asked) == 2, "the same question again is free"
    for temperature in (1.0, 10.0, 1e-2):
        game.ask(temperature)
    assert game.over
    with pytest.raises(ValueError, match="all 5 attacks are spent"):
        game.ask(1e-4)
    assert game.ask(1e2) == 40
    assert widgets.plot_pierce(game).axes[0].lines


def test_what_the_learner_tries_always_has_an_answer():
    data = riddle()
    game = widgets.Game(data)
    tried = data.adversary_temperatures
    assert tried.min() == pytest.approx(1e-4)
    assert tried.max() == pytest.approx(1e4)
    assert 1.0 in tried
    assert all(10 <= game.confidence(t) <= 100 for t in tried)


def test_riddles_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no illusion to pierce"):
        widgets.pierce_data(dict.fromkeys([0.1, 1.0, 10.0], 0.3), 3 * torch.eye(2), torch.tensor([0, 1]), title="flat")
    with pytest.raises(ValueError, match="evenly spaced"):
        widgets.pierce_data({0.1: 0.9, 1.0: 0.1, 50.0: 0.3}, 3 * torch.eye(2), torch.tensor([0, 1]), title="uneven")


def test_the_buttons_of_the_game():
    box = widgets.pierce_widget(riddle(), budget=1)
    (choice,), picture, words = parts(box)
    attack, again = box.children[1].children
    before = picture.value
    choice.value = choice.options[0][1]
    assert "hidden T_d was" not in words.value
    attack.click()
    assert attack.disabled
    assert "hidden T_d was" in words.value
    assert picture.value != before
    again.click()
    assert not attack.disabled
    assert "hidden T_d was" not in words.value


def test_training_temperatures_are_arranged_from_records():
    data = widgets.training_temperature_data(training_rows())
    assert data.temperatures == (0.1, 1.0, 10.0)
    assert list(data.series["accuracy"]) == ["clean", "pgd, margin"]
    assert data.series["margin"]["clean"]["mean"].tolist() == pytest.approx([0.2, 2.0, 20.0])
    words = widgets.training_temperature.training_temperature_scene(data).describe(1.0)
    assert "accuracy (pgd, margin) 21 [20, 22] %" in words
    assert "margin (clean) 2 [1, 3] logits" in words
    assert len(widgets.plot_training_temperature(data, 1.0).axes) == 4


def test_what_was_not_measured_leaves_a_gap():
    rows = training_rows()
    rows = rows[~((rows.attack == "pgd") & (rows.training_temperature == 1.0)) & (rows.metric == "accuracy")]
    data = widgets.training_temperature_data(rows)
    assert np.isnan(data.series["accuracy"]["pgd, margin"].loc[1.0, "mean"])
    assert "pgd" not in widgets.training_temperature.training_temperature_scene(data).describe(1.0)
    assert len(widgets.plot_training_temperature(data, 1.0).axes) == 2


def test_records_that_do_not_fit_are_refused():
    rows = training_rows()
    with pytest.raises(ValueError, match="over_seeds"):
        widgets.training_temperature_data(pd.concat([rows, rows]))
    with pytest.raises(ValueError, match='attack "clean"'):
        widgets.training_temperature_data(rows[rows.attack != "clean"])


def test_an_adversary_has_one_colour_in_all_panels_whatever_the_order_of_the_records():
    figure = widgets.plot_training_temperature(widgets.training_temperature_data(training_rows().iloc[::-1]), 1.0)
    trade_off, accuracy = (
        {line.get_label(): line.get_color() for line in ax.lines if line.get_label()[0] != "_"}
        for ax in figure.axes[:2]
    )
    assert trade_off and trade_off.items() <= accuracy.items()
