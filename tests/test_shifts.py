"""Change that nobody optimised, and what attacked sentences still say."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from werkzeug import Response

from robustlib.attacks.shifts import IMAGE_KINDS, TEXT_KINDS, changed_images, changed_texts
from robustlib.attacks.words.meaning import CharacterModel, Limits, compare_pairs
from robustlib.attacks.words.words import changed_share
from robustlib.study.meaning import SHEET, grammar_errors, rank_agreement, read_sheets, write_sheet

COARSE = torch.rand(6, 1, 7, 7, generator=torch.Generator().manual_seed(0))
IMAGES = torch.nn.functional.interpolate(COARSE, size=(28, 28), mode="bilinear", align_corners=False)
TEXT = "the film is a quiet marvel of patience and wit"


@pytest.mark.parametrize("kind", IMAGE_KINDS)
def test_a_change_grows_with_its_severity_and_is_the_same_from_one_seed(kind):
    distances = []
    for severity in range(1, 6):
        changed = changed_images(IMAGES, kind, severity)
        assert changed.shape == IMAGES.shape and changed.dtype == IMAGES.dtype
        assert changed.min() >= 0 and changed.max() <= 1
        distances.append(float((changed - IMAGES).abs().mean()))
    assert distances[0] > 0 and distances[-1] > 1.2 * distances[0]
    assert torch.equal(changed_images(IMAGES, kind, 3, seed=1), changed_images(IMAGES, kind, 3, seed=1))


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_slips_change_as_many_words_as_they_say(kind):
    synonyms = {"film": ("movie",), "quiet": ("still", "calm"), "marvel": ("wonder",)}
    options = {"synonyms": lambda word: synonyms.get(word, (f"{word}ly",))}
    (changed,) = changed_texts([TEXT], kind, 5, **options)
    assert changed != TEXT
    assert changed_texts([TEXT], kind, 5, **options) == [changed]
    if kind == "missing spaces":
        assert changed.replace(" ", "") == TEXT.replace(" ", "")
        return
    assert len(changed.split()) == len(TEXT.split())
    assert 0 < changed_share(TEXT, changed) <= 0.5
    if kind == "casing":
        assert changed.lower() == TEXT
    elif kind == "swapped letters":
        assert sorted(changed) == sorted(TEXT)


def test_what_is_not_known_is_named():
    with pytest.raises(ValueError, match="unknown kind 'fog': choose one of noise"):
        changed_images(IMAGES, "fog", 1)
    with pytest.raises(ValueError, match="unknown kind 'fog': choose one of keyboard"):
        changed_texts([TEXT], "fog", 1)
    with pytest.raises(ValueError, match="severity must be 1 to 5, got 6"):
        changed_images(IMAGES, "noise", 6)
    with pytest.raises(ValueError, match="needs `synonyms`"):
        changed_texts([TEXT], "synonyms", 1)


def test_probabilities_of_characters_sum_to_one_and_a_typo_costs_perplexity():
    model = CharacterModel([TEXT, "the film is a marvel", "a quiet film of wit"], order=4)
    letters = {*model.counts[0], "unseen"}
    assert math.isclose(sum(model._probability("the", letter) for letter in letters), 1.0, rel_tol=1e-9)
    assert model.perplexity("the film is quiet") < model.perplexity("the fiml is quiet") < model.perplexity("xq zzv")


def test_pairs_are_measured_and_limits_keep_what_did_not_change():
    before, after = [TEXT, TEXT, "a b"], [TEXT, TEXT.replace("quiet", "queit"), "xx yy"]

    def encode(texts):
        return [np.array([len(text), text.count("e"), 1.0]) for text in texts]

    known = {*TEXT.split(), "a", "b"}.__contains__
    pairs = compare_pairs(before, after, encode=encode, known=known, language=CharacterModel([TEXT]))
    assert pairs.unknown.tolist() == [0, 1, 2]
    assert pairs.changed.tolist() == [0, 0.1, 1.0]
    assert pairs.similarity[0] == 1 and pairs.surprise[0] == 1 < pairs.surprise[1]
    assert pairs.keep(Limits()).tolist() == [True, True, False]
    assert pairs.keep(Limits(unknown=0)).tolist() == [True, False, False]


def test_a_class_fills_its_sheets_and_they_are_averaged(tmp_path):
    path = write_sheet(tmp_path / "15_pairs.csv", [TEXT, "a"], ["b", "c"], np.arange(2))
    assert read_sheets([path]).empty  # nobody has judged yet
    sheets = []
    for number, marks in enumerate(([5, 1], [3, 2])):
        frame = pd.read_csv(path)
        frame[SHEET[3]], frame[SHEET[4]] = marks, 4
        sheets.append(tmp_path / f"15_sheet{number}.csv")
        frame.to_csv(sheets[-1], index=False)
    judged = read_sheets(sheets)
    assert judged[SHEET[3]].tolist() == [4, 1.5] and judged.judges.tolist() == [2, 2]
    frame.assign(**{SHEET[3]: 9}).to_csv(sheets[0], index=False)
    with pytest.raises(ValueError, match="whole numbers from 1 to 5"):
        read_sheets(sheets)
    frame.drop(columns=SHEET[4]).to_csv(sheets[0], index=False)
    with pytest.raises(ValueError, match="no column correct English"):
        read_sheets(sheets)


def test_errors_of_grammar_are_counted_by_the_server_that_is_named(httpserver):
    def check(request):
        return Response(json.dumps({"matches": [{}] * request.form["text"].count("teh")}))

    httpserver.expect_request("/v2/check", method="POST").respond_with_handler(check)
    counts = grammar_errors(["the film", "teh film", "teh teh film & more"], httpserver.url_for("/"))
    assert counts.tolist() == [0, 1, 2]
    with pytest.raises(ConnectionError, match=r"no LanguageTool at .*/none/v2/check .*unset ROBUSTLIB_LANGUAGETOOL"):
        grammar_errors(["a"], httpserver.url_for("/none"))


def test_ranks_agree_within_an_interval_that_narrows():
    drawn = np.random.default_rng(0)
    strength = drawn.normal(size=400)
    alike, other = strength + drawn.normal(size=400), drawn.normal(size=400)
    few, many = rank_agreement(alike[:40], strength[:40]), rank_agreement(alike, strength)
    assert 0.55 < many["mean"] < 0.8 and many["low"] < many["mean"] < many["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
    none = rank_agreement(other, strength)
    assert none["low"] < 0 < none["high"]
    assert rank_agreement(np.exp(strength), strength)["mean"] == pytest.approx(1)
