"""The lecturer's kit: students' copies, grading, nbgrader's format, the assignment, slides and key."""

import json
import shutil

import nbformat
import pandas as pd
import pytest
import torch

from robustlib.__main__ import main
from robustlib.calibration.fit import fit_temperature
from robustlib.course.exercises import EXERCISES
from robustlib.course.teaching import assignment, nbgrader, slides
from robustlib.course.teaching.grade import grade_folder
from robustlib.course.teaching.sheet import lessons, machines, predictions, read, tasks
from robustlib.course.teaching.student import student_folder
from robustlib.data.folders import repository_root
from robustlib.models.forward import logits_of
from robustlib.study.images import image_study


def test_the_sheet_holds_every_exercise_with_its_stub_and_its_points():
    found = {task.number: task for lesson in lessons() for task in tasks(read(lesson))}
    assert sorted(found) == sorted(EXERCISES)
    assert all(task.code.endswith("...") and 1 <= task.difficulty <= 5 for task in found.values())


def test_a_students_copy_records_beside_itself_and_is_never_overwritten(tmp_path):
    written = student_folder(tmp_path / "work")
    assert {path.name for path in written} == {*(lesson.name for lesson in lessons()), "glossary.md"}
    copy = read(tmp_path / "work" / lessons()[0].name)
    kept = [cell.source for cell in copy.cells if "own-results" not in cell.metadata.get("tags", [])]
    assert kept == [cell.source for cell in read(lessons()[0]).cells]
    (own,) = (cell.source for cell in copy.cells if "own-results" in cell.metadata.get("tags", []))
    assert "ROBUSTLIB_RESULTS" in own
    written[0].write_text("mine")
    assert student_folder(tmp_path / "work") == []
    assert written[0].read_text() == "mine"


def hand_in(folder, changes):
    """The first lesson with some text replaced, in a student's folder."""
    notebook = read(lessons()[0])
    for cell in notebook.cells:
        for old, new in changes.items():
            cell.source = cell.source.replace(old, new)
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / lessons()[0].name)


def test_grading_names_slips_and_survives_answers_that_hang_or_kill_their_kernel(tmp_path):
    first, second = "def adversarial_accuracy(outcomes): ...", "def undo(served_logits, design_temperature): ..."
    hand_in(tmp_path / "untouched", {})
    hand_in(
        tmp_path / "group 1" / "slips",
        {
            first: "def adversarial_accuracy(outcomes):\n    return outcomes.count('succeeded') / len(outcomes)",
            second: "def undo(served_logits, design_temperature):\n    while True: pass",
            "prediction = None": 'prediction = " B"',
        },
    )
    hand_in(
        tmp_path / "right",
        {
            first: "share = 1.0\ndef adversarial_accuracy(outcomes):\n"
            "    print('correct')\n    return share * outcomes.count('failed') / len(outcomes)",
            second: "import os\ndef undo(served_logits, design_temperature):\n    os._exit(1)",
        },
    )
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "00.ipynb").write_text("{")
    rows = grade_folder(tmp_path, seconds=5)
    outcomes = rows.set_index(["student", "exercise"])[["outcome", "points", "slip"]].T.to_dict("list")
    assert outcomes["untouched", "0.1"] == ["open", 0.0, ""]
    wrong, points, slip = outcomes["group 1/slips", "0.1"]
    assert wrong == "wrong"
    assert 0 <= points <= 0.5
    assert "share of attacks that succeeded" in slip
    assert "time limit" in outcomes["group 1/slips", "0.2"][2]
    assert outcomes["right", "0.1"] == ["correct", 1.0, ""]
    assert "kernel died" in outcomes["right", "0.2"][2]
    assert list(rows[rows.student == "broken"].outcome) == ["unreadable"]
    assert rows[rows.student == "group 1/slips"].prediction.iloc[0] == "prediction: b"


def test_nothing_handed_in_is_said(tmp_path, capsys):
    assert main(["course", "grade", str(tmp_path)]) == 2
    assert "no notebook in" in capsys.readouterr().err


def test_nbgraders_format_has_answers_between_its_markers_and_checks_that_are_worth_points(tmp_path):
    (path, *_) = nbgrader.export(tmp_path)
    cells = [(cell.metadata.get("nbgrader", {}), cell.source) for cell in read(path).cells]
    answers = [source for about, source in cells if about.get("solution")]
    checks = [(about["points"], source) for about, source in cells if about.get("grade")]
    assert all("### BEGIN SOLUTION" in source and "### END SOLUTION" in source for source in answers)
    assert checks[0] == (1, 'exercises.credit("0.1", adversarial_accuracy, 1)')
    world = {}
    exec("\n".join(source for about, source in cells if about.get("cell_type") == "code" and not about["grade"]), world)
    assert eval(checks[0][1], world) == 1.0
    assert len({about["grade_id"] for about, _ in cells if about}) == len(cells) - 1


def test_the_assignment_hides_its_temperatures_and_is_marked_by_its_key(tmp_path):
    teacher = assignment.make(tmp_path, profile="smoke", seed=3)
    key = json.loads((teacher / "key.json").read_text())["models"]
    assert len({truth["training_seed"] for truth in key.values()}) == 3
    owner = pd.read_csv(tmp_path / "students" / "numbers.csv").set_index("model")
    assert list(owner["PGD (%)"]) == [truth["as_served"] for truth in key.values()]
    from safetensors.torch import load_file

    study = image_study("smoke")
    for name, truth in key.items():
        study.model.load_state_dict(load_file(tmp_path / "students" / f"model_{name}.safetensors"))
        with torch.no_grad():
            fitted = fit_temperature(logits_of(study.model, study.validation_inputs), study.validation_labels)
        assert fitted.temperature == pytest.approx(truth["calibrating_temperature"], rel=1e-4)
    for student, factor in (("anna", 1.0), ("ben", 3.0)):
        (tmp_path / "in" / student).mkdir(parents=True)
        answers = {
            name: {question: truth[question] for question in assignment.QUESTIONS} for name, truth in key.items()
        }
        for row in answers.values():
            row["calibrating_temperature"] *= factor
        table = pd.DataFrame(answers).T.rename_axis("model").reset_index()
        table.to_csv(tmp_path / "in" / student / "answers.csv", index=False)
    marks = assignment.grade(tmp_path / "in", teacher / "key.json").groupby("student").points.sum()
    assert marks.to_dict() == {"anna": 15, "ben": 12}


def test_slides_hold_the_figures_of_a_run_and_the_key_what_it_measured(tmp_path):
    results = repository_root() / "results" / "published" / "quick"
    with pytest.raises(FileNotFoundError, match=r"makes it"):
        slides.slides(tmp_path / "slides.html", tmp_path)
    shutil.copytree(results / "figures", tmp_path / "figures")
    for part in (repository_root() / "teaching" / "slides.md").read_text().split("](")[1:]:
        figure = tmp_path / "figures" / part.split(")")[0]
        if not figure.exists():
            figure.write_bytes((results / "figures" / "00_first_result.png").read_bytes())
    assert slides.slides(tmp_path / "slides.html", tmp_path) == 10
    assert (tmp_path / "slides.html").read_text().count('src="data:image/png') == 9
    with pytest.raises(FileNotFoundError, match="no executed lessons"):
        slides.key(tmp_path)
    said = nbformat.v4.new_output(
        "display_data", {"text/markdown": "*You made no prediction.* The measurement says: **c** (x)."}
    )
    cell = nbformat.v4.new_code_cell("prediction = None  # a, b", outputs=[said])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "00_first.ipynb")
    assert slides.key(tmp_path) == {"00_first": ["c (x)"]}
    assert predictions(nbformat.v4.new_notebook(cells=[cell])) == {"prediction": ""}


def test_what_a_lesson_needs_is_read_from_a_run(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"run_all\.sh quick makes it"):
        machines(tmp_path)
    entries = {"02_b": {"seconds": 90.0, "peak_memory_mb": 1536}, "03_c": {"seconds": None, "peak_memory_mb": 9}}
    (tmp_path / "run.json").write_text(json.dumps({"notebooks": entries}))
    assert main(["course", "machines", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["| 02 | 1.5 | 1.5 |"]
