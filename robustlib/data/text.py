"""Text data sets: sentences or pairs, labels, and human ratings where a set has them."""

import csv
import io
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.data.cache import cached, content_digest
from robustlib.data.splits import check_split, grouped_split, hold_out, subset
from robustlib.data.store import content, fetch

Text = str | tuple[str, str]
_Block = tuple[str, list[Text], list[int]]  # rows of one part: its name, texts and labels
NEUTRAL_BAND = 0.5  # VADER ratings: about two standard errors of a mean of 20 ratings
NEAR_DUPLICATE = 0.6  # share of common words (Jaccard) from which two snippets stay in one part


@dataclass(frozen=True)
class TextData:
    """Texts of one split: n strings, or n (first, second) pairs; labels int64 (n,).

    `ratings`: float32 (n,), mean human rating from -4 to 4, or None; `index`: int64 (n,), row as our reader numbers it.
    """

    texts: list[Text]
    labels: Tensor
    class_names: tuple[str, ...]
    ratings: Tensor | None
    name: str
    split: str
    index: Tensor


@dataclass(frozen=True)
class _Rows:
    texts: list[Text]
    labels: np.ndarray
    parts: dict[str, np.ndarray]
    ratings: np.ndarray | None = None


def load_text(name: str, split: str, *, n: int | None = None, seed: int = 0) -> TextData:
    """Load a split of a text data set, fetching its files where needed.

    Official splits are used where their labels are public. Where a set has no validation part it is a
    fixed stratified 10 % of its training rows (ag_news: 5 %); cola and qnli test on GLUE's development set.
    rotten_tomatoes_rated and vader_* are split 80/10/10 by us, stratified and fixed, with near-duplicates
    (and, for vader_amazon and vader_nyt, the sentences of one document) kept in one part.

    Args:
        split: "train", "validation" or "test".
        n: number of examples, each class in its share, in an order of `seed`; all in their own order for None.

    ValueError: unknown name or split, or n outside the split; FetchError: the files are unavailable.
    """
    if name not in _READERS:
        raise ValueError(f"unknown text data set {name!r}; known: {', '.join(_READERS)}")
    check_split(split)
    rows = _rows(name, tuple(fetch(name).items()))
    members = rows.parts[split]
    index = members[subset(rows.labels[members], n, seed)]
    return TextData(
        texts=[rows.texts[i] for i in index],
        labels=torch.from_numpy(rows.labels[index]),
        class_names=_READERS[name][1],
        ratings=None if rows.ratings is None else torch.from_numpy(rows.ratings[index]),
        name=name,
        split=split,
        index=torch.from_numpy(index),
    )


@lru_cache(maxsize=4)
def _rows(name: str, paths: tuple[tuple[str, Path], ...]) -> _Rows:
    read, _, *validation = _READERS[name]
    rows = read(dict(paths))
    return rows if isinstance(rows, _Rows) else _joined(rows, *validation)


def _lines(raw: bytes, encoding: str = "utf-8-sig") -> list[str]:
    """Lines by LF (or CR LF) only: str.splitlines would also cut at the characters 0x85 and U+2028."""
    lines = raw.decode(encoding).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _joined(blocks: Iterable[_Block], validation: float = 0) -> _Rows:
    """The rows of all blocks; where `validation` is a share, that of the training rows is held out."""
    parts: dict[str, list[int]] = defaultdict(list)
    texts: list[Text] = []
    labels: list[int] = []
    for part, block_texts, block_labels in blocks:
        parts[part] += range(len(texts), len(texts) + len(block_texts))
        texts += block_texts
        labels += block_labels
    rows = _Rows(texts, np.array(labels, np.int64), {part: np.array(rows) for part, rows in parts.items()})
    if validation:
        train = rows.parts["train"]
        held = hold_out(rows.labels[train], int(validation * len(train)))
        rows.parts.update({part: train[chosen] for part, chosen in held.items()})
    return rows


def _read_rotten_tomatoes(paths: dict[str, Path]) -> Iterator[_Block]:
    """The split in common use: file order, 80/10/10 of each file, positives first in each part."""
    files = {label: _lines(content(paths, f"rt-polarity.{key}"), "latin-1") for key, label in (("pos", 1), ("neg", 0))}
    for part, start, end in (("train", 0.0, 0.8), ("validation", 0.8, 0.9), ("test", 0.9, 1.0)):
        for label, lines in files.items():
            texts = [line.strip() for line in lines[round(start * len(lines)) : round(end * len(lines))]]
            yield part, texts, [label] * len(texts)


def _read_emotion(paths: dict[str, Path]) -> Iterator[_Block]:
    names = _READERS["emotion"][1]
    for part, key in (("train", "train.txt"), ("validation", "val.txt"), ("test", "test.txt")):
        pairs = [line.rsplit(";", 1) for line in _lines(content(paths, key))]
        yield part, [text for text, _ in pairs], [names.index(label) for _, label in pairs]


def _read_ag_news(paths: dict[str, Path]) -> Iterator[_Block]:
    for part in ("train", "test"):
        key = next(key for key in paths if key.startswith(part))
        rows = list(csv.reader(io.StringIO(content(paths, key).decode(), newline="")))
        yield part, [f"{title} {text}" for _, title, text in rows], [int(row[0]) - 1 for row in rows]


def _read_cola(paths: dict[str, Path]) -> Iterator[_Block]:
    for key in ("in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv"):
        rows = [line.split("\t") for line in _lines(content(paths, key))]
        yield "train" if "train" in key else "test", [text for *_, text in rows], [int(row[1]) for row in rows]


def _read_mrpc(paths: dict[str, Path]) -> Iterator[_Block]:
    """GLUE's validation set: the training pairs whose two sentence numbers its file lists."""
    tables = {key: [line.split("\t") for line in _lines(content(paths, key))[1:]] for key in paths}
    listed = {(first, second) for _, first, second, *_ in tables["glue_dev.tsv"]}
    train = tables["msr_paraphrase_train.txt"]
    chosen = {
        "train": [row for row in train if (row[1], row[2]) not in listed],
        "validation": [row for row in train if (row[1], row[2]) in listed],
        "test": tables["msr_paraphrase_test.txt"],
    }
    for part, rows in chosen.items():
        yield part, [(row[3], row[4]) for row in rows], [int(row[0]) for row in rows]


def _read_qnli(paths: dict[str, Path]) -> Iterator[_Block]:
    names = _READERS["qnli"][1]
    with zipfile.ZipFile(io.BytesIO(content(paths, "QNLIv2.zip"))) as archive:
        for part, member in (("train", "QNLI/train.tsv"), ("test", "QNLI/dev.tsv")):
            rows = [line.split("\t")[1:] for line in _lines(archive.read(member))[1:]]
            yield part, [(question, text) for question, text, _ in rows], [names.index(row[2]) for row in rows]


def _rated(raw: bytes) -> tuple[list[str], np.ndarray, list[str]]:
    """Ids, mean ratings (n,) and texts of a VADER ground-truth file."""
    ids, ratings, texts = zip(*(line.split("\t")[:3] for line in _lines(raw)), strict=True)
    return list(ids), np.array(ratings, dtype=np.float64).astype(np.float32), [text.strip() for text in texts]


def _read_rotten_tomatoes_rated(paths: dict[str, Path]) -> _Rows:
    """Pang and Lee's label follows from the file order (10,577 of the 10,605 rows were found in the official files)."""
    _, ratings, texts = _rated(content(paths, "movieReviewSnippets_GroundTruth.txt"))
    row = np.arange(len(texts))
    labels = ((row <= 5151) | ((row >= 10312) & (row <= 10346)) | ((row >= 10378) & (row <= 10480))).astype(np.int64)
    return _Rows(texts, labels, grouped_split(labels, near_duplicate_groups(texts)), ratings)


def _read_vader(paths: dict[str, Path]) -> _Rows:
    (key,) = paths
    ids, ratings, texts = _rated(content(paths, key))
    keep = np.flatnonzero(np.abs(ratings) >= NEUTRAL_BAND)
    texts, ratings = [texts[i] for i in keep], ratings[keep]
    # an id is "document_sentence" in the two sets whose snippets are sentences of a document
    documents = [ids[i].split("_")[0] for i in keep]
    labels = (ratings > 0).astype(np.int64)
    return _Rows(texts, labels, grouped_split(labels, near_duplicate_groups(texts, documents)), ratings)


def near_duplicate_groups(texts: list[str], same: list[str] | None = None) -> np.ndarray:
    """Group number of each text: (n,) int64, equal for texts linked by near-duplicates or an equal entry in `same`.

    Near-duplicates: their sets of lower-cased words have a Jaccard similarity of at least 0.6. Compared once: every
    process that reads the texts would spend seconds on it.
    """
    config = {"texts": content_digest(texts), "same": content_digest(same or [])}
    found = cached("near_duplicates", config, lambda: {"group": _linked(texts, same)}, rooms=("data.text",))
    return found["group"]


def _linked(texts: list[str], same: list[str] | None) -> np.ndarray:
    words = [frozenset(re.findall(r"\w+", text.lower())) or frozenset([text]) for text in texts]
    frequency = Counter(word for group in words for word in group)
    parent = list(range(len(texts)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    # Sets this similar share one of their rarest words (prefix filter), so common words need no comparing.
    seen: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(words):
        rarest = sorted(group, key=lambda word: (frequency[word], word))
        for word in rarest[: len(group) - int(np.ceil(NEAR_DUPLICATE * len(group))) + 1]:
            for j in seen[word]:
                if len(group & words[j]) >= NEAR_DUPLICATE * len(group | words[j]):
                    parent[root(i)] = root(j)
            seen[word].append(i)
    first: dict[str, int] = {}
    for i, key in enumerate(same or []):
        parent[root(i)] = root(first.setdefault(key, i))
    return np.array([root(i) for i in range(len(texts))])


_POLARITY = ("negative", "positive")
_TOPICS = ("World", "Sports", "Business", "Sci/Tech")
# The reader, the class names, and the share of the training rows that is the validation part where a set has none.
_READERS: dict[str, tuple[Callable[[dict[str, Path]], Any], tuple[str, ...], *tuple[float, ...]]] = {
    "rotten_tomatoes": (_read_rotten_tomatoes, _POLARITY),
    "rotten_tomatoes_rated": (_read_rotten_tomatoes_rated, _POLARITY),
    "vader_tweets": (_read_vader, _POLARITY),
    "vader_amazon": (_read_vader, _POLARITY),
    "vader_nyt": (_read_vader, _POLARITY),
    "emotion": (_read_emotion, ("sadness", "joy", "love", "anger", "fear", "surprise")),
    "ag_news": (_read_ag_news, _TOPICS, 0.05),
    "ag_news_subset30k": (_read_ag_news, _TOPICS, 0.05),
    "cola": (_read_cola, ("unacceptable", "acceptable"), 0.1),
    "mrpc": (_read_mrpc, ("not_equivalent", "equivalent")),
    "qnli": (_read_qnli, ("entailment", "not_entailment"), 0.1),
}
