"""The parts text attacks are made of: words, edits, thesauri, tagger, constraints, the memory of answers."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from robustlib.attacks.words.constraints import edit_distance_at_most, same_part_of_speech
from robustlib.attacks.words.lexicon import STOP_WORDS, TEXTFOOLER_STOP_WORDS, WordNet, embedding_neighbours
from robustlib.attacks.words.queries import Memory
from robustlib.attacks.words.resources import load_wordnet
from robustlib.attacks.words.tagger import perceptron_tagger, wordnet_tagger
from robustlib.attacks.words.transformations import (
    character_edits,
    guessed_swaps,
    match_case,
    neighbour_swaps,
    wordnet_swaps,
)
from robustlib.attacks.words.words import Words, split_words, text_rng
from robustlib.data import FetchError

GOLDEN = json.loads((Path(__file__).parent / "golden" / "textattack.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", GOLDEN["words"], ids=lambda row: ascii(row["text"])[:30])
def test_words_and_edits_equal_textattacks(row):
    words = Words.of(row["text"])
    positions = range(len(words))
    assert list(words.words) == split_words(row["text"]) == row["words"]
    assert [words.replaced(i, "[UNK]") for i in positions] == row["replaced"]
    assert [words.deleted(i) for i in positions] == row["deleted"]
    assert [words.window(i, 5) for i in positions] == row["windows"]


@given(st.text(max_size=60))
def test_replacing_a_word_by_itself_changes_nothing(text):
    words = Words.of(text)
    assert all(words.replaced(i, word) == text for i, word in enumerate(words.words))


@given(st.text(max_size=30), st.text(max_size=30), st.data())
def test_an_edit_in_one_sentence_of_a_pair_leaves_the_other(first, second, data):
    words = Words.of((first, second))
    if not len(words):
        return
    index = data.draw(st.integers(0, len(words) - 1))
    in_first = index < len(split_words(first))
    for edited in (words.replaced(index, "[UNK]"), words.replaced(index, "x"), words.deleted(index)):
        assert edited[in_first] == (second if in_first else first)
        assert edited[not in_first] != (first if in_first else second) or words.words[index] == "x"


@given(st.text(alphabet="abcdefgh'-", min_size=2, max_size=12), st.integers(0, 1000))
def test_character_edits_are_distinct_and_at_most_one_swap_away(word, seed):
    edits = character_edits(word, text_rng(seed, 3, "some text"))
    assert len(set(edits)) == len(edits) <= 4 and word not in edits
    assert all(Levenshtein.distance(word, edit) <= 2 for edit in edits)


def test_character_edits_follow_from_seed_text_and_position_alone():
    def draw(word="brilliant", seed=0, text="a film", index=1):
        return character_edits(word, text_rng(seed, index, text))

    assert draw() == draw() and draw("a") == []
    assert len({tuple(draw()), tuple(draw(seed=1)), tuple(draw(text="A film")), tuple(draw(index=2))}) == 4


def test_character_edits_fall_uniformly_on_the_letters():
    """Deletions of "abcd" over 4,000 texts: each letter a quarter of the time, within four standard errors."""
    lost = Counter(character_edits("abcd", text_rng(0, 0, f"text {i}"))[2:3][0] for i in range(4000))
    deleted = [lost[kept] for kept in ("bcd", "acd", "abd", "abc")]
    assert sum(deleted) > 3900  # a deletion is third unless swap and substitution agree
    assert all(abs(count - sum(deleted) / 4) < 4 * np.sqrt(4000 * 3 / 16) for count in deleted)


@pytest.mark.parametrize(
    ("word", "reference", "expected"),
    [
        ("Fine", "good", "fine"),
        ("fine", "GOOD", "FINE"),
        ("fine", "Good", "Fine"),
        ("fine", "A", "fine"),
        ("fiNe", "gOOd", "fiNe"),
        ("fine", "7", "fine"),
    ],
)
def test_a_replacement_takes_the_case_of_the_word(word, reference, expected):
    assert match_case(word, reference) == expected


def test_substitutes_are_limited_recased_and_lose_phrases_marks_and_the_word_itself():
    assert wordnet_swaps("film", lambda _: ["film", "motion_picture", "U.S.", "Movie", "pic"]) == ["Movie", "pic"]
    neighbours = ["fine", "good", *(f"nice{i}" for i in range(60))]
    assert neighbour_swaps("Good", lambda _: neighbours) == ["Fine", *(f"Nice{i}" for i in range(48))]
    guesses = [("good", 3.0), ("##s", 2.5), (",", 2.0), ("7", 1.5), ("fine", 1.0), ("great", 0.5)]
    assert guessed_swaps("fine", guesses, limit=4) == ["good", "s"]  # "7" and "fine" are among the four, then dropped
    assert "The" not in STOP_WORDS and "very" in STOP_WORDS and "very" not in TEXTFOOLER_STOP_WORDS


def test_edit_distance_counts_from_the_original_text():
    original, changed_before = Words.of("aaaa bbbb cccc"), Words.of("axxa bbbb cccc")
    assert edit_distance_at_most(3)(original, changed_before, 1, ["bbbb", "bxbb", "bxxb"]) == ["bbbb", "bxbb"]


def test_part_of_speech_lets_nouns_and_verbs_change_places_and_looks_four_words_back_and_three_ahead():
    seen, tags = [], {"walk": "NOUN", "stroll": "VERB", "slow": "ADJ", "quick": "ADJ", "hike": "NOUN"}

    def tagger(words, position):
        seen.append((list(words), position))
        return tags.get(words[position], "X")

    words, constraint = Words.of("a slow walk"), same_part_of_speech(tagger)
    assert constraint(words, words, 2, ["stroll", "hike", "quick", "zzz"]) == ["stroll", "hike"]
    assert constraint(words, words, 1, ["stroll", "quick"]) == ["quick"]
    seen.clear()
    constraint(Words.of("a b c d e f g h i j"), Words.of("a B c d e f g h i j"), 5, ["new"])
    before, after = ["b", "c", "d", "e"], ["g", "h", "i"]  # of the original text
    assert seen == [([*before, "f", *after], 4), ([*before, "new", *after], 4)]


def write_wordnet(folder, end="\n"):
    """Five synsets: good/goodness (noun), film/movie (noun), film/shoot (verb), good/full(p) (adj), well (adv)."""
    licence = "  1 This software is provided by nobody\n"
    synsets = {
        "noun": [("03", "n", "film 0 movie 0 motion_picture 0"), ("07", "n", "good 0 goodness 0")],
        "verb": [("36", "v", "film 0 shoot 0")],
        "adj": [("00", "s", "good 0 full(p) 0")],
        "adv": [("02", "r", "well 0 good 0")],
    }
    tagged = {("film", "noun"): 3, ("film", "verb"): 1, ("good", "adj"): 9, ("good", "noun"): 2}
    exceptions = {"verb": "shot shoot", "adv": "best well"}
    paths = {}
    for part, rows in synsets.items():
        data, index = licence, {}
        for lexfile, kind, words in rows:
            offset, fields = len(data), words.split()
            data += f"{offset:08d} {lexfile} {kind} {len(fields) // 2:02x} {words} 000 | a gloss  \n"
            for lemma in fields[::2]:
                index.setdefault(lemma.split("(")[0], []).append(f"{offset:08d}")
        entries = [
            f"{lemma} {part[0]} {len(at)} 0 {len(at)} {tagged.get((lemma, part), 0)} {' '.join(at)}  "
            for lemma, at in sorted(index.items())
        ]
        texts = {f"data.{part}": data, f"index.{part}": licence + "\n".join(entries) + "\n"}
        texts[f"{part}.exc"] = exceptions.get(part, "") + "\n"
        for name, text in texts.items():
            paths[name] = folder / name
            paths[name].write_bytes(text.replace("\n", end).encode("latin-1"))
    return paths


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_wordnet_reader_on_files_written_by_hand(tmp_path, end):
    wordnet = WordNet(write_wordnet(tmp_path, end))
    assert wordnet.synonyms("film") == ["film", "motion_picture", "movie", "shoot"]
    assert wordnet.synonyms("Movies") == ["film", "motion_picture", "movie"]  # lower-cased, plural taken off
    assert wordnet.synonyms("shot") == ["film", "shoot"]  # by the list of exceptions
    assert wordnet.synonyms("good") == ["full", "good", "goodness", "well"]  # the marker (p) is taken off
    assert wordnet.synonyms("nothing") == wordnet.synonyms("") == []
    tagger, words = wordnet_tagger(wordnet), ["Film", "shot", "good", "well", "unheard"]  # the part of speech seen most
    assert [tagger(words, i) for i in range(5)] == ["NOUN", "VERB", "ADJ", "ADV", "NOUN"]


def test_wordnet_reader_on_known_synsets():
    """Among them all that NLTK finds for the words of the golden file."""
    try:
        wordnet = load_wordnet()
    except FetchError as error:
        pytest.skip(str(error).splitlines()[0])
    synonyms = [word for word in wordnet.synonyms("movies") if "_" not in word]
    assert synonyms == ["film", "flick", "movie", "pic", "picture"]
    assert {"Rome", "capital_of_Italy"} <= set(wordnet.synonyms("rome"))
    assert {word: wordnet_swaps(word, wordnet.synonyms) for word in GOLDEN["synonyms"]} == GOLDEN["synonyms"]


def test_embedding_neighbours_are_ordered_by_cosine_and_cut():
    angles = {"east": 0, "ene": 20, "ne": 45, "north": 90, "sse": -50}
    vectors = np.array([[3 * np.cos(np.radians(a)), 3 * np.sin(np.radians(a))] for a in angles.values()])
    neighbours = embedding_neighbours(list(angles), vectors)
    assert neighbours("east") == ("ene", "ne", "sse")
    assert neighbours("west") == ()
    crowd = embedding_neighbours([f"w{i}" for i in range(80)], np.array([[1.0, i / 80] for i in range(80)]))
    assert crowd("w0") == tuple(f"w{i}" for i in range(1, 51))


def test_perceptron_tagger_adds_up_the_weights_of_its_features(tmp_path):
    model = {
        "classes": ["NOUN|-", "PROPN|-", "VERB|Fin", "DET|-"],
        "tagdict": {"the": "DET|-"},
        "weights": {
            "bias": {"NOUN|-": 1.0},
            "t-1 DET|-": {"NOUN|-": 1.0},
            "suf1 s": {"VERB|Fin": 1.5},
            "shape X": {"PROPN|-": 3.0},
            "w+1 </s>": {"DET|-": 1.5},
        },
    }
    path = tmp_path / "tagger.json.gz"
    path.write_bytes(gzip.compress(json.dumps(model).encode()))
    tagger = perceptron_tagger(path)
    # "walks": 1.5 for VERB against 1 for NOUN, but 2 for NOUN after a determiner; PROPN counts as NOUN; at the end
    # 1.5 for both VERB and DET, where the later name wins
    words = ["the", "walks", "Rome", "walks"]
    assert [tagger(words, i) for i in range(4)] == ["DET", "NOUN", "NOUN", "VERB"]
    assert tagger(["walks", "x"], 0) == "VERB" and tagger(["x"], 0) == "DET"


def test_memory_asks_once_counts_and_forgets():
    batches = []
    memory = Memory(lambda texts: batches.append(texts) or [np.array([len(text)]) for text in texts], batch_size=2)
    assert [int(row[0]) for row in memory.answers(["aaa", "b", "cc", "b"])] == [3, 1, 2, 1]
    assert batches == [["aaa", "cc"], ["b"]]  # the longest first, in full batches
    memory.answers(["b", "dd"])
    assert (memory.n_queries, memory.n_hits, memory.n_forward) == (6, 2, 4)
    asked = []  # of two entries it forgets the one that was used longest ago
    memory = Memory(lambda texts: asked.extend(texts) or [np.zeros(2) for _ in texts], max_bytes=1100)
    for text in ("a", "b", "a", "c", "a", "b"):
        memory.answers([text])
    assert asked == ["a", "b", "c", "b"]
