"""Prediction services of notebooks/12: what stands between a model and an adversary who only gets answers."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import torch

from robustlib.attacks.adversaries import Evaluation
from robustlib.attacks.black_box import Counted
from robustlib.calibration.defences import Answer, RandomScale
from robustlib.study.base import Study
from robustlib.study.profiles import ImageSettings, TextSettings
from robustlib.study.records import RecordBook

PREFIX = "service: "  # before the name, in records and units
SERVICES: dict[str, Any] = {
    "float32": Answer(),
    "float64": Answer(dtype=torch.float64),
    "float16": Answer(dtype=torch.float16),
    "6 decimals": Answer(decimals=6),
    "4 decimals": Answer(decimals=4),
    "2 decimals": Answer(decimals=2),
    "top": Answer("top"),
    "top, 4 decimals": Answer("top", decimals=4),
    "random scale": RandomScale(),
}


TEMPERATURES = tuple(10 ** (step / 2) for step in range(-8, 9))  # at which the scale is estimated
DEFENCES = ("float32", "random scale", "2 decimals", "top")  # priced at T_d = 1
# By modality: the attack on scores; the attack on labels alone and its adversary; who uses the scores.
ATTACKS = {"image": ("sign-hunter", "rays", "naive"), "text": ("dg", "dg", "label-only")}
SCORING = ("naive", "estimated", "cal-exact", "margin")
LABELS_ONLY = "labels only"  # the adversary, in records of both modalities


def priced(modality: str) -> tuple[str, ...]:
    """Adversaries of the defences; a ratio needs three classes."""
    return ("naive", "margin", "dlr") if modality == "image" else ("naive", "margin")


def examples(settings: ImageSettings | TextSettings) -> int:
    """How many test examples a service is attacked on."""
    return min(settings.n_slow if isinstance(settings, ImageSettings) else settings.n_precision, settings.n_test)


def queries(settings: ImageSettings) -> int:
    """How many queries an attack on images has: as many as RayS in every lesson, and twice as many as elsewhere."""
    return 2 * settings.square_queries


def served_at(settings: ImageSettings | TextSettings) -> tuple[float, ...]:
    """Design temperatures: the most extreme, one where some answers tell something, and 1."""
    over, under = settings.overconfident_temperatures, settings.underconfident_temperatures
    return (over[0], over[1] if isinstance(settings, ImageSettings) else 0.1, 1.0, under[0])


def labels_only(study: Study, book: RecordBook) -> Evaluation:
    """The attack that asks a study's model for labels only, recorded as adversary "labels only".

    On images with as many queries as the attack on scores has.
    """
    attack, adversary = ATTACKS[book.modality][1:]
    evaluation = replace(study.run(attack, adversary, n=examples(study.settings)), adversary=LABELS_ONLY)
    book.add_evaluation(evaluation, **study.columns(1.0), **study.budget(attack))
    return evaluation


def measure(study: Study, book: RecordBook, name: str, adversary: str, *, at: float = 1.0) -> Evaluation:
    """The attack on scores of a service at a design temperature, recorded."""
    with warnings.catch_warnings():  # that a random scale draws random numbers is the point
        warnings.filterwarnings("ignore", message="two passes of the model")
        return behind(study, name).measure(
            book, ATTACKS[book.modality][0], adversary, design_temperature=at, n=examples(study.settings)
        )


def behind(study: Study, name: str) -> Study:
    """The study of a defender who answers as the service does, and of attacks with `queries`."""
    if isinstance(study.settings, ImageSettings):
        study = replace(study, settings=replace(study.settings, square_queries=queries(study.settings)))
    return study.disguised(PREFIX + name, SERVICES[name])


def counted(study: Study, name: str, temperature: float) -> Counted:
    """A service at a design temperature, which counts its queries."""
    floor = math.log(torch.finfo(getattr(SERVICES[name], "dtype", torch.float32)).tiny) + 1
    return Counted(behind(study, name).served(temperature), floor=floor)
