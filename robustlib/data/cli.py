"""`python -m robustlib data list|fetch|verify [names...]`."""

import argparse

from robustlib.data.registry import DATASETS, Dataset
from robustlib.data.store import FetchError, check, fetch, find


def main(argv: list[str]) -> int:
    """Run the command; 0 where everything asked for is there and right, else 1."""
    parser = argparse.ArgumentParser(prog="python -m robustlib data", description="The data sets of the study.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, purpose in (
        ("list", "what there is, its licence, and where it lies"),
        ("fetch", "get the named data sets (or `all`) unless they are there"),
        ("verify", "hash the files again, of the named data sets or of all that are there"),
    ):
        names = commands.add_parser(command, help=purpose, description=purpose).add_argument
        names("names", nargs="+" if command == "fetch" else "*", metavar="name")
    arguments = parser.parse_args(argv)
    wanted = list(DATASETS) if arguments.names in ([], ["all"]) else arguments.names
    if unknown := [name for name in wanted if name not in DATASETS]:
        parser.error(f"unknown data set {', '.join(unknown)}; known: {', '.join(DATASETS)}")
    if arguments.command == "list":
        return _list([DATASETS[name] for name in wanted])
    if arguments.command == "fetch":
        return max(_fetch(name) for name in wanted)
    return max(_verify(DATASETS[name], named=bool(arguments.names)) for name in wanted)


def _list(datasets: list[Dataset]) -> int:
    for dataset in datasets:
        paths, troubles = find(dataset)
        part = f"{len(paths)} of {len(dataset.files)}" if paths else "missing"
        state = "present" if len(paths) == len(dataset.files) else part
        print(f"{dataset.name:22} {dataset.size / 1e6:7.1f} MB  {state:9} {dataset.title}")
        print(f"{'':22} licence: {dataset.licence}; cite: {dataset.citation}")
        if dataset.note:
            print(f"{'':22} note: {dataset.note}")
        for folder in sorted({str(path.parent) for path in paths.values()}):
            print(f"{'':22} in {folder}")
        for source in dataset.sources:
            print(f"{'':22} from {source.where}")
        for trouble in troubles:
            print(f"{'':22} not used: {trouble}")
    return 0


def _fetch(name: str) -> int:
    try:
        paths = fetch(name)
    except FetchError as error:
        print(f"{name}: {error}\n")
        return 1
    folders = sorted({str(path.parent) for path in paths.values()})
    print(f"{name}: here and verified{', in ' if folders else ''}{', '.join(folders)}")
    return 0


def _verify(dataset: Dataset, *, named: bool) -> int:
    paths, troubles = find(dataset)
    keys = {file.key: file for file in dataset.files}
    # `find` may have trusted an earlier check: hash what it gave once more
    troubles += [trouble for key, path in paths.items() if (trouble := check(path, keys[key], remember=False))]
    missing = [file.name for file in dataset.files if file.key not in paths]
    if not troubles and not missing:
        print(f"{dataset.name}: right ({len(paths)} files)")
        return 0
    if not troubles and not named and len(missing) == len(dataset.files):
        print(f"{dataset.name}: not here")
        return 0
    print(f"{dataset.name}: WRONG OR INCOMPLETE")
    for line in (*troubles, *(f"missing: {name}" for name in missing)):
        print(f"  {line}")
    return 1
