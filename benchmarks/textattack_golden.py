"""Write tests/golden/textattack.json: what TextAttack 0.3.11 does in a toy world.

Runs in an environment of its own (textattack==0.3.11 with transformers<5), because that package cannot live
beside transformers 5. NLTK_DATA must hold corpora/stopwords/english and corpora/wordnet.

    NLTK_DATA=... python benchmarks/textattack_golden.py

TextAttack's own search, transformations, constraints and goal function run; from tests/golden/toy.py come the
victim, the random numbers of DeepWordBug (TextAttack draws them from a global generator, in the same order), and
for TextFooler and BAE the neighbours, tagger, sentence encoder and masked language model.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
sys.path.insert(0, str(GOLDEN))

import nltk  # noqa: E402
import numpy as np  # noqa: E402
import textattack  # noqa: E402
import torch  # noqa: E402
import toy  # noqa: E402
from textattack import Attack  # noqa: E402
from textattack.attack_recipes import DeepWordBugGao2018, PWWSRen2019  # noqa: E402
from textattack.constraints.grammaticality import PartOfSpeech  # noqa: E402
from textattack.constraints.pre_transformation import RepeatModification, StopwordModification  # noqa: E402
from textattack.constraints.semantics.sentence_encoders import SentenceEncoder  # noqa: E402
from textattack.goal_functions import UntargetedClassification  # noqa: E402
from textattack.models.wrappers import ModelWrapper  # noqa: E402
from textattack.search_methods import GreedyWordSwapWIR  # noqa: E402
from textattack.shared import AbstractWordEmbedding, AttackedText  # noqa: E402
from textattack.transformations import WordSwapEmbedding, WordSwapMaskedLM  # noqa: E402

SEED = 0


class Victim(ModelWrapper):
    """Logits of the toy victim divided by a temperature; keeps every text it was asked, in order."""

    def __init__(self, weights, n_classes, temperature):
        self.model, self.weights, self.n_classes, self.temperature = (
            torch.nn.Identity(),
            weights,
            n_classes,
            temperature,
        )

    def __call__(self, examples):
        rows = [toy.logits_of(example, self.weights, self.n_classes) for example in examples]
        return torch.tensor(rows, dtype=torch.float32) / self.temperature


class Neighbours(AbstractWordEmbedding):
    """The toy neighbours behind TextAttack's embedding interface; all are near enough."""

    def __init__(self):
        self.words, self.ids = [], {}

    def word2index(self, word):
        if word not in self.ids:
            self.ids[word] = len(self.words)
            self.words.append(word)
        return self.ids[word]

    def index2word(self, index):
        return self.words[index]

    def nearest_neighbours(self, index, topn):
        return [self.word2index(word) for word in toy.neighbours(self.words[index])[:topn]]

    def get_cos_sim(self, a, b):
        return 1.0

    def get_mse_dist(self, a, b):
        return 0.0

    def __getitem__(self, index):
        raise NotImplementedError


class ToyEncoder(SentenceEncoder):
    def encode(self, sentences):
        return torch.tensor([toy.embed(sentence) for sentence in sentences])


class ToyMaskedLM(torch.nn.Module):
    config = SimpleNamespace(model_type="bert")

    def forward(self, input_ids, texts):
        logits = torch.zeros(len(texts), input_ids.shape[1], len(toy.VOCABULARY))
        for row, text in enumerate(texts):
            logits[row, 1] = torch.tensor(toy.mask_logits(text))
        return (logits,)


class ToyTokenizer:
    """Every text is [CLS] [MASK] [SEP]: the toy language model reads the text itself."""

    mask_token, mask_token_id = toy.MASK, 1

    def convert_ids_to_tokens(self, index):
        return toy.VOCABULARY[index]


class ToyMaskedLMSwap(WordSwapMaskedLM):
    def _encode_text(self, texts):
        return {"input_ids": torch.tensor([[0, 1, 2]] * len(texts)), "texts": texts}


def recipe(name, victim):
    if name == "dg":
        return DeepWordBugGao2018.build(victim)
    if name == "pwws":
        return PWWSRen2019.build(victim)
    options = {"window_size": 15, "skip_text_shorter_than_window": True}
    if name == "tf":
        transformation = WordSwapEmbedding(max_candidates=50, embedding=Neighbours())
        near = ToyEncoder(threshold=0.840845057, metric="angular", compare_against_original=False, **options)
        stop_words = StopwordModification(stopwords={"the", "a", "is", "of", "and", "to", "in", "it"})
    else:
        transformation = ToyMaskedLMSwap("bae", ToyMaskedLM(), ToyTokenizer(), max_candidates=12, min_confidence=0.0)
        near = ToyEncoder(threshold=0.936338023, metric="cosine", compare_against_original=True, **options)
        stop_words = StopwordModification()
    constraints = [RepeatModification(), stop_words, PartOfSpeech(allow_verb_noun_swap=True), near]
    return Attack(UntargetedClassification(victim), constraints, transformation, GreedyWordSwapWIR(wir_method="delete"))


def seed_character_edits(attack, current):
    """Make the draws of DeepWordBug those of toy.edit_rng: same calls, same order, other source."""
    plain = type(attack.transformation).__call__

    def call(self, current_text, *args, **options):
        indices = options.get("indices_to_modify")
        if indices is not None and not options.get("return_indices"):
            current["rng"] = toy.edit_rng(SEED, current["text"], int(next(iter(indices))))
        return plain(self, current_text, *args, **options)

    type(attack.transformation).__call__ = call
    np.random.randint = lambda low, high: current["rng"].randrange(low, high)
    random.choice = lambda letters: current["rng"].choice(letters)


def run(name, examples, weights, n_classes, temperature, budget):
    victim = Victim(weights, n_classes, temperature)
    attack = recipe(name, victim)
    attack.goal_function.query_budget = budget
    current = {}
    saved = np.random.randint, random.choice, type(attack.transformation).__call__
    if name == "dg":
        seed_character_edits(attack, current)
    asked = []
    plain = attack.goal_function.get_results

    def get_results(texts, check_skip=False):
        asked.extend(text.tokenizer_input for text in texts)
        return plain(texts, check_skip=check_skip)

    attack.goal_function.get_results = attack.search_method.get_goal_results = get_results
    rows = []
    for example, label in examples:
        fields = [example] if isinstance(example, str) else example
        text = AttackedText(OrderedDict((f"column{i}", field) for i, field in enumerate(fields)))
        current["text"] = text.text
        asked.clear()
        result = attack.attack(text, label)
        outcome = type(result).__name__.replace("AttackResult", "").lower().replace("successful", "succeeded")
        final = result.perturbed_result.attacked_text.tokenizer_input
        rows.append(
            {
                "outcome": outcome,
                "queries": result.perturbed_result.num_queries if outcome != "skipped" else 1,
                "final": final,
                "asked": [list(one) if isinstance(one, tuple) else one for one in asked],
            }
        )
    np.random.randint, random.choice = saved[:2]
    type(attack.transformation).__call__ = saved[2]
    return rows


def split_and_edit(n_random=60):
    """Words of odd texts, and what TextAttack makes of them when a word is replaced, deleted, or looked around."""
    rng = random.Random(SEED)
    alphabet = "aB9_ '-*@`.,!(\"\n\t\u00e9\u05d0\u0645\U0001f600\u200b\u00d7" + 6 * " " + "abcdefgh"
    texts = ["don't  stop -- it's 'quoted' and half-baked", "a", " x ", "U.S. e-mail me@home.org", "(a) b-, c_d 'tis"]
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 60))) for _ in range(n_random)]
    rows = []
    for text in texts:
        whole = AttackedText(text)
        at = range(len(whole.words))
        row = {"text": text, "words": whole.words}
        row["replaced"] = [whole.replace_word_at_index(i, "[UNK]").text for i in at]
        row["deleted"] = [whole.delete_word_at_index(i).text for i in at]
        row["windows"] = [whole.text_window_around_index(i, 5) for i in at]
        rows.append(row)
    return rows


def digest(asked):
    """Of the texts as a set: TextAttack ranks words in the order of a Python set, we in reading order."""
    return toy.hashlib.blake2b(
        json.dumps(sorted({json.dumps(one) for one in asked})).encode(), digest_size=8
    ).hexdigest()


def main():
    torch.set_num_threads(1)
    nltk.pos_tag = lambda words, tagset=None, lang=None: list(zip(words, toy.tag(list(words)), strict=True))
    source = json.loads((GOLDEN / "sentences.json").read_text())
    singles, pairs, weights = source["singles"], source["pairs"], source["weights"]
    runs = []
    for name in ("dg", "pwws", "tf", "bae"):
        for kind, examples in (("singles", singles), ("pairs", pairs)):
            settings = (
                [(2, 1.0, None)] if kind == "pairs" else [(2, 1.0, None), (2, 0.5, None), (3, 1.0, None), (2, 1.0, 25)]
            )
            for n_classes, temperature, budget in settings:
                rows = run(name, examples, weights, n_classes, temperature, budget or float("inf"))
                options = {"n_classes": n_classes, "temperature": temperature, "max_queries": budget}
                runs.append({"recipe": name, "examples": kind, **options, "rows": rows})
                print(name, kind, options, [row["queries"] for row in rows])
    fields = [field for example, _ in singles + pairs for field in ([example] if isinstance(example, str) else example)]
    words = {word for field in fields for word in re.findall(r"[\w'-]+", field)}
    swap = textattack.transformations.WordSwapWordNet()
    synonyms = {word: sorted(swap._get_replacement_words(word)) for word in sorted(words)}
    for run_ in runs:  # the texts asked are long: their digest is enough, with the count as a first clue
        for row in run_["rows"]:
            row["asked"] = digest(row["asked"])
    record = {
        "textattack": textattack.__version__ if hasattr(textattack, "__version__") else "0.3.11",
        "seed": SEED,
        "words": split_and_edit(),
        "synonyms": {word: others for word, others in synonyms.items() if others},
        "runs": runs,
    }
    (GOLDEN / "textattack.json").write_text(json.dumps(record, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
