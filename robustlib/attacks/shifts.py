"""Change that nobody optimised: images with noise, blur or worse contrast, texts with slips of typing; five severities.

The kinds are those of Hendrycks and Dietterich 2019 (arXiv 1903.12261) as torchvision has them; parameters are ours, in
`SEVERITIES`. Taught in: notebooks/15.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from robustlib.attacks.words.transformations import Synonyms, match_case, wordnet_swaps
from robustlib.attacks.words.words import Words, joined, text_rng
from robustlib.models.forward import seeded

# At the five severities: standard deviation; the same in pixels; factor; what is added; JPEG quality; share of the side
# length that is kept; degrees; of texts the share of words.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.08, 0.12, 0.16, 0.20),
    "blur": (0.5, 0.75, 1.0, 1.5, 2.0),
    "contrast": (0.75, 0.6, 0.45, 0.3, 0.2),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "jpeg": (80, 50, 25, 15, 8),
    "pixelate": (0.9, 0.75, 0.6, 0.5, 0.4),
    "rotation": (5, 10, 15, 22, 30),
    "words": (0.05, 0.1, 0.2, 0.3, 0.5),
}
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def changed_images(images: Tensor, kind: str, severity: int, *, seed: int = 0) -> Tensor:
    """Images (n, channels, height, width) in [0, 1] after a kind of `IMAGE_KINDS` at a severity from 1 to 5."""
    if kind not in IMAGE_KINDS:
        raise ValueError(f"unknown kind {kind!r}: choose one of {', '.join(IMAGE_KINDS)}")
    with seeded(seed):
        return IMAGE_KINDS[kind](images, _amount(kind, severity)).clamp(0, 1)


def changed_texts(
    texts: Sequence[str], kind: str, severity: int, *, synonyms: Synonyms | None = None, seed: int = 0
) -> list[str]:
    """Texts after a kind of `TEXT_KINDS`, in as many words as the severity says; "synonyms" needs WordNet's."""
    if kind not in TEXT_KINDS:
        raise ValueError(f"unknown kind {kind!r}: choose one of {', '.join(TEXT_KINDS)}")
    share, changed = _amount("words", severity), []
    for text in texts:
        rng, words = text_rng(seed, kind, text), Words.of(text)
        chosen = rng.sample(range(len(words)), min(len(words), max(1, round(share * len(words)))))
        for index in sorted(chosen, reverse=True):
            text = TEXT_KINDS[kind](Words.of(text), index, rng, synonyms)
        changed.append(text)
    return changed


def _amount(kind: str, severity: int) -> float:
    if not 1 <= severity <= 5:
        raise ValueError(f"severity must be 1 to 5, got {severity}")
    return SEVERITIES[kind][severity - 1]


def _jpeg(images: Tensor, quality: float) -> Tensor:
    compressed = []
    for image in (images * 255).round().to(torch.uint8).cpu():
        file = io.BytesIO()
        functional.to_pil_image(image).save(file, "JPEG", quality=int(quality))
        compressed.append(functional.pil_to_tensor(Image.open(file)))
    return torch.stack(compressed).to(images) / 255


def _pixelated(images: Tensor, share: float) -> Tensor:
    side = list(images.shape[-2:])
    small = functional.resize(images, [max(1, round(share * length)) for length in side], antialias=True)
    return functional.resize(small, side, interpolation=functional.InterpolationMode.NEAREST)


def _rotated(images: Tensor, degrees: float) -> Tensor:
    signs = torch.randint(0, 2, (len(images),)) * 2 - 1
    bilinear = functional.InterpolationMode.BILINEAR
    turned = [functional.rotate(image, float(s * degrees), bilinear) for image, s in zip(images, signs, strict=True)]
    return torch.stack(turned)


IMAGE_KINDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "noise": lambda images, deviation: images + deviation * torch.randn(images.shape).to(images),
    "blur": lambda images, deviation: functional.gaussian_blur(images, [7, 7], [deviation, deviation]),
    "contrast": lambda images, factor: functional.adjust_contrast(images, factor),
    "brightness": lambda images, added: images + added,
    "jpeg": _jpeg,
    "pixelate": _pixelated,
    "rotation": _rotated,
}


def _replaced(words: Words, index: int, word: str) -> str:
    return joined(words.replaced(index, word))


def _neighbour_key(words: Words, index: int, rng: random.Random, synonyms: Synonyms | None) -> str:
    word = words.words[index]
    places = [at for at, letter in enumerate(word) if any(letter.lower() in row for row in _KEYBOARD)]
    if not places:
        return joined(words.text)
    at = rng.choice(places)
    row = next(row for row in _KEYBOARD if word[at].lower() in row)
    key = row.index(word[at].lower())
    beside = rng.choice([row[k] for k in (key - 1, key + 1) if 0 <= k < len(row)])
    return _replaced(words, index, word[:at] + match_case(beside, word[at]) + word[at + 1 :])


def _swapped_letters(words: Words, index: int, rng: random.Random, synonyms: Synonyms | None) -> str:
    word = words.words[index]
    if len(word) < 2:
        return words.text
    at = rng.randrange(len(word) - 1)
    return _replaced(words, index, word[:at] + word[at + 1] + word[at] + word[at + 2 :])


def _other_case(words: Words, index: int, rng: random.Random, synonyms: Synonyms | None) -> str:
    return _replaced(words, index, words.words[index].swapcase())


def _no_space(words: Words, index: int, rng: random.Random, synonyms: Synonyms | None) -> str:
    start = words.spans[index][0]
    return words.text[: start - 1] + words.text[start:] if start and words.text[start - 1] == " " else words.text


def _synonym(words: Words, index: int, rng: random.Random, synonyms: Synonyms | None) -> str:
    if synonyms is None:
        raise ValueError('kind "synonyms" needs `synonyms`, such as of `attacks.words.lexicon.WordNet`')
    found = wordnet_swaps(words.words[index], synonyms)
    return _replaced(words, index, match_case(rng.choice(found), words.words[index])) if found else words.text


TEXT_KINDS: dict[str, Callable[[Words, int, random.Random, Synonyms | None], str]] = {
    "keyboard": _neighbour_key,
    "swapped letters": _swapped_letters,
    "casing": _other_case,
    "missing spaces": _no_space,
    "synonyms": _synonym,
}
