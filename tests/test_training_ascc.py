"""ASCC: substitutes of whole words, weights on the simplex, and the loss with its gradients against another way."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from models_for_tests import tiny_text_model as tiny

from robustlib.data import FetchError
from robustlib.training import ascc, substitutes
from robustlib.training.ascc import INITIAL_STD, adversarial_weights
from robustlib.training.autocast import autocast_context
from robustlib.training.methods import Method, method_step
from robustlib.training.substitutes import available_source, substitution_table

TEXTS = ["a b c d", "e f g", "a c ! hi e", "b"]
LABELS = torch.tensor([0, 1, 1, 0])


def batch_of(model, texts=TEXTS):
    return model.collate(model.tokenise(texts))


@pytest.fixture
def letter_table(monkeypatch, tmp_path):
    """`letter_table(model)`: a to d may stand for each other, and e to g; h, punctuation and the rest for nothing."""
    others = {letter: set(group) - {letter} for group in ("abcd", "efg") for letter in group}

    def listed(words, vectors):
        return {words[letter]: [words[other] for other in sorted(others[letter])] for letter in others}

    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path))
    monkeypatch.setitem(substitutes.SOURCES, "counter-fitted", listed)
    return substitution_table


def no_substitutes(table):
    alone = torch.zeros_like(table.allowed)
    alone[:, 0] = True
    return replace(table, allowed=alone)


def ascc_step(model, table, *, temperature=1.0, labels=LABELS, autocast=None, seed=0, **settings):
    """The loss of one step on `TEXTS`, and the gradients it leaves."""
    method = Method("ascc", **settings)
    return gradients(model, method_step(method, autocast, table=table), labels, temperature, seed)


def standard_step(model, *, temperature=1.0, seed=0):
    return gradients(model, method_step(Method()), LABELS, temperature, seed)


def gradients(model, step, labels, temperature, seed):
    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    loss = step(model, batch_of(model), labels, temperature)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_candidates_of_a_batch_are_whole_words_only(letter_table):
    model = tiny()
    batch = batch_of(model)
    ids, allowed = letter_table(model).candidates(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(ids[..., 0], batch["input_ids"]) and allowed[..., 0].all()
    tokens = [[model.tokenizer.id_to_token(at) for at in row] for row in batch["input_ids"].tolist()]
    assert tokens[2] == ["[CLS]", "a", "c", "!", "h", "##i", "e", "[SEP]"]
    assert allowed[2].sum(dim=1).tolist() == [1, 4, 4, 1, 1, 1, 3, 1]
    assert tokens[3][3:] == ["[PAD]"] * 5 and allowed[3].sum(dim=1).tolist() == [1, 4, 1, 1, 1, 1, 1, 1]
    pieces = batch_of(model, ["ab c"])["input_ids"]  # a ##b c: a word in pieces is left alone, and a masked one
    for mask, numbers in (([[1, 1, 1, 1, 1]], [1, 1, 1, 4, 1]), ([[1, 1, 1, 0, 0]], [1] * 5)):
        _, allowed = letter_table(model).candidates(pieces, torch.tensor(mask))
        assert allowed[0].sum(dim=1).tolist() == numbers


def test_words_of_a_byte_level_vocabulary_carry_their_space():
    vocabulary = {"<s>": 0, "good": 1, "Ġgood": 2, "Ġfine": 3, "Ġ": 4, ",": 5, "ing": 6, "ĠGood": 7, "Ġcafé": 8}
    tokenizer = SimpleNamespace(
        model=object(),
        get_vocab=lambda: vocabulary,
        get_added_tokens_decoder=lambda: {0: SimpleNamespace(content="<s>")},
    )
    words, pieces = substitutes._vocabulary(tokenizer)
    assert words == {"Good": 7, "fine": 3, "good": 2} and pieces == {1, 6}
    words = {"good": 1, "Good": 2, "fine": 3, "nice": 4, "Fine": 5}  # neighbours from a list keep order and case
    lists = {"good": ["nice", "splendid", "fine", "good", "nice"], "fine": ["good"]}
    listed = substitutes._listed(words, lambda word: lists.get(word, ()))
    assert listed == {1: [4, 3], 2: [5], 3: [1], 4: [], 5: [2]}


def test_counter_fitted_lists_are_cut_and_cached(monkeypatch):
    monkeypatch.setattr(substitutes, "N_SUBSTITUTES", 2)
    monkeypatch.setattr(substitutes, "fetch", lambda name: name)
    monkeypatch.setattr(substitutes, "content", lambda files, name: b'{"a": ["b", "zz", "c", "d"], "!": ["a"]}')
    model = tiny()
    vocabulary = model.tokenizer.get_vocab()
    table = substitution_table(model)
    row = vocabulary["a"]
    assert table.ids[row].tolist() == [vocabulary[letter] for letter in "abc"] and table.allowed[row].all()
    assert table.allowed.sum() == len(vocabulary) + 2 and table.ids.shape == (len(vocabulary), 3)
    assert table.continues.sum() == sum(token.startswith("##") for token in vocabulary)
    monkeypatch.setattr(substitutes, "fetch", lambda name: pytest.fail("computed again"))
    again = substitution_table(tiny(seed=1))  # these lists do not depend on the weights
    assert torch.equal(again.ids, table.ids)


def test_synonyms_and_neighbours_come_nearest_first(monkeypatch):
    synonyms = {"b": ["c", "f", "e", "b_c"], "a": ["b"]}  # "a" is a stop word
    wordnet = SimpleNamespace(synonyms=lambda word: synonyms.get(word, []))
    monkeypatch.setattr(substitutes, "load_wordnet", lambda: wordnet)
    monkeypatch.setattr(substitutes, "N_SUBSTITUTES", 2)
    words = {letter: at for at, letter in enumerate("bcfea")}
    vectors = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 1.0], [1.0, 0.0]])  # to b: c 0, f 0.71, e 0.95
    assert substitutes.SOURCES["wordnet"](words, vectors) == {0: [3, 2]}
    words = {"bad": 0, "good": 1, "fine": 2, "not": 3}  # by the embedding: cosine above the bound, no stop word
    vectors = torch.tensor([[-1.0, 0.0], [1.0, 0.1], [1.0, 0.0], [1.0, 0.0]])
    assert substitutes.SOURCES["embedding"](words, vectors) == {0: [], 1: [2], 2: [1]}


def test_without_data_the_embedding_is_left(monkeypatch):
    def missing(*arguments):
        raise FetchError("no network")

    monkeypatch.setattr(substitutes, "load_wordnet", lambda: None)
    monkeypatch.setattr(substitutes, "fetch", missing)
    assert available_source() == "wordnet"
    monkeypatch.setattr(substitutes, "load_wordnet", missing)
    assert available_source() == "embedding"
    table = substitution_table(tiny(), source="embedding")
    assert table.ids.shape[1] == 9
    with pytest.raises(ValueError, match="source must be one of counter-fitted, wordnet, embedding, got 'glove'"):
        substitution_table(tiny(), source="glove")


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_weights_lie_on_the_simplex_of_what_is_allowed(steps):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, 5, 4, 6, generator=generator)
    allowed = torch.rand(3, 5, 4, generator=generator) < 0.5
    allowed[..., 0] = True
    weights = adversarial_weights(
        lambda u: u.square().sum(dim=(1, 2)), vectors, allowed, torch.full((3,), 5), steps=steps, alpha=1.0
    )
    assert not weights.requires_grad and weights.shape == (3, 5, 4)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 5), rtol=0, atol=1e-6)
    assert torch.equal(weights > 0, allowed)


def test_the_search_finds_the_best_corner_of_a_linear_function():
    """Without entropy, the maximum of a linear function over the hull is at the corner with the largest value."""
    generator = torch.Generator().manual_seed(1)
    vectors, slope = torch.randn(2, 3, 4, 6, generator=generator), torch.randn(6, generator=generator)
    allowed = torch.ones(2, 3, 4, dtype=torch.bool)
    allowed[:, 1, 2:] = False
    weights = adversarial_weights(
        lambda u: (u @ slope).sum(dim=1), vectors, allowed, torch.full((2,), 3), steps=60, alpha=0.0
    )
    best = (vectors @ slope).masked_fill(~allowed, -torch.inf).argmax(dim=2)
    assert torch.equal(weights.argmax(dim=2), best) and (weights.amax(dim=2) > 0.99).all()


def test_alpha_makes_the_weights_sparse(monkeypatch):
    monkeypatch.setattr(ascc, "LEARNING_RATE", 0.5)
    generator = torch.Generator().manual_seed(2)
    vectors, slope = torch.randn(4, 6, 5, 8, generator=generator), torch.randn(8, generator=generator)
    allowed = torch.ones(4, 6, 5, dtype=torch.bool)
    centre = vectors.mean(dim=2)

    def inward(u):  # largest at the middle of each hull, where the entropy is large
        return -(u - centre).square().sum(dim=(1, 2)) + 0.01 * (u @ slope).sum(dim=1)

    entropies = []
    for alpha in (0.0, 10.0, 1000.0):
        torch.manual_seed(0)
        weights = adversarial_weights(inward, vectors, allowed, torch.full((4,), 6), steps=40, alpha=alpha)
        entropies.append(torch.special.entr(weights).sum(dim=2).mean().item())
    assert entropies[0] > 1.5 > entropies[1] > entropies[2] and entropies[2] < 0.05  # at most log 5 = 1.61


def test_the_search_of_one_sentence_does_not_depend_on_the_others():
    generator = torch.Generator().manual_seed(3)
    vectors, slope = torch.randn(3, 4, 8, 6, generator=generator), torch.randn(6, generator=generator)
    allowed = torch.ones(3, 4, 8, dtype=torch.bool)
    options = {"steps": 4, "alpha": 10.0}

    def curved(u):
        return (u @ slope).tanh().sum(dim=1)

    torch.manual_seed(0)
    together = adversarial_weights(curved, vectors, allowed, torch.full((3,), 4), **options)
    torch.manual_seed(0)  # the first sentence gets the same first numbers
    alone = adversarial_weights(curved, vectors[:1], allowed[:1], torch.full((1,), 4), **options)
    torch.testing.assert_close(together[:1], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_loss_and_gradients_against_probabilities_in_float64(temperature, monkeypatch, letter_table):
    """With a search that stands still the weights are known from the seed; the rest is written anew here."""
    monkeypatch.setattr(ascc, "LEARNING_RATE", 0.0)
    model, table = tiny(n_classes=3), letter_table(tiny())
    batch, labels = batch_of(model), torch.tensor([0, 1, 2, 0])
    loss, left = ascc_step(model, table, labels=labels, temperature=temperature, seed=5)
    torch.manual_seed(5)
    ids, allowed = table.candidates(batch["input_ids"], batch["attention_mask"])
    free = INITIAL_STD * torch.randn(allowed.shape)
    weights = free.exp() * allowed
    weights = weights / weights.sum(dim=2, keepdim=True)
    points = torch.einsum("nls,nlsd->nld", weights, model.embed(ids))
    rest = {name: batch[name] for name in ("attention_mask", "token_type_ids")}
    p = torch.softmax(model(batch).double() / temperature, dim=1)
    q = torch.softmax(model.forward_from_embedding(points, **rest).double() / temperature, dim=1)
    divergence = (p * (p / q).log()).sum(dim=1).mean()
    expected = -p[torch.arange(4), labels].log().mean() + 40 * divergence
    assert divergence > 1e-5 and loss.item() == pytest.approx(expected.item(), rel=1e-4)
    names, parameters = zip(*model.named_parameters(), strict=True)
    wanted = torch.autograd.grad(expected, parameters, allow_unused=True)
    for name, gradient in zip(names, wanted, strict=True):
        if gradient is None:
            assert name not in left
        else:  # and the five steps of the search have added nothing
            torch.testing.assert_close(left[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("with_substitutes", [False, True])
def test_beta_0_is_standard_training_to_the_bit(training, with_substitutes, letter_table):
    model = tiny().train(training)  # in training mode the dropout of the clean pass must be the same as well
    table = letter_table(model)
    table = table if with_substitutes else no_substitutes(table)
    plain, wanted = standard_step(model, temperature=3.0)
    loss, left = ascc_step(model, table, temperature=3.0, kl=0.0)
    assert loss == plain and not loss.requires_grad
    assert left.keys() == wanted.keys() and all(torch.equal(left[name], wanted[name]) for name in wanted)
    if not with_substitutes:  # then only dropout makes a divergence
        (loss, left), (plain, wanted) = ascc_step(model, table), standard_step(model)
        assert loss > plain + 1e-3 if training else loss == plain
        close = [torch.allclose(left[name], wanted[name], rtol=1e-4, atol=1e-5) for name in wanted]
        assert training or all(close)


def test_the_cost_in_passes_is_what_the_table_says(letter_table):
    model, calls = tiny(), []
    model.body.register_forward_hook(lambda *_: calls.append(1))
    ascc_step(model, letter_table(model), steps=5)
    assert len(calls) == Method("ascc", steps=5).passes == 7
    table = letter_table(model)
    short = replace(table, ids=table.ids[:-1], allowed=table.allowed[:-1], continues=table.continues[:-1])
    with pytest.raises(ValueError, match=r"the table has \d+ tokens, the model \d+: make one for this model"):
        ascc_step(model, short)


def test_bfloat16_and_a_learned_temperature_are_taken_and_the_search_raises_the_divergence(monkeypatch, letter_table):
    model, temperature = tiny(), torch.tensor(2.0, requires_grad=True)
    low = autocast_context("bfloat16", "cpu")
    loss, left = ascc_step(model, letter_table(model), temperature=temperature, autocast=low)
    assert torch.isfinite(loss) and temperature.grad.abs() > 0
    assert all(torch.isfinite(gradient).all() for gradient in left.values())
    searched, _ = ascc_step(model, letter_table(model), alpha=0.0, seed=1)
    monkeypatch.setattr(ascc, "LEARNING_RATE", 0.0)
    assert searched > 1.2 * ascc_step(model, letter_table(model), alpha=0.0, seed=1)[0] > 0
