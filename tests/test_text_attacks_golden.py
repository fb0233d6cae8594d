"""Our four attacks against TextAttack 0.3.11 in a toy world (written by benchmarks/textattack_golden.py)."""

import hashlib
import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from robustlib.attacks.scores import TrueClassProbability
from robustlib.attacks.words import QueryCache, attack_texts, recipes
from robustlib.attacks.words.transformations import guessed_swaps

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import toy  # noqa: E402

SOURCE = json.loads((GOLDEN / "sentences.json").read_text(encoding="utf-8"))
RECORD = json.loads((GOLDEN / "textattack.json").read_text(encoding="utf-8"))


def make_recipe(name):
    encode = lambda texts: torch.tensor([toy.embed(text) for text in texts])  # noqa: E731
    tag = lambda words, position: toy.tag(words)[position]  # noqa: E731
    if name == "dg":
        return recipes.deepwordbug(seed=RECORD["seed"])
    if name == "pwws":
        return recipes.pwws(lambda word: RECORD["synonyms"].get(word, []))
    if name == "tf":
        stop_words = frozenset({"the", "a", "is", "of", "and", "to", "in", "it"})
        return replace(recipes.textfooler(toy.neighbours, tag, encode), stop_words=stop_words)

    def masked_lm(questions):
        texts = [" ".join([*tokens[:at], toy.MASK, *tokens[at + 1 :]]) for tokens, at in questions]
        return [
            sorted(zip(toy.VOCABULARY, toy.mask_logits(text), strict=True), key=lambda pair: -pair[1]) for text in texts
        ]

    return replace(recipes.bae(masked_lm, tag, encode), pick=partial(guessed_swaps, limit=12))


def digest(asked):
    """As in the golden script: of the texts as a set."""
    texts = sorted({json.dumps(one) for one in asked})
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=8).hexdigest()


def empties_a_sentence(run, text):
    """Deleting the only word: TextAttack asks the empty text, we ask [UNK] in its place."""
    return run["recipe"] in ("tf", "bae") and any(
        " " not in part for part in ([text] if isinstance(text, str) else text)
    )


@pytest.mark.parametrize(
    "run",
    RECORD["runs"],
    ids=lambda run: f"{run['recipe']}-{run['examples']}-{run['n_classes']}-{run['temperature']}-{run['max_queries']}",
)
def test_outcome_queries_and_text_equal_textattacks(run):
    examples = [(tuple(text) if isinstance(text, list) else text, label) for text, label in SOURCE[run["examples"]]]
    score = TrueClassProbability(run["temperature"])
    for (text, label), expected in zip(examples, run["rows"], strict=True):
        asked = []

        def victim(batch, asked=asked):
            asked += batch
            rows = [toy.logits_of(one, SOURCE["weights"], run["n_classes"]) for one in batch]
            return torch.tensor(rows, dtype=torch.float32)

        result = attack_texts(
            QueryCache(victim, batch_size=1, max_bytes=0),
            [text],
            torch.tensor([label]),
            recipe=make_recipe(run["recipe"]),
            score=score,
            max_queries=run["max_queries"],
        )
        final = result.adversarial[0]
        ours = (result.outcome[0], int(result.queries[0]), list(final) if isinstance(final, tuple) else final)
        assert ours == (expected["outcome"], expected["queries"], expected["final"]), text
        if run["max_queries"] is None and not empties_a_sentence(run, text):
            assert digest(asked) == expected["asked"], text
