"""Small models whose robustness is known, honest and masked, for the tests of the audit."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from robustlib.audit.subject import Subject

EPSILON = 0.06
N_CLASSES = 4


@lru_cache(maxsize=1)
def pictures() -> tuple[Tensor, Tensor]:
    """360 images (1, 8, 8) of four classes, a pattern each in noise, some pixels black, and their labels."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(N_CLASSES, 1, 8, 8, generator=generator)
    labels = torch.arange(360) % N_CLASSES
    noise = torch.rand(360, 1, 8, 8, generator=generator)
    return (0.3 * patterns[labels] + 0.7 * noise - 0.1).clamp(0, 1), labels


@lru_cache(maxsize=2)
def net(smoothing: float = 0.0) -> nn.Module:
    """A small network trained on the first 160 images, in evaluation mode; some 85 % right on the others."""
    images, labels = pictures()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, N_CLASSES))
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(60):
            loss = nn.functional.cross_entropy(model(images[:160]), labels[:160], label_smoothing=smoothing)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def held_out() -> tuple[Tensor, Tensor]:
    """The 200 images that the network was not trained on."""
    images, labels = pictures()
    return images[160:], labels[160:]


class Shown(nn.Module):
    """The network with something before and behind it."""

    def __init__(self, *, before: Callable = lambda x: x, behind: Callable = lambda z: z, inside: bool = True) -> None:
        super().__init__()
        self.net = net() if inside else None  # else no sub-module shows what lies behind the answers
        self.before, self.behind = before, behind
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.behind((self.net or net())(self.before(images)))


def white(gives: str = "logits", **shown: object) -> Subject:
    """A subject that gradients may follow."""
    model = Shown(**shown)
    return Subject(model, gives, "image", N_CLASSES, module=model, name="shown")


def black(gives: str = "logits", **shown: object) -> Subject:
    """A subject that only answers."""
    return Subject(Shown(**shown), gives, "image", N_CLASSES, name="box")


def hard(logits: Tensor) -> Tensor:
    """One-hot: what is predicted and nothing else."""
    return nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()


def words_subject(show: Callable[[Tensor], Tensor] = lambda z: z, gives: str = "logits", *, seed: int = 0) -> Subject:
    """A classifier of sentences by the words in them: every word votes, and misspelt ones do not."""
    votes = _votes()

    def respond(texts: list[str]) -> Tensor:
        margin = torch.tensor([sum(votes.get(word, 0.0) for word in text.split()) + 0.05 for text in texts])
        return show(torch.stack([-margin, margin], dim=1))

    return Subject(respond, gives, "text", 2, name="votes")


def sentences(n: int = 60) -> tuple[list[str], Tensor]:
    """Sentences of seven words and the side that most of them are on, some of them mislabelled."""
    words = list(_votes())
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    texts = []
    for label in labels.tolist():
        side = [word for word in words if (_votes()[word] > 0) == bool(label)]
        chosen = [side[i] for i in torch.randint(0, len(side), (5,), generator=generator)]
        chosen += [words[i] for i in torch.randint(0, len(words), (2,), generator=generator)]
        texts.append(" ".join(chosen))
    wrong = torch.rand(n, generator=generator) < 0.08
    return texts, torch.where(wrong, 1 - labels, labels)


def _votes() -> dict[str, float]:
    good = ["bright", "lovely", "moving", "superb", "honest", "graceful", "tender", "vivid"]
    bad = ["dull", "awful", "boring", "clumsy", "hollow", "tedious", "stale", "bland"]
    strengths = torch.linspace(0.4, 1.6, len(good)).tolist()
    return dict(zip(good, strengths, strict=True)) | {word: -s for word, s in zip(bad, strengths, strict=True)}
