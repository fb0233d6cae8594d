"""The text study: one cache behind every temperature, evaluations kept on disk, and the illusion with its remedy."""

from dataclasses import replace

import pytest
import torch

from robustlib.attacks.adversaries import Adversary, averaging, blind, transfer
from robustlib.attacks.scores import CrossEntropy, Margin, TrueClassProbability
from robustlib.attacks.words import QueryCache, attack_texts
from robustlib.calibration.disguises import TemperaturePerInput, TemperaturePerQuery
from robustlib.calibration.temperature import TemperatureScaled
from robustlib.data import DATASETS
from robustlib.data.store import FetchError
from robustlib.study.records import RecordBook
from robustlib.study.texts import text_study


@pytest.fixture(scope="module")
def study():
    """The smallest profile's study, trained once in a few seconds."""
    try:
        return text_study("smoke")
    except FetchError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e6])
def test_serving_divides_the_logits_or_rounds_and_asks_the_model_once(study, temperature):
    plain = study.cache(study.inputs)
    forwards = study.cache.n_forward
    served = study.served(temperature)(study.inputs)
    torch.testing.assert_close(served, plain / temperature)
    assert torch.equal(served.argmax(dim=1), plain.argmax(dim=1))
    rounded = study.rounded(2)
    probs = torch.softmax(rounded.cache(study.inputs).double(), dim=1)
    torch.testing.assert_close(probs, probs.round(decimals=2), atol=1e-6, rtol=0)
    assert study.cache.n_forward == forwards and rounded.model_name.endswith("@2-decimals")


def test_a_study_says_what_it_is_and_refuses_what_it_does_not_know(study):
    assert study.dataset in DATASETS and study.model_name == "minilm-1-layers"
    assert study.model_title.startswith("MiniLM (1 of 6 layers, 13.7 M parameters")
    assert study.size("dg") == len(study.inputs) == len(study.labels) == 20 and study.size("tf") == 6
    assert study.columns(1e6)["method"] == "conf_down(T_d>>1)" and study.budget("dg") == {}
    for call, message in (
        (lambda: study.run("dg", "nobody"), "unknown adversary"),
        (lambda: text_study("smoke", dataset="nothing"), "unknown text data set"),
        (lambda: text_study("smoke", encoder="minilm", layers=99), "layers must lie between"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("design_temperature", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("score", [TrueClassProbability, CrossEntropy], ids=lambda score: score.__name__)
def test_any_score_at_the_design_temperature_undoes_it(study, score, design_temperature):
    """Text by text: what a score finds on the victim at T = 1, the score at T_a = 1 / T_d finds on the served one."""
    plain = attack_texts(study.cache, study.inputs, study.labels, score=score())
    undone = attack_texts(
        study.served(design_temperature), study.inputs, study.labels, score=score(1 / design_temperature)
    )
    assert undone.outcome.tolist() == plain.outcome.tolist()
    assert sum(a != b for a, b in zip(undone.adversarial, plain.adversarial, strict=True)) <= 1  # ties of rounding


def test_an_attack_on_a_served_victim_runs_the_batches_of_an_attack_on_the_victim():
    """So that the rounding of logits, which depends on their batch, does not depend on the design temperature."""
    texts = [f"the film number {i} is {'good' if i % 2 else 'bad'} and long" for i in range(300)]
    labels, batches = torch.tensor([i % 2 for i in range(300)]), {}
    for temperature in (1.0, 8.0):
        sizes = batches[temperature] = []

        def victim(texts, sizes=sizes):
            sizes.append(texts)
            return torch.tensor([[0.0, 1.0] if "good" in text else [0.0, -1.0] for text in texts])

        cache = QueryCache(victim)
        attack_texts(TemperatureScaled(cache, temperature), texts, labels, score=Margin())
    assert batches[1.0] == batches[8.0] and max(map(len, batches[1.0])) == 1024


def test_a_record_says_what_stands_in_for_parts_of_the_attack(study, monkeypatch):
    recipe = replace(study.recipe("dg"), note="tags: WordNet")
    monkeypatch.setattr("robustlib.study.texts.load_recipe", lambda *_, **__: recipe)
    other = replace(study, training=replace(study.training, seed=99))  # whose recipe is not loaded yet
    book = RecordBook("test", profile="smoke", seed=99, modality="text")
    other.measure(book, "dg", n=2)
    assert book.frame["note"].tolist() == ["ok; tags: WordNet"]


def test_only_precisions_that_the_device_has_are_offered(study, monkeypatch):
    for usable in (True, False):
        monkeypatch.setattr(
            "robustlib.study.texts.usable", lambda precision, _, usable=usable: usable or precision != "tf32"
        )
        monkeypatch.setattr("robustlib.study.texts.train_text_classifier", lambda *_: None)
        assert ("tf32" in text_study("quick").settings.precisions) == usable


def test_the_illusion_at_both_ends_is_pierced_by_the_log_odds(study):
    honest = study.run("dg")
    for temperature in (1e-3, 1e8):
        naive = study.run("dg", design_temperature=temperature)
        strong = study.run("dg", "margin", design_temperature=temperature)
        assert naive.clean_correct.tolist() == honest.clean_correct.tolist()
        assert naive.adversarial_accuracy >= honest.adversarial_accuracy + 0.2
        assert strong.adversarial_accuracy <= honest.adversarial_accuracy + 0.05


def test_another_precision_is_another_victim(study):
    low = study.at_precision("bfloat16")
    assert low.model_name == "minilm-1-layers@bfloat16"
    values = low.cache(study.inputs)
    assert torch.equal(values, values.bfloat16().float()), "logits carry more digits than bfloat16 has"
    assert not torch.equal(values, study.cache(study.inputs))
    replay = Adversary("transfer:float32", TrueClassProbability(), surrogate=study.served(1.0))
    evaluation = low.run("dg", replay, n=8)
    texts = attack_texts(study.cache, study.inputs[:8], study.labels[:8], recipe=study.recipe("dg")).adversarial
    expected = (low.cache(texts).argmax(dim=1) == study.labels[:8]).numpy() & evaluation.clean_correct
    assert evaluation.correct.tolist() == expected.tolist()


def test_another_models_texts_are_searched_to_the_end_and_compared_with_blind_edits(study):
    attack = study.attacks["dg"]
    whole = study.run("dg", transfer("transfer:itself", study.cache, attack), n=12)
    early = study.run("dg", n=12)
    assert whole.correct.tolist() == early.correct.tolist()
    assert (whole.changed >= early.changed).all() and whole.changed.sum() > early.changed.sum()
    control = study.run("dg", blind(attack, whole), n=12)
    assert control.adversary == "blind:transfer:itself"
    assert control.changed.sum() <= whole.changed.sum() + 1e-9
    assert control.adversarial_accuracy >= whole.adversarial_accuracy


def test_nothing_that_keeps_the_labels_hides_from_an_attack_that_sees_only_those(study):
    hidden = study.disguised("T(x)", TemperaturePerInput(1.0))
    plain, behind = (one.run("dg", "label-only", n=10) for one in (study, hidden))
    assert plain.correct.tolist() == behind.correct.tolist()
    assert plain.adversarial_accuracy < plain.clean_correct.mean()
    ties, naive = (hidden.run("dg", name, n=10) for name in ("ties", "naive"))
    assert ties.adversarial_accuracy <= naive.adversarial_accuracy


def test_honest_ranks_and_honest_scores_together_are_the_honest_attack(study):
    served, honest = TrueClassProbability(1.0), TrueClassProbability(1e3)
    for name, ranking, score in (("naive", served, served), ("cal-exact", honest, honest)):
        mixed = study.run("dg", study.ranked_with("dg", name + " twice", ranking, score), design_temperature=1e-3)
        plain = study.run("dg", design_temperature=1e-3 if name == "naive" else 1.0)
        assert mixed.correct.tolist() == plain.correct.tolist()


def test_logits_averaged_over_queries_are_searched(study):
    noisy = study.disguised("T per query", TemperaturePerQuery(2.3))
    evaluation = noisy.run("dg", averaging(study.attacks["dg"], 16), n=6)
    assert evaluation.adversary == "margin of 16 queries"
    assert (
        study.run("dg", averaging(study.attacks["dg"], 2), n=6).correct.tolist()
        == study.run("dg", "margin", n=6).correct.tolist()
    )
