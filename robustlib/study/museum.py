"""Who pierces which exhibit of notebooks/10: measured, recorded, and read back as one table.

Recorded as method "exhibit: NAME". The honest number is that of the same weights without the mask, under the scale-free
attack with the same access, where such weights exist; else what all attacks together leave (adversary "all").
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from robustlib.attacks.adversaries import Evaluation
from robustlib.data.progress import progress
from robustlib.study.base import Study
from robustlib.study.claims.rules import WORTH_REMOVING, halved, interval, removed, standing
from robustlib.study.exhibits import DECIDING, EXHIBITS, N_SURROGATES, PREFIX, SURROGATE, examples
from robustlib.study.records import RecordBook, differences, over_seeds
from robustlib.study.units import Averaged, Guided, Unit, Victim, settings_of

ALL = "all"  # the adversary against whom an example stands if it stands against everybody
CLAIMED = "as claimed"  # the attack of the claim
SCALES = ("cal-exact", "margin", "ratio")  # what undoes a scale
KS = (4, 16, 64)  # queries that an adversary of a random text model averages; of an image model the first
FLAT = ("hard-max", "T(x)", "floor")


@dataclass(frozen=True)
class Try:
    """One column of the table: an attack as one adversary, `adversary` as of `Unit`.

    `predictions`: it sees predictions only, or none, so that a map of the answers changes nothing: asked of the twin.
    """

    column: str
    attack: str
    adversary: str | Guided | Averaged
    predictions: bool = False


def tries(name: str, plain: Victim, other: Victim) -> list[Try]:
    """Who attacks an image exhibit; a warm start is for what shows nothing near an image.

    Args:
        plain: the same weights without a mask. other: plain networks of other seeds and other training images.
    """
    exhibit = EXHIBITS[name]
    searched = "pgd" if exhibit.attack == "fgsm" else exhibit.attack
    chosen = [Try(CLAIMED, exhibit.attack, "naive")]
    chosen += [Try("PGD", "pgd", "naive")] if exhibit.attack == "fgsm" else []
    chosen += [Try(column, searched, column.replace("ratio", "dlr")) for column in SCALES]
    if name == "random scale":
        chosen.append(Try(f"mean of {KS[0]}", searched, Averaged(KS[0])))
    if not exhibit.twin:
        chosen.append(Try("targeted", "apgd-t", "naive"))
    if name in FLAT:
        chosen.append(Try("warm start", "pgd", Guided(f"warm:seed{other.seed}", other, "warm")))
    if name == "quantised inputs":
        chosen.append(Try("straight through", "pgd", Guided("inside", plain, "margin")))
    same = exhibit.twin and name != "quantised inputs"
    return [*chosen, Try("labels only", "rays", "naive", same), _replay("pgd", other, same)]


def text_tries(name: str, other: Victim) -> list[Try]:
    """Who attacks a text exhibit; `other`: the plain model of another seed.

    An average is asked of what answers at random; labels alone of no rounded answers, which tie where others do not.
    """
    chosen = [Try(CLAIMED, "dg", "naive"), *(Try(column, "dg", column) for column in SCALES[:2])]
    if name == "random scale":
        chosen += [Try(f"mean of {k}", "dg", Averaged(k)) for k in KS]
    if name != "two decimals":
        chosen.append(Try("labels only", "dg", "label-only", predictions=True))
    return [*chosen, _replay("dg", other)]


def _replay(attack: str, other: Victim, predictions: bool = False) -> Try:
    return Try("replay", attack, Guided(f"replay:seed{other.seed}", other), predictions)


def rounds(
    names: Iterable[str], *, profile: str, seeds: Sequence[int], modality: str = "image"
) -> Iterator[tuple[Victim, list[Try], Victim | None]]:
    """For each exhibit and seed: the model, who attacks it, and the same weights without a mask where they exist.

    Seeds are those given and, where `exhibit_seeds` of the settings asks for more, those that follow the first: there
    nobody asks for labels alone but where the honest number needs it.
    """
    image = modality == "image"
    other = _surrogates(profile=profile, seeds=seeds, modality=modality)[0]
    other = replace(other, exhibit=SURROGATE) if image else other
    for name in names:
        count = settings_of(profile, modality).exhibit_seeds[name in DECIDING[modality]]
        for seed in dict.fromkeys([*seeds, *range(seeds[0], seeds[0] + count)]):
            plain = Victim(profile, modality, seed, exhibit="plain")
            chosen = tries(name, plain, other) if image else text_tries(name, other)
            twin = EXHIBITS[name].twin if image else name != "plain"
            if twin and seed not in seeds:
                chosen = [one for one in chosen if one.column != "labels only"]
            yield Victim(profile, modality, seed, exhibit=name), chosen, plain if twin else None


def units(names: Iterable[str], **where: Any) -> Iterator[Unit]:
    """What `visit` asks for, to be computed beforehand; arguments as of `rounds`."""
    yield from map(Unit, _surrogates(**where))
    for victim, chosen, twin in rounds(names, **where):
        n = examples(settings_of(victim.profile, victim.modality), victim.exhibit)
        yield Unit(victim)
        for one in chosen:
            yield Unit(twin if twin and one.predictions else victim, one.attack, one.adversary, n=n)
        if twin is not None:
            yield Unit(twin)
            yield Unit(twin, _searched(chosen), "margin", n=n)


def _surrogates(*, profile: str, seeds: Sequence[int], modality: str = "image") -> list[Victim]:
    """The plain models that a replay searches."""
    count = N_SURROGATES if modality == "image" else 1
    return [Victim(profile, modality, seeds[-1] + 100 + number, exhibit="plain") for number in range(count)]


def visit(names: Iterable[str], book: RecordBook, **where: Any) -> dict[tuple[int, str], dict[str, Evaluation]]:
    """Attack exhibits in every way and record the results; by seed and name, then by column. Arguments: `rounds`."""
    done = {}
    for victim, chosen, twin in progress(list(rounds(names, **where)), description="visit"):
        done[victim.seed, victim.exhibit] = examine(victim.study(), book, chosen, twin.study() if twin else None)
    return done


def _searched(chosen: Sequence[Try]) -> str:
    return next(one.attack for one in chosen if one.column == "margin")


def examine(study: Study, book: RecordBook, chosen: Sequence[Try], twin: Study | None = None) -> dict[str, Evaluation]:
    """Attack an exhibit in every way, record accuracies and paired differences from the honest number, by column.

    `twin`: the same weights without a mask, where they exist.
    """
    done, n = {}, examples(study.settings, study.disguise_name.removeprefix(PREFIX))
    for one in chosen:
        asked = twin if twin is not None and one.predictions else study
        adversary = one.adversary if isinstance(one.adversary, str) else one.adversary.prepare(asked, one.attack)
        with warnings.catch_warnings():  # that a random scale draws random numbers is the point
            warnings.filterwarnings("ignore", message="two passes of the model")
            done[one.column] = asked.run(one.attack, adversary, n=n)
        book.add_evaluation(done[one.column], **study.columns(1.0), **study.budget(one.attack))
    everybody = replace(
        done[CLAIMED], adversary=ALL, correct=np.logical_and.reduce([one.correct for one in done.values()])
    )
    book.add_evaluation(everybody, **study.columns(1.0), **study.budget(everybody.attack))
    honest = everybody if twin is None else twin.run(_searched(chosen), "margin", n=n)
    for evaluation in done.values():
        study.compare(book, evaluation, honest, reference_study=twin)
    return done | {ALL: everybody}


def museum_table(records: pd.DataFrame) -> pd.DataFrame:
    """Points above the honest number, for each exhibit and whoever attacked it, over seeds.

    Returns:
        Columns modality, hides (the exhibit), pierces (the column of the table), mean, low, high (points), n, n_seeds,
        and mark (always "", as `hiding.hiding_table` has it).
    """
    rows = with_columns(over_seeds(differences(records[records.method.str.startswith(PREFIX)])))
    order = {name: position for position, name in enumerate(EXHIBITS)}
    rows = rows.sort_values("hides", key=lambda names: names.map(order), kind="stable")
    columns = ["modality", "hides", "pierces", "mean", "low", "high", "n", "n_seeds", "mark"]
    return rows.assign(mark="")[columns]


def with_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of exhibits among recorded differences, with `hides` (the exhibit) and `pierces` (who attacked it)."""
    rows = rows[rows.method.str.startswith(PREFIX)]
    rows = rows.assign(hides=rows.method.str.removeprefix(PREFIX))
    return rows.assign(pierces=[_column(row) for row in rows.to_dict("records")])


def _column(row: dict) -> str:
    adversary, name = row["adversary"], row["hides"]
    for beginning, column in (("replay", "replay"), ("warm", "warm start"), ("inside", "straight through")):
        if adversary.startswith(beginning):
            return column
    if adversary.startswith("margin of"):
        return f"mean of {adversary.split()[2]}"
    if row["attack"] == "rays" or adversary == "label-only":
        return "labels only"
    if row["attack"] == "apgd-t":
        return "targeted"
    if adversary == "naive":
        return CLAIMED if row["modality"] == "text" or row["attack"] == EXHIBITS[name].attack else "PGD"
    return adversary.replace("dlr", "ratio")


@dataclass(frozen=True)
class Verdict:
    """What the records say of one exhibit.

    Attributes:
        kind: "hides nothing" (its claimed number is surely less than 5 points above the honest one), "scale" (more, and
            removed or halved by whoever undoes a scale), "mask" (more, and not so) or "open" (the interval decides
            nothing).
        removed_by: columns that surely leave less than a fifth of it.
        halved_by: others that surely leave less than half.
        spared_by: those that surely leave more than half.
        claimed: row of the table: points of the claimed number above the honest one.
    """

    kind: str
    removed_by: tuple[str, ...]
    halved_by: tuple[str, ...]
    spared_by: tuple[str, ...]
    claimed: pd.Series


def verdicts(table: pd.DataFrame) -> dict[tuple[str, str], Verdict]:
    """The verdict on each exhibit of a `museum_table`, by modality and name."""
    found = {}
    for key, rows in table.groupby(["modality", "hides"], sort=False):
        by_column = {row["pierces"]: row for _, row in rows.iterrows()}
        claimed = by_column[CLAIMED]
        others = [(column, interval(row)) for column, row in by_column.items() if column != CLAIMED]
        removers = tuple(c for c, left in others if removed(interval(claimed), left) == "holds")
        halvers = tuple(c for c, left in others if c not in removers and halved(interval(claimed), left) == "holds")
        sparers = tuple(c for c, left in others if standing(interval(claimed), left) == "holds")
        if claimed["high"] < WORTH_REMOVING:
            kind = "hides nothing"
        elif claimed["low"] <= WORTH_REMOVING:
            kind = "open"
        else:
            kind = "scale" if {*removers, *halvers} & set(SCALES) else "mask"
        found[key] = Verdict(kind, removers, halvers, sparers, claimed)
    return found
