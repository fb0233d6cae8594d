"""Words for what records call by short names: data sets, models, trainings and attacks."""

from __future__ import annotations

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
    "conf_up(T_d<<1)": "served at T_d << 1",
    "conf_down(T_d>>1)": "served at T_d >> 1",
}
_RULES = {"_gradnorm": ", normalised gradients", "_gradclip": ", clipped gradients"}


def plain(name: str) -> str:
    """The name of a data set, model, training or attack as a reader knows it; parts between commas one by one.

    What has no other name stays as it is.
    """
    return ", ".join(map(_plain, name.split(", ")))


def _plain(name: str) -> str:
    if name in DATASETS:
        return DATASETS[name].title
    for known in (ATTACKS, _MODELS, _METHODS):
        if name in known:
            return known[name]
    for suffix, words in _RULES.items():
        if suffix in name:
            method, _, details = name.partition(suffix)
            return _METHODS.get(method, ATTACKS.get(method, method)) + words + (f" {details}" if details else "")
    return describe(name, brief=True) if name else name
