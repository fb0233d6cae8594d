"""What the lessons measure in the same way: studies by seed, an audit of one attack, clean accuracy and confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from robustlib.attacks.adversaries import Evaluation, cal_readings
from robustlib.attacks.diagnostics import input_jacobian
from robustlib.calibration.metrics import calibration_report
from robustlib.calibration.temperature import scale_logits
from robustlib.course.widgets.temperature_lab import TemperatureLab, temperature_lab
from robustlib.course.words import plain
from robustlib.data.progress import progress
from robustlib.models.forward import logits_of
from robustlib.study.base import Study
from robustlib.study.claims.rules import interval, removed
from robustlib.study.images import image_study
from robustlib.study.profiles import get_profile
from robustlib.study.records import HONEST, RecordBook, Reference, difference, differences, matching, over_seeds


@dataclass(frozen=True)
class Lesson:
    """One notebook of one modality in one profile. Studies are loaded, and models trained, when first used.

    `name`: number and name of the notebook, which name its records; `seed`: the notebook's parameter, which shifts the
    seeds of the profile; `modality`: "image" or "text"; `part`: as of `RecordBook`.
    """

    name: str
    profile: str
    seed: int
    modality: str
    part: str = "served"

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.seed + number for number in get_profile(self.profile).seeds)

    def load(self, seed: int | None = None, **changes: Any) -> Study:
        """The profile's study with another seed or training; arguments as of `image_study` or `text_study`."""
        seed = self.seeds[0] if seed is None else seed
        if self.modality == "image":
            return image_study(self.profile, seed=seed, **changes)
        from robustlib.study.texts import text_study  # brings transformers

        return text_study(self.profile, seed=seed, **changes)

    @cached_property
    def study(self) -> Study:
        return self.load()

    @cached_property
    def studies(self) -> dict[int, Study]:
        return {self.seeds[0]: self.study} | {seed: self.load(seed) for seed in self.seeds[1:]}

    @property
    def settings(self) -> Any:
        return self.study.settings

    @cached_property
    def book(self) -> RecordBook:
        return RecordBook(self.name, profile=self.profile, seed=self.seed, modality=self.modality, part=self.part)

    def describe(self) -> str:
        study, unit = self.study, "images" if self.modality == "image" else "texts"
        return (
            f"{study.substitution} {study.title}, {plain(study.model_title)}: {len(study.labels)} attacked {unit}, "
            f"{len(study.validation_labels)} for validation, seeds {', '.join(map(str, self.seeds))}."
        ).lstrip()

    def audit(self, attack: str, designs: Sequence[float], adversaries: Sequence[str], n: int | None = None) -> Audit:
        """Attack the model served at every design temperature as every adversary does, for every seed.

        Recorded: adversarial accuracies, and their paired differences from the honest number (T_d = 1, naive
        attacker), from the margin and from the naive attacker on the same served model.

        Args:
            designs, adversaries: 1.0 among the design temperatures, "naive" and "margin" among the adversaries.
            n: the first n test examples only; default: as many as the profile gives the attack.
        """
        evaluations = {}
        jobs = [(design, adversary) for design in designs for adversary in adversaries]
        for seed, study in self.studies.items():
            for design, adversary in progress(jobs, description=f"{attack}, seed {seed}"):
                evaluations[seed, design, adversary] = study.measure(
                    self.book, attack, adversary, design_temperature=design, n=n or study.size(attack)
                )
            for design, adversary in jobs:
                for reference_at, reference in _references(design, adversary):
                    study.compare(
                        self.book,
                        evaluations[seed, design, adversary],
                        evaluations[seed, reference_at, reference],
                        at=design,
                        reference_at=reference_at,
                    )
        measured = over_seeds(self.book.frame.query("attack == @attack"))
        return Audit(self, attack, tuple(designs), tuple(adversaries), evaluations, measured)

    def readings(self, attack: str, designs: Sequence[float], n: int | None = None) -> pd.DataFrame:
        """Attack as every reading of `cal` does; record accuracies and differences from honest, over the seeds.

        One row for each reading and design temperature: points above honest (mean, low, high), T_a and status.
        """
        for study in self.studies.values():
            count = n or study.size(attack)
            honest = study.run(attack, n=count)
            for design in progress(designs, description="readings of cal"):
                examples = study.validation_inputs, study.validation_labels
                readings = cal_readings(study.served(design), study.attacks[attack], *examples)
                distinct = {reading.temperature: reading for reading in readings.values()}
                done = {T: study.run(attack, a, design_temperature=design, n=count) for T, a in distinct.items()}
                for name, reading in readings.items():
                    evaluation = replace(done[reading.temperature], adversary=name, status=reading.status)
                    row = {**study.columns(design), **study.budget(attack)}
                    self.book.add_evaluation(evaluation, note=study.note(attack), **row)
                    study.compare(self.book, evaluation, honest, at=design)
        measured = self.book.frame[self.book.frame.adversary.str.startswith("cal:")]
        keys, found = ["adversary", "design_temperature"], {"adversary_temperature": "T_a", "note": "status"}
        left = over_seeds(differences(measured, reference=HONEST))[[*keys, "mean", "low", "high", "n"]]
        fitted = over_seeds(matching(measured, metric="accuracy")).rename(columns=found)
        return left.merge(fitted[[*keys, *found.values()]], on=keys)

    def record(
        self, metric: str, mean: float, n: int, design: float = 1.0, adversary: str = "naive", **row: Any
    ) -> None:
        """Record what was measured on clean examples of the first study, served at a design temperature."""
        row |= self.study.columns(design) | {"adversary": adversary, "attack": "clean"}
        self.book.add(metric=metric, mean=mean, n=n, **row)

    def clean(self, designs: Sequence[float], adversaries: Sequence[str] = ("naive",)) -> pd.DataFrame:
        """Record accuracy and mean confidence on clean examples, as each adversary divides the served logits.

        A temperature is fitted as for the first attack of the study, whose evaluation is read from the cache. One row
        for each metric ("accuracy", "confidence_clean"; percent), design temperature and adversary, over the seeds.
        """
        for study in self.studies.values():
            attack, logits, labels = self.main_attack, logits_of(study.served(1.0), study.inputs), study.labels.cpu()
            for design in designs:
                for adversary in adversaries:
                    divisor = 1.0
                    if adversary != "naive":
                        evaluation = study.run(attack, adversary, design_temperature=design, n=study.size(attack))
                        divisor = evaluation.temperature
                    divided = scale_logits(logits, design)
                    report = calibration_report(divided, labels, temperature=divisor)
                    row = {**study.columns(design), "adversary": adversary, "attack": "clean"}
                    confidence = 100 * report.mean_confidence
                    self.book.add(**row, n=report.n, metric="confidence_clean", mean=confidence)
                    self.book.add_accuracy((divided.argmax(dim=1) == labels).numpy(), **row)
        chosen = "attack == 'clean' and metric in ('accuracy', 'confidence_clean')"
        return over_seeds(self.book.frame.query(chosen))

    def temperature_lab(self, records: pd.DataFrame) -> TemperatureLab:
        """The temperature lab of the first study.

        `records`: accuracies under the main attack as served, at several design temperatures.
        """
        study, unit = self.study, "images" if self.modality == "image" else "texts"
        logits, labels = logits_of(study.served(1.0), study.inputs), study.labels.cpu()
        by_gap = logits.topk(2, dim=1).values.diff(dim=1).abs().squeeze(1).argsort()
        examples = [int(by_gap[int(share * (len(by_gap) - 1))]) for share in (0.5, 0, 0.1, 0.25, 0.75, 1)]
        look: dict[str, Any] = {}
        if self.modality == "image":
            look["pictures"] = study.inputs[examples].cpu()
            look["jacobian"] = input_jacobian(study.model, study.inputs[examples])[1].cpu()
        else:
            chosen = [study.inputs[row] for row in examples]
            look["sentences"] = [text if isinstance(text, str) else " | ".join(text) for text in chosen]
        title = f"{study.title}, {plain(study.model_title)}, {len(labels)} test {unit}"
        rows = records[records.attack == self.main_attack]
        names = {"class_names": study.class_names, "title": title}
        return temperature_lab(logits, labels, chosen=examples, records=rows, **names, **look)

    @property
    def main_attack(self) -> str:
        return "pgd" if self.modality == "image" else self.settings.attacks[0]


def _references(design: float, adversary: str) -> list[tuple[float, str]]:
    references = [(1.0, "naive")]
    if adversary != "margin":
        references.append((design, "margin"))
    if adversary != "naive" and design != 1.0:
        references.append((design, "naive"))
    return references


@dataclass(frozen=True)
class Audit:
    """One attack by every adversary on a model served at every design temperature."""

    lesson: Lesson
    attack: str
    designs: tuple[float, ...]
    adversaries: tuple[str, ...]
    # by seed, design temperature and adversary; `audit[design, adversary]` is that of the first seed
    evaluations: Mapping[tuple[int, float, str], Evaluation]
    records: pd.DataFrame  # rows of the attack over the seeds, in percent

    def __getitem__(self, key: tuple[float, str]) -> Evaluation:
        return self.evaluations[self.lesson.seeds[0], *key]

    @property
    def honest(self) -> Evaluation:
        return self[1.0, "naive"]

    @property
    def table(self) -> pd.DataFrame:
        """Adversarial accuracies in percent with intervals, as `plots.plot_adversaries` draws them."""
        rows = self.records[(self.records.metric == "accuracy") & self.records.adversary.isin(self.adversaries)]
        return rows.assign(served=[f"T_d = {design:g}" for design in rows.design_temperature])

    @property
    def means(self) -> pd.DataFrame:
        table = self.table.pivot(index="served", columns="adversary", values="mean")
        return table.reindex(index=list(dict.fromkeys(self.table.served)), columns=list(self.adversaries))

    def difference(self, design: float, adversary: str, reference: str = "honest") -> pd.Series:
        """How many points an adversary leaves above a reference, paired: a row with mean, low and high.

        `reference`: "honest" (T_d = 1, naive attacker), or "margin" or "naive" at the same T_d; KeyError: not compared.
        """
        name = HONEST
        if reference != "honest":
            name = Reference(self.lesson.study.method_name(design), reference, design)
        row = difference(self.records, reference=name, adversary=adversary, design_temperature=design)
        if row is None:
            raise KeyError(f"{adversary} at T_d = {design:g} was not compared with {reference}")
        return row

    def removal(self, design: float, adversary: str) -> str:
        """Whether an adversary removes the illusion: "holds", "fails", "open" or "void" as `claims.rules.removed`."""
        return removed(interval(self.difference(design, "naive")), interval(self.difference(design, adversary)))

    def removes(self, left: pd.Series) -> bool:
        """Whether a row above honest is surely less than a fifth of the illusion: `claims.rules.removed`."""
        served = self.difference(left["design_temperature"], "naive")
        return removed(interval(served), interval(left)) == "holds"

    def pierced(self, design: float) -> list[str]:
        return [name for name in self.adversaries if self.removal(design, name) == "holds"]

    def always_pierced(self) -> list[str]:
        return [a for a in self.adversaries if all(a in self.pierced(T) for T in self.designs if T != 1)]
