"""The scorecard: every claim of the paper and of ours with its verdict, from the records alone.

The tests themselves are in `robustlib.study.claims.served`.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd

from robustlib.data.folders import replace_file, results_dir
from robustlib.study.claims.findings import (
    BASELINE,
    EQUIVALENCE_MARGIN,
    MAIN_ATTACK,
    OVER,
    VERDICTS,
    Evidence,
    Finding,
    evidence,
    interval_text,
    sample_text,
    verdict,
)
from robustlib.study.claims.served import TESTS
from robustlib.study.records import load_records, paper_tables

COLUMNS = ["claim", "statement", "modality", "verdict", "paper", "ours", "reason", "profile", "device", "date"]
BEGIN, END = "<!-- scorecard:begin -->", "<!-- scorecard:end -->"
_WAITS_FOR = {"image": "needs the image notebooks", "text": "needs the text notebooks"}


# --- the table -------------------------------------------------------------------------------------------------


def scorecard(records: pd.DataFrame) -> pd.DataFrame:
    """One row for each claim and modality, in COLUMNS.

    Args:
        records: rows in the columns of `robustlib.study.records`, of any notebooks, modalities and seeds.

    Raises:
        ValueError: `claims.csv` asks for a number that the paper's tables do not hold.
    """
    sides = {modality: evidence(records, modality) for modality in MAIN_ATTACK}
    origins = {modality: _origin(records[records.modality == modality]) for modality in MAIN_ATTACK}
    rows = []
    for claim in _claims():
        for modality, settings in sides.items():
            findings = _findings(claim["id"], settings)
            rows.append(
                {
                    "claim": claim["id"],
                    "statement": claim["statement"],
                    "modality": modality,
                    "verdict": verdict(findings),
                    "paper": claim["paper"],
                    "ours": _ours(claim["id"], findings),
                    "reason": _reason(findings, claim[modality] or ("" if settings else _WAITS_FOR[modality])),
                    **origins[modality],
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


@cache
def _claims() -> tuple[dict[str, str], ...]:
    """Rows of `claims.csv`, with the paper's numbers put in."""
    claims = pd.read_csv(Path(__file__).parent / "claims.csv", keep_default_na=False)
    paper = paper_tables()
    claims["paper"] = [paper_numbers(template, paper) for template in claims["paper"]]
    return tuple(claims.to_dict("records"))


def _findings(claim: str, settings: dict[str, Evidence]) -> list[Finding]:
    if claim not in TESTS:
        return []
    found = []
    for name, data in settings.items():
        prefix = f"{name}: " if len(settings) > 1 else ""
        for finding in TESTS[claim][0](data):
            found.append(replace(finding, where=prefix + finding.where))
    return found


def _ours(claim: str, findings: list[Finding]) -> str:
    # What speaks against the claim first: the README shows the first two.
    measured = [finding for outcome in ("fails", "holds") for finding in findings if finding.outcome == outcome]
    if not measured:
        return ""
    parts = "; ".join(f"{finding.where}: {finding.measured}" for finding in measured)
    return f"{TESTS[claim][1]}: {parts}; " + " / ".join(dict.fromkeys(finding.sample for finding in measured))


def _reason(findings: list[Finding], untested: str) -> str:
    """Why a claim is not, or not fully, reproduced; empty where it is."""
    if verdict(findings) == "not tested here" and not any(finding.outcome == "void" for finding in findings):
        return untested or "not among the records"
    words = {"fails": "does not hold", "missing": "not recorded", "void": "nothing there to remove"}
    where = {key: [finding.where for finding in findings if finding.outcome == key] for key in words}
    return "; ".join(f"{words[key]}: {', '.join(places)}" for key, places in where.items() if places)


def _origin(records: pd.DataFrame) -> dict[str, str]:
    """Profile, device and (last) date of records, each empty where there are none."""
    names = {name: sorted(records[name].dropna().astype(str).unique()) for name in ("profile", "device", "date")}
    return {name: ", ".join(values[-1:] if name == "date" else values) for name, values in names.items()}


def paper_numbers(template: str, paper: pd.DataFrame) -> str:
    """Replace each `{table method adversary key=value ...}` by the paper's numbers.

    Keys: T (training temperature), metric (default accuracy), dataset, and attack: one or several ("tf,dg"), else
    all of bae/tf/pwws/dg that the table has.

    Raises:
        ValueError: no such number, or more than one.
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
    means = rows.set_index("attack")["mean"]
    return "/".join(_decimals(means[attack]) for attack in attacks if attack in means)


def _decimals(value: float) -> str:
    return f"{value:.2f}" if round(value, 2) == value else str(value)


# --- what people see -------------------------------------------------------------------------------------------


def markdown_table(frame: pd.DataFrame) -> str:
    """The tested claims of a scorecard as a Markdown table; below it the others, grouped by their reason."""
    tested = frame[frame.verdict != VERDICTS[3]]
    lines = ["| Claim | | Verdict | Paper | Ours |", "| --- | --- | --- | --- | --- |"]
    for row in tested.to_dict("records"):
        judged = f"**{row['verdict']}**" + (f" ({row['reason']})" if row["reason"] else "")
        cells = (row["claim"], f"{row['statement']} ({row['modality']})", judged, row["paper"], _shortened(row["ours"]))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if tested.empty:
        lines = ["No claim could be tested on these records."]
    lines += ["", "Not tested here:", ""]
    untested = frame[frame.verdict == VERDICTS[3]]
    for (modality, reason), group in untested.groupby(["modality", "reason"], sort=False):
        lines.append(f"- {modality}, {reason}: {', '.join(group.claim)}")
    return "\n".join(lines)


def _shortened(ours: str) -> str:
    parts = ours.split("; ")
    return ours if len(parts) < 5 else "; ".join([*parts[:2], f"{len(parts) - 3} more", parts[-1]])


def write_scorecard(folder: Path) -> tuple[Path, Path]:
    """Test the records of a results folder; write `scorecard.csv` and `scorecard.md` there and return their paths."""
    records = load_records(folder)
    frame = scorecard(records)
    csv, markdown = folder / "scorecard.csv", folder / "scorecard.md"
    replace_file(csv, frame.to_csv(index=False))
    replace_file(markdown, f"# Scorecard\n\n{_section(frame, records)}\n")
    return csv, markdown


def _section(frame: pd.DataFrame, records: pd.DataFrame) -> str:
    """The table with what one must know to read it."""
    if records.empty:
        origin = "No records yet."
    else:
        facts = _origin(records)
        commits = ", ".join(sorted(records.commit.dropna().astype(str).unique())) or "unknown"
        origin = (
            f"Profile {facts['profile']}, device {facts['device']}, measured {facts['date']}, commit {commits}. "
            f"{_counts(frame)}"
        )
    return (
        f"{origin}\n\nPaper: percent, in the order bae/tf/pwws/dg. Ours: paired differences in percentage points "
        f"with their 95 % intervals; raised: the whole interval is above 0; equal or removed: the whole interval is "
        f"within {EQUIVALENCE_MARGIN:g} points (removed: and lower than as served). All numbers: scorecard.csv.\n\n"
        f"{markdown_table(frame)}"
    )


def _counts(frame: pd.DataFrame) -> str:
    return ", ".join(f"{(frame.verdict == name).sum()} {name}" for name in VERDICTS)


def summary(folder: Path) -> str:
    """What a run prints at its end: how many claims came out how, and the illusion and its end in a few numbers."""
    records = load_records(folder)
    lines = [f"Claims tested on {folder.name}: {_counts(scorecard(records))}"]
    for name in ("scorecard.csv", "scorecard.md"):
        if not (folder / name).exists():
            lines.append(f"{name} is not written yet: python -m robustlib scorecard")
    for modality in MAIN_ATTACK:
        settings = evidence(records, modality)
        if not settings:
            lines.append(f"No {modality} records: {_WAITS_FOR[modality]}.")
        for name, data in settings.items():
            lines += ["", *_story(f"{modality}, {name}", data)]
    return "\n".join(lines)


def _story(title: str, data: Evidence) -> list[str]:
    """Honest baseline, overconfident as served, and the same after each adversary."""
    # A sweep reaches further than where an adversary was tried, so the most extreme pierced model is shown.
    pierced = data.rows.query("method == @OVER and adversary == 'cal-exact' and attack == @data.attack")
    extreme = pierced.design_temperature.min() if len(pierced) else None
    served = "overconfident" if extreme is None else f"overconfident (T_d = {extreme:g})"
    rows = {"honest baseline": data.accuracy(BASELINE, 1.0)}
    for adversary in ("none", "cal", "cal-exact", "opt", "margin"):
        words = f"{served} as served" if adversary == "none" else f"  after {adversary}"
        rows[words] = None if extreme is None else data.accuracy(OVER, extreme, adversary)
    sample = next((sample_text(row) for row in rows.values() if row is not None), "nothing recorded")
    lines = [f"Adversarial accuracy in percent [95 % interval], {title}, {data.attack}, {sample}"]
    width = max(map(len, rows))
    for words, row in rows.items():
        lines.append(f"  {words:{width}}  {'not recorded' if row is None else interval_text(row)}")
    return lines


def main(argv: list[str] | None = None) -> int:
    """`python -m robustlib scorecard`: write the scorecard, print the summary, fill in the README if asked."""
    parser = argparse.ArgumentParser(prog="python -m robustlib scorecard", description=main.__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--profile", help="results of this profile; default: the newest results there are")
    where.add_argument("--results", type=Path, metavar="FOLDER", help="results folder, with records/ in it")
    parser.add_argument("--readme", type=Path, metavar="README.md", help=f"file with {BEGIN} and {END}")
    arguments = parser.parse_args(argv)
    try:
        folder = arguments.results or (results_dir(arguments.profile) if arguments.profile else newest_results())
        records = load_records(folder)
        if records.empty:
            raise FileNotFoundError(f"no records in {folder}: run the notebooks first, ./run_all.sh")
        csv, markdown = write_scorecard(folder)
        print(f"{summary(folder)}\n\nWritten: {csv}, {markdown}")
        if arguments.readme:
            update_readme(arguments.readme, _section(scorecard(records), records))
            print(f"Updated: {arguments.readme}")
    except (OSError, ValueError) as error:
        print(f"python -m robustlib scorecard: {error}", file=sys.stderr)
        return 2
    return 0


def newest_results() -> Path:
    """The results folder whose records were written last, published ones included.

    Raises:
        FileNotFoundError: there are no records.
    """
    parent = results_dir("quick").parent
    found = [*parent.glob("*/records/*.csv"), *parent.glob("published/*/records/*.csv")]
    if not found:
        raise FileNotFoundError(f"no records below {parent}: run the notebooks first, ./run_all.sh")
    return max(found, key=lambda path: path.stat().st_mtime).parent.parent


def update_readme(path: Path, section: str) -> None:
    """Replace what stands between the two markers of a Markdown file.

    Raises:
        ValueError: the markers are not there once each, in order.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path} must hold the line {BEGIN} and, below it, {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    replace_file(path, f"{before}{BEGIN}\n{section}\n{END}{after}")
