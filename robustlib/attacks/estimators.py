"""Two more estimators of the scale of served logits: a slope along one direction, and a surrogate of the answers.

As `black_box.read_gaps` and `walk` they look at answers only and count their queries. Taught in: notebooks/12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from robustlib.attacks.black_box import Counted, ScaleEstimate
from robustlib.attacks.words.words import joined

FEWEST = 20  # answers that a surrogate is fitted to


def read_slopes(
    service: Counted, starts: Any, end: Any, mix: Callable[[Any, Any, Tensor], Any], share: float = 0.15
) -> ScaleEstimate:
    """How fast the lead of each start's class over its runner-up changes towards one input, from two queries of each.

    What is told as `gap` is the median change of the difference of the two logits, over `share` of the way and extended
    to all of it; so the temperature is to be taken from the same estimate of the undivided logits. Saturated or
    unchanged answers tell nothing.

    Args:
        starts: n inputs. end: the one that all of them move to, as a batch of one.
        mix: as of `walk`.
    """
    before, n = service.n_queries, len(starts)
    ends = end.expand(n, *end.shape[1:]) if isinstance(end, Tensor) else [*end] * n
    first = service(starts)
    pair = first.topk(2, dim=1).indices
    there, here = (answers.gather(1, pair) for answers in (service(mix(starts, ends, torch.full((n,), share))), first))
    slopes = (there - here).diff(dim=1).abs().squeeze(1) / share
    saturated = torch.minimum(there, here).amin(dim=1) < service.floor
    readable = float((~saturated & (slopes > 0)).double().mean())
    return ScaleEstimate.of(torch.where(saturated, math.inf, slopes), readable, service.n_queries - before)


def fitted_gaps(service: Counted, asked: Any, fresh: Any) -> ScaleEstimate:
    """The typical gap of a surrogate of the answers to `asked`, at `fresh` inputs that nobody is asked about.

    Fitted to the answers that are not saturated; with fewer than `FEWEST` of them it tells nothing. Where most are,
    the others lie near the boundary: the gap is then too small, and nothing here says so but `readable`.
    """
    before = service.n_queries
    log_probs = service(asked)
    rows = (log_probs.topk(2, dim=1).values[:, 1] >= service.floor).nonzero().squeeze(1)
    readable, spent = len(rows) / len(log_probs), service.n_queries - before
    if len(rows) < FEWEST:
        return ScaleEstimate(math.nan, readable, spent)
    chosen = asked[rows.to(asked.device)] if isinstance(asked, Tensor) else [asked[row] for row in rows.tolist()]
    top = fit_answers(chosen, log_probs[rows].clamp_min(service.floor))(fresh).topk(2, dim=1).values
    return ScaleEstimate.of(top[:, 0] - top[:, 1], readable, spent)


def fit_answers(inputs: Any, log_probs: Tensor) -> Callable[[Any], Tensor]:
    """Ridge regression of answers (n, n_classes): on pixels with a Gaussian kernel, or on the words of texts (tf-idf).

    In closed form and in the unit of the answers: those of logits ten times as long are ten times as long.

    Returns:
        Inputs to logits (n, n_classes), float64, each row with mean 0.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.kernel_ridge import KernelRidge

    if isinstance(inputs, Tensor):
        encode = lambda batch: batch.flatten(1).double().cpu().numpy()  # noqa: E731
        distance = float(torch.pdist(torch.from_numpy(encode(inputs))).median())
        model = KernelRidge(kernel="rbf", gamma=0.5 / max(distance, 1e-12) ** 2, alpha=1e-2)
    else:
        words = TfidfVectorizer(sublinear_tf=True).fit([joined(text) for text in inputs])
        encode = lambda batch: words.transform([joined(text) for text in batch])  # noqa: E731
        model = KernelRidge(kernel="linear", alpha=1e-2)
    centred = log_probs.double().cpu() - log_probs.double().cpu().mean(dim=1, keepdim=True)
    size = float(centred.std()) or 1.0
    model.fit(encode(inputs), (centred / size).numpy())
    return lambda batch: size * torch.from_numpy(model.predict(encode(batch)))
