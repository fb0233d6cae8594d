"""Attacks by name, and what stands in for an unavailable resource."""

import gzip
import json

import pytest
import torch
from models_for_tests import needs_minilm
from test_text_parts import write_wordnet

from robustlib.attacks.words import attack_texts, load_recipe, resources
from robustlib.data import FetchError


@pytest.fixture(autouse=True)
def _loaded_anew():
    loaders = (resources.load_wordnet, resources.load_neighbours, resources.load_tagger)
    for loader in loaders:
        loader.cache_clear()
    yield
    for loader in loaders:
        loader.cache_clear()


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine with a tiny WordNet and nothing else."""
    wordnet = write_wordnet(tmp_path)

    def fetch(name):
        if name == "wordnet":
            return wordnet
        raise FetchError(f"no {name} here")

    monkeypatch.setattr(resources, "fetch", fetch)
    monkeypatch.setattr(resources, "resolve_dataset", lambda names: (names[0], {}))


def victim(texts):
    return torch.tensor([[-1.0, 1.0] if "film" in text.lower() else [1.0, -1.0] for text in texts])


def test_deepwordbug_and_pwws_by_name(bare_machine):
    for name in ("dg", "pwws"):
        result = attack_texts(victim, ["a film"], torch.tensor([1]), recipe=load_recipe(name))
        assert result.outcome[0] == "succeeded"
    assert result.adversarial[0] in ("a movie", "a shoot")
    assert resources.load_wordnet() is resources.load_wordnet()


@needs_minilm
def test_textfooler_on_a_bare_machine_says_what_stands_in(bare_machine):
    recipe = load_recipe("tf")
    assert "MiniLM's input embeddings" in recipe.note and "WordNet" in recipe.note
    result = attack_texts(victim, ["a film"], torch.tensor([1]), recipe=recipe)
    assert result.outcome[0] == "succeeded" and result.adversarial[0] != "a film"


@needs_minilm
def test_textfooler_takes_counter_fitted_neighbours_where_they_are(monkeypatch, tmp_path):
    path = tmp_path / "neighbors_top8_euc0.7.json"
    path.write_text(json.dumps({"film": ["movie", "flick"]}))
    wordnet = write_wordnet(tmp_path)
    monkeypatch.setattr(resources, "fetch", lambda name: {path.name: path} if name == "counter_fitting" else wordnet)
    monkeypatch.setattr(resources, "load_tagger", lambda: (lambda words, position: "NOUN", "all nouns"))
    recipe = load_recipe("tf")
    assert recipe.note.startswith("neighbours: counter-fitted vectors")
    assert attack_texts(victim, ["a Film"], torch.tensor([1]), recipe=recipe).adversarial[0] == "a Flick"


@needs_minilm
def test_minilm_neighbours_are_words_of_the_same_kind():
    neighbours = resources.minilm_neighbours()
    assert "movie" in neighbours("film") and "##s" not in neighbours("film") and neighbours("qqqq") == ()


def test_the_tagger_comes_from_its_weights_where_they_are(monkeypatch, tmp_path):
    path = tmp_path / "tagger.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"classes": ["X|-"], "tagdict": {}, "weights": {}}).encode()))
    monkeypatch.setattr(resources, "fetch", lambda name: {path.name: path})
    tagger, note = resources.load_tagger()
    assert tagger(["film"], 0) == "X" and "perceptron" in note
