"""The assignment "an audit": models whose weights say nothing, their owner's numbers, the key, and its use."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from robustlib.attacks.adversaries import Evaluation
from robustlib.calibration.fit import fit_temperature
from robustlib.calibration.metrics import calibration_report
from robustlib.data.folders import replace_file
from robustlib.models.forward import logits_of
from robustlib.study.images import ImageStudy, image_study

DESIGNS = (1.0, 2e-3, 3e5)  # of one honest, one overconfident and one underconfident model, in an order drawn by lot
QUESTIONS = ("clean", "confidence", "as_served", "pierced", "calibrating_temperature")
FACTOR = 2.0  # a temperature counts as found within this factor
ANSWERS = "answers.csv"


def make(folder: Path, *, profile: str = "quick", seed: int = 0) -> Path:
    """Train three models with three seeds, serve them at temperatures drawn by lot, and write what is handed out.

    Each temperature divides the last layer of one model. No two models share a seed, so no ratio of their weights
    tells a temperature.

    Returns:
        The teacher's folder: `key.json`. Students get `students/`: `model_a.safetensors` to `model_c`, the owner's
        `numbers.csv` (clean accuracy and PGD as served, with n) and an empty `answers.csv`.
    """
    lot = random.Random(seed)
    designs, key, owner = lot.sample(DESIGNS, len(DESIGNS)), {"profile": profile, "models": {}}, []
    students = folder / "students"
    for name, design, training_seed in zip("abc", designs, lot.sample(range(1000, 9000), len(DESIGNS)), strict=True):
        study = image_study(profile, seed=training_seed)
        served = _divided(study, design * 10 ** lot.uniform(-0.3, 0.3) if design != 1 else 1.0)
        truth = _truth(served)
        key["models"][name] = truth | {"training_seed": training_seed}
        owner.append({"model": name, "clean (%)": truth["clean"], "PGD (%)": truth["as_served"], "n": truth["n"]})
        students.mkdir(parents=True, exist_ok=True)
        save_file(served.model.state_dict(), students / f"model_{name}.safetensors")
    replace_file(students / "numbers.csv", pd.DataFrame(owner).to_csv(index=False))
    empty = pd.DataFrame({"model": list("abc")} | {question: "" for question in QUESTIONS})
    replace_file(students / ANSWERS, empty.to_csv(index=False))
    replace_file(folder / "teacher" / "key.json", json.dumps(key, indent=1))
    return folder / "teacher"


def grade(folder: Path, key: Path) -> pd.DataFrame:
    """Compare every `answers.csv` below a folder with the key: a point for each number that is right.

    An accuracy is right within the key's 95 % interval, widened by two points; a temperature within a factor of two.

    Returns:
        A row for each student and model: points of five, and what was wrong.

    Raises:
        FileNotFoundError: no `answers.csv` below the folder.
    """
    models, rows = json.loads(key.read_text(encoding="utf-8"))["models"], []
    handed_in = sorted(folder.rglob(ANSWERS))
    if not handed_in:
        raise FileNotFoundError(
            f"no {ANSWERS} in {folder}: a folder for each student is expected, with that file in it"
        )
    for path in handed_in:
        answers = pd.read_csv(path, dtype=str).set_index("model")
        student = path.parent.relative_to(folder).as_posix()
        for name, truth in models.items():
            wrong = [question for question in QUESTIONS if not _right(answers, name, question, truth)]
            row = {"student": student, "model": name, "points": len(QUESTIONS) - len(wrong), "of": len(QUESTIONS)}
            expected = (
                f"{question}: {_number(answers, name, question)}, not {truth[question]:.4g}" for question in wrong
            )
            rows.append({**row, "wrong": "; ".join(expected)})
    return pd.DataFrame(rows)


def _divided(study: ImageStudy, temperature: float) -> ImageStudy:
    """The study of a model whose last layer is divided by a temperature."""
    model = copy.deepcopy(study.model)
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        for parameter in last.parameters():
            parameter /= temperature
    return ImageStudy(**{**vars(study), "model": model})


def _truth(study: ImageStudy) -> dict[str, float]:
    logits = logits_of(study.model, study.validation_inputs)
    report = calibration_report(logits, study.validation_labels)
    served, pierced = study.run("pgd"), study.run("pgd", "margin")
    return {
        "clean": 100 * report.accuracy,
        "confidence": 100 * report.mean_confidence,
        "as_served": 100 * served.adversarial_accuracy,
        "pierced": 100 * pierced.adversarial_accuracy,
        "calibrating_temperature": fit_temperature(logits, study.validation_labels).temperature,
        "within": {"as_served": _half_width(served), "pierced": _half_width(pierced)},
        "n": len(served.correct),
    }


def _half_width(evaluation: Evaluation) -> float:
    return 100 * max(abs(end - evaluation.adversarial_accuracy) for end in evaluation.interval)


def _right(answers: pd.DataFrame, model: str, question: str, truth: dict) -> bool:
    value = _number(answers, model, question)
    if question == "calibrating_temperature":
        return value > 0 and abs(math.log(value / truth[question])) <= math.log(FACTOR)
    return abs(value - truth[question]) <= truth["within"].get(question, 0.0) + 2.0


def _number(answers: pd.DataFrame, model: str, question: str) -> float:
    try:
        return float(answers.loc[model, question])
    except (KeyError, TypeError, ValueError):
        return math.nan
