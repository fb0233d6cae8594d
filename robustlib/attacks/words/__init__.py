"""Attacks on text classifiers: a search over word substitutions, with the paper's four recipes."""

from robustlib.attacks.words.attack import (
    attack_texts,
    blind,
    format_trace,
    label_only,
    rank_correlation,
    tied_share,
    word_importance,
)
from robustlib.attacks.words.lowered import attack_in_low_precision
from robustlib.attacks.words.queries import QueryCache
from robustlib.attacks.words.resources import RECIPES, load_recipe
from robustlib.attacks.words.search import Recipe, Rules
