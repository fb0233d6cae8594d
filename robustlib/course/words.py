"""Words for what records call by short names: data sets, models, trainings and attacks."""

from __future__ import annotations

import re

import pandas as pd

from robustlib.data.registry import DATASETS
from robustlib.models.pretrained import describe

ATTACKS = {
    "pgd": "PGD",
    "pgd-l2": "PGD in L2",
    "pgd-float64": "PGD in float64",
    "fgsm": "FGSM",
    "cw": "C&W",
    "square": "Square",
    "hopskipjump": "HopSkipJump",
    "autoattack": "AutoAttack",
    "dg": "DeepWordBug",
    "tf": "TextFooler",
    "pwws": "PWWS",
    "bae": "BAE",
}
_MODELS = {"small_cnn": "small CNN", "resnet18": "ResNet-18"}
_METHODS = {
    "baseline": "standard training",
    "freelb": "FreeLB",
    "ascc": "ASCC",
    "trades": "TRADES",
    "dg-aug": "training on attacked copies",
    "conf_up(T_d<<1)": "served at T_d << 1",
    "conf_down(T_d>>1)": "served at T_d >> 1",
}
_COLUMNS = {
    "design_temperature": "T_d",
    "adversary_temperature": "T_a",
    "training_temperature": "training temperature",
    "confidence_clean": "confidence (clean)",
    "logit_range": "logit range",
    "training_loss": "training loss",
}
_NAME = re.compile(r"`[^`]*`|\bconf_(?:up|down)\(T_d(?:<<|>>)1\)|\b[a-z]\w*_\w+")
_DETAILS = re.compile(r"(.*?)((?:\([a-z]+=\d+\))*)")  # a training, and in what its length differs
_DDI = re.compile(r"ddi-at\(M=(\d+),K=(\d+)\)")
_RULES = {"_gradnorm": ", normalised gradients", "_gradclip": ", clipped gradients"}


def plain(name: str) -> str:
    """The name of a data set, model, training or attack as a reader knows it; parts between commas one by one.

    What has no other name stays as it is.
    """
    return ", ".join(map(_plain, name.split(", ")))


def in_words(text: str) -> str:
    """A sentence or label in which names of records that no reader knows (`baseline_gradnorm`) are replaced by words.

    Names of one word, and what stands in backticks, stay as they are.
    """

    def words(name: re.Match[str]) -> str:
        return name[0] if name[0].startswith("`") else _COLUMNS.get(name[0]) or _plain(name[0])

    return _NAME.sub(words, text)


def table_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose strings, in cells, labels and the names of its axes, are `in_words`."""

    def words(value: object) -> object:
        return in_words(value) if isinstance(value, str) else value

    return table.map(words).rename(index=words, columns=words).rename_axis(index=words, columns=words)


def _plain(name: str) -> str:
    if name in DATASETS:
        return DATASETS[name].title
    for known in (ATTACKS, _MODELS, _METHODS):
        if name in known:
            return known[name]
    (method, details), rule = _DETAILS.fullmatch(name).groups(), ""
    for suffix, words in _RULES.items():
        if suffix in name:
            (method, _, details), rule = name.partition(suffix), words
    words = _METHODS.get(method) or ATTACKS.get(method) or _DDI.sub(r"DDi-AT (M = \1, K = \2)", method)
    if words == name:
        return describe(name, brief=True) if name else name
    return f"{words}{rule}{f' {details}' if details else ''}"
