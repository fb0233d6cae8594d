"""Texts of different lengths in one pass: the same logits as transformers gives them, whoever their neighbours are."""

import copy

import pytest
import torch
from torch import nn

from robustlib.models.forward import evaluating
from robustlib.models.onednn import LEAST_TOKENS
from robustlib.models.packed import MOST_TOKENS, packs, passes, run_packed
from robustlib.models.precision import at_precision
from robustlib.models.texts import SentenceEncoder, TextClassifier, mean_pool, run_batched

TEXTS = [
    " ".join(["a", "truly", "dreadful", "film", "but", "with", "charm"][: 1 + k % 7] * (1 + k // 9)) for k in range(60)
]


@pytest.fixture(scope="module")
def model():
    return TextClassifier.from_name("minilm", 2, layers=2, seed=0)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def batched(model, texts):
    """Logits by transformers' own forward pass, in batches of equal length."""
    with evaluating(model):
        return run_batched(model.tokenise(texts), model.collate, model._logits, model.n_classes, model.device)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "int8"])
def test_the_logits_are_those_of_transformers(model, precision):
    model = at_precision(model, precision)
    step = {"bfloat16": 2**-8, "float16": 2**-11}.get(precision, 1e-6)  # of a number between a quarter and a half
    assert packs(model.body.encoder)
    torch.testing.assert_close(model.logits(TEXTS), batched(model, TEXTS), rtol=0, atol=step)


def test_no_text_depends_on_its_neighbours_to_the_last_bit(model):
    whole = model.logits(TEXTS)
    generator = torch.Generator().manual_seed(0)
    for k in (1, 2, 3, 7, 30):
        for _ in range(5):
            rows = torch.randperm(len(TEXTS), generator=generator)[:k]
            assert torch.equal(model.logits([TEXTS[row] for row in rows]), whole[rows])


def test_many_short_texts_in_one_pass_are_not_rounded_otherwise_than_a_few(model):
    texts = [f"{a} {b}" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst"]
    whole = model.logits(texts)
    assert max(len(rows) for rows in passes([len(encoding) for encoding in model.tokenise(texts)])) > LEAST_TOKENS
    for rows in (slice(0, 1), slice(7, 9), slice(100, 140), slice(200, 400)):
        assert torch.equal(model.logits(texts[rows]), whole[rows])


def test_one_long_text_is_not_rounded_otherwise_than_among_others(model):
    long = "film " * 300  # truncated at 128 tokens: enough for a pass of its own
    with pytest.warns(UserWarning, match="truncated"):
        alone = model.logits([long])
    assert torch.equal(alone[0], model.logits([*TEXTS, long])[-1])


def test_passes_take_the_shortest_first_and_no_more_tokens_than_fit():
    lengths = [7, 500, 3, 128, 400, 7, 600, 2000]
    together = passes(lengths)
    assert [row for rows in together for row in rows] == sorted(range(len(lengths)), key=lengths.__getitem__)
    assert all(sum(lengths[row] for row in rows) <= MOST_TOKENS or len(rows) == 1 for rows in together)
    assert len(together) == 4  # 3 + 7 + 7 + 128 + 400, 500, 600, 2000
    assert passes([]) == []


def test_products_are_always_of_enough_tokens(model):
    seen = []

    def means(rows):
        seen.append(len(rows))
        return rows

    encoder, width = model.body.encoder, model.body.config.hidden_size
    hooked = copy.deepcopy(encoder)
    tokens = []
    hooked.encoder.layer[0].attention.self.query.register_forward_pre_hook(
        lambda _, given: tokens.append(len(given[0]))
    )
    for texts in (TEXTS[:1], TEXTS[:2], TEXTS):
        assert run_packed(hooked, model.tokenise(texts), means, width).shape == (len(texts), width)
    assert min(tokens) >= LEAST_TOKENS
    assert min(seen) > 1  # a product of one row is rounded otherwise


def test_sentence_embeddings_are_those_of_transformers():
    encoder = SentenceEncoder()
    embeddings = encoder(TEXTS[:12])
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(12))
    for text, embedding in zip(TEXTS[:12], embeddings, strict=True):
        batch = encoder._collate(encoder.tokenizer.encode_batch_fast([text]))
        with torch.no_grad():
            states = encoder.encoder(**batch).last_hidden_state
        expected = nn.functional.normalize(mean_pool(states, batch["attention_mask"]))[0]
        torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-6)


def test_dropout_that_is_left_on_drops_in_attention_too(model):
    noisy = copy.deepcopy(model.body.encoder).eval()
    noisy.encoder.layer[0].attention.self.dropout.p = 0.5
    encodings, width = model.tokenise(TEXTS), noisy.config.hidden_size
    noisy.encoder.layer[0].attention.self.training = True
    first, second = (run_packed(noisy, encodings, lambda means: means, width) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-mpnet", "tiny-roberta"])
def test_other_models_go_through_their_own_forward_pass(name):
    model = TextClassifier.from_name(name, 2, seed=0)
    assert model.logits(["one text", "and another one"]).shape == (2, 2)
    assert not packs(model.body)
