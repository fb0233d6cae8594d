"""What an audit says: findings, rungs of the ladder of attacks, and the record that holds them."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

SCHEMA = 1  # of the JSON record; raised whenever a field changes its meaning

EXIT_STATUS = {"no illusion found": 0, "miscalibration": 1, "masked": 3, "inconclusive": 4, "broken": 5}
SEVERITIES = ("fine", "note", "warning", "fatal")


class IllusionError(AssertionError):
    """An audit did not end with "no illusion found", or its accuracy is below what was demanded."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: stable, such as "gradient.zero"; the anchor of the page that explains it.
        stage: "contract", "scale", "gradient" or "attack".
        severity: "fine", "note", "warning", or "fatal" (the model is broken, its other numbers mean little).
        sentence: what was found, with its number.
        values: the numbers, finite, and the thresholds that they were held against.
    """

    name: str
    stage: str
    severity: str
    sentence: str
    values: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """Anchor of the explanation."""
        return self.name


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with its 95 % interval, in percent."""

    percent: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.percent:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True)
class Difference:
    """A difference of two accuracies on the same examples with its 95 % interval, in percentage points."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True)
class Rung:
    """One attack, judged by the model as served.

    Attributes:
        name: stable, such as "as served", "calibrated", "margin", "inner:head".
        adversary: how it searched, in words.
        attack: "pgd", "square", "rays", a recipe for texts, ...
        family: "served", "scale" (undone by a temperature or a score without one), "strength" (a stronger search of the
            same answers), "unmask" (what lies behind the answers), "black box", or "sanity" (not part of the bound).
        status: "done", "skipped" (not needed, or beyond the budget), "failed" (it raised) or "unfinished".
        accuracy: of all n examples after the attack, clean errors included; None unless done.
        difference: accuracy minus that of the rung "as served", on the same examples.
        standing: (n,) 1.0 where the model is still right, 0.0 where not; the share of draws where answers are random.
        forwards, backwards: passes counted per example, judging included.
        note: why it was skipped, what was raised, what it used (T_a, number of draws).
    """

    name: str
    adversary: str
    attack: str
    family: str
    status: str = "done"
    accuracy: Accuracy | None = None
    difference: Difference | None = None
    n: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    standing: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Audit:
    """The record of an audit. `print` shows it; accuracies are in percent.

    Attributes:
        verdict: "no illusion found", "miscalibration", "masked", "inconclusive" or "broken".
        reason: the evidence, in a sentence. remedy: what to do, in a sentence.
        subject: name, gives, modality, n_classes, notes.
        settings: threat (norm, epsilon, or recipe), n, seed, budget in seconds, versions, digest of the examples.
        clean: accuracy without an attack. as_served: after the usual attack.
        at_most: after the one rung, `found_by`, that leaves least; an upper bound on the robust accuracy.
        together: what no rung of the bound fooled, a tighter bound, of several attacks at once.
        gap: as served minus at most, paired; what was never robustness.
        smallest: the smallest gap, in points, that this many examples show in four of five repetitions.
        claim: the accuracy, in percent, that one would publish, or that an attack which was handed in leaves;
            claim_outcome: "refuted", "not refuted", or "" without.
        complete: False where the audit was interrupted.
        curves: what the figures draw: "reliability", a list of [mean confidence, accuracy %, examples] for each bin;
            "radius", for each adversary a list of [radius, accuracy %].
        adversarial: the strongest inputs found (`again.Adversarial`), which no JSON holds.
    """

    verdict: str
    reason: str
    remedy: str
    subject: dict[str, Any]
    settings: dict[str, Any]
    clean: Accuracy | None
    as_served: Accuracy | None
    at_most: Accuracy | None
    together: Accuracy | None
    gap: Difference | None
    found_by: str
    smallest: float | None
    findings: tuple[Finding, ...]
    rungs: tuple[Rung, ...]
    seconds: float
    forwards: int
    backwards: int
    complete: bool = True
    claim: float | None = None
    claim_outcome: str = ""
    curves: dict[str, Any] = field(default_factory=dict)
    adversarial: Any = field(default=None, repr=False, compare=False)

    @property
    def exit_status(self) -> int:
        """0 no illusion found, 1 miscalibration, 3 masked, 4 inconclusive, 5 broken (2 is wrong use of the command)."""
        return EXIT_STATUS[self.verdict]

    def finding(self, name: str) -> Finding | None:
        """The finding of that name, if there is one."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def rung(self, name: str) -> Rung | None:
        """The rung of that name, if there is one."""
        return next((rung for rung in self.rungs if rung.name == name), None)

    @property
    def worse(self) -> bool:
        """Whether the model is worse than in the record that it was compared with."""
        finding = self.finding("attack.regression")
        return finding is not None and finding.severity == "warning"

    def compared_with(self, earlier: Audit | str | os.PathLike) -> Audit:
        """This audit with a finding on whether the model got worse since an earlier one of the same examples.

        Args:
            earlier: that audit, or the .json file of its record.

        Raises:
            ValueError: no record, or one of other examples or another threat.
        """
        from robustlib.audit.again import compared

        if not isinstance(earlier, Audit):
            earlier = Audit.from_json(Path(earlier).read_text(encoding="utf-8"))
        return compared(self, earlier)

    def raise_for_verdict(self, *, at_least: float | None = None) -> None:
        """Raise `IllusionError` after an illusion, a refuted claim, or a comparison that the model loses.

        Args:
            at_least: percent that `at_most` must reach.
        """
        if self.verdict != "no illusion found":
            raise IllusionError(f"{self.verdict}: {self.reason}\n\n{self}")
        if self.claim_outcome == "refuted":
            raise IllusionError(f"the claim of {self.claim:g} % is refuted: at most {self.at_most} %\n\n{self}")
        if self.worse:
            raise IllusionError(f"worse than before: {self.finding('attack.regression').sentence}\n\n{self}")
        if at_least is not None and (self.at_most is None or self.at_most.percent < at_least):
            raise IllusionError(
                f"the accuracy under attack is at most {self.at_most} %, below {at_least:g} %\n\n{self}"
            )

    def to_json(self) -> str:
        """The record as JSON (`SCHEMA` is its version)."""
        values = asdict(replace(self, adversarial=None))
        del values["adversarial"]
        return json.dumps({"schema": SCHEMA, **values}, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Audit:
        """The record of `to_json`; ValueError where it is none, or of another version."""
        try:
            values = json.loads(text)
            schema = values.pop("schema")
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise ValueError("this is no record of an audit: it has no 'schema'") from None
        if schema != SCHEMA:
            raise ValueError(f"the record has schema {schema}, this version reads {SCHEMA}: audit the model again")
        for name in ("clean", "as_served", "at_most", "together"):
            values[name] = values[name] and Accuracy(**values[name])
        values["gap"] = values["gap"] and Difference(**values["gap"])
        values["findings"] = tuple(Finding(**row) for row in values["findings"])
        values["rungs"] = tuple(rung_from(row) for row in values["rungs"])
        return cls(**values)

    def __str__(self) -> str:
        from robustlib.audit.report import text

        return text(self)

    def save(self, path: str | os.PathLike) -> None:
        """Write the report as a page (.html), in Markdown (.md), the record (.json), or the adversarial inputs (.npz).

        Raises:
            ValueError: another ending, or no adversarial inputs, as in a record that was read.
        """
        if Path(path).suffix == ".npz":
            if self.adversarial is None:
                raise ValueError("this record holds no adversarial inputs: save them after the audit itself")
            self.adversarial.save(path)
            return
        from robustlib.audit import report

        forms = {".json": Audit.to_json, ".html": report.page, ".md": report.markdown}
        form = forms.get(Path(path).suffix)
        if form is None:
            raise ValueError(f"{path} must end with {', '.join([*forms, '.npz'])}")
        Path(path).write_text(form(self) + "\n", encoding="utf-8")


def rung_from(row: dict[str, Any]) -> Rung:
    """A rung from its JSON form."""
    accuracy, difference = row["accuracy"], row["difference"]
    values = {
        "accuracy": accuracy and Accuracy(**accuracy),
        "difference": difference and Difference(**difference),
        "standing": tuple(row["standing"]),
    }
    return Rung(**{**row, **values})


def plain(values: dict[str, Any]) -> dict[str, float | int | str]:
    """Values of a finding as JSON holds them: numbers that are not finite become words."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
