"""What a run will compute and how long that takes here, notebook by notebook; and what a budget leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from robustlib.course.run.state import Step
from robustlib.study.costs import Costs
from robustlib.study.plan import units_of
from robustlib.study.units import Unit

clock = tqdm.format_interval  # seconds as 00:41 or 1:02:03, like the bars
# lessons that carry most of the scorecard come first
IMPORTANCE = ["04", "06", "09", "13", "08", "05", "02", "07", "00"]
NOTEBOOK_SECONDS = 20.0  # of a notebook that finds its units in the cache, before it has ever run


@dataclass(frozen=True)
class Forecast:
    """The steps of a run, each with the units that only it or it first needs, and their seconds on one worker.

    Attributes:
        steps: those that have to run, the most important first.
        seconds: of the units and of the notebook itself, by step.
    """

    steps: tuple[Step, ...]
    units: dict[Step, list[Unit]]
    seconds: dict[Step, tuple[float, float]]
    unchanged: tuple[Step, ...]
    workers: int

    @classmethod
    def of(cls, steps: Sequence[Step], profile: str, seed: int, workers: int) -> Forecast:
        """Units that the cache lacks, with their costs; a model of a kind that was never timed here is timed."""
        ranked = sorted((step for step in steps if step.reason), key=_rank)
        costs, stated, units, seconds = Costs.remembered(), set(), {}, {}
        for step in ranked:
            of_step = [unit for unit in units_of(step.name, profile, seed) if unit not in stated]
            stated.update(of_step)
            units[step] = [unit for unit in of_step if not unit.is_done()]
            seconds[step] = costs.total(units[step]), step.seconds or NOTEBOOK_SECONDS
        costs.remember()
        return cls(tuple(ranked), units, seconds, tuple(step for step in steps if not step.reason), workers)

    def within(self, budget: float | None) -> Forecast:
        """The steps for which a budget of seconds is enough, the most important first."""
        if budget is None:
            return self
        chosen, left = [], budget
        for step in sorted(self.steps, key=lambda step: not step.reads_records):  # it comes last and costs little
            share = sum(self.seconds[step]) / self.workers
            if share <= left or step.reads_records:
                chosen.append(step)
                left -= share
        ranked = tuple(step for step in self.steps if step in chosen)
        return Forecast(ranked, self.units, self.seconds, self.unchanged, self.workers)

    @property
    def all_units(self) -> list[Unit]:
        """Units of all steps, the most important first."""
        return [unit for step in self.steps for unit in self.units[step]]

    @property
    def total(self) -> float:
        """Seconds of everything, on all workers."""
        return sum(sum(self.seconds[step]) for step in self.steps) / self.workers

    def text(self) -> str:
        """A line for each notebook, and the sum."""
        lines = [f"  {step.name}: unchanged" for step in self.unchanged]
        for step in self.steps:
            units, own = self.seconds[step]
            work = f"{len(self.units[step])} units, about {clock((units + own) / self.workers)}"
            lines.append(f"  {step.name}: {work} ({step.reason})")
        workers = f"{self.workers} workers" if self.workers > 1 else "one worker"
        n = len(self.all_units)
        return "\n".join([*sorted(lines), f"In all {n} units, about {clock(self.total)} with {workers}."])


def _rank(step: Step) -> tuple[int, str]:
    number = step.name[:2]
    return (IMPORTANCE.index(number) if number in IMPORTANCE else len(IMPORTANCE)), number
