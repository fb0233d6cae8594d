"""Fine-tuning of text classifiers: what one step does, the learning rate, precision, augmentation and batches."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from data_fixtures import place
from models_for_tests import letter_texts, save_checkpoint

from robustlib.data import DATASETS, FetchError
from robustlib.models.texts import TextClassifier
from robustlib.training import texts as training
from robustlib.training.methods import Method
from robustlib.training.texts import TextTraining, length_bucketed, train_text_classifier
from robustlib.training.vocabulary import only_embeddings_of

QUICK = TextTraining(
    encoder="tiny-bert", epochs=3, batch_size=8, learning_rate=3e-3, precision="float32", max_length=32
)
TEXTS, LABELS = letter_texts(48)


def test_training_learns_reports_each_epoch_and_keeps_float32_weights():
    model = train_text_classifier(replace(QUICK, epochs=12, learning_rate=5e-3, precision="auto"), TEXTS, LABELS)
    assert (model(TEXTS).argmax(dim=1) == LABELS).float().mean() > 0.95
    assert [row["epoch"] for row in model.history] == list(range(1, 13))
    assert model.history[-1]["loss"] < 0.5 * model.history[0]["loss"]
    assert not model.training and next(model.parameters()).dtype == torch.float32
    low, high = (train_text_classifier(replace(QUICK, precision=p), TEXTS, LABELS) for p in ("bfloat16", "float32"))
    assert {parameter.dtype for parameter in low.parameters()} == {torch.float32}
    assert not torch.equal(low(TEXTS), high(TEXTS))
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\]"):
        train_text_classifier(QUICK, ["a", "b"], torch.tensor([0, 2]))


@pytest.mark.parametrize("method", [Method(), Method("pgd", steps=1)], ids=lambda method: method.name)
def test_leaving_out_embeddings_that_no_text_uses_changes_no_training(monkeypatch, method):
    config = replace(QUICK, method=method, weight_decay=5.0, gradient_rule="normalise")
    texts, labels = ["a b c", "b a", "c a b", "a c"] * 4, torch.tensor([0, 1, 0, 1] * 4)
    quick = train_text_classifier(config, texts, labels)
    monkeypatch.setattr(training, "only_embeddings_of", lambda tokens, table: nullcontext())
    whole = train_text_classifier(replace(config, suffix="whole"), texts, labels)
    before = TextClassifier.from_name("tiny-bert", 2).body.get_input_embeddings()
    after = quick.body.get_input_embeddings()
    assert after.padding_idx == before.padding_idx == 0 and not after._forward_pre_hooks
    assert after.weight.norm() < 0.99 * before.weight.norm()
    torch.testing.assert_close(dict(quick.named_parameters()), dict(whole.named_parameters()), atol=1e-5, rtol=1e-4)
    quick, whole = ({**model.history[-1], "step_length": 0.0} for model in (quick, whole))  # decay counts as a step
    assert quick == pytest.approx(whole, rel=1e-3)


def test_a_token_that_is_left_out_cannot_be_looked_up():
    table = torch.nn.Embedding(5, 2)
    with only_embeddings_of({1, 3}, table):
        assert len(table.weight) == 3
        with pytest.raises(IndexError):
            table(torch.tensor([2]))
    assert len(table.weight) == 5


def test_a_downloaded_encoder_is_fetched_for_its_training(data, tmp_path, monkeypatch):
    with pytest.raises(FetchError, match="could not get the data set 'mpnet'"):
        monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
        train_text_classifier(replace(QUICK, encoder="mpnet"), TEXTS, LABELS)
    tiny = TextClassifier.from_name("tiny-mpnet", 2)
    save_checkpoint(tiny.body, tiny.tokenizer, tmp_path / "tiny")
    files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    contents = {file.key: files.get(file.key, b"not needed here") for file in DATASETS["mpnet"].files}
    place(data, monkeypatch, "mpnet", contents)
    model = train_text_classifier(replace(QUICK, encoder="mpnet", layers=1), TEXTS, LABELS)
    assert model.name == "mpnet" and model.body.config.num_hidden_layers == 1
    assert len(model.history) == QUICK.epochs


def test_the_learning_rate_falls_linearly_to_zero_and_clipped_gradients_are_short(monkeypatch):
    rates, norms, plain = [], [], torch.optim.AdamW.step

    def watch(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        gradients = [w.grad for group in self.param_groups for w in group["params"] if w.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return plain(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    train_text_classifier(replace(QUICK, gradient_rule="clip", clip_norm=0.01), TEXTS, LABELS)
    assert rates == pytest.approx([3e-3 * (1 - step / 18) for step in range(18)])
    assert len(norms) == 18 and max(norms) <= 0.01 + 1e-5


def test_dg_aug_is_standard_training_on_the_texts_and_their_attacked_copies(monkeypatch):
    seen = {}

    def copies(texts, labels, victim, recipe, *, seed):
        seen["victim"], seen["recipe"] = victim, recipe
        return [f"{text} k" for text in texts]

    monkeypatch.setattr(training, "attacked_copies", copies)
    hot = replace(QUICK, training_temperature=5.0, gradient_rule="normalise")
    augmented = train_text_classifier(replace(hot, method=Method("dg-aug")), TEXTS, LABELS)
    doubled = train_text_classifier(hot, [*TEXTS, *(f"{text} k" for text in TEXTS)], LABELS.repeat(2))
    assert torch.equal(augmented(TEXTS), doubled(TEXTS)) and seen["recipe"] == "dg"
    assert torch.equal(seen["victim"](TEXTS), train_text_classifier(QUICK, TEXTS, LABELS)(TEXTS))


def test_batches_hold_every_row_once_and_pad_little():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 60, (1001,), generator=generator).tolist()
    plan = length_bucketed(lengths, 8, seed=0, epoch=0)
    assert sorted(row for rows in plan for row in rows) == list(range(1001))
    assert len(plan) == 126  # three pools of 400, 400 and 201 rows
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in plan)
    assert padded < 1.1 * sum(lengths)
    assert plan == length_bucketed(lengths, 8, seed=0, epoch=0)
    assert plan != length_bucketed(lengths, 8, seed=0, epoch=1) != length_bucketed(lengths, 8, seed=1, epoch=1)
