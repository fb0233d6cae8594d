"""Augmentation by an attack: the set doubles, labels agree, and every outcome of an attack has its copy."""

import numpy as np
import pytest
import torch

from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.recipes import deepwordbug
from robustlib.models.texts import TextClassifier
from robustlib.training import augmentation
from robustlib.training.augmentation import augment_with_attack

TEXTS = ["film good fine", "film bad poor", "awful plot twist", "very good film"]
LABELS = torch.tensor([1, 0, 1, 0])


def tiny(seed=0):
    model = TextClassifier.from_name("tiny-bert", 2, seed=seed, max_length=48)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(15 if parameter.ndim > 1 else 1)
    return model


def stubborn(answer, weight=0.0):
    """A victim that answers one class whatever the text; given a weight, its confidence depends on the text."""
    model = tiny()
    with torch.no_grad():
        model.body.classifier.weight.mul_(weight)
        model.body.classifier.bias.copy_(torch.tensor([1.0, -1.0]) if answer == 0 else torch.tensor([-1.0, 1.0]))
    return model


def test_the_set_doubles_and_copies_are_what_the_attack_returns():
    victim = tiny()
    labels = victim(TEXTS).argmax(dim=1)  # every text is attacked
    found = augment_with_attack(TEXTS, labels, victim)
    direct = attack_texts(victim, TEXTS, labels, recipe=deepwordbug(seed=0))
    assert found.texts == [*TEXTS, *direct.adversarial] and found.outcome.tolist() == direct.outcome.tolist()
    assert torch.equal(found.labels, labels.repeat(2)) and found.labels.dtype == torch.int64
    for i in np.flatnonzero(found.outcome == "succeeded"):
        assert victim([found.texts[4 + i]]).argmax() != labels[i]
    assert (found.outcome == "succeeded").any()


def test_after_a_failed_attack_the_last_text_reached_is_added_and_a_skipped_text_twice():
    victim = stubborn(1, weight=0.01)
    found = augment_with_attack(TEXTS, LABELS, victim)
    assert found.outcome.tolist() == ["failed", "skipped", "failed", "skipped"]
    assert len(found.texts) == 8 and found.texts[:4] == TEXTS and torch.equal(found.labels, LABELS.repeat(2))
    assert [found.texts[4 + i] for i in (1, 3)] == [TEXTS[1], TEXTS[3]]
    for i in (0, 2):  # edited, nearer to an error, but still right
        clean, reached = victim([TEXTS[i], found.texts[4 + i]]).softmax(dim=1)[:, 1]
        assert found.texts[4 + i] != TEXTS[i] and 0.5 < reached < clean


def test_where_no_edit_helps_the_text_is_added_as_it_is():
    found = augment_with_attack(TEXTS, torch.ones(4, dtype=torch.int64), stubborn(1))
    assert found.outcome.tolist() == ["failed"] * 4 and found.texts == TEXTS * 2


def test_the_callers_texts_and_labels_stay_as_they_are():
    texts, labels = list(TEXTS), LABELS.clone()
    found = augment_with_attack(texts, labels, stubborn(0))
    found.labels[0] = 7
    assert texts == TEXTS and torch.equal(labels, LABELS)


def test_pairs_stay_pairs():
    pairs = [("good film", "fine film"), ("bad film", "poor film")]
    victim = tiny()
    for _ in range(2):  # computed, then from the cache
        found = augment_with_attack(pairs, victim(pairs).argmax(dim=1), victim)
        assert len(found.texts) == 4 and all(isinstance(text, tuple) and len(text) == 2 for text in found.texts)


@pytest.mark.filterwarnings("ignore:.*exceed max_length")
def test_the_result_comes_from_the_cache_until_victim_texts_labels_or_seed_change(monkeypatch):
    calls = []

    def spy(*arguments, **options):
        calls.append(options["recipe"].name)
        return attack_texts(*arguments, **options)

    monkeypatch.setattr(augmentation, "attack_texts", spy)
    first = augment_with_attack(TEXTS[:2], LABELS[:2], tiny(seed=3))
    again = augment_with_attack(TEXTS[:2], LABELS[:2], tiny(seed=3))
    assert calls == ["dg"] and again.texts == first.texts and torch.equal(again.labels, first.labels)
    augment_with_attack(TEXTS[:2], LABELS[:2], tiny(seed=4))
    augment_with_attack(TEXTS[:2], LABELS[:2], tiny(seed=3), seed=1)
    augment_with_attack(TEXTS[1:3], LABELS[:2], tiny(seed=3))
    augment_with_attack(TEXTS[:2], LABELS[1:3], tiny(seed=3))
    shorter = tiny(seed=3)
    shorter.tokenizer.enable_truncation(4)  # same weights, but the victim reads less
    augment_with_attack(TEXTS[:2], LABELS[:2], shorter)
    assert len(calls) == 6
    augment_with_attack(TEXTS[:2], LABELS[:2], tiny(seed=3), refresh=True)
    assert len(calls) == 7


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 1\]"):
        augment_with_attack(TEXTS, torch.tensor([0, 1, 2, 0]), tiny())
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\)"):
        augment_with_attack(TEXTS, LABELS[:3], tiny())
    with pytest.raises(ValueError, match="unknown recipe 'dgb'"):
        augment_with_attack(TEXTS, LABELS, tiny(), "dgb")
    with pytest.raises(ValueError, match=r"texts\[1\] is empty"):
        augment_with_attack(["a", " "], LABELS[:2], tiny())
