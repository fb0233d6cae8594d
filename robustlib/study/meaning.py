"""The texts that attacks end with, what they still say, and a sheet on which a class judges them; notebooks/15."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from robustlib.attacks.words.meaning import CharacterModel, Pairs, compare_pairs
from robustlib.attacks.words.resources import load_sentence_encoder, load_wordnet
from robustlib.attacks.words.words import Words
from robustlib.data import load_text
from robustlib.data.cache import cached
from robustlib.study.texts import TextStudy

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
    """
    train = load_text(study.dataset, "train", n=study.settings.n_train, seed=0).texts
    seen = {word.lower() for text in train for word in Words.of(text).words}
    wordnet = load_wordnet()
    encoder = load_sentence_encoder(study.training.device)
    return compare_pairs(
        study.inputs[: len(after)],
        after,
        encode=encoder.answers,
        known=lambda word: word in seen or bool(wordnet.synonyms(word)),
        language=CharacterModel(train),
    )


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
