"""ASCC, adversarial training inside the convex hull of each word's substitutes, for encoders of word pieces.

Dong et al., "Towards Robustness Against Natural Language Word Substitutions", ICLR 2021. The equations as their code
(dongxinshuai/ASCC, models/BaseModelAdv.py and train_imdb_ascc.py) has them, and the BERT version by Li et al. 2021b
(RockyLzy/TextDefender, model/models.py and trainer/ascc.py), whose settings arXiv 2402.17509 (appendix D) cites:

    u_i  = sum_j w_ij v(s_ij)                               a point of the hull of token i's substitutes s_i0 .. s_in
    w_ij = exp(h_ij) / sum_k exp(h_ik)                      weights on the simplex, from free variables h
    h    = argmax  KL(p(x) || p(u)) - alpha / L sum_i H(w_i)    H the entropy: alpha drives u_i towards one substitute
    loss = CE(p(x), y) + beta KL(p(x) || p(u))              gradients through both p(x) and p(u), none through w

v is the encoder's token embedding, s_i0 the token itself, L the sentence's tokens, p = softmax(logits / temperature).
For large T the gradients of the cross-entropy fall as 1 / T, those of the KL term as 1 / T**2 and the entropy's not at
all: beta weighs less, alpha more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from robustlib.training.methods import Method

# Both codes draw h by Kaiming's rule, whose width for a batch of shape (n, 128, 9) is sqrt(2 / (128 * 9)) = 0.04. A
# constant does not depend on padding; this one is the paper's "initialisation magnitude".
INITIAL_STD = 0.05
LEARNING_RATE = 1.0  # of Adam on h, as in both codes for BERT; the paper's 0.03 is a step of PGD and FreeLB


@dataclass(frozen=True)
class SubstitutionTable:
    """Substitutes of every token of one vocabulary: single tokens for whole words.

    A word cut into several pieces is left alone, and so are punctuation, special tokens and padding. Byte-level
    tokenisers write the first word of a text without the space that marks a word: they leave that one alone, too.
    """

    ids: Tensor  # (vocab_size, 1 + n_substitutes) int64 token ids; column 0 is the token itself
    allowed: Tensor  # (vocab_size, 1 + n_substitutes) bool; False where `ids` is only filler. Column 0 is True
    continues: Tensor  # (vocab_size,) bool: the token continues the word that the token before it began

    def candidates(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates of each position of a batch (n, seq_len), and which of them are allowed.

        Two (n, seq_len, 1 + n_substitutes) tensors, int64 and bool; candidate 0 is the token itself, and the only one
        at padding, special tokens and pieces of a word.
        """
        begins = torch.ones_like(input_ids, dtype=torch.bool)
        begins[:, :-1] = ~self.continues[input_ids[:, 1:]]  # the next token begins another word
        free = begins & attention_mask.bool()
        itself = torch.arange(self.ids.shape[1], device=input_ids.device) == 0
        return self.ids[input_ids], self.allowed[input_ids] & (free[..., None] | itself)


def ascc_step(
    method: Method,
    autocast: AbstractContextManager,
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    labels: Tensor,
    temperature: float | Tensor,
    *,
    table: SubstitutionTable,
) -> Tensor:
    """One batch of ASCC training on a `TextClassifier`: see `methods.Step`.

    The search draws from torch's global generator after the clean pass, whose dropout is then that of a standard step.
    The model stays in the caller's mode, as in Li et al.: in training, dropout differs between the passes, so that the
    KL term is not 0 where nothing is perturbed (Dong et al. switch it off in the search, and only there).

    Args:
        method: `steps` of Adam in the search (paper: 5); `alpha` (10), of a sentence's mean over its tokens, as in
            Dong et al.'s text (both codes divide by the batch size as well); `kl` is beta (40; both codes have 4).
        temperature: divides the logits in search and loss alike, on both sides of the KL divergence (paper, G.2).
        table: substitutes for this model's vocabulary (else a ValueError), on its device.
    """
    vocab_size = model.body.get_input_embeddings().num_embeddings
    if len(table.ids) != vocab_size:
        raise ValueError(f"the table has {len(table.ids)} tokens, the model {vocab_size}: make one for this model")
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    with autocast:
        clean = model(inputs)
    clean = clean.float() / temperature
    target = functional.log_softmax(clean, dim=1)

    def divergence(embeddings: Tensor, target: Tensor) -> Tensor:
        """KL(p(x) || p(u)) of each sentence, (n,)."""
        with autocast:
            logits = model.forward_from_embedding(embeddings, **rest)
        perturbed = functional.log_softmax(logits.float() / temperature, dim=1)
        return functional.kl_div(perturbed, target, log_target=True, reduction="none").sum(dim=1)

    ids, allowed = table.candidates(inputs["input_ids"], inputs["attention_mask"])
    with torch.no_grad():
        vectors = model.embed(ids)
    weights = adversarial_weights(
        lambda embeddings: divergence(embeddings, target.detach()),
        vectors,
        allowed,
        inputs["attention_mask"].sum(dim=1),
        steps=method.steps,
        alpha=method.alpha,
    )
    robust = divergence(mixture(weights, model.embed(ids)), target).mean()
    loss = functional.cross_entropy(clean, labels) + method.kl * robust
    loss.backward()
    return loss.detach()


def adversarial_weights(
    divergence: Callable[[Tensor], Tensor],
    vectors: Tensor,
    allowed: Tensor,
    lengths: Tensor,
    *,
    steps: int,
    alpha: float,
) -> Tensor:
    """Weights w of the candidates that make a model's answers diverge most, by gradient ascent (module docstring).

    Args:
        divergence: perturbed embeddings (n, seq_len, d_model) to KL(p(x) || p(u)) of each sentence, (n,).
        vectors: (n, seq_len, n_candidates, d_model) embeddings of the candidates.
        allowed: (n, seq_len, n_candidates) bool, at least one for each position.
        lengths: (n,) tokens of each sentence, L.

    Returns:
        (n, seq_len, n_candidates) float32: 0 where not allowed, else above 0; they sum to 1 and carry no gradient.
    """
    free = (INITIAL_STD * torch.randn(allowed.shape, device=vectors.device)).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=LEARNING_RATE, maximize=True)
    for _ in range(steps):
        log_weights = _log_simplex(free, allowed)
        # 0 log 0 = 0: -inf would turn the gradient into NaN
        entropy = -(log_weights.exp() * log_weights.masked_fill(~allowed, 0)).sum(dim=(1, 2))
        # Summed, not averaged: no sentence's search depends on the others of its batch.
        gain = (divergence(mixture(log_weights.exp(), vectors)) - alpha * entropy / lengths).sum()
        (free.grad,) = torch.autograd.grad(gain, [free])
        optimiser.step()
    return _log_simplex(free.detach(), allowed).exp()


def mixture(weights: Tensor, vectors: Tensor) -> Tensor:
    """Points of the hulls (n, seq_len, d_model); exactly the candidate where one weight is 1 and the others 0."""
    return (weights[..., None] * vectors).sum(dim=2)


def _log_simplex(free: Tensor, allowed: Tensor) -> Tensor:
    return functional.log_softmax(free.masked_fill(~allowed, -torch.inf), dim=2)
