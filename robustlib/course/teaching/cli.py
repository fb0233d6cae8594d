"""The lecturer's commands: `python -m robustlib course student`, `grade`, `nbgrader`, `assignment-make` and others."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> int:
    """Run one command; 0 where it did what was asked. FileNotFoundError, ValueError: something is missing."""
    arguments = _parser().parse_args(argv)
    return arguments.command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m robustlib course", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    student = commands.add_parser("student", help="copies of the lessons that a student may change and run")
    student.add_argument("folder", type=Path)
    student.set_defaults(command=_student)

    grade = commands.add_parser("grade", help="judge the exercises in handed-in notebooks; writes grades.csv")
    grade.add_argument("folder", type=Path, help="a folder for each student, with notebooks in it")
    grade.add_argument("--csv", type=Path, help="default: grades.csv in the folder")
    grade.add_argument("--seconds", type=int, default=30, help="time limit of an answer (default: %(default)s)")
    grade.add_argument("--memory-mb", type=int, default=8000, help="address space of a kernel (default: %(default)s)")
    grade.set_defaults(command=_grade)

    nbgrader = commands.add_parser("nbgrader", help="the exercises as assignments in nbgrader's source format")
    nbgrader.add_argument("folder", type=Path, help="of an nbgrader course")
    nbgrader.set_defaults(command=_nbgrader)

    for name, function, text in (
        ("slides", _slides, "ten slides with the figures of a run"),
        ("key", _key, "the right letters of the predictions, as a run measured them"),
        ("machines", _machines, "minutes and memory of each lesson, as a run measured them"),
    ):
        command = commands.add_parser(name, help=text)
        if name == "slides":
            command.add_argument("file", type=Path, help="the HTML file to write")
        command.add_argument(
            "results", type=Path, nargs="?", default=Path("results/quick"), help="default: %(default)s"
        )
        command.set_defaults(command=function)

    make = commands.add_parser("assignment-make", help="train and hide the models of the assignment, with a key")
    make.add_argument("folder", type=Path)
    make.add_argument("--profile", default="quick")
    make.add_argument("--seed", type=int, default=0, help="of the lot; another class, another seed")
    make.set_defaults(command=_make)

    marks = commands.add_parser("assignment-grade", help="compare handed-in answers.csv with the key; writes marks.csv")
    marks.add_argument("folder", type=Path, help="a folder for each student, with answers.csv in it")
    marks.add_argument("--key", type=Path, required=True, help="key.json of assignment-make")
    marks.set_defaults(command=_marks)
    return parser


def _student(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.student import student_folder

    written = student_folder(arguments.folder)
    print(f"{len(written)} files written to {arguments.folder}; what was there already is as it was")
    return 0


def _grade(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.grade import grade_folder
    from robustlib.data.folders import replace_file

    rows = grade_folder(arguments.folder, seconds=arguments.seconds, memory_mb=arguments.memory_mb)
    target = arguments.csv or arguments.folder / "grades.csv"
    replace_file(target, rows.to_csv(index=False))
    totals = rows.groupby("student")[["points", "of"]].sum()
    print(totals.to_string(), f"\n\n{len(rows)} answers: {target}")
    slips = rows[rows.outcome == "wrong"].groupby(["exercise", "slip"]).size().sort_values(ascending=False)
    if len(slips):
        print("\nThe most frequent slips:")
        for (exercise, slip), count in slips.head(10).items():
            print(f"  {count:3} x {exercise}: {slip}")
    return 0


def _nbgrader(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.nbgrader import export

    written = export(arguments.folder)
    print(f"{len(written)} assignments in {arguments.folder / 'source'}; go on with: nbgrader generate_assignment NAME")
    return 0


def _slides(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.slides import slides

    print(f"{slides(arguments.file, arguments.results)} slides in {arguments.file}")
    return 0


def _key(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.slides import key

    for lesson, answers in key(arguments.results).items():
        print(f"{lesson:32}", " | ".join(answers))
    return 0


def _machines(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.sheet import machines

    print(machines(arguments.results))
    return 0


def _make(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.assignment import make

    teacher = make(arguments.folder, profile=arguments.profile, seed=arguments.seed)
    print(f"hand out {arguments.folder / 'students'}; keep {teacher} to yourself")
    return 0


def _marks(arguments: argparse.Namespace) -> int:
    from robustlib.course.teaching.assignment import grade
    from robustlib.data.folders import replace_file

    rows = grade(arguments.folder, arguments.key)
    replace_file(arguments.folder / "marks.csv", rows.to_csv(index=False))
    print(rows.to_string(index=False))
    return 0
