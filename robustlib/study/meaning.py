"""The texts that attacks end with, what they still say, and a sheet on which a class judges them; notebooks/15."""

from __future__ import annotations

import json
import math
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from robustlib.attacks.words.meaning import CharacterModel, Pairs, compare_pairs
from robustlib.attacks.words.resources import load_sentence_encoder, load_wordnet
from robustlib.attacks.words.words import Words
from robustlib.data import load_text
from robustlib.data.cache import cached
from robustlib.study.texts import TextStudy

GRAMMAR = "ROBUSTLIB_LANGUAGETOOL"  # environment variable: address of a LanguageTool server, http://localhost:8081
SHEET = ("pair", "before", "after", "same meaning (1 to 5)", "correct English (1 to 5)")


def attacked_texts(study: TextStudy, attack: str, n: int) -> tuple[list[str], np.ndarray]:
    """What an attack on the model as trained makes of the first n texts, and (n,) whether the model withstands it."""
    config = {
        "training": asdict(study.training),
        "content": study.content,
        "attack": attack,
        "options": study.options(attack),
        "n": n,
    }

    def compute() -> dict:
        chosen = study.attacks[attack]
        result = chosen.run(study.served(1.0), study.inputs[:n], study.labels[:n], score=chosen.at_temperature(1.0))
        return {"texts": list(result.adversarial), "standing": result.outcome == "failed"}

    found = cached("attacked_texts", config, compute)
    return found["texts"], np.asarray(found["standing"], dtype=bool)


def measured_pairs(study: TextStudy, after: list[str]) -> Pairs:
    """`compare_pairs` of the study's first texts and what became of them, by what this machine has.

    Embeddings of MiniLM, WordNet and the training texts as vocabulary, characters of the training texts as language.
    Where `GRAMMAR` names a server, `unknown` counts what `grammar_errors` finds instead.
    """
    seen, language = _language(study.dataset, study.settings.n_train)
    wordnet = load_wordnet()
    encoder = load_sentence_encoder(study.training.device)
    before = study.inputs[: len(after)]
    pairs = compare_pairs(
        before,
        after,
        encode=encoder.answers,
        known=lambda word: word in seen or bool(wordnet.synonyms(word)),
        language=language,
    )
    if server := os.environ.get(GRAMMAR):
        pairs = replace(pairs, unknown=grammar_errors(after, server) - grammar_errors(before, server))
    return pairs


@lru_cache(maxsize=1)
def _language(dataset: str, n_train: int | None) -> tuple[set[str], CharacterModel]:
    texts = load_text(dataset, "train", n=n_train, seed=0).texts
    return {word.lower() for text in texts for word in Words.of(text).words}, CharacterModel(texts)


def errors_counted() -> str:
    """What `unknown` counts here, as a heading."""
    return "errors added (LanguageTool, mean)" if os.environ.get(GRAMMAR) else "unknown words added (mean)"


def grammar_errors(texts: Sequence[str], server: str) -> np.ndarray:
    """How many errors of grammar and spelling LanguageTool finds in each text, (n,); ConnectionError: no answer."""
    address, counts = f"{server.rstrip('/')}/v2/check", []
    for text in texts:
        form = urllib.parse.urlencode({"language": "en-US", "text": text}).encode()
        try:
            with urllib.request.urlopen(address, form, timeout=60) as answer:
                counts.append(len(json.load(answer)["matches"]))
        except urllib.error.URLError as error:
            raise ConnectionError(f"no LanguageTool at {address} ({error}): start one, or unset {GRAMMAR}") from error
    return np.array(counts)


def rank_agreement(confidence: np.ndarray, strength: np.ndarray) -> dict[str, float]:
    """Spearman's rank correlation of two measurements (n,), n > 3, as columns of a record.

    With its 95 % interval (Bonett and Wright, Psychometrika 65, 2000).
    """
    mean, n = float(stats.spearmanr(confidence, strength).statistic), len(confidence)
    centre, reach = math.atanh(np.clip(mean, -1 + 1e-12, 1 - 1e-12)), 1.96 * math.sqrt((1 + mean**2 / 2) / (n - 3))
    return {"mean": mean, "low": math.tanh(centre - reach), "high": math.tanh(centre + reach), "n": n}


def write_sheet(path: Path, before: list[str], after: list[str], rows: np.ndarray) -> Path:
    """A CSV of pairs for a class to judge, the two last columns empty."""
    frame = pd.DataFrame({"pair": rows, "before": [before[r] for r in rows], "after": [after[r] for r in rows]})
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.reindex(columns=SHEET).to_csv(path, index=False)
    return path


def read_sheets(paths: list[Path]) -> pd.DataFrame:
    """Mean judgements by pair over the sheets that came back, with `judges`, how many; empty without any.

    ValueError: a sheet lacks a column, or a judgement is not from 1 to 5.
    """
    frames = []
    for path in paths:
        frame = pd.read_csv(path)
        if missing := [column for column in SHEET if column not in frame]:
            raise ValueError(f"{path} has no column {', '.join(missing)}: start from the sheet that the lesson wrote")
        marks = frame[list(SHEET[3:])].apply(pd.to_numeric, errors="coerce")
        if not (marks.isna() | ((marks >= 1) & (marks <= 5))).all(axis=None):
            raise ValueError(f"{path}: judgements are whole numbers from 1 to 5")
        frames.append(frame[["pair"]].join(marks).dropna())
    if not frames or not sum(map(len, frames)):
        return pd.DataFrame(columns=["judges", *SHEET[3:]])
    groups = pd.concat(frames).groupby("pair")
    return groups.mean().assign(judges=groups.size())
