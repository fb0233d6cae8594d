"""The text models of the audit's bench: MiniLM with two layers and tf-idf models on film reviews."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch
from audit_masks import (
    Entry,
    Served,
    divided,
    hard_max,
    log_of,
    nan_where,
    probabilities,
    random_scale,
    saw,
    sine,
    upside_down,
)
from torch import Tensor, nn

from robustlib.attacks.words import QueryCache
from robustlib.calibration import Disguised, TemperaturePerInput
from robustlib.data import load_text
from robustlib.data.cache import cached
from robustlib.models.precision import at_precision
from robustlib.models.texts import TextClassifier
from robustlib.training.texts import TextTraining, train_text_classifier

DATASET = "rotten_tomatoes"
N_TRAIN = 4_000


@lru_cache(maxsize=4)
def examples(split: str, n: int | None) -> tuple[list[str], Tensor]:
    data = load_text(DATASET, split, n=n, seed=0)
    return data.texts, data.labels


@lru_cache(maxsize=8)
def encoder(temperature: float = 1.0, seed: int = 0, *, layers: int = 2, n: int = N_TRAIN) -> TextClassifier:
    """MiniLM with its first layers, fine-tuned for two epochs at a training temperature."""
    training = TextTraining(
        layers=layers,
        epochs=2,
        batch_size=32,
        learning_rate=2e-4,
        max_length=64,
        training_temperature=temperature,
        precision="float32",
        seed=seed,
    )
    model = TextClassifier.from_name("minilm", 2, layers=layers, seed=seed, max_length=64)
    settings = {"encoder": f"minilm-{layers}", "temperature": temperature, "seed": seed, "n": n}
    fit = lambda: dict(train_text_classifier(training, *examples("train", n)).state_dict())  # noqa: E731
    model.load_state_dict(cached("audit_bench", settings, fit, rooms=()))
    return model


class Asked:
    """A function on lists of texts, shown through a map of its logits; no module, no gradient."""

    def __init__(self, model: Callable, show: Callable[[Tensor], Tensor]) -> None:
        self.model, self.show = model, show

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self.show(self.model(list(texts)))


@lru_cache(maxsize=8)
def memory(model: TextClassifier) -> QueryCache:
    """What the model said, for the truth; the audit asks the model itself."""
    return QueryCache(model)


def asked(inside: Callable, show: Callable[[Tensor], Tensor] = lambda z: z, gives: str = "logits", **more) -> Served:
    """A function on texts; its truth is measured on what the model inside said once."""
    once = memory(inside)
    served = {"model": Asked(inside, show), "answers": Asked(once, show), "twin": once, "gives": gives}
    return Served(**served | {"black_box": True} | more)


def module(show: Callable[[Tensor], Tensor], model: TextClassifier | None = None, **more) -> Served:
    """A module with the encoder inside, which an audit may look into."""
    inside = model or encoder()
    return asked(inside, show, model=Disguised(inside, show), black_box=False, **more)


@lru_cache(maxsize=8)
def estimator(kind: str, seed: int = 0):
    """A scikit-learn pipeline on tf-idf features, trained on all texts."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    texts, labels = examples("train", None)
    rows = np.random.default_rng(seed).permutation(len(texts))[:6_000]
    steps = {
        "logistic": (TfidfVectorizer(min_df=2), LogisticRegression(C=10.0)),
        "bigrams": (TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=30.0)),
        "characters": (TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2), LogisticRegression(C=10.0)),
        "support vectors": (TfidfVectorizer(min_df=2), LinearSVC()),
        "naive Bayes": (CountVectorizer(analyzer="char", ngram_range=(2, 5)), MultinomialNB()),
        "perceptron": (
            TfidfVectorizer(min_df=2),
            TruncatedSVD(100, random_state=seed),
            MLPClassifier((32,), alpha=0.1, max_iter=30, random_state=seed),
        ),
    }
    return make_pipeline(*steps[kind]).fit([texts[row] for row in rows], labels[rows].numpy())


def scores_of(model) -> Callable[[Sequence[str]], Tensor]:
    """Two columns of log-odds from an estimator, as exactly as it has them."""

    def answer(texts: Sequence[str]) -> Tensor:
        if hasattr(model, "decision_function"):
            margin = model.decision_function(list(texts))
            return torch.from_numpy(np.stack([-margin / 2, margin / 2], axis=1))
        features = model[:-1].transform(list(texts))
        joint = getattr(model[-1], "predict_joint_log_proba", model[-1].predict_log_proba)
        return torch.from_numpy(joint(features))

    return answer


def pipeline(kind: str, seed: int = 0) -> Served:
    """The estimator itself; an audit may ask for its decision function or its probabilities."""
    model = estimator(kind, seed)
    served = scores_of(model)
    if not hasattr(model, "decision_function"):

        def served(texts: Sequence[str]) -> Tensor:
            return torch.from_numpy(np.log(np.maximum(model.predict_proba(list(texts)), 1e-300)))

    return Served(model, served, scores_of(model), None, black_box=True)


def dropping(model: TextClassifier) -> Served:
    """The encoder left in training mode: dropout stays on, through a function that sets no mode."""
    left = copy.deepcopy(model)
    for part in left.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.3
    left.train()

    @torch.no_grad()
    def answer(texts: Sequence[str]) -> Tensor:
        return left(left.collate(left.tokenise(list(texts))))

    return Served(answer, answer, memory(model), "logits", black_box=True, n_draws=4)


def labels_only(model: TextClassifier) -> Served:
    return asked(model, lambda logits: logits.argmax(dim=1), "labels", answers=Asked(memory(model), hard_max))


def rounded(model: TextClassifier, decimals: int | None, temperature: float = 1.0) -> Served:
    """Probabilities of a service, in float32, rounded where decimals are given."""
    show = probabilities(temperature, decimals)
    return asked(model, show, "probabilities", answers=Asked(memory(model), log_of(show)))


def flipped(model: TextClassifier) -> Served:
    return asked(model, lambda logits: logits.flip(1), twin=Asked(memory(model), lambda logits: logits.flip(1)))


_LABELS = {"reachable": False}
_BROKEN = {"accepts": ("broken",)}

_ROWS: list[tuple] = [
    ("MiniLM", "honest", lambda: module(lambda z: z)),
    ("MiniLM, a function", "honest", lambda: asked(encoder())),
    ("log-softmax of MiniLM", "honest", lambda: asked(encoder(), lambda z: z.log_softmax(1), "log-probabilities")),
    ("bfloat16 MiniLM", "honest", lambda: asked(at_precision(encoder(), "bfloat16"))),
    ("tf-idf, logistic", "honest", lambda: pipeline("logistic")),
    ("tf-idf, support vectors", "honest", lambda: pipeline("support vectors")),
    ("MiniLM at T = 1e-4", "miscalibrated", lambda: module(divided(1e-4))),
    ("MiniLM at T = 0.05", "miscalibrated", lambda: module(divided(0.05))),
    ("MiniLM at T = 20", "miscalibrated", lambda: module(divided(20.0))),
    ("MiniLM at T = 1e7", "miscalibrated", lambda: module(divided(1e7))),
    ("MiniLM trained at T = 100", "miscalibrated", lambda: module(lambda z: z, encoder(100.0))),
    ("tf-idf, naive Bayes", "miscalibrated", lambda: pipeline("naive Bayes")),
    ("MiniLM, hard-max", "masked", lambda: module(hard_max)),
    ("MiniLM, labels", "masked", lambda: labels_only(encoder()), _LABELS),
    ("MiniLM, 1 decimal", "masked", lambda: rounded(encoder(), 1), _LABELS),
    ("MiniLM, random scale", "masked", lambda: asked(encoder(), random_scale(1.5), n_draws=4), _LABELS),
    ("MiniLM, saw-tooth", "masked", lambda: module(saw(4.0))),
    ("MiniLM, one gap for all", "masked", lambda: module(TemperaturePerInput(2.0))),
    ("probabilities at T = 0.02", "masked", lambda: rounded(encoder(), None, 0.02), _LABELS),
    ("MiniLM, dropout left on", "unsound", lambda: dropping(encoder()), _BROKEN),
    ("MiniLM, labels flipped", "unsound", lambda: flipped(encoder()), _BROKEN),
    ("MiniLM, NaN answers", "unsound", lambda: asked(encoder(), nan_where(0.05)), _BROKEN),
]

_FRESH_ROWS: list[tuple] = [
    ("MiniLM, seed 3", "honest", lambda: module(lambda z: z, encoder(seed=3))),
    ("tf-idf, bigrams", "honest", lambda: pipeline("bigrams", 1)),
    ("seed 3 at T = 3e-3", "miscalibrated", lambda: asked(encoder(seed=3), divided(3e-3))),
    ("seed 3 at T = 3e7", "miscalibrated", lambda: asked(encoder(seed=3), divided(3e7))),
    ("seed 3, saw-tooth of 2", "masked", lambda: asked(encoder(seed=3), saw(2.0))),
    ("seed 3, 2 decimals", "masked", lambda: rounded(encoder(seed=3), 2, 0.3), _LABELS),
    ("seed 3, one gap for all", "masked", lambda: asked(encoder(seed=3), TemperaturePerInput(4.0)), _LABELS),
    ("seed 3, labels flipped", "unsound", lambda: flipped(encoder(seed=3)), _BROKEN),
]


# Made when every rule had been settled, and audited once.
_LAST_ROWS: list[tuple] = [
    ("tf-idf, perceptron", "honest", lambda: pipeline("perceptron", 2)),
    ("tf-idf, characters", "honest", lambda: asked(scores_of(estimator("characters", 5)))),
    ("saw-tooth of 0.7", "masked", lambda: asked(scores_of(estimator("support vectors", 3)), saw(0.7))),
    ("sine of tf-idf", "masked", lambda: asked(scores_of(estimator("logistic", 4)), sine(3.0))),
    ("sine", "masked", lambda: asked(encoder(), sine(3.0))),
    ("upside down", "masked", lambda: asked(scores_of(estimator("bigrams", 2)), upside_down)),
]
LAST = [name for name, *_ in _LAST_ROWS]


def entries() -> list[Entry]:
    rows = [(row, False) for row in _ROWS] + [(row, True) for row in (*_FRESH_ROWS, *_LAST_ROWS)]
    return [
        Entry(name, "reviews", kind, build, **(extra[0] if extra else {}), fresh=fresh)
        for (name, kind, build, *extra), fresh in rows
    ]


def six_layers() -> Entry:
    """A whole MiniLM as people have one, for the time that an audit takes; trained on few texts."""
    return Entry("MiniLM, six layers", "reviews", "honest", lambda: module(lambda z: z, encoder(layers=6, n=1_000)))


def honest_over_seeds(n: int = 20) -> list[Entry]:
    """Logistic regression on tf-idf features of other samples of the training texts."""
    seeds = range(100, 100 + n)
    return [Entry(f"logistic, seed {k}", "reviews", "honest", partial(pipeline, "logistic", k)) for k in seeds]
