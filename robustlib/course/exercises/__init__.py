"""The exercises of every lesson: `exercises.check("2.1", step)` says whose answer it judged and which slip it holds."""

from robustlib.course.exercises import audit, black_box, images, museum, scorecard, texts, training, worth
from robustlib.course.exercises.audit import models_to_judge
from robustlib.course.exercises.base import (
    EXERCISES,
    Judgement,
    check,
    credit,
    judge,
    solution,
    solution_source,
    use_solutions,
    whose,
)
from robustlib.course.exercises.scorecard import made_up_records
