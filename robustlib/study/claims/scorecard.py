"""The scorecard in words: tables for people, the files of a results folder, and README's summary."""

import argparse
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from robustlib.data.folders import replace_file, results_dir
from robustlib.study.claims.findings import BASELINE, OVER, Evidence
from robustlib.study.claims.judge import WORDS, Judgement, Scorecard, judge_claims
from robustlib.study.claims.rules import SMALLEST, interval_text, sample_text
from robustlib.study.records import load_records, newest_results, origin

COLUMNS = ["claim", "statement", "modality", "verdict", "paper", "ours", "reason", "rule", "smallest", "detectable"]
COLUMNS += ["comparisons", "profile", "device", "date"]
RULES = (
    "Paper: percent, in the order bae/tf/pwws/dg. Ours: paired differences in percentage points with their 95 % "
    "intervals, over seeds and examples where there are several seeds. "
    f"Smallest effect of interest: {SMALLEST:g} points unless the rule names another, set beforehand. A finding holds "
    "if the whole interval keeps the rule, fails if the whole interval breaks it, and is open otherwise."
)
BEGIN, END = "<!-- scorecard:begin -->", "<!-- scorecard:end -->"


def as_frame(card: Scorecard) -> pd.DataFrame:
    """One row for each claim and modality, in COLUMNS; what `scorecard.csv` holds."""
    origins = {modality: origin(card.records[card.records.modality == modality]) for modality in card.sides}
    rows = [
        {
            **vars(judgement),
            "ours": judgement.ours(),
            "detectable": _points(judgement.detectable),
            "comparisons": judgement.comparisons,
            **origins[judgement.modality],
        }
        for judgement in card.judgements
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def claims_table(card: Scorecard, claims: Collection[str] | None = None) -> str:
    """The tested claims as a Markdown table: all, or only those named."""
    tested = [judgement for judgement in card.tested if claims is None or judgement.claim in claims]
    if not tested:
        return "No claim could be tested on these records."
    rows = [
        (
            judgement.claim,
            f"{judgement.statement} ({judgement.modality})",
            f"**{judgement.verdict}**" + (f" ({judgement.reason})" if judgement.reason else ""),
            judgement.paper,
            judgement.ours(at_most=3),
            f"{judgement.rule}; {_power(judgement)}",
        )
        for judgement in tested
    ]
    return _markdown(("Claim", "", "Verdict", "Paper", "Ours", "Holds if"), rows)


def _power(judgement: Judgement) -> str:
    points = _points(judgement.detectable)
    return f"{judgement.comparisons} compared" + (f", which would show {points} points" if points else "")


def _points(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1f}"


def headline_table(card: Scorecard) -> str:
    """The claims that `claims.csv` marks as headlines as a Markdown table: verdict and first number on each side."""
    claims: dict[str, dict[str, Judgement]] = {}
    for judgement in card.judgements:
        if judgement.headline:
            claims.setdefault(judgement.claim, {})[judgement.modality] = judgement
    rows = [
        (claim, next(iter(sides.values())).statement, *(_in_brief(sides[modality]) for modality in card.sides))
        for claim, sides in claims.items()
    ]
    return _markdown(("Claim", "", "Images", "Text"), rows)


def _in_brief(judgement: Judgement) -> str:
    """The verdict, a number that holds, and one that speaks against the claim or leaves it open."""
    holding = [finding for finding in judgement.measured if finding.outcome == "holds" and not finding.condition]
    against = sorted((f for f in judgement.measured if f.outcome != "holds"), key=lambda finding: finding.condition)
    numbers = [f"{finding.where}: {finding.measured}" for finding in holding[:1] + against[:1]]
    if not numbers:
        return f"{judgement.verdict} ({judgement.reason})"
    return f"**{judgement.verdict}**; {f'; {WORDS[against[0].outcome]}: '.join(numbers) if against else numbers[0]}"


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("|  |", "| |")


def report(card: Scorecard, left_out: Sequence[str] = ()) -> str:
    """The whole scorecard in Markdown, with what one must know to read it; `left_out`: as for `write_scorecard`."""
    untested = [f"- {modality}, {reason}: {', '.join(claims)}" for (modality, reason), claims in card.untested.items()]
    missing = f" Not run, for lack of time: {', '.join(left_out)}." if left_out else ""
    return (
        f"# Scorecard\n\n{_measured(card)}{missing}\n\n{RULES} All numbers: scorecard.csv.\n\n{claims_table(card)}"
        "\n\nNot tested here:\n\n" + "\n".join(untested) + "\n"
    )


def _measured(card: Scorecard) -> str:
    if card.records.empty:
        return "No records yet."
    facts = origin(card.records)
    commits = ", ".join(sorted(card.records.commit.dropna().astype(str).unique())) or "unknown"
    models = [
        f"{name}{'' if len(data.rows) else ' (in the lessons on training)'}"
        for settings in card.sides.values()
        for name, data in settings.items()
    ]
    return (
        f"Profile {facts['profile']}, device {facts['device']}, measured {facts['date']}, commit {commits}: "
        f"{'; '.join(models)}. {card.counts}"
    )


def write_scorecard(folder: Path, left_out: Sequence[str] = ()) -> Scorecard:
    """Judge the records of a results folder; where there are any, write `scorecard.csv` and `scorecard.md` beside.

    `left_out`: notebooks that a budget left no time for.
    """
    card = judge_claims(load_records(folder))
    if len(card.records):
        replace_file(folder / "scorecard.csv", as_frame(card).to_csv(index=False, lineterminator="\n"))
        replace_file(folder / "scorecard.md", report(card, left_out))
    return card


def summary(card: Scorecard) -> str:
    """What a run prints at its end: how many claims came out how, and the illusion and its end in a few numbers."""
    lines = [f"Claims tested: {card.counts}"]
    for modality, settings in card.sides.items():
        if not settings:
            lines.append(f"No {modality} records: needs the {modality} notebooks.")
        for name, data in settings.items():
            if len(settings) == 1 or data.accuracy(BASELINE, 1.0) is not None:
                lines += ["", *_story(f"{modality}, {name}", data)]
    return "\n".join(lines)


def _story(title: str, data: Evidence) -> list[str]:
    extreme = data.most_overconfident
    served = "overconfident" if extreme is None else f"overconfident (T_d = {extreme:g})"
    rows = {"honest baseline": data.accuracy(BASELINE, 1.0)}
    for adversary in ("naive", "cal", "cal-exact", "opt", "margin"):
        words = f"{served} as served" if adversary == "naive" else f"  after {adversary}"
        rows[words] = None if extreme is None else data.accuracy(OVER, extreme, adversary)
    sample = next((sample_text(row) for row in rows.values() if row is not None), "nothing recorded")
    lines = [f"Adversarial accuracy in percent [95 % interval], {title}, {data.attack}, {sample}"]
    width = max(map(len, rows))
    for words, row in rows.items():
        lines.append(f"  {words:{width}}  {'not recorded' if row is None else interval_text(row)}")
    return lines


def main(argv: list[str]) -> int:
    """`python -m robustlib scorecard`: write the scorecard and print its summary; fill in README if asked."""
    parser = argparse.ArgumentParser(prog="python -m robustlib scorecard", description=main.__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--profile", help="results of this profile; default: the newest results there are")
    where.add_argument("--results", type=Path, metavar="FOLDER", help="results folder, with records/ in it")
    parser.add_argument(
        "--readme", type=Path, metavar="README.md", help=f"file with {BEGIN} and {END}; SCORECARD.md goes beside it"
    )
    arguments = parser.parse_args(argv)
    folder = arguments.results or (results_dir(arguments.profile) if arguments.profile else newest_results())
    card = write_scorecard(folder)
    if card.records.empty:
        raise FileNotFoundError(f"no records in {folder}: run the notebooks first, ./run_all.sh")
    print(f"{summary(card)}\n\nWritten: {folder / 'scorecard.csv'}, {folder / 'scorecard.md'}")
    if arguments.readme:
        update_readme(arguments.readme, card)
        print(f"Updated: {arguments.readme}, {arguments.readme.with_name('SCORECARD.md')}")
    return 0


def update_readme(path: Path, card: Scorecard) -> None:
    """Put the headlines between a README's two markers (else a ValueError), and all into SCORECARD.md beside it."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path} must hold the line {BEGIN} and, below it, {END}, once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    section = f"{_measured(card)}. All of them: [SCORECARD.md](SCORECARD.md).\n\n{headline_table(card)}"
    replace_file(path.with_name("SCORECARD.md"), report(card))
    replace_file(path, f"{before}{BEGIN}\n{section}\n{END}{after}")
