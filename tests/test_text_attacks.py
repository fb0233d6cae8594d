"""Text attacks as a whole: known answers, lockstep, cache, scores, odd texts, errors. Against TextAttack: _golden."""

import itertools
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from robustlib.attacks.scores import Margin, TrueClassProbability
from robustlib.attacks.words import (
    QueryCache,
    Rules,
    attack,
    attack_texts,
    blind,
    format_trace,
    label_only,
    rank_correlation,
    recipes,
    tied_share,
    word_importance,
)
from robustlib.attacks.words.search import Ranking
from robustlib.attacks.words.words import Words, joined, split_words

TEXTS = [
    "a moving and honest film that earns its tears",
    "the plot crawls , the jokes limp , and nobody laughs",
    "Quick , bright , warm : everything a summer comedy should be",
    "tired tricks from a director who used to know better ones",
    "gorgeous images carry this slender tale of two brothers to a graceful end",
    "loud",
    "there is a pulse here somewhere , under the noise",
    "not even the dog can save it",
]


class Linear:
    """Two-class victim: half the sum of word weights, which follow from the words, as log-odds of class 1.

    `scale` multiplies the logits, as serving at temperature 1 / scale does.
    """

    def __init__(self, weights=None, scale=1.0):
        self.weights, self.scale = weights, scale

    def weight(self, word):
        if self.weights is not None:
            return self.weights.get(word, 0.0)
        return zlib.crc32(word.encode()) / 2**31 - 1.0

    def __call__(self, examples):
        sums = torch.tensor([0.03 + sum(map(self.weight, split_words(joined(one)))) for one in examples])
        return self.scale * torch.stack([-sums / 2, sums / 2], dim=1)


class Trigram:
    """Three-class victim over letter trigrams: unlike `Linear` it sees spelling and spaces."""

    def __call__(self, examples):
        rows = []
        for example in examples:
            text = joined(example)
            keys = [text[i : i + 3] for i in range(len(text))]
            rows.append([sum(zlib.crc32(f"{k}{c}".encode()) / 2**31 - 1 for k in keys) for c in range(3)])
        return torch.tensor(rows, dtype=torch.float32)


SYNONYMS = {
    "film": ["movie", "picture"],
    "jokes": ["gags", "jests", "japes"],
    "warm": ["tepid", "lovesome"],
    "tired": ["weary", "jaded"],
    "tale": ["story", "narrative"],
    "save": ["rescue"],
    "loud": ["noisy"],
    "pulse": ["pulsation", "heartbeat"],
    "honest": ["fair"],
    "bright": ["vivid", "smart", "brilliant"],
}


def all_recipes():
    def lookup(word):
        return SYNONYMS.get(word, [])

    def tagger(words, position):
        return "NOUN" if len(words[position]) % 3 else "ADJ"

    def encode(texts):
        counts = [np.bincount([ord(c) % 11 for c in text], minlength=11) + 1.0 for text in texts]
        return torch.tensor(np.array(counts))

    def masked_lm(questions):
        return [[(f"{tokens[at][:2]}{i}x", -i) for i in range(8)] for tokens, at in questions]

    return [
        recipes.deepwordbug(),
        recipes.pwws(lookup),
        recipes.textfooler(lookup, tagger, encode),
        recipes.bae(masked_lm, tagger, encode),
    ]


def labels_of(model, texts):
    return model(texts).argmax(dim=1)


def watched(model, asked):
    """The same victim; what it is asked is appended to `asked`."""
    return lambda texts: asked.extend(texts) or model(texts)


def three_classes(rows):
    """A victim that answers with these probabilities, by the first word; other texts with (0.5, 0.3, 0.2)."""
    return lambda texts: torch.tensor([rows.get(one.split()[0], [0.5, 0.3, 0.2]) for one in texts]).log()


def same(a, b):
    return a.adversarial == b.adversarial and (a.outcome == b.outcome).all() and (a.queries == b.queries).all()


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("model", [Linear(), Trigram()], ids=["linear", "trigram"])
def test_lockstep_batches_and_cache_change_nothing(recipe, model, monkeypatch):
    labels = labels_of(model, TEXTS)
    labels[1] = 1 - labels[1].clamp(max=1)  # one is wrong from the start
    together = attack_texts(model, TEXTS, labels, recipe=recipe)
    for row, (text, label) in enumerate(zip(TEXTS, labels, strict=True)):
        alone = attack_texts(model, [text], label[None], recipe=recipe)
        assert alone.adversarial[0] == together.adversarial[row]
        assert (alone.outcome[0], alone.queries[0]) == (together.outcome[row], together.queries[row])
    assert {"succeeded", "skipped"} <= set(together.outcome)
    for width, batch_size, max_bytes in [(1, 1, 0), (3, 7, 0), (512, 5, 20_000), (2, 1024, 2**29)]:
        cache = QueryCache(model, batch_size=batch_size, max_bytes=max_bytes)
        monkeypatch.setattr(attack, "WIDTH", width)
        assert same(attack_texts(cache, TEXTS, labels, recipe=recipe), together)


def test_one_cache_serves_all_temperatures_and_the_victim_sees_full_batches():
    sizes = []

    def model(texts):
        sizes.append(len(texts))
        return Trigram()(texts)

    labels, cache = labels_of(Trigram(), TEXTS), QueryCache(model, batch_size=8)
    first = attack_texts(cache, TEXTS, labels)
    assert sizes[0] == 8 and np.mean(sizes) > 6
    assert first.n_forward + cache.n_hits == first.queries.sum()
    again = attack_texts(cache, TEXTS, labels)
    assert same(first, again) and again.n_forward == 0
    other = attack_texts(cache, TEXTS, labels, score=TrueClassProbability(1e-3))
    assert 0 < other.n_forward < first.n_forward
    assert same(other, attack_texts(model, TEXTS, labels, score=TrueClassProbability(1e-3)))


def test_a_saturated_score_leaves_only_ties_and_the_margin_is_what_each_word_carries():
    """At T = 1e-4 every gap is beyond 16.6 temperatures: 1 - p is 0 in float32 for each word (paper, E.7)."""
    weights = {"good": 2.0, "fine": 1.0, "nice": 0.5, "okay": 0.25, "plain": 0.1}
    model, texts, labels = Linear(weights), ["the plain okay nice fine good"], torch.tensor([1])
    saturated = word_importance(model, texts, labels, score=TrueClassProbability(1e-4))[0]
    assert tied_share(saturated.importance) == 1.0 and saturated.importance.tolist() == [0.0] * 5
    for score in (Margin(), TrueClassProbability(1.0)):
        kept = word_importance(model, texts, labels, score=score)[0]
        assert tied_share(kept.importance) == 0.0
        assert [kept.words[k] for k in np.argsort(-kept.importance)] == list(weights)
    margin = word_importance(model, texts, labels, score=Margin())[0]
    assert margin.words == texts[0].split()[1:] and margin.positions == [1, 2, 3, 4, 5]  # "the" is a stop word
    np.testing.assert_allclose(margin.importance, [weights[word] - 3.88 for word in margin.words], rtol=1e-6)


def test_rank_correlation_is_spearmans():
    def ranking(*importance):
        return Ranking(list(range(len(importance))), [""] * len(importance), np.array(importance, dtype=float))

    rng = np.random.default_rng(0)
    for n in (2, 5, 30):
        a, b = rng.permutation(n), rng.permutation(n)
        assert rank_correlation(ranking(*a), ranking(*b)) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(ranking(0, 0, 0), ranking(3, 2, 1)) == pytest.approx(1)  # ties are in reading order
    assert np.isnan(rank_correlation(ranking(1), ranking(1)))
    with pytest.raises(ValueError, match="different texts"):
        rank_correlation(ranking(1, 2), ranking(1, 2, 3))


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_no_scale_of_the_logits_changes_an_attack_with_the_margin(recipe):
    labels = labels_of(Linear(), TEXTS)
    results = [
        attack_texts(Linear(scale=scale), TEXTS, labels, recipe=recipe, score=Margin())
        for scale in (2.0**-20, 1.0, 2.0**20)  # powers of two, so that float32 rounds alike
    ]
    assert same(results[0], results[1]) and same(results[1], results[2])
    scaled = attack_texts(
        Linear(scale=8.0), TEXTS, labels
    )  # what divides the logits divides the temperature of a score
    assert same(scaled, attack_texts(Linear(), TEXTS, labels, score=TrueClassProbability(1 / 8)))


@pytest.mark.parametrize("recipe", all_recipes()[:2], ids=lambda recipe: recipe.name)
def test_a_text_that_fools_is_kept_although_its_score_ties(recipe):
    """At T = 1e30 all probabilities are 0.5: nothing is skipped, and a single change that flips the label is found."""
    labels = labels_of(Linear(), TEXTS)
    result = attack_texts(Linear(), TEXTS, labels, recipe=recipe, score=TrueClassProbability(1e30), trace=True)
    assert "succeeded" in result.outcome and "skipped" not in result.outcome
    fooled = (labels_of(Linear(), result.adversarial) != labels).tolist()
    assert fooled == (result.outcome == "succeeded").tolist()
    for text, final, steps in zip(TEXTS, result.adversarial, result.details["trace"], strict=True):
        swaps = [step for step in steps if step["step"] == "swap"]
        assert [bool(step["accepted"]) for step in swaps] == [False] * (len(swaps) - 1) + [final != text]


def test_with_three_classes_a_text_that_fools_is_kept_although_another_scores_higher():
    model = three_classes({"good": [0.6, 0.3, 0.1], "bad": [0.34, 0.33, 0.33], "poor": [0.45, 0.5, 0.05]})
    recipe = recipes.pwws({"good": ["bad", "poor"]}.get)
    assert attack_texts(model, ["good"], torch.tensor([0]), recipe=recipe).adversarial == ["poor"]


def test_ties_are_taken_by_an_attack_that_accepts_them():
    """The score is the same for all texts but "w y z": only who takes "w y c" or "w b z" on the way gets there."""
    fooling = {"w y z"}

    def model(examples):
        return torch.tensor([[0.0, 2.0] if one in fooling else [2.0, 0.0] for one in examples])

    synonyms = {"b": ["y"], "c": ["z"]}
    recipe = recipes.pwws(lambda word: synonyms.get(word, []))
    text, label = ["w b c"], torch.tensor([0])
    assert attack_texts(model, text, label, recipe=recipe).outcome[0] == "failed"
    ties = attack_texts(model, text, label, recipe=recipe, rules=Rules(accept_ties=True))
    assert (ties.outcome[0], ties.adversarial) == ("succeeded", ["w y z"])


def test_a_whole_budget_goes_on_behind_the_boundary_to_the_highest_score():
    weights = {"good": 1.0, "fine": 1.0, "bad": -2.0, "poor": -3.0, "film": 0.0}
    synonyms = {"good": ["bad", "poor"], "fine": ["bad"]}
    texts, labels = ["good film fine", "bad film good"], torch.tensor([1, 1])
    recipe, model = recipes.pwws(lambda word: synonyms.get(word, [])), Linear(weights)
    early = attack_texts(model, texts, labels, recipe=recipe, score=Margin())
    whole = attack_texts(model, texts, labels, recipe=recipe, score=Margin(), rules=Rules(leave_early=False))
    assert early.adversarial == ["poor film fine", "bad film good"]
    assert whole.adversarial == ["poor film bad", "bad film poor"]
    assert whole.outcome.tolist() == early.outcome.tolist() == ["succeeded", "skipped"]
    np.testing.assert_allclose(early.details["changed"], [1 / 3, 0])
    np.testing.assert_allclose(whole.details["changed"], [2 / 3, 1 / 3])


def test_words_may_be_ranked_by_another_score_than_candidates():
    labels = labels_of(Trigram(), TEXTS)
    saturated = TrueClassProbability(1e-3)
    own, other = (word_importance(Trigram(), TEXTS, labels, score=score) for score in (saturated, Margin()))
    plain = attack_texts(Trigram(), TEXTS, labels, score=saturated)
    given = attack_texts(Trigram(), TEXTS, labels, score=saturated, rankings=own)
    assert given.adversarial == plain.adversarial
    mixed = attack_texts(Trigram(), TEXTS, labels, score=saturated, rankings=other, trace=True)
    assert [s[1]["importance"] for s in mixed.details["trace"]] == [ranking.importance.tolist() for ranking in other]


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_labels_alone_are_enough_and_whatever_hides_scores_changes_nothing(recipe):
    labels = labels_of(Linear(), TEXTS)
    labels[0] = 1 - labels[0]

    def shown(examples):
        return torch.nn.functional.one_hot(labels_of(Linear(), examples), 2).float() * 1.5

    plain, hidden = (label_only(model, TEXTS, labels, recipe=recipe, max_queries=60) for model in (Linear(), shown))
    assert same(plain, hidden)
    assert plain.outcome[0] == "skipped" and plain.adversarial[0] == TEXTS[0] and "succeeded" in plain.outcome
    assert plain.queries.max() <= 60
    fooled = labels_of(Linear(), plain.adversarial) != labels
    assert fooled.tolist() == (plain.outcome != "failed").tolist()
    alone = label_only(Linear(), TEXTS[4:5], labels[4:5], recipe=recipe, max_queries=60)
    assert (alone.adversarial[0], alone.queries[0]) == (plain.adversarial[4], plain.queries[4])


def test_words_that_are_not_needed_are_restored():
    """One word decides; whatever else was changed on the way there is put back."""
    text = "one two three four five six key"
    synonyms = {word: [f"{word}x"] for word in text.split()}

    def model(examples):
        return torch.tensor([[2.0, 0.0] if "key" in one.split() else [0.0, 2.0] for one in examples])

    for seed in range(5):
        result = label_only(model, [text], torch.tensor([0]), recipe=recipes.pwws(synonyms.get), seed=seed)
        assert result.adversarial == [text[:-3] + "keyx"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_blind_edits_change_as_many_words_as_asked_and_ask_nobody(share):
    labels = labels_of(Trigram(), TEXTS)
    first, again, other = (blind(Trigram(), TEXTS, labels, shares=[share] * len(TEXTS), seed=s) for s in (0, 0, 1))
    wanted = [round(share * len(split_words(text))) for text in TEXTS]
    changed = np.round(first.details["changed"] * [len(split_words(text)) for text in TEXTS])
    assert changed.tolist() == wanted
    assert same(first, again) and (share == 0.0) == same(first, other)
    assert not first.queries.any()


ODD = {
    "one word": "film",
    "one letter": "x",
    "no word": "!!! ... ???",
    "stop words only": "the of and it",
    "emoji": "a 🙂 film 🎬🎬 with 👩‍👩‍👧 hearts ❤️",
    "right to left": "שלום עולם this is مرحبا بالعالم fine",
    "control characters": "a\x00 film\x07 with\x1b[31m odd\u200b marks\u2028 and\ttabs\r\n",
    "chinese": "这部电影 is 很好看 indeed",
    "combining": "ẛ̣ İstanbul ﬁlm naïve café",
    "spaces": "   a   film   ",
    "stuck together": "good,bad;ugly--fine'tis",
}


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("label", [0, 1])
def test_odd_texts_end_in_an_outcome(recipe, text, label):
    model = Trigram()
    result = attack_texts(model, [text], torch.tensor([label]), recipe=recipe)
    clean = int(labels_of(model, [text]))
    assert result.outcome[0] == "skipped" if clean != label else result.outcome[0] in ("succeeded", "failed")
    assert (int(labels_of(model, result.adversarial)) == label) == (result.outcome[0] == "failed")
    assert result.outcome[0] != "skipped" or (result.adversarial[0] == text and result.queries[0] == 1)


def test_ten_thousand_words():
    def model(examples):
        return torch.tensor([[-1.0, 1.0] if "word9999" in example else [1.0, -1.0] for example in examples])

    result = attack_texts(model, [" ".join(f"word{i}" for i in range(10_000))], torch.tensor([1]))
    assert result.outcome[0] == "succeeded" and result.queries[0] == 1 + 10_000 + 4


def test_deletion_never_asks_an_empty_text():
    asked = []
    for text in (("loud", "a long noise"), "loud"):
        attack_texts(watched(Linear(), asked), [text], labels_of(Linear(), [text]), recipe=all_recipes()[2])
    assert all(part.strip() for one in asked for part in ([one] if isinstance(one, str) else one))
    assert ("[UNK]", "a long noise") in asked and "[UNK]" in asked


def test_a_trace_replays_the_attack():
    model = Trigram()
    result = attack_texts(model, TEXTS, labels_of(model, TEXTS), trace=True)
    for text, final, queries, steps in zip(
        TEXTS, result.adversarial, result.queries, result.details["trace"], strict=True
    ):
        current = Words.of(text)
        ranking = steps[1]
        order = [ranking["words"][k] for k in np.argsort(-np.array(ranking["importance"]), kind="stable")]
        swaps = [step for step in steps if step["step"] == "swap"]
        assert [step["word"] for step in swaps] == [word for word in order if len(word) > 1][: len(swaps)]
        for step in swaps:
            if step["accepted"]:
                assert step["accepted"] == step["candidates"][int(np.argmax(step["scores"]))]
                current = Words.of(current.replaced(current.words.index(step["word"]), step["accepted"]))
        assert current.text == final
        assert queries == 1 + len(ranking["words"]) + sum(len(step["scores"]) for step in swaps)
        assert final == text or swaps[-1]["word"] in format_trace(steps)


def test_no_texts_give_an_empty_result():
    nothing = attack_texts(Linear(), [], torch.zeros(0, dtype=torch.uint8))
    assert (len(nothing), nothing.n_forward) == (0, 0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 1.0])
def test_at_most_a_share_of_the_words_is_changed_and_one_always_may_be(share):
    recipe = replace(recipes.deepwordbug(), most_changed=share)
    result = attack_texts(Linear(), TEXTS, torch.zeros(len(TEXTS), dtype=torch.long), recipe=recipe, score=Margin())
    for text, perturbed in zip(TEXTS, result.adversarial, strict=True):
        words, others = text.split(), perturbed.split()
        changed = sum(one != other for one, other in itertools.zip_longest(words, others))
        assert changed <= max(1, int(share * len(Words.of(text)))) or len(words) != len(others)
