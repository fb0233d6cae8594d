"""Every claim of the paper and of ours, judged from the records: `claims.csv` says what, `TESTS` says how."""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pandas as pd

from robustlib.study.claims import black_box, museum, own, served, trained
from robustlib.study.claims.findings import MAIN_ATTACK, Evidence, evidence
from robustlib.study.claims.rules import SMALLEST, VERDICTS, Finding, verdict
from robustlib.study.records import paper_tables

TESTS = served.TESTS | trained.TESTS | own.TESTS | museum.TESTS | black_box.TESTS
WORDS = {"fails": "does not hold", "open": "open", "missing": "not recorded", "void": "nothing there to test"}
_UNTESTED = VERDICTS[-1]


@dataclass(frozen=True)
class Judgement:
    """One claim, judged for images or for text."""

    claim: str
    statement: str
    modality: str
    verdict: str
    paper: str  # the paper's numbers
    rule: str  # when a finding holds, with `smallest`, its smallest effect of interest, fixed beforehand
    smallest: float
    measure: str  # what the numbers of the findings are
    findings: tuple[Finding, ...]
    headline: bool  # whether a summary shows it
    reason: str  # why it is not, or not fully, reproduced; empty where it is

    @property
    def measured(self) -> list[Finding]:
        """The findings with a number, those that speak against the claim first."""
        shown = ("fails", "open", "holds")
        return [finding for outcome in shown for finding in self.findings if finding.outcome == outcome]

    @property
    def comparisons(self) -> int:
        """How many findings were judged: the size of the family, of which one in twenty misses by chance."""
        return len(self.measured)

    @property
    def detectable(self) -> float:
        """The smallest effect that the least precise of the findings would have shown (80 % power); NaN if unknown."""
        known = [finding.smallest for finding in self.measured if finding.smallest == finding.smallest]
        return max(known, default=float("nan"))

    @property
    def sample(self) -> str:
        return " / ".join(dict.fromkeys(finding.sample for finding in self.measured))

    def ours(self, at_most: int | None = None) -> str:
        """Our numbers in one line; of more than `at_most` findings the first two."""
        parts = [f"{finding.where}: {finding.measured}" for finding in self.measured]
        if not parts:
            return ""
        if at_most is not None and len(parts) > at_most:
            parts = [*parts[:2], f"{len(parts) - 2} more"]
        return f"{self.measure}: {'; '.join(parts)}; {self.sample}"


@dataclass(frozen=True)
class Scorecard:
    """Records, the evidence in them by modality and "data set, model", and a judgement of every claim on each."""

    records: pd.DataFrame
    sides: dict[str, dict[str, Evidence]]
    judgements: tuple[Judgement, ...]

    @property
    def tested(self) -> list[Judgement]:
        return [judgement for judgement in self.judgements if judgement.verdict != _UNTESTED]

    @property
    def untested(self) -> dict[tuple[str, str], list[str]]:
        groups: dict[tuple[str, str], list[str]] = {}
        for judgement in self.judgements:
            if judgement.verdict == _UNTESTED:
                groups.setdefault((judgement.modality, judgement.reason), []).append(judgement.claim)
        return groups

    @property
    def counts(self) -> str:
        verdicts = [judgement.verdict for judgement in self.judgements]
        return ", ".join(f"{verdicts.count(name)} {name}" for name in VERDICTS)


def judge_claims(records: pd.DataFrame) -> Scorecard:
    """Judge every claim for images and for text, from rows of `study.records`, of any notebooks and seeds.

    ValueError: `claims.csv` asks for a number that the paper's tables do not hold.
    """
    sides = {modality: evidence(records, modality) for modality in MAIN_ATTACK}
    judgements = []
    for claim in _claims():
        for modality, settings in sides.items():
            smallest = smallest_effects()[claim["id"]]
            findings = _findings(claim["id"], smallest, settings)
            untested = claim[modality] or ("" if settings else f"needs the {modality} notebooks")
            judgements.append(
                Judgement(
                    claim=claim["id"],
                    statement=claim["statement"],
                    modality=modality,
                    verdict=verdict(findings),
                    paper=claim["paper"],
                    rule=claim["rule"].replace("{}", f"{smallest:g}"),
                    smallest=smallest,
                    measure=TESTS[claim["id"]][1] if claim["id"] in TESTS else "",
                    findings=tuple(findings),
                    headline=claim["headline"] == "yes",
                    reason=_reason(findings, untested),
                )
            )
    return Scorecard(records, sides, tuple(judgements))


@cache
def _claims() -> tuple[dict[str, str], ...]:
    claims = pd.read_csv(Path(__file__).parent / "claims.csv", keep_default_na=False)
    paper = paper_tables()
    claims["paper"] = [paper_numbers(template, paper) for template in claims["paper"]]
    return tuple(claims.to_dict("records"))


@cache
def smallest_effects() -> dict[str, float]:
    """The smallest effect of interest of each claim, in points."""
    return {claim["id"]: float(claim["smallest"] or SMALLEST) for claim in _claims()}


def _findings(claim: str, smallest: float, settings: dict[str, Evidence]) -> list[Finding]:
    if claim not in TESTS:
        return []
    test, _ = TESTS[claim]
    findings = {name: test(data, smallest) for name, data in settings.items()}
    # A lesson may have a model of its own: what nobody asked of it is no gap in the evidence.
    asked = {name: part for name, part in findings.items() if any(finding.outcome != "missing" for finding in part)}
    findings = asked or findings
    if len(findings) == 1:
        return list(*findings.values())
    return [replace(finding, where=f"{name}: {finding.where}") for name, part in findings.items() for finding in part]


def _reason(findings: list[Finding], untested: str) -> str:
    if verdict(findings) == _UNTESTED:
        causes = dict.fromkeys(finding.measured for finding in findings if finding.measured)
        return untested or ", ".join(causes) or "not among the records"
    where = {key: [finding.where for finding in findings if finding.outcome == key] for key in WORDS}
    return "; ".join(f"{WORDS[key]}: {', '.join(places)}" for key, places in where.items() if places)


def paper_numbers(template: str, paper: pd.DataFrame) -> str:
    """Replace each `{table method adversary key=value ...}` by the paper's numbers; ValueError: none, or several.

    Keys: T (training temperature), metric (default accuracy), dataset, and attack: one or several ("tf,dg"), else
    all of bae/tf/pwws/dg that the table has.
    """
    return re.sub(r"\{([^}]+)\}", lambda match: _lookup(match[1], paper), template)


def _lookup(request: str, paper: pd.DataFrame) -> str:
    table, method, adversary, *rest = request.split()
    options = {"metric": "accuracy", **dict(part.split("=", 1) for part in rest)}
    attacks = options.pop("attack", "bae,tf,pwws,dg").split(",")
    rows = paper[(paper.table == int(table)) & (paper.method == method) & (paper.adversary == adversary)]
    for key, value in options.items():
        column = "training_temperature" if key == "T" else key
        rows = rows[rows[column] == (float(value) if key == "T" else value)]
    rows = rows[rows.attack.isin(attacks)]
    missing = "attack=" in request and set(attacks) - set(rows.attack)
    if rows.empty or missing or rows.attack.duplicated().any():
        raise ValueError(f"claims.csv: {{{request}}} does not name one number of the paper for each attack")
    means = rows.set_index("attack")["mean"].reindex(attacks).dropna()
    return "/".join(f"{mean:.2f}" if round(mean, 2) == mean else str(mean) for mean in means)
