"""Asking a model once for each text: length-sorted batches, and a bounded memory of the answers."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.words.words import Example, joined
from robustlib.calibration.checks import check_logits
from robustlib.models.forward import logits_of

Victim = Callable[[list[Example]], Tensor]


class Memory:
    """Answers of a batched function by question, the least recently used forgotten first.

    Args:
        function: list of questions to one answer for each, in order.
        length: of a question, by which batches are sorted, so that a model pads little; default: characters of a text.
        batch_size: questions in one call.
        max_bytes: bound on questions and answers together; 0 keeps nothing from one call to the next.

    Attributes:
        n_queries, n_hits, n_forward: questions asked, answered from memory (or asked twice in a call), by `function`.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], Sequence[Any]],
        *,
        length: Callable[[Any], int] = lambda question: len(joined(question)),
        batch_size: int = 1024,
        max_bytes: int = 2**29,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.function, self.length = function, length
        self.batch_size, self.max_bytes = batch_size, max_bytes
        self.n_queries = self.n_hits = self.n_forward = 0
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """What is remembered, in bytes, roughly."""
        return self._bytes

    def answers(self, questions: Sequence[Hashable]) -> list[Any]:
        answers, missing = [], {}
        for question in questions:
            answer = self._answers.get(question)
            if answer is None:
                missing.setdefault(question)
            else:
                self._answers.move_to_end(question)
            answers.append(answer)
        self.n_queries += len(answers)
        self.n_hits += len(answers) - len(missing)
        if missing:
            new = self._compute(sorted(missing, key=self.length, reverse=True))
            known = zip(questions, answers, strict=True)
            answers = [new[question] if answer is None else answer for question, answer in known]
            self._remember(new)
        return answers

    def _compute(self, questions: list[Any]) -> dict[Any, Any]:
        new = {}
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            new.update(zip(batch, self.function(batch), strict=True))
        self.n_forward += len(questions)
        return new

    def _remember(self, new: dict[Any, Any]) -> None:
        for question, answer in new.items():
            self._answers[question] = answer
            self._bytes += self._size(question, answer)
        while self._bytes > self.max_bytes:
            self._bytes -= self._size(*self._answers.popitem(last=False))

    def _size(self, question: Any, answer: Any) -> int:
        """Bytes of one entry, roughly: 500 for the objects around it, 130 for each (word, number) of a list."""
        return 500 + self.length(question) + (answer.nbytes if isinstance(answer, np.ndarray) else 130 * len(answer))


class QueryCache(Memory):
    """Logits of a victim by text; a module is run in evaluation mode and without gradients.

    Logits are kept, not scores: a temperature or another score acts on logits alone, so one cache serves every
    temperature and every adversary. With a `TextClassifier` on one CPU thread it changes no bit; elsewhere
    rounding depends on the batch (about 1e-6 of the largest logit). The default of 512 MB holds some 800,000 sentences.
    """

    def __init__(self, model: Victim, *, batch_size: int = 1024, max_bytes: int = 2**29) -> None:
        self.model = model
        super().__init__(self._logits, batch_size=batch_size, max_bytes=max_bytes)

    @classmethod
    def of(cls, victim: Victim) -> QueryCache:
        """A cache of the victim's logits; the victim itself where it is one.

        A served version of a cache (`TemperatureScaled`) is asked for whole lists, which the cache inside splits: its
        batches, and so the rounding of its logits, are then those of an attack on that cache.
        """
        if isinstance(victim, cls):
            return victim
        inside = isinstance(getattr(victim, "model", None), cls)
        return cls(victim, batch_size=sys.maxsize) if inside else cls(victim)

    def __call__(self, examples: Sequence[Example]) -> Tensor:
        """Logits of the examples, (n, n_classes) float32 on the CPU; raises as `logits_of` and `check_logits`."""
        rows = self.answers(examples)
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 0)

    def _logits(self, examples: list[Example]) -> list[np.ndarray]:
        logits = check_logits(logits_of(self.model, examples), "the victim's logits")
        # Copies, since one remembered row of a batch would keep the whole batch alive.
        return [row.copy() for row in logits.float().numpy()]
