"""Sliders: what Python stores for them, what can be chosen, and numbers in JavaScript that are Python's."""

import json
import re

import made_sliders as made
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import traitlets

from robustlib.attacks.diagnostics import input_gradient, input_jacobian, logit_gradient, masking
from robustlib.attacks.landscape import exactly_flat, input_landscape
from robustlib.attacks.scores import DLR, CrossEntropy, Margin
from robustlib.calibration.disguises import TemperaturePerInput
from robustlib.calibration.metrics import calibration_report
from robustlib.calibration.temperature import scale_logits
from robustlib.course import widgets
from robustlib.course.widgets.slider import module, packed, unpacked


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", made.MADE)
def test_a_slider_is_a_widget_with_everything_for_a_page_in_it(name):
    slider = made.MADE[name]()
    data, metadata = slider._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == slider.model_id
    assert set(metadata["robustlib"]) == {"source", "name", "title", "about"}
    page = data["text/html"]
    assert not re.search(r"https?://|import .* from|fetch\(", page)
    state = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert state == json.loads(json.dumps({"stored": slider.stored, **slider.chosen}))
    assert "export default" in slider._esm and "import" not in slider._esm
    if hasattr(slider, "figure"):
        assert slider.figure().axes, "what is shown where no script runs"


def test_what_is_chosen_can_be_read_set_and_linked():
    lab, gap = made.temperature_lab(), made.hidden_gap()
    traitlets.link((lab, "temperature"), (gap, "kappa"))
    lab.temperature = 0.37
    assert gap.kappa == 0.37
    replay = made.text_replay()
    replay.left = 1e-3 * (1 + 1e-12)
    assert replay.left == 1e-3, "the stored one"


def test_the_lab_stores_the_logits_to_the_last_bit_and_the_naive_attackers_curve():
    logits, labels = made.predictions()
    stored = made.temperature_lab().stored
    assert unpacked(stored["logits"]).tobytes() == logits.numpy().tobytes()
    assert stored["labels"] == labels.tolist()
    rows = [[1e-6, 80.0, 75.0, 85.0], [1.0, 20.0, 15.0, 25.0], [100.0, 40.0, 35.0, 45.0]]
    assert stored["adversarial_accuracy"] == {"PGD, naive attacker": rows}


def riddle(accuracy):
    return widgets.pierce(accuracy, 3 * torch.eye(2), torch.tensor([0, 1]), title="riddle")


def trained(change):
    return widgets.training_temperature(change(made.training_rows()), title="trained")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made.temperature_lab(chosen=[]), "chosen must be rows of the 40 logits, at least one"),
        (lambda: made.temperature_lab(chosen=[40, 0, 1]), "chosen must be rows of the 40 logits"),
        (lambda: made.temperature_lab(class_names=["cat"]), "class_names must be 4 words, got 1"),
        (lambda: made.temperature_lab(sentences=["one"]), "sentences must be one for each of the 3 examples, got 1"),
        (lambda: made.temperature_lab(pictures=made.images()[:2]), "pictures must be one for each of the 3 examples"),
        (lambda: made.temperature_lab(pictures=2 * made.images()[:3]), r"images must lie in \[0, 1\]"),
        (lambda: made.temperature_lab(jacobian=torch.zeros(3, 4, 60_000)), r"lab takes \d+ bytes, more than 2000000"),
        (lambda: riddle(dict.fromkeys([0.1, 1.0, 10.0], 0.3)), "no illusion to pierce"),
        (lambda: riddle({0.1: 0.9, 1.0: 0.1, 50.0: 0.3}), "evenly spaced"),
        (lambda: riddle({0.1: 0.9, 1.0: 0.1}), "at least 3"),
        (lambda: trained(lambda rows: pd.concat([rows, rows])), "over_seeds"),
        (lambda: trained(lambda rows: rows[rows.attack != "clean"]), 'attack "clean"'),
        (lambda: made.illusion(sentence="so"), "a picture or a sentence"),
        # what cannot be chosen is named with what can
        (lambda: setattr(made.temperature_lab(), "temperature", 0.0), "must be finite and above 0, got 0.0"),
        (lambda: setattr(made.temperature_lab(), "temperature", np.inf), "temperature must be finite"),
        (lambda: setattr(made.temperature_lab(), "example", 3), "example 3 .*choose from 0, 1, 2$"),
        (lambda: setattr(made.loss_landscape(), "loss", "hinge"), "'hinge'.*'cross-entropy', 'margin', 'DLR'"),
        (lambda: setattr(made.image_replay(), "step", 9), "step 9 .*choose from 0, 1, 2, 3, 4$"),
        (lambda: made.image_replay(right=0.5), "right 0.5 .*choose from 1e-06, 1.0"),
        (lambda: made.text_replay(left=0.5), "left 0.5 .*choose from 0.001, 1.0"),
        (lambda: setattr(made.training_temperature(), "temperature", 5.0), "5.0 .*choose from 0.1, 1.0, 10.0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, message):
    with pytest.raises((ValueError, traitlets.TraitError), match=message):
        make()


def test_paths_start_in_the_middle_and_stay_where_the_loss_is_flat():
    stored = made.loss_landscape().stored
    paths = {name: np.array(path) for name, path in stored["views"]["towards the attack"]["paths"].items()}
    assert paths["cross-entropy"].shape == (len(made.FEW), 5, 2)
    assert np.abs(paths["cross-entropy"][:, 0]).max() < 1e-5
    assert np.abs(paths["cross-entropy"][0]).max() < 1e-5, "at T = 0.001 every gradient is exactly zero"
    # full sign steps along the margin's gradient: the first coordinate is the budget, in units of epsilon
    assert paths["margin"][0, -1, 0] > 0.7
    assert stored["views"]["weights"]["paths"] is None
    margins = {name: np.array(values) for name, values in stored["margins"].items()}
    assert margins["margin"].shape == (1, 5)
    assert (margins["cross-entropy"][0] == margins["cross-entropy"][0, 0]).all()


def test_a_landscape_of_two_classes_offers_no_dlr():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    image, label = made.images()[:1], model(made.images()[:1]).argmax(dim=1)
    view = {"here": input_landscape(model, image, label, epsilon=0.1, side=3)}
    options = {"epsilon": 0.1, "steps": 2, "title": "two", "temperatures": made.FEW}
    assert list(widgets.loss_landscape(model, image, label, view, **options).stored["margins"]) == [
        "cross-entropy",
        "margin",
    ]


def test_the_image_replay_holds_what_the_attacker_saw():
    replay = made.image_replay()
    path = unpacked(replay.stored["path"], "u1").astype(float) / 255
    np.testing.assert_allclose(path[:, 0], np.repeat(made.images()[:1].numpy(), 2, axis=0), atol=0.5 / 255)
    assert max(replay.stored["changes"]) <= 0.1 + 1e-6
    assert (replay.largest[0] == 0).all(), "at T = 1e-6 the gradient is exactly zero, and nothing moves"
    assert (path[0] == path[0, 0]).all()
    seen = unpacked(replay.stored["gradients"], "u1").astype(int)[1, 0] - 128
    step, inside = (path[1, 1] - path[1, 0])[0], ((path[1, 1] > 0) & (path[1, 1] < 1))[0]
    clear = inside & (np.abs(seen) > 1) & (np.abs(step) > 1 / 255)
    assert clear.any() and (np.sign(step) == np.sign(seen))[clear].all(), "the step follows the sign shown"


def test_the_text_replay_marks_what_changed():
    blind, seeing = made.text_replay().stored["replays"]
    assert seeing["outcome"].startswith("succeeded")
    assert blind["outcome"].startswith("failed"), "at T = 0.001 all scores are exactly 0"
    first, ranking, *swaps = seeing["steps"]
    assert first["words"] == ranking["words"] == ["a", "good", "and", "really", "fine", "film"]
    assert {word for word, _ in ranking["scores"][:2]} == {"good", "fine"}
    assert swaps[-1]["changed"] == [1, 4]
    assert blind["steps"][-1]["changed"] == []


def test_hidden_temperatures_hide_enough_and_differ_by_seed():
    stored = made.pierce().stored
    answers = dict(zip(stored["temperatures"], stored["accuracy"], strict=True))
    assert all(answers[hidden] - min(answers.values()) >= 10 for hidden in stored["hidden"])
    assert len(set(stored["hidden"][:20])) > 3
    assert made.pierce().stored["hidden"] == stored["hidden"] != made.pierce(seed=1).stored["hidden"]


def test_training_temperatures_are_arranged_from_records_and_what_was_not_measured_leaves_a_gap():
    stored = widgets.training_temperature(made.training_rows().iloc[::-1], title="trained").stored
    assert stored["temperatures"] == [0.1, 1.0, 10.0]
    assert list(stored["series"]["accuracy"]) == ["clean", "PGD, margin"], "an adversary has one colour in all panels"
    assert [mean for mean, _, _ in stored["series"]["margin"]["clean"]] == pytest.approx([0.2, 2.0, 20.0])
    texts = widgets.training_temperature(made.training_rows(), title="trained", of="texts")
    assert texts._repr_mimebundle_()[1]["robustlib"]["name"] == "Training temperature, texts"
    slider = trained(lambda rows: rows[(rows.attack == "clean") | (rows.training_temperature != 1.0)])
    assert slider.stored["series"]["accuracy"]["PGD, margin"][1] is None


def test_an_illusion_is_about_a_picture_or_a_sentence():
    assert made.illusion().stored["curve"][0] == [1e-3, 90.0, 85.0, 95.0]
    assert made.illusion(picture=None, sentence="so").stored["unit"] == "texts"


@pytest.fixture(scope="module")
def javascript(browser):
    """`javascript(expression, tasks, file)`: `expression` of each `task` by `js/<file>.js`, in a browser."""

    def compute(expression: str, tasks: list, file: str = "numbers") -> list:
        exact = '(_, value) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value)'
        answers = f"window.answers = (tasks) => JSON.stringify(tasks.map((task) => ({expression})), {exact});"
        page = browser.new_page()
        page.add_script_tag(content=f"{module(file)}\n{answers}", type="module")
        page.wait_for_function("typeof window.answers === 'function'")  # a module runs later than the page
        answered = page.evaluate("(tasks) => window.answers(tasks)", tasks)
        page.close()
        return json.loads(answered)

    return compute


TEMPERATURES = [float(f"{t:.3g}") for t in np.logspace(-8, 8, 17)]


def spread(n: int, n_classes: int, low: float, high: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n_classes)
    return torch.randn(n, n_classes, generator=generator) * torch.logspace(low, high, n).unsqueeze(1)


LOGITS = {
    "two classes": spread(150, 2, -3, 3),
    "three classes": spread(150, 3, -3, 3),
    "ten classes": spread(150, 10, -3, 3),
    "from 1e-30 to 1e30": spread(60, 3, -30, 30),
    "ties": spread(60, 4, 0, 0).round(),
    "subnormal": torch.tensor([[1e-40, 0.0, -1e-40], [0.0, 0.0, 0.0], [1e-45, 0.0, 1e-45]]),
}


@pytest.fixture(scope="module", params=LOGITS)
def computed(request, javascript):
    """Logits, labels, and what JavaScript makes of them at each temperature."""
    logits = LOGITS[request.param]
    best = logits.argmax(dim=1)
    labels = torch.where(torch.arange(len(logits)) % 4 == 0, (best + 1) % logits.shape[1], best)
    tasks = [{"logits": packed(logits), "labels": labels.tolist(), "T": t} for t in TEMPERATURES]
    each = (
        "loss: crossEntropy(row(l, i), y, task.T), margin: margin(row(l, i), y), "
        "dlr: l.shape[1] > 2 ? LOSSES.DLR(row(l, i), y) : null, probs: softmax(row(l, i), task.T), "
        "slopes: Array.from(gradient(row(l, i), y, task.T)), scaled: Array.from(scaleLogits(row(l, i), task.T))"
    )
    answers = javascript(
        f"((l) => ({{ report: {{ ...calibration(l, task.labels, task.T), confidences: null }}, "
        f"walls: walls(l, task.labels, task.T), each: task.labels.map((y, i) => ({{ {each} }})) }}))"
        "(floats(task.logits))",
        tasks,
    )
    return logits, labels, dict(zip(TEMPERATURES, answers, strict=True))


def column(answer: dict, name: str) -> np.ndarray:
    return np.array([example[name] for example in answer["each"]], dtype=float)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_probabilities_calibration_and_walls_in_javascript_are_those_of_python(computed, temperature):
    logits, labels, answers = computed
    answer, report = answers[temperature], calibration_report(logits, labels, temperature=temperature)
    probs = torch.softmax(scale_logits(logits.double(), temperature), dim=1)
    np.testing.assert_allclose(column(answer, "probs"), probs, rtol=1e-10, atol=1e-300)
    assert answer["report"]["accuracy"] == report.accuracy
    assert answer["report"]["meanConfidence"] == pytest.approx(report.mean_confidence, rel=1e-12)
    assert answer["report"]["ece"] == pytest.approx(report.expected_calibration_error, abs=1e-9)
    assert answer["report"]["nll"] == pytest.approx(report.negative_log_likelihood, rel=1e-9)
    mask = masking(logits, labels, temperature=temperature)
    assert answer["walls"] == {
        "beyondProbability": mask.beyond_probability_wall,
        "beyondGradient": mask.beyond_gradient_wall,
        "zeroGradient": mask.zero_gradient,
        "oneSided": mask.one_sided_gradient,
    }


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_losses_margins_and_gradients_in_javascript_are_those_of_python(computed, temperature):
    logits, labels, answers = computed
    answer, loss = answers[temperature], CrossEntropy(temperature)(logits, labels).numpy()
    np.testing.assert_allclose(column(answer, "loss"), loss, rtol=2e-6, atol=1e-9)
    assert ((column(answer, "loss") == 0) == (loss == 0)).all(), "exactly 0 in the same places"
    assert (column(answer, "margin") == Margin()(logits, labels).numpy()).all()
    if logits.shape[1] > 2:
        assert (column(answer, "dlr") == DLR()(logits, labels).numpy()).all()
    assert (column(answer, "scaled") == scale_logits(logits, temperature).numpy()).all()
    slopes = logit_gradient(logits, labels, temperature).numpy()
    np.testing.assert_allclose(column(answer, "slopes"), slopes, rtol=1e-5, atol=1e-45)
    assert ((column(answer, "slopes") == 0) == (slopes == 0)).all(), "exactly 0 in the same places"


def test_surfaces_and_where_they_are_exactly_flat_are_those_of_python(javascript):
    image, label = made.images()[:1], made.model()(made.images()[:1]).argmax(dim=1)
    around = input_landscape(made.model(), image, label, epsilon=0.1, side=7)
    scores = [("cross-entropy", t, CrossEntropy(t)) for t in made.FEW]
    scores += [("margin", 1.0, Margin()), ("DLR", 1.0, DLR())]
    common = {"logits": packed(around.logits), "labels": around.labels.tolist()}
    surface = "surface(floats(task.logits), task.labels, task.loss, task.T)"
    answers = javascript(
        f"({{ surface: Array.from({surface}), flat: exactlyFlat({surface}, 7) }})",
        [common | {"loss": loss, "T": t} for loss, t, _ in scores],
    )
    some = 0
    for answer, (_, _, score) in zip(answers, scores, strict=True):
        expected = around.surface(score)
        np.testing.assert_allclose(np.reshape(answer["surface"], (7, 7)), expected, rtol=2e-6, atol=1e-9)
        assert (np.reshape(answer["flat"], (7, 7)) == exactly_flat(expected)).all()
        some += exactly_flat(expected).sum()
    assert some, "somewhere it was flat"


def test_the_gradient_by_pixel_is_that_of_python(javascript):
    values, jacobian = input_jacobian(made.model(), made.images()[:1])
    label = values.argmax(dim=1)
    tasks = [{"logits": packed(values), "label": int(label), "jacobian": packed(jacobian), "T": t} for t in (0.1, 1.0)]
    by_logit = "gradient(row(floats(task.logits), 0), task.label, task.T)"
    answers = javascript(f"Array.from(inputGradient({by_logit}, floats(task.jacobian).values, 64))", tasks)
    for answer, task in zip(answers, tasks, strict=True):
        expected = input_gradient(values, jacobian, label, task["T"])[0]
        np.testing.assert_allclose(np.array(answer) / task["T"], expected, rtol=1e-4, atol=1e-12)


def test_gaps_and_the_calibrated_temperature_are_those_of_python(javascript):
    logits, labels = made.predictions()
    shown = "calibrationOf(l, task.labels, (i) => gaps(l, task.labels.length)[i] / task.kappa).meanConfidence"
    tasks = [{"logits": packed(logits), "labels": labels.tolist(), "kappa": kappa} for kappa in (0.1, 1.0, 10.0)]
    best = "10 ** calibrated(l, task.labels, -3, 3)"
    answers = javascript(f"((l) => [{shown}, {best}])(floats(task.logits))", tasks)
    for (confidence, temperature), task in zip(answers, tasks, strict=True):
        report = calibration_report(TemperaturePerInput(task["kappa"])(logits), labels)
        assert confidence == pytest.approx(report.mean_confidence, rel=1e-6)
        near = [calibration_report(logits, labels, temperature=temperature * f) for f in (1, 0.95, 1.05)]
        assert min(near, key=lambda report: report.negative_log_likelihood) is near[0]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (2.301, 2.3022, ["2.301", "2.3022"]),
        (0, 1, ["0", "1"]),
        (2.3, 2.3, ["2.3", "2.3"]),
        (1e-9, 1e-3, ["1e-9", "0.001"]),
    ],
)
def test_both_ends_of_a_range_have_as_many_digits_as_differ(javascript, low, high, words):
    assert javascript("ends(...task)", [[low, high]], "chart") == [words]
