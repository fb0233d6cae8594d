"""Seeded, stratified orders and splits. numpy only; the caller's random state is never touched."""

import numpy as np

SPLIT_SEED = 20240227  # of every split that is ours: it must not move with a run's seed, or test rows would leak
PARTS = ("train", "validation", "test")


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A seeded order in which every prefix holds equally frequent classes the same number of times, to within one."""
    generator = np.random.default_rng(seed)
    classes, of_row = np.unique(labels, return_inverse=True)
    turn = generator.permutation(len(classes))[of_row]
    position = np.empty(len(labels))
    for number in range(len(classes)):
        members = generator.permutation(np.flatnonzero(of_row == number))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((turn, position))


def subset(labels: np.ndarray, n: int | None, seed: int) -> np.ndarray:
    """Positions of n stratified examples, in a seeded order; all of them in their own order for None."""
    if n is None:
        return np.arange(len(labels))
    if not 1 <= n <= len(labels):
        raise ValueError(f"n must be between 1 and {len(labels):,}, the size of this split, got {n}")
    return stratified_order(labels, seed)[:n]


def hold_out(labels: np.ndarray, n_validation: int) -> dict[str, np.ndarray]:
    """Positions of `train` and `validation`: a stratified slice of the rows, the same for every run."""
    order = stratified_order(labels, SPLIT_SEED)
    return {"train": np.sort(order[n_validation:]), "validation": np.sort(order[:n_validation])}


def grouped_split(labels: np.ndarray, groups: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of about 80 % train, 10 % validation, 10 % test, stratified; a group of rows is never divided."""
    names, group_of_row = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (group_of_row, labels), 1)
    order = stratified_order(counts.argmax(axis=1), SPLIT_SEED)
    before = np.cumsum(counts[order].sum(axis=1)) - counts[order].sum(axis=1)
    share = np.empty(len(names))
    share[order] = before / len(labels)
    part = np.where(share < 0.1, 2, np.where(share < 0.2, 1, 0))[group_of_row]
    return {name: np.flatnonzero(part == number) for number, name in enumerate(PARTS)}


def check_split(split: str) -> None:
    """Raise ValueError unless `split` is one of train, validation, test."""
    if split not in PARTS:
        raise ValueError(f"split must be one of {', '.join(PARTS)}, got {split!r}")
