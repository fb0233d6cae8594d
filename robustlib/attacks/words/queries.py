"""Asking a model once for each text: length-sorted batches, and a bounded memory of the answers."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.attacks.words.words import Example, joined
from robustlib.calibration.checks import check_logits

Victim = Callable[[list[Example]], Tensor]


class Memory:
    """Answers of a batched function by question, the least recently used forgotten first.

    Args:
        function: list of questions to one answer for each, in order.
        length: of a question, what batches are sorted by; default: characters of a text or pair.
        batch_size: questions in one call, sorted by length so that a model pads little. A function may cut them
            into smaller batches itself.
        max_bytes: bound on questions and answers together; 0 keeps nothing from one call to the next.

    Attributes:
        n_queries: questions asked.
        n_hits: questions answered without the function: remembered, or asked twice in one call.
        n_forward: questions the function answered, `n_queries - n_hits`.
        n_batches: calls of the function.
        seconds: time spent in the function.
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
        self.n_queries = self.n_hits = self.n_forward = self.n_batches = 0
        self.seconds = 0.0
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._bytes = 0

    def answers(self, questions: Sequence[Hashable]) -> list[Any]:
        """One answer for each question."""
        found, missing = [], {}
        for question in questions:
            answer = self._answers.get(question)
            if answer is None:
                missing.setdefault(question)
            else:
                self._answers.move_to_end(question)
            found.append(answer)
        self.n_queries += len(found)
        self.n_hits += len(found) - len(missing)
        if missing:
            new = self._compute(sorted(missing, key=self.length, reverse=True))
            found = [
                new[question] if answer is None else answer for question, answer in zip(questions, found, strict=True)
            ]
            self._remember(new)
        return found

    def _compute(self, questions: list[Any]) -> dict[Any, Any]:
        new = {}
        for start in range(0, len(questions), self.batch_size):
            batch = questions[start : start + self.batch_size]
            began = time.perf_counter()
            answers = self.function(batch)
            self.seconds += time.perf_counter() - began
            new.update(zip(batch, answers, strict=True))
            self.n_batches += 1
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
    """Logits of a victim by text.

    Logits and not scores are kept, because a temperature or another score acts on logits alone: one cache
    serves every temperature, every adversary and every step of a search over temperatures. Switched off
    (`max_bytes=0`) or with another batch size the logits are the same up to the victim's own rounding, which
    in float32 depends on what a text is padded with (about 1e-6 of the largest logit).

    Args:
        model: victim, texts (or pairs of texts) to logits (n, n_classes), no temperature applied.
        batch_size: as in `Memory`.
        max_bytes: as in `Memory`. The default, 512 MB, holds some 800,000 sentences.
    """

    def __init__(self, model: Victim, *, batch_size: int = 1024, max_bytes: int = 2**29) -> None:
        self.model = model
        super().__init__(self._logits, batch_size=batch_size, max_bytes=max_bytes)

    def __call__(self, examples: Sequence[Example]) -> Tensor:
        """Logits of the examples, (n, n_classes) float32 on the CPU."""
        rows = self.answers(examples)
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 0)

    def _logits(self, examples: list[Example]) -> list[np.ndarray]:
        logits = self.model(examples)
        check_logits(logits, "the victim's logits")
        if len(logits) != len(examples):
            raise ValueError(f"the victim returned {len(logits)} rows of logits for {len(examples)} texts")
        # Copies, since one remembered row of a batch would keep the whole batch alive.
        return [row.copy() for row in logits.detach().float().cpu().numpy()]
