"""What a computation's source says, without comments and docstrings: what stands for the code in a cache key."""

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_BY_CONTENT = "data"  # what a loader returns is keyed by content_digest: its source is no part of a key


@cache
def source_digest(rooms: tuple[str, ...], package: Path = _PACKAGE) -> str:
    """Hash of the source of these rooms and of all that they import from the library, followed to the ground.

    Rooms are packages or modules, as "attacks" or "training.images" (ValueError: there is no such room); "" is all of
    it. Memoised: a process sees the source as it was when first asked.
    """
    pending: list[Path] = []
    for room in rooms:
        folder = package / room.replace(".", "/")
        pending += folder.rglob("*.py") if folder.is_dir() else _files(package, room.split("."))
        if not pending:
            raise ValueError(f"the library has no room or module {room!r}")
    structures: dict[str, str] = {}
    while pending:
        path = pending.pop()
        name = path.relative_to(package).as_posix()
        if name not in structures:
            structures[name], imported = _structure(path)
            for dotted in imported:
                inside = ".".join((package.name, *Path(name).parent.parts))
                root, *parts = importlib.util.resolve_name(dotted, inside).split(".")
                if root == package.name and parts and parts[0] != _BY_CONTENT:
                    pending += _files(package, parts)
    return hashlib.sha256(repr(sorted(structures.items())).encode()).hexdigest()


def _files(package: Path, parts: list[str]) -> list[Path]:
    """The file of a dotted name: that module or face of a room, or the one which defines the name's last part."""
    for end in range(len(parts), max(len(parts) - 2, 0), -1):
        path = package.joinpath(*parts[:end])
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return [candidate]
    return []


@cache
def _structure(path: Path) -> tuple[str, list[str]]:
    """The code without docstrings, and the dotted names that are imported at the top or inside a function."""
    imported: list[str] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.extend(f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.unparse(tree), imported
