"""Where a page's numbers come from, in words; and how the study is cited."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import yaml

from robustlib.course.words import plain


def describe_origin(records: pd.DataFrame, folder: str) -> str:
    """Profile, device, date and commit of the records in words; the folder's name where there are none."""
    if records.empty:
        return f"the results of {folder}"
    return ", ".join(_run(records))


def describe_lesson(records: pd.DataFrame, stem: str) -> str:
    """Data, model, n, seeds and run of one lesson's records; of one that only reads records, the run."""
    rows = records[records.experiment.isin([stem, f"{stem}_text"])]
    if rows.empty:
        return f"Reads the records of the other lessons: {', '.join(_run(records))}." if len(records) else ""
    data, models = (", ".join(dict.fromkeys(rows[name].map(plain))) for name in ("dataset", "model"))
    attacked = rows[(rows.metric == "accuracy") & (rows.attack != "clean")]
    sizes = sorted((attacked if len(attacked) else rows)["n"].dropna().astype(int).unique())
    n = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    seeds = sorted(rows.seed.dropna().astype(int).unique())
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"Data: {data}. Model: {models}. {n}, {which}. {', '.join(_run(rows)).capitalize()}."


def _run(records: pd.DataFrame) -> list[str]:
    said = {name: ", ".join(sorted(records[name].dropna().astype(str).unique())) for name in ("profile", "device")}
    commits = sorted({str(commit)[:12] for commit in records.commit.dropna()})
    parts = [f"profile {said['profile']}", f"device {said['device']}", f"measured {records.date.dropna().max()}"]
    return parts + ([f"commit {', '.join(commits)}"] if commits else [])


def citations(cff: Path) -> list[str]:
    """BibTeX of the study and of what it refers to, from CITATION.cff; none where there is no such file."""
    if not cff.is_file():
        return []
    about = yaml.safe_load(cff.read_text(encoding="utf-8"))
    return [_bibtex("robustlib", about), *(_bibtex(_key(work), work) for work in about.get("references", []))]


def _key(work: dict) -> str:
    return f"{work['authors'][0]['family-names'].lower()}{work['year']}"


def _bibtex(key: str, work: dict) -> str:
    people = [person.get("name") or f"{person['given-names']} {person['family-names']}" for person in work["authors"]]
    fields = {"title": f"{{{work['title']}}}", "author": " and ".join(people), "year": work.get("year")}
    fields |= {"booktitle": work.get("conference", {}).get("name"), "version": work.get("version")}
    paper = re.fullmatch(r"https://arxiv\.org/abs/(.+)", work.get("url", ""))
    fields |= {"eprint": paper[1], "archiveprefix": "arXiv"} if paper else {"url": work.get("url")}
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{'inproceedings' if 'conference' in work else 'software'}{{{key},\n{lines}}}"
