"""Plain models fitted to another model's answers, to be searched instead of it: what transfers needs no gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustlib.attacks.pgd import pgd
from robustlib.attacks.scores import Margin
from robustlib.attacks.words.words import joined
from robustlib.models.forward import gradients_on, seeded
from robustlib.models.images import Normalised, small_cnn


def fit_image_surrogate(
    ask: Callable[[Tensor], Tensor],
    images: Tensor,
    n_classes: int,
    *,
    epsilon: float,
    rounds: int = 3,
    steps: int = 200,
    seed: int = 0,
) -> nn.Module:
    """A small convolutional network fitted to the classes that a model predicts, also where the network is fooled.

    After each round the model is asked about images moved across the network's own boundary (as Papernot et al. 2017
    do with its Jacobian), so that the two boundaries come nearer to each other near the images.

    Args:
        ask: images (n, channels, height, width) to predicted classes (n,).
        images: at least 100 or so, in [0, 1]; their device is where the network lives.
        epsilon: size of the moves; noise and moves are of twice that.
        rounds, steps: of questions, and of Adam on batches of 64 in each.
    """
    with seeded(seed), gradients_on():
        side, channels = max(images.shape[2:]), images.shape[1]
        padded = nn.ZeroPad2d((0, side - images.shape[3], 0, side - images.shape[2]))
        convolutions = nn.Sequential(padded, small_cnn(channels, side, n_classes))
        network = convolutions if min(images.shape[2:]) >= 4 else _perceptron(images, n_classes)
        model = Normalised(network, [0.5] * channels, [0.5] * channels).to(images.device)
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        own = ask(images).to(images.device)
        noisy = (images + 2 * epsilon * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
        inputs, labels = torch.cat([images, noisy]), torch.cat([own, ask(noisy).to(images.device)])
        for _ in range(rounds):
            for _ in range(steps):
                rows = torch.randint(0, len(inputs), (64,), device=images.device)
                loss = nn.functional.cross_entropy(model(inputs[rows].float()), labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            options = {"epsilon": 2 * epsilon, "score": Margin(), "steps": 4, "leave_early": False, "seed": seed}
            moved = pgd(model, images, own, **options).adversarial
            inputs, labels = torch.cat([inputs, moved]), torch.cat([labels, ask(moved).to(images.device)])
    return model.eval()


def fit_text_surrogate(texts: Sequence[Any], classes: Sequence[int], n_classes: int) -> Callable[[list], Tensor]:
    """Logistic regression on words and parts of words (tf-idf), fitted to the classes that a model predicts.

    Returns:
        Texts, or pairs of texts, to logits (n, n_classes); classes that were never predicted have the smallest.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(sublinear_tf=True)
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    model = make_pipeline(make_union(words, parts), LogisticRegression(C=30.0, max_iter=1000))
    model.fit([joined(text) for text in texts], list(classes))
    known = torch.as_tensor(model.classes_.astype("int64"))

    def respond(batch: list) -> Tensor:
        log_probs = torch.from_numpy(model.predict_log_proba([joined(text) for text in batch])).float()
        logits = torch.full((len(batch), n_classes), -50.0)
        logits[:, known] = log_probs.clamp_min(-50.0)
        return logits

    return respond


def _perceptron(images: Tensor, n_classes: int) -> nn.Module:
    """For rows of features, which have no neighbourhood."""
    return nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 64), nn.ReLU(), nn.Linear(64, n_classes))
