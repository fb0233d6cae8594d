"""A text as words and what stands between them, split and put together as TextAttack's AttackedText does."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from itertools import zip_longest

Example = str | tuple[str, str]

# A word is a run of word characters (and ' - _ * @ ` inside, never at either end). The three odd characters are
# those of TextAttack's homoglyph list that Python does not count as word characters already.
_EDGE = r"(?:[^\W_]|[˗`×])"
_WORD = re.compile(rf"{_EDGE}(?:[\w˗`×'\-*@]*{_EDGE})?")


def split_words(text: str) -> list[str]:
    """Words of a text without the punctuation around them, as TextAttack's but for Chinese, which it cuts by jieba."""
    return _WORD.findall(text)


def joined(example: Example) -> str:
    """One string of an example: the two sentences of a pair with a line break between, as TextAttack sees them."""
    return example if isinstance(example, str) else "\n".join(example)


def text_rng(seed: int, purpose: str | int, text: Example) -> random.Random:
    """Generator of a text's random choices, for a purpose or the edits of the word at a position.

    They depend on nothing else: TextAttack's one global generator makes a text's candidates depend on those before it.
    """
    digest = hashlib.blake2b(joined(text).encode(), digest_size=16).hexdigest()
    return random.Random(f"{seed}/{purpose}/{digest}")


def changed_share(before: Example, after: Example) -> float:
    """Share of the words of a text that differ in another, place by place; 0 for a text without words."""
    old, new = Words.of(before).words, Words.of(after).words
    return sum(a != b for a, b in zip_longest(old, new)) / max(len(old), 1)


@dataclass(frozen=True, slots=True)
class Words:
    """A tokenised example. Attacks see both sentences of a pair as one run of words.

    `spans`: start and end of each word in `text`; `first_length`: of the first sentence of a pair, None for a text.
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    first_length: int | None

    @classmethod
    def of(cls, example: Example) -> Words:
        text = joined(example)
        spans = tuple(match.span() for match in _WORD.finditer(text))
        words = tuple(text[start:end] for start, end in spans)
        return cls(text, words, spans, None if isinstance(example, str) else len(example[0]))

    def __len__(self) -> int:
        return len(self.words)

    def replaced(self, index: int, word: str) -> Example:
        start, end = self.spans[index]
        return self._example(self.text[:start] + word + self.text[end:], start, len(word) - (end - start))

    def deleted(self, index: int) -> Example:
        """The example without word `index` and one space beside it: after the first word, before any other."""
        start, end = self.spans[index]
        if end == len(self.text):  # TextAttack leaves the space before a last word that nothing follows
            pass
        elif index == 0:
            end += self.text[end] == " "
        else:
            start -= self.text[start - 1] == " "
        return self._example(self.text[:start] + self.text[end:], start, start - end)

    def window(self, index: int, size: int, word: str | None = None) -> str:
        """The text of about `size` words around word `index`, or `word` in its place; cut off as in TextAttack."""
        half = (size - 1) // 2
        if index < half:
            first, last = 0, min(size, len(self)) - 1
        elif index + half >= len(self):
            first, last = max(0, len(self) - size), len(self) - 1
        else:
            first, last = index - half, index + half
        start, end = self.spans[index]
        word = self.words[index] if word is None else word
        return self.text[self.spans[first][0] : start] + word + self.text[end : self.spans[last][1]]

    def _example(self, text: str, position: int, growth: int) -> Example:
        if self.first_length is None:
            return text
        cut = self.first_length + (growth if position < self.first_length else 0)
        return text[:cut], text[cut + 1 :]
