"""`python -m robustlib audit`: the audit from the command line, for people and for continuous integration.

Exit status: 0 no illusion found, 1 miscalibration, 2 wrong use, 3 masked, 4 inconclusive, 5 broken, 6 no illusion found
but the claim is refuted, the bound below --fail-under, or the model worse than in --baseline.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

BELOW = 6  # exit status: no illusion, and less than was claimed, demanded or there before
FORMATS = ("text", "json", "html", "markdown", "card")


def main(argv: list[str]) -> int:
    """Run one audit, print or write its report, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.explain is not None:
            print(_explained(arguments.explain))
            return 0
        result = _read(arguments.read) if arguments.read else _audited(arguments)
        _deliver(result, arguments)
    except (ValueError, TypeError, ModuleNotFoundError, FileNotFoundError, ConnectionError) as error:
        print(f"python -m robustlib audit: {error}", file=sys.stderr)
        return 2
    return status(result, arguments.fail_under)


def status(result: Any, fail_under: float | None = None) -> int:
    """The exit status of an audit, with a lowest bound in percent."""
    if result.exit_status:
        return result.exit_status
    below = fail_under is not None and (result.at_most is None or result.at_most.percent < fail_under)
    return BELOW if below or result.worse or result.claim_outcome == "refuted" else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m robustlib audit",
        description="Is a classifier's robustness real, or an illusion?",
        epilog=__doc__.split("\n\n")[1],
    )
    model = parser.add_argument_group("the model (one of these)").add_mutually_exclusive_group()
    text = "a module, a function of a batch, or a function without arguments that returns one"
    model.add_argument("--model", metavar="PACKAGE.MODULE:NAME", help=f"or FILE.py:NAME: {text}")
    model.add_argument("--hf", metavar="FOLDER_OR_NAME", help="a transformers text-classification checkpoint")
    model.add_argument("--timm", metavar="NAME", help="a pretrained model of timm, with its normalisation")
    model.add_argument("--robustbench", metavar="NAME", help="a CIFAR-10 model of RobustBench, threat model Linf")
    model.add_argument("--read", metavar="AUDIT.json", help="a record made earlier, to show it in another format")
    model.add_argument("--explain", metavar="FINDING", nargs="?", const="", help="what a finding or verdict means")
    data = parser.add_argument_group("the examples (--data or --csv)")
    where = "FILE.npz with inputs and labels, a folder with one folder of images for each class, or PACKAGE.MODULE:NAME"
    data.add_argument("--data", metavar="WHERE", help=f"{where} of (inputs, labels)")
    data.add_argument("--csv", metavar="FILE", help="texts and labels in columns")
    data.add_argument("--text-column", default="text", metavar="NAME", help="default: text")
    data.add_argument("--pair-column", metavar="NAME", help="the second text of a pair")
    data.add_argument("--label-column", default="label", metavar="NAME", help="default: label")
    data.add_argument("--class-names", type=_words, metavar="A,B", help="in the order of the model's answers")
    data.add_argument("--bounds", type=_numbers, metavar="LOW,HIGH", help="range of the inputs; default 0,1")
    data.add_argument("--mean", type=_numbers, metavar="M,...", help="per channel, put in front of the model")
    data.add_argument("--std", type=_numbers, metavar="S,...", help="per channel")
    threat = parser.add_argument_group("the threat")
    threat.add_argument("--epsilon", type=_fraction, metavar="8/255", help="radius in units of the inputs (images)")
    threat.add_argument("--norm", choices=("linf", "l2"), default="linf")
    threat.add_argument("--recipe", default="dg", help="of substitutions (texts); default dg")
    own = "of your own: a function of (inputs, labels); what it leaves is the claim that is tested"
    threat.add_argument("--attack", metavar="PACKAGE.MODULE:NAME", help=own)
    how = parser.add_argument_group("how")
    how.add_argument("--gives", choices=("logits", "log-probabilities", "probabilities", "labels"))
    how.add_argument("--n", type=int, help="examples that are attacked; default 200 images or 100 texts")
    how.add_argument("--budget", metavar="5m", help="time; what takes longer is left out and named")
    how.add_argument("--seed", type=int, help="default 0, or that of --replay or --baseline")
    how.add_argument("--random", action="store_true", help="the model's randomness is meant")
    how.add_argument("--thorough", action="store_true", help="run every attack, needed or not")
    how.add_argument("--replay", metavar="FILE.npz", help="adversarial inputs of an earlier audit, tried again")
    how.add_argument("--state", metavar="FILE", help="keeps finished attacks, so that the audit can go on")
    what = parser.add_argument_group("what comes out")
    what.add_argument("--claim", type=_share, metavar="0.62", help="the accuracy one would publish, tested")
    what.add_argument("--fail-under", type=_share, metavar="0.40", help="fail where the bound is below")
    what.add_argument("--baseline", metavar="AUDIT.json", help="fail where the model is worse than in this record")
    what.add_argument("--format", choices=FORMATS, default="text")
    what.add_argument("--output", metavar="FILE", help="write the report there instead of printing it")
    what.add_argument("--json", metavar="FILE", help="write the record there as well")
    what.add_argument("--adversarial", metavar="FILE.npz", help="write the adversarial inputs, for --replay")
    what.add_argument("--name", help="what the report calls the model")
    what.add_argument("--quiet", action="store_true", help="no line for each attack")
    return parser


def _audited(arguments: argparse.Namespace) -> Any:
    from robustlib.audit.call import audit

    model = _model(arguments)
    inputs, labels = _examples(arguments)
    given = ("epsilon", "norm", "recipe", "gives", "n", "budget", "random", "thorough", "state", "replay")
    options = {key: getattr(arguments, key) for key in (*given, "class_names", "bounds", "mean", "std", "name")}
    claim = None if arguments.claim is None else arguments.claim / 100
    tell = None if arguments.quiet else lambda line: print(line, file=sys.stderr, flush=True)
    options["attack"] = named(arguments.attack, "an attack") if arguments.attack else None
    earlier = _read(arguments.baseline) if arguments.baseline else None
    if earlier is not None:
        options["n"] = options["n"] or earlier.settings["n"]
    seed = arguments.seed if arguments.seed is not None else earlier.settings["seed"] if earlier is not None else None
    options |= {} if seed is None else {"seed": seed}
    result = audit(model, inputs, labels, claim=claim, tell=tell, **options)
    return result if earlier is None else result.compared_with(earlier)


def _model(arguments: argparse.Namespace) -> Any:
    if arguments.model:
        return named(arguments.model, "a model")
    if arguments.timm or arguments.robustbench:
        return f"timm:{arguments.timm}" if arguments.timm else f"robustbench:{arguments.robustbench}"
    if arguments.hf:
        return arguments.hf
    raise ValueError("which model? Give --model, --hf, --timm or --robustbench (--help lists the rest)")


def _examples(arguments: argparse.Namespace) -> tuple[Any, Any]:
    if bool(arguments.data) == bool(arguments.csv):
        raise ValueError("which examples? Give --data or --csv, one of them")
    if arguments.csv:
        return _table(arguments)
    where = arguments.data
    if Path(where).is_dir():
        return _images(Path(where), arguments)
    if where.endswith(".npz"):
        return _arrays(Path(where))
    if ":" in where:
        pair = named(where, "(inputs, labels)")
        if isinstance(pair, tuple | list) and len(pair) == 2:
            return pair[0], pair[1]
        return pair, None  # a DataLoader
    raise ValueError(f"--data {where}: no such folder, no .npz file and no PACKAGE.MODULE:NAME")


def named(address: str, what: str) -> Any:
    """The object at PACKAGE.MODULE:NAME or FILE.py:NAME; a function that needs no arguments is called.

    Raises:
        ValueError: there is no such module, file or name.
    """
    place, _, name = address.rpartition(":")
    if not place or not name:
        raise ValueError(f"{address!r} names no object: write PACKAGE.MODULE:NAME or FILE.py:NAME")
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise ValueError(f"there is no file {place}")
        specification = importlib.util.spec_from_file_location(Path(place).stem, place)
        module = importlib.util.module_from_spec(specification)
        sys.path.insert(0, str(Path(place).resolve().parent))
        specification.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise ValueError(f"{address}: {error}") from error
    if not hasattr(module, name):
        public = [other for other in vars(module) if not other.startswith("_")]
        raise ValueError(f"{place} has no {name}, which should be {what}; it has {', '.join(public[:12])}")
    found = getattr(module, name)
    return found() if inspect.isfunction(found) and _needs_nothing(found) else found


def _needs_nothing(function: Any) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return all(parameter.default is not parameter.empty or parameter.kind in kinds for parameter in parameters)


def _table(arguments: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Texts and labels of a CSV file; labels that are numbers become integers."""
    import csv

    with open(arguments.csv, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        columns = [arguments.text_column, arguments.label_column]
        columns += [arguments.pair_column] if arguments.pair_column else []
        if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
            raise ValueError(
                f"{arguments.csv} has no column {', '.join(missing)}; it has {', '.join(rows.fieldnames or ())}: "
                "give --text-column and --label-column"
            )
        table = [[row[column] for column in columns] for row in rows]
    texts = [(row[0], row[2]) if arguments.pair_column else row[0] for row in table]
    labels = [row[1].strip() for row in table]
    return texts, [int(label) for label in labels] if all(label.isdecimal() for label in labels) else labels


def _arrays(path: Path) -> tuple[Any, Any]:
    """Inputs and labels of an .npz file, by the usual names."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        inputs = [name for name in ("inputs", "images", "x", "X", "x_test", "arr_0") if name in file]
        labels = [name for name in ("labels", "y", "Y", "y_test", "arr_1") if name in file]
        if not inputs or not labels:
            raise ValueError(f"{path} holds {', '.join(file)}: name the arrays inputs and labels")
        return file[inputs[0]], file[labels[0]]


def _images(folder: Path, arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Images of a folder with one folder for each class, as pixels in [0, 1], and their classes."""
    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import to_tensor

    files = ImageFolder(str(folder))
    count = min(len(files), (arguments.n or 200) + 1000)
    chosen = torch.randperm(len(files), generator=torch.Generator().manual_seed(arguments.seed or 0))[:count].tolist()
    images = [to_tensor(files[index][0]) for index in chosen]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the images in {folder} differ in size: bring them to what the model takes first")
    names = [files.classes[files.targets[index]] for index in chosen]
    targets = [files.targets[index] for index in chosen]
    return torch.stack(images), names if arguments.class_names else targets


def _read(path: str) -> Any:
    from robustlib.audit.findings import Audit

    return Audit.from_json(Path(path).read_text(encoding="utf-8"))


def _explained(name: str) -> str:
    from robustlib.audit.explain import explain, explanations

    if name:
        return str(explain(name))
    return "\n".join(f"{entry.name:22} {entry.title}" for entry in explanations().values())


def _deliver(result: Any, arguments: argparse.Namespace) -> None:
    from robustlib.audit import report

    shown = {
        "text": report.text,
        "json": lambda audit: audit.to_json(),
        "html": report.page,
        "markdown": report.markdown,
        "card": report.card,
    }[arguments.format](result)
    if arguments.json:
        Path(arguments.json).write_text(result.to_json() + "\n", encoding="utf-8")
    if arguments.adversarial:
        result.save(arguments.adversarial)
    if arguments.output:
        Path(arguments.output).write_text(shown + "\n", encoding="utf-8")
        print(f"{result.verdict}: {arguments.output}")
    else:
        print(shown)


def _fraction(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0.03 or 8/255") from None


def _share(text: str) -> float:
    """A share such as 0.62, in percent."""
    value = _fraction(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share from 0 to 1: 62 percent is 0.62")
    return 100 * value


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_fraction(part) for part in text.split(","))


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
