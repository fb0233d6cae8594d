"""From truths and audits to the tables of audit.md: confusion, errors, sizes, and which check found what."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit_masks import Entry
from audit_truth import HONEST_GAP, Truth

from robustlib.audit.findings import Finding, Rung, rung_from
from robustlib.audit.verdict import Verdict, judge

TRUTHS = ("no illusion found", "miscalibration", "masked", "broken")
VERDICTS = (*TRUTHS, "inconclusive", "refused")
BORDERLINE = 3.0  # points around the threshold within which a wrong verdict weighs little
CLOSE = 5.0  # points between the size of an illusion as measured and as audited

LATE = """What was changed after a first full table of the tuned models, and the model that it came from:

- a jump at the boundary counts from 2 % on, not 10: *k winners*
- a permuted label map is fitted and tried on random halves: *MiniLM, labels flipped*, whose classes alternate
- the gain by another label map counts from 10 points on, not 20: *two classes swapped*, which was held back until then
- training mode is told by a batch of 16: *batch norm left on*
- the straight-through slope of tanh fades away from 0: *saturated tanh* (21 % stood before)
- a scale is no sign of a mask where a black-box attack does better: a linear black box that is not in the bench
- the truth of a black box is measured with the audit's own budget of queries: *MLP of scikit-learn*
- a surrogate is tried on every text model behind whose answers nothing was searched, with a sign of a mask or without;
  where it gets through and no score does, the scores choose among its changes, and where they still fail they are
  taken for moved, and decisions are tried: *seed 3, saw-tooth of 2*, which was held back until then and called sound
- what a surrogate finds beyond all other attacks is set aside where scores hide nothing, and not the whole gap:
  *MiniLM trained at T = 100*, which got a surrogate by the rule before

No other rule was changed for a model that had been held back. Verdicts are those of today's rules on the findings and
attacks of each record."""

BLACK_BOX = (
    "a black box whose scores mislead: a surrogate of its labels and random changes are all that is left, and the twin "
    "that the truth is measured on shows its log-odds"
)
WHY = {  # a wrong verdict or a wrong size, by model
    "probabilities at T = 0.02": "float32 answers 0 and 1 exactly beyond its wall: a temperature brings back a part, a "
    "surrogate more with nothing that says why; the verdict names the part that a scale explains",
    "seed 3, saw-tooth of 2": BLACK_BOX,
    "upside down": BLACK_BOX,
    "sine": BLACK_BOX,
    "saw-tooth of 0.7": BLACK_BOX,
    "sine of tf-idf": BLACK_BOX,
    "sealed hard-max": "labels are all that is left, and the surrogate's own boundary is too far from the model's",
}


WANTED = {"plain": 20, "MiniLM, six layers": 180}  # seconds on two cores


@dataclass(frozen=True)
class Result:
    """An entry with its truth and its audit."""

    entry: Entry
    measured: dict[str, Any]
    audit: dict[str, Any]

    @cached_property
    def truth(self) -> Truth:
        """As measured without the audit; where the audit's attacks on a deterministic model left less, with these."""
        truth = Truth.of(self.measured)
        if self.audit.get("settings", {}).get("draws", 1) > 1:
            return truth
        left = {family: [100.0] for family in ("served", "scale", "strength", "unmask", "black box", "sanity")}
        for rung in self.rungs():
            if rung.status == "done":
                left[rung.family].append(rung.accuracy.percent)
        bound = [min(left[family]) for family in ("strength", "unmask", "black box", "served")]
        return truth.with_bounds(min(left["scale"]), min(*bound, *left["scale"]))

    @property
    def true_verdict(self) -> str:
        return self.entry.accepts[0] if self.entry.accepts else self.truth.verdict

    @property
    def right(self) -> bool:
        """Inconclusive counts only where the truth cannot be had with the access given."""
        accepted = self.entry.accepts or (self.truth.verdict,)
        return self.verdict in accepted or (self.verdict == "inconclusive" and not self.entry.reachable)

    @cached_property
    def judged(self) -> Verdict:
        """What the rules of today say of the findings and attacks, whenever these were made."""
        if not self.audit.get("rungs"):
            return Verdict(self.audit["verdict"], self.audit.get("reason", ""), "")
        return judge(self.findings(), self.rungs())

    @property
    def verdict(self) -> str:
        return self.judged.verdict

    @property
    def borderline(self) -> bool:
        return not self.entry.accepts and abs(self.truth.gap - HONEST_GAP) <= BORDERLINE

    @property
    def size(self) -> float | None:
        """As served minus at most, in points."""
        if not self.audit.get("as_served") or not self.audit.get("at_most"):
            return None
        return self.audit["as_served"]["percent"] - self.audit["at_most"]["percent"]

    def rungs(self) -> list[Rung]:
        return [rung_from(row) for row in self.audit.get("rungs", ())]

    def findings(self) -> list[Finding]:
        return [Finding(**row) for row in self.audit.get("findings", ())]


def in_short(result: dict[str, Any]) -> str:
    """One line on a truth or an audit."""
    if "truth" in result:
        return (
            f"clean {result['clean']:.1f}, standard {result['standard']:.1f}, scale {result['scale']:.1f}, strongest "
            f"{result['strongest']:.1f}: {result['truth']}"
        )
    if result["verdict"] == "refused":
        return f"refused: {result['reason']}"
    flagged = [row["name"] for row in result["findings"] if row["severity"] in ("warning", "fatal")]
    rungs = [f"{r['name']} {r['accuracy']['percent']:.1f}" for r in result["rungs"] if r["accuracy"]]
    return f"{result['verdict']} [{', '.join(rungs)}] {flagged} {result['seconds']:.0f} s, cpu {result['cpu']:.0f} s"


def load(out: Path, entries: Sequence[Entry], path_of: Callable[[Path, str, Entry], Path]) -> list[Result]:
    """The results that are there; an entry without a truth or an audit is left out."""
    results = []
    for entry in entries:
        paths = [path_of(out, kind, entry) for kind in ("truth", "audit")]
        if all(path.exists() for path in paths):
            results.append(Result(entry, *(json.loads(path.read_text()) for path in paths)))
    return results


def write(
    out: Path,
    kinds: dict[str, Sequence[Entry]],
    path_of: Callable,
    folder: Path,
    times: dict[str, Path],
    last: Sequence[str],
) -> None:
    """Write audit.md and audit.csv into `folder`, and print what is missing.

    Args:
        times: of the models whose audits were timed, by name: where the record is, if it is there.
        last: names of the models that were made when the rules had been settled, and audited once.
    """
    tuned, fresh = (load(out, kinds[kind], path_of) for kind in ("tuned", "fresh"))
    results = [*tuned, *fresh]
    made_last = [result for result in fresh if result.entry.name in last]
    there = {result.entry.name for result in results}
    missing = [entry.name for kind in ("tuned", "fresh") for entry in kinds[kind] if entry.name not in there]
    left = f"Without a truth or an audit, and in no table: {', '.join(missing)}." if missing else ""
    print(left)
    parts = [
        f"# The audit on models of known truth\n\nBy `audit_bench.py report`; to read it: README.md. {left}".rstrip(),
        f"## The {len(tuned)} models that rules were tuned on\n\n{confusion(tuned)}",
        f"## The {len(fresh)} models that were held back\n\n{confusion(fresh)}",
        f"Of these, made when the rules had been settled, and audited once:\n\n{all_rows(made_last)}",
        f"## Honest models over seeds\n\n{over_seeds(out, kinds['seeds'], path_of)}",
        f"## Wrong verdicts\n\n{errors(results)}",
        f"## Sizes\n\n{sizes(results)}",
        f"## What it cost\n\n{costs(results)}",
        *([f"## Time\n\n{clocked(times)}"] if any(path.exists() for path in times.values()) else []),
        f"## What found what\n\n{checks(results)}\n\n{without(results)}",
        f"## Rules that came late\n\n{LATE}{_earlier(results)}",
        f"## All models\n\n{all_rows(results)}",
    ]
    (folder / "audit.md").write_text("\n\n".join(parts) + "\n")
    with (folder / "audit.csv").open("w", newline="") as file:
        rows = [record(result) for result in results]
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    wrong = [result.entry.name for result in results if not result.right]
    print(f"{len(results) - len(wrong)} of {len(results)} right; wrong: {', '.join(wrong) or 'none'}")


def _earlier(results: Sequence[Result]) -> str:
    """Which records of texts were made before the last of these rules, when more texts calibrated."""
    names = [r.entry.name for r in results if r.entry.data == "reviews" and "threads" not in r.audit]
    return f" Records of texts from before the last of these: {', '.join(names)}." if names else ""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)


def confusion(results: Sequence[Result]) -> str:
    rows = []
    for truth in TRUTHS:
        verdicts = [result.verdict for result in results if result.true_verdict == truth]
        rows.append([f"{truth} ({len(verdicts)})", *(verdicts.count(verdict) or "" for verdict in VERDICTS)])
    right = sum(result.right for result in results)
    head = ("measured truth", *VERDICTS)
    return f"{table(head, rows)}\n\n{right} of {len(results)} right ({100 * right / max(1, len(results)):.0f} %)."


def over_seeds(out: Path, entries: Sequence[Entry], path_of: Callable) -> str:
    """How often an honest model is accused; the truth of those that were is measured, too."""
    paths = {entry.name: path_of(out, "audit", entry) for entry in entries}
    audits = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    accused = [entry for entry in entries if entry.name in audits and audits[entry.name]["verdict"] != TRUTHS[0]]
    gaps = [a["as_served"]["percent"] - a["at_most"]["percent"] for a in audits.values() if a.get("at_most")]
    text = f"{len(accused)} of {len(audits)} not cleared; largest gap {max(gaps, default=0):.1f} points."
    rows = []
    for entry in accused:
        path = path_of(out, "truth", entry)
        truth = json.loads(path.read_text()) if path.exists() else None
        measured = f"{truth['truth']}, gap {truth['gap']:.1f}" if truth else "not measured"
        rows.append((entry.name, audits[entry.name]["verdict"], measured, audits[entry.name]["reason"]))
    return f"{text}\n\n{table(('model', 'audit', 'measured', 'its reason'), rows)}" if rows else text


def errors(results: Sequence[Result]) -> str:
    rows = [
        (
            result.entry.name + (" (fresh)" if result.entry.fresh else ""),
            result.true_verdict + (", borderline" if result.borderline else ""),
            _number(result.truth.gap),
            result.verdict,
            _number(result.size),
            result.judged.reason,
            WHY.get(result.entry.name, ""),
        )
        for result in results
        if not result.right
    ]
    return table(("model", "measured", "gap", "audit", "its gap", "its reason", "why"), rows) if rows else "None."


def sizes(results: Sequence[Result]) -> str:
    """How near the audit's gap is, for illusions whose truth can be had with the access given, and for the others."""
    illusions = [r for r in results if r.true_verdict in ("miscalibration", "masked") and r.size is not None]
    near = [r for r in illusions if abs(r.size - r.truth.gap) <= CLOSE]
    counts, reach = [], {True: "yes", False: "no"}
    for reachable in (True, False):
        there = [r for r in illusions if r.entry.reachable == reachable]
        good = sum(r in near for r in there)
        counts.append(f"{good} of {len(there)} ({100 * good / max(1, len(there)):.0f} %)")
    text = (
        f"Within {CLOSE:g} points of the measured gap: {counts[0]} where the truth can be had with the access given, "
        f"{counts[1]} where it cannot (labels, rounded or saturated probabilities)."
    )
    rows = [
        (r.entry.name, reach[r.entry.reachable], *map(_number, (r.truth.gap, r.size)), r.verdict, *_found(r))
        for r in illusions
        if r not in near
    ]
    head = ("model", "reachable", "gap", "audit", "verdict", "by", "why")
    return f"{text}\n\n{table(head, rows)}" if rows else text


def _found(result: Result) -> tuple[str, str]:
    return result.audit["found_by"], WHY.get(result.entry.name, "")


def costs(results: Sequence[Result]) -> str:
    """Forward passes of an audit over those of the attacks that it ran (curves over radii are attacks, too)."""
    rows = []
    for title, data in (("images", ("fashion", "shirts")), ("texts", ("reviews",))):
        there = [r for r in results if r.entry.data in data and r.audit.get("forwards")]
        ratios = sorted(r.audit["forwards"] / _attacks(r) for r in there if _attacks(r) > 1_000)
        few = [r.entry.name for r in there if _attacks(r) <= 1_000]
        seconds = sorted(r.audit["cpu"] for r in there)
        middle = lambda values: values[len(values) // 2] if values else float("nan")  # noqa: E731
        cells = [f"{v:.2f}" for v in (middle(ratios), *(ratios[-1:] or [float("nan")]))]
        cells += [f"{v:.0f}" for v in (middle(seconds), seconds[-1] if seconds else float("nan"))]
        rows.append((title, len(there), *cells, ", ".join(few)))
    head = ("models", "n", "passes / attacks, median", "largest", "CPU s, median", "largest", "left out")
    return table(head, rows) + "\n\nLeft out: audits whose attacks took at most 1,000 passes, since little was left."


def _attacks(result: Result) -> int:
    """Passes of the attacks; every one begins with the clean texts, which are asked once and remembered."""
    curves = [f.values.get("forwards", 0) for f in result.findings() if f.name == "attack.rising"]
    clean = result.audit["settings"]["n"] if result.entry.data == "reviews" else 0
    return sum(rung.forwards for rung in result.rungs()) + sum(curves) + clean


def clocked(times: dict[str, Path]) -> str:
    """Wall and processor time of the audits that were timed, beside what was wanted."""
    rows = []
    for name, path in times.items():
        if path.exists():
            audit = json.loads(path.read_text())
            spent = (f"{audit['forwards']:,}", f"{audit['seconds']:.1f}", f"{audit['cpu']:.1f}", audit["threads"])
            rows.append((name, audit["settings"]["n"], audit["verdict"], *spent, WANTED[name]))
    return table(("model", "n", "verdict", "passes", "wall s", "CPU s", "threads", "wanted, wall s"), rows)


def checks(results: Sequence[Result]) -> str:
    """How often each finding was no mere note, by measured truth, and where it was the only one."""
    names = sorted({f.name for r in results for f in r.findings()})
    rows = []
    for name in names:
        flagged = [r for r in results if name in _flagged(r)]
        alone = [r.entry.name for r in flagged if _flagged(r) == {name} and r.true_verdict != TRUTHS[0]]
        counts = [sum(r.true_verdict == truth for r in flagged) or "" for truth in TRUTHS]
        rows.append((f"`{name}`", *counts, ", ".join(alone)))
    totals = [sum(r.true_verdict == truth for r in results) for truth in TRUTHS]
    head = ("finding (warning or fatal)", *(f"{t} ({k})" for t, k in zip(TRUTHS, totals, strict=True)), "alone in")
    return table(head, rows)


def without(results: Sequence[Result]) -> str:
    """What each rung of the ladder brings: verdicts that change, and bounds that rise, where it is left out."""
    names = dict.fromkeys(rung.name for r in results for rung in r.rungs() if rung.status == "done")
    rows = []
    for name in names:
        ran = [r for r in results if any(rung.name == name and rung.status == "done" for rung in r.rungs())]
        changed, higher = [], []
        for result in ran:
            rest = [rung for rung in result.rungs() if rung.name != name]
            if name != "as served" and judge(result.findings(), rest).verdict != result.verdict:
                changed.append(result.entry.name)
            bound = [r.accuracy.percent for r in rest if r.status == "done" and r.family != "sanity"]
            if bound and result.audit["at_most"] and min(bound) > result.audit["at_most"]["percent"] + CLOSE:
                higher.append(result.entry.name)
        seconds = sum(rung.seconds for r in ran for rung in r.rungs() if rung.name == name)
        rows.append((name, len(ran), f"{seconds:.0f}", ", ".join(changed), ", ".join(higher)))
    return table(
        ("rung", "ran", "s in all", "verdict changes without it", f"bound rises by > {CLOSE:g} without it"), rows
    )


def all_rows(results: Sequence[Result]) -> str:
    head = ("model", "built as", "clean", "standard", "scale", "strongest", "truth", "as served", "at most", "by")
    rows = [
        (
            r.entry.name + (" (fresh)" if r.entry.fresh else ""),
            r.entry.built_as,
            *(_number(getattr(r.truth, key)) for key in ("clean", "standard", "scale", "strongest")),
            r.true_verdict,
            *(_number((r.audit.get(key) or {}).get("percent")) for key in ("as_served", "at_most")),
            r.audit.get("found_by", ""),
            ("" if r.right else "**") + r.verdict + ("" if r.right else "**"),
            f"{r.audit['cpu']:.0f}",
        )
        for r in results
    ]
    return table((*head, "audit", "CPU s"), rows)


def record(result: Result) -> dict[str, Any]:
    """A row of audit.csv."""
    audit = result.audit
    spent = sum(rung.forwards for rung in result.rungs())
    return {
        "model": result.entry.name,
        "data": result.entry.data,
        "fresh": result.entry.fresh,
        "built_as": result.entry.built_as,
        **{f"true_{key}": value for key, value in result.truth.as_row().items() if key != "truth"},
        "truth": result.true_verdict,
        "verdict": result.verdict,
        "right": result.right,
        "as_served": (audit.get("as_served") or {}).get("percent"),
        "at_most": (audit.get("at_most") or {}).get("percent"),
        "found_by": audit.get("found_by"),
        "findings": " ".join(sorted(_flagged(result))),
        "forwards": audit.get("forwards"),
        "forwards_of_rungs": spent,
        "cpu_seconds": round(audit["cpu"], 1),
    }


def _flagged(result: Result) -> set[str]:
    return {finding.name for finding in result.findings() if finding.severity in ("warning", "fatal")}


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.1f}"
