"""Augmentation by an attack: one copy of every text, whatever became of the attack on it."""

import pytest
import torch
from models_for_tests import tiny_text_model

from robustlib.attacks.words.attack import attack_texts
from robustlib.attacks.words.recipes import deepwordbug
from robustlib.training import augmentation
from robustlib.training.augmentation import attacked_copies

TEXTS = ["film good fine", "film bad poor", "awful plot twist", "very good film"]
LABELS = torch.tensor([1, 0, 1, 0])


def tiny(seed=0):
    return tiny_text_model(seed=seed, max_length=48)


def constant(answer, weight=0.0):
    """A victim that answers one class whatever the text; given a weight, its confidence depends on the text."""
    model = tiny()
    with torch.no_grad():
        model.body.classifier.weight.mul_(weight)
        model.body.classifier.bias.copy_(torch.tensor([1.0, -1.0]) if answer == 0 else torch.tensor([-1.0, 1.0]))
    return model


def test_copies_are_what_the_attack_returns_and_pairs_stay_pairs():
    victim = tiny()
    labels = victim(TEXTS).argmax(dim=1)  # every text is attacked
    copies = attacked_copies(TEXTS, labels, victim)
    direct = attack_texts(victim, TEXTS, labels, recipe=deepwordbug(seed=0))
    assert copies == list(direct.adversarial)
    assert (victim(copies).argmax(dim=1) != labels).any()
    pairs = [("good film", "fine film"), ("bad film", "poor film")]
    for _ in range(2):  # computed, then from the cache
        copies = attacked_copies(pairs, victim(pairs).argmax(dim=1), victim)
        assert len(copies) == 2 and all(isinstance(text, tuple) and len(text) == 2 for text in copies)


def test_after_a_failed_attack_the_last_text_reached_is_added_and_a_misclassified_text_as_it_is():
    victim, texts = constant(1, weight=0.01), list(TEXTS)
    copies = attacked_copies(texts, LABELS, victim)
    assert [copies[i] for i in (1, 3)] == [TEXTS[1], TEXTS[3]] and texts == TEXTS
    for i in (0, 2):  # edited, nearer to an error, but still right
        clean, reached = victim([TEXTS[i], copies[i]]).softmax(dim=1)[:, 1]
        assert copies[i] != TEXTS[i] and 0.5 < reached < clean
    assert attacked_copies(TEXTS, torch.ones(4, dtype=torch.int64), constant(1)) == TEXTS  # no edit helps


@pytest.mark.filterwarnings("ignore:.*exceed max_length")
def test_the_result_comes_from_the_cache_until_victim_texts_labels_or_seed_change(monkeypatch):
    calls = []

    def spy(*arguments, **options):
        calls.append(options["recipe"].name)
        return attack_texts(*arguments, **options)

    monkeypatch.setattr(augmentation, "attack_texts", spy)
    first = attacked_copies(TEXTS[:2], LABELS[:2], tiny(seed=3))
    assert attacked_copies(TEXTS[:2], LABELS[:2], tiny(seed=3)) == first and calls == ["dg"]
    attacked_copies(TEXTS[:2], LABELS[:2], tiny(seed=4))
    attacked_copies(TEXTS[:2], LABELS[:2], tiny(seed=3), seed=1)
    attacked_copies(TEXTS[1:3], LABELS[:2], tiny(seed=3))
    attacked_copies(TEXTS[:2], LABELS[1:3], tiny(seed=3))
    shorter = tiny(seed=3)
    shorter.tokenizer.enable_truncation(4)  # same weights, but the victim reads less
    attacked_copies(TEXTS[:2], LABELS[:2], shorter)
    assert len(calls) == 6
