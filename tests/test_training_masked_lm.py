"""Masked language models: what they are asked, what they answer, and the one fine-tuned from MiniLM."""

import pytest
import torch
from models_for_tests import needs_minilm, save_checkpoint

from robustlib.models.pretrained import load_masked_language_model, tiny_classifier
from robustlib.training import masked_lm
from robustlib.training.masked_lm import MaskedLanguageModel, MaskedTraining, masked_language_model

QUESTIONS = [(["so", "good", "film"], 1), (["a"], 0), (["it", "is", "very", "very", "long", "and", "odd"], 6)]


@pytest.fixture(scope="module", params=["tiny-bert", "tiny-roberta"])
def model(request, tmp_path_factory):
    """A tiny random masked language model, read back from a checkpoint folder."""
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    body, tokenizer = tiny_classifier(request.param, 2)
    folder = tmp_path_factory.mktemp(request.param)
    save_checkpoint(AutoModelForMaskedLM.from_config(body.config), tokenizer, folder)
    return MaskedLanguageModel(*load_masked_language_model(str(folder))).eval()


def test_guesses_are_the_logits_of_transformers_in_order(model):
    mask = "[MASK]" if model.tokenizer.token_to_id("[MASK]") is not None else "<mask>"
    for (words, index), guesses in zip(QUESTIONS, model(QUESTIONS, top_k=20), strict=True):
        text = " ".join(mask if i == index else word for i, word in enumerate(words))
        ids = model.tokenizer.encode(text).ids
        with torch.no_grad():
            logits = model.body(input_ids=torch.tensor([ids])).logits[0, ids.index(model.tokenizer.token_to_id(mask))]
        values = [value for _, value in guesses]
        assert len(guesses) == 20 and values == sorted(values, reverse=True)
        best = max(range(len(logits)), key=lambda i: -torch.inf if model._entries[i] is None else logits[i])
        assert guesses[0][0] == model._entries[best]
        assert values[0] == pytest.approx(logits[best].item(), abs=1e-5)


def test_special_entries_are_no_guesses(model):
    size = sum(entry is not None for entry in model._entries)
    (guesses,) = model(QUESTIONS[:1], top_k=size)
    entries = {entry for entry, _ in guesses}
    assert "##x" in entries
    assert not entries & {"[PAD]", "[CLS]", "[MASK]", "<s>", "<mask>", "", "##"}


@pytest.mark.parametrize("index", [0, 4_000, 9_999])
def test_of_a_long_text_the_neighbourhood_is_read(model, index):
    words = ["filler"] * 10_000
    (far,) = model([(words, index)], top_k=5)
    words[5_000] = "other"  # thousands of words away
    assert model([(words, index)], top_k=5) == [far]
    near = max(0, index - 1) if index else 1
    words[near] = "other"
    assert model([(words, index)], top_k=5) != [far]


def test_a_mask_in_the_text_itself_is_spelt_out(model):
    mask = "[MASK]" if model.tokenizer.token_to_id("[MASK]") is not None else "<mask>"
    assert model([([mask, "good", "film"], 1)], top_k=5) == model([(["mask", "good", "film"], 1)], top_k=5)


def test_masking_hides_a_share_of_the_ordinary_tokens(model):
    torch.manual_seed(0)
    encodings = model.tokenizer.encode_batch(["a", *["some words to be hidden here"] * 300])
    batch, targets = model.masked(encodings, 0.15)
    hidden = targets >= 0
    original = model.collate(encodings)["input_ids"]
    assert hidden.any(dim=1).all()  # one a text at least
    assert torch.equal(targets[hidden], original[hidden])
    assert torch.equal(batch["input_ids"][~hidden], original[~hidden])
    assert (batch["input_ids"][hidden] == model.tokenizer.token_to_id(model._mask)).all()
    ordinary = sum(len(encoding) - 2 for encoding in encodings)
    assert hidden.sum().item() / ordinary == pytest.approx(0.15, abs=0.03)
    assert not set(targets[hidden].tolist()) & model._special


@needs_minilm
def test_minilm_is_fine_tuned_once(monkeypatch):
    texts = ["the film is good", ("the plot is thin", "the cast is fine")] * 8
    config = MaskedTraining(layers=1, epochs=6, batch_size=8, learning_rate=1e-3, precision="float32")
    model = masked_language_model(texts, config)
    assert model.history[-1]["loss"] < 0.8 * model.history[0]["loss"]
    assert model.body.cls.predictions.decoder.weight is model.body.get_input_embeddings().weight
    (guesses,) = model([(["the", "film", "is", "good"], 2)], top_k=3)
    assert guesses[0][0] in {"the", "is", "film", "plot", "cast", "good", "thin", "fine"}
    monkeypatch.setattr(masked_lm, "fit_text", lambda *arguments, **options: pytest.fail("trained again"))
    assert masked_language_model(texts, config)([(["the", "film", "is", "good"], 2)], top_k=3) == [guesses]
    with pytest.raises(ValueError, match="needs texts"):
        masked_language_model([])
