"""The text study: one cache behind every temperature, evaluations kept on disk, and the illusion with its remedy."""

import pytest
import torch

from robustlib.attacks.adversaries import Adversary
from robustlib.attacks.scores import TrueClassProbability
from robustlib.data import DATASETS
from robustlib.data.store import FetchError
from robustlib.study.records import RecordBook
from robustlib.study.texts import ServedTexts, attack_served, text_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The smallest profile's study, trained once in a few seconds."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ROBUSTLIB_CACHE", str(tmp_path_factory.mktemp("text_study")))
    patch.setenv("ROBUSTLIB_PROGRESS", "0")
    try:
        yield text_study("smoke")
    except FetchError as error:
        pytest.skip(str(error).splitlines()[0])
    finally:
        patch.undo()


def test_a_study_says_what_it_is(study):
    assert study.dataset in DATASETS
    assert study.model_name == "minilm-1-layers"
    assert set(study.attacks) == {"dg", "pwws"}
    assert study.size("dg") == len(study.inputs) == len(study.labels) == 20
    assert study.size("tf") == 6
    assert study.budget("dg") == {}
    assert study.columns(1e6)["method"] == "conf_down(T_d>>1)"


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e6])
def test_serving_divides_the_logits_and_asks_the_model_once(study, temperature):
    plain = study.cache(study.inputs)
    forwards = study.cache.n_forward
    served = study.served(temperature)(study.inputs)
    torch.testing.assert_close(served, plain / temperature)
    assert torch.equal(served.argmax(dim=1), plain.argmax(dim=1))
    assert study.cache.n_forward == forwards


def test_design_and_adversary_temperature_multiply(study):
    """A power of two changes no digit, so T_d = 8 undone by T_a = 1/8 is the attack at T = 1, text by text."""
    recipe = study.recipe("dg")
    examples = study.inputs[:8], study.labels[:8]
    plain = attack_served(study.served(1.0), *examples, recipe=recipe, score=TrueClassProbability())
    undone = attack_served(study.served(8.0), *examples, recipe=recipe, score=TrueClassProbability(1 / 8))
    assert undone.adversarial == plain.adversarial
    outside = attack_served(
        lambda texts: study.cache(texts) / 8, *examples, recipe=recipe, score=TrueClassProbability(1 / 8)
    )
    assert outside.adversarial == plain.adversarial


def test_a_measurement_is_recorded_and_comes_from_the_cache_the_second_time(study):
    book = RecordBook("test", profile="smoke", seed=0, modality="text")
    found = study.measure(book, "dg", design_temperature=1e-3, n=10)
    (row,) = book.frame.to_dict("records")
    assert row["mean"] == 100 * found.adversarial_accuracy
    assert (row["method"], row["design_temperature"], row["n"]) == ("conf_up(T_d<<1)", 1e-3, 10)
    queries = study.cache.n_queries
    again = study.run("dg", design_temperature=1e-3, n=10)
    assert again.correct.tolist() == found.correct.tolist()
    assert study.cache.n_queries == queries, "attacked again instead of read"


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
    found = low.run("dg", replay, n=8)
    texts = attack_served(
        study.served(1.0), study.inputs[:8], study.labels[:8], recipe=study.recipe("dg"), score=TrueClassProbability()
    ).adversarial
    expected = (low.cache(texts).argmax(dim=1) == study.labels[:8]).numpy() & found.clean_correct
    assert found.correct.tolist() == expected.tolist()


def test_rounded_probabilities_share_the_models_cache(study):
    study.cache(study.inputs)
    forwards = study.cache.n_forward
    rounded = study.rounded(2)
    probs = torch.softmax(rounded.cache(study.inputs).double(), dim=1)
    torch.testing.assert_close(probs, probs.round(decimals=2), atol=1e-6, rtol=0)
    assert study.cache.n_forward == forwards
    assert rounded.model_name.endswith("@2-decimals")


def test_bad_names_are_refused(study):
    with pytest.raises(ValueError, match="unknown adversary"):
        study.run("dg", "nobody")
    with pytest.raises(ValueError, match="unknown text data set"):
        text_study("smoke", dataset="nothing")
    with pytest.raises(ValueError, match="layers must lie between"):
        text_study("smoke", encoder="minilm", layers=99)


def test_served_texts_of_a_plain_cache():
    served = ServedTexts(lambda texts: torch.tensor([[2.0, 0.0]] * len(texts)), 0.5)
    assert served(["a", "b"]).tolist() == [[4.0, 0.0], [4.0, 0.0]]
