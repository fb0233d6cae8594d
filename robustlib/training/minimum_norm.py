"""The minimum-norm point of a convex hull, from the Gram matrix of its corners: the heart of DDi."""

from functools import cache
from itertools import combinations

import torch
from torch import Tensor

MOST_CORNERS = 8


def minimum_norm_weights(gram: Tensor) -> Tensor:
    """Weights (M,) on the simplex for which the combination of M vectors is shortest (equation 14 of the paper).

    Exact: on each of the 2**M - 1 faces of the simplex the shortest point of its affine hull solves a linear system;
    of those that lie inside their face, the shortest is the answer. All systems are solved in one batch, without
    synchronising with a GPU. `gram`: (M, M) inner products of the vectors, M up to 8. Taught in: notebooks/08.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not 1 <= len(gram) <= MOST_CORNERS:
        raise ValueError(f"gram must be (M, M) with M from 1 to {MOST_CORNERS}, got {tuple(gram.shape)}")
    n = len(gram)
    inside = _faces(n).to(gram.device)
    products = gram.double() / gram.double().diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    # A little more than rounding on the diagonal: of parallel or equal vectors any split is as short.
    products = products + 1e-12 * torch.eye(n, dtype=torch.float64, device=gram.device)
    # Per face: [G 1; 1 0] [alpha; mu] = [0; 1], with alpha = 0 outside the face.
    pairs = inside[:, :, None] & inside[:, None, :]
    eye = torch.eye(n, dtype=torch.float64, device=gram.device)
    system = torch.zeros(len(inside), n + 1, n + 1, dtype=torch.float64, device=gram.device)
    system[:, :n, :n] = torch.where(pairs, products, eye * ~inside[:, :, None])
    system[:, :n, n] = system[:, n, :n] = inside.double()
    right = torch.zeros(len(inside), n + 1, 1, dtype=torch.float64, device=gram.device)
    right[:, n] = 1
    weights = torch.linalg.solve_ex(system, right).result[:, :n, 0]
    allowed = torch.isfinite(weights).all(dim=1) & (weights >= -1e-9).all(dim=1)
    weights = torch.where(allowed[:, None], weights.clamp_min(0), 0)
    lengths = torch.einsum("fi,ij,fj->f", weights, products, weights)
    best = torch.where(allowed, lengths, torch.inf).argmin(dim=0, keepdim=True)
    chosen = weights.index_select(0, best)[0]  # weights[best] would synchronise
    return (chosen / chosen.sum()).to(gram.dtype)


@cache
def _faces(n: int) -> Tensor:
    """(2**n - 1, n) bool: which corners belong to each face, the single corners first."""
    rows = [corners for size in range(1, n + 1) for corners in combinations(range(n), size)]
    return torch.tensor([[corner in row for corner in range(n)] for row in rows])
