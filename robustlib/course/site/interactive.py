"""What the sliders of the static site draw from: stored logits, written by notebooks, read without a kernel.

A file per slider page, `results/<profile>/interactive/<kind>-<name>.json`. Logits keep every bit of their float32:
the last one decides where a loss is *exactly* flat.
Taught in: notebooks/01, 03 and 05.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustlib.data.folders import results_dir

LARGEST_FILE = 2_000_000  # bytes: a page embeds one file and has to stay below 5 MB


def save_interactive(kind: str, name: str, *, profile: str, **data: Any) -> Path:
    """Write what one slider page draws from and return the path; arrays may be NumPy's or PyTorch's.

    kind "temperature", a softmax, a reliability diagram, confidences and walls under one slider for T:

    - `logits` (n, n_classes), as trained: no temperature applied; `labels` (n,).
    - `class_names`: n_classes words. `title`: data set and model, as "Fashion-MNIST, small CNN".
    - `notebook`: number of the lesson that the page belongs to, as "01".
    - `examples` (k,): rows of `logits` the reader may choose from (default: the first eight).
    - `pictures` (k, channels, height, width), pixels in [0, 1], or `sentences`, k texts: what those examples
      look like (default: neither).
    - `adversarial_accuracy`: by series, as "PGD, naive attacker", pairs (design temperature, percent), from the
      records (default: none, and the panel is left out). Clean accuracy is computed from the logits.

    kind "landscape", a loss on a grid under a slider for T:

    - `logits` (side, side, n_classes), or (side, side, n, n_classes) to be averaged over n examples, as in
      `attacks.landscape.Landscape.logits`; the first axis is drawn along x. `labels`: an integer or (n,). The first
      examples are kept, as many as fit into a file; `n_examples` in it says of how many.
    - `coordinates` (side,) of both axes; `axes`: their two names with unit, as ("towards the attack (epsilon)", ...).
    - `class_names`, `title`, `notebook`: as above.
    - `paths`: pairs (temperature, points), what PGD does at that temperature, or for None on the margin; points
      (n_steps + 1, 2) in the units of `coordinates` (default: none).

    Args:
        kind: "temperature" or "landscape".
        name: of the page, lower-case letters, digits and hyphens, as "image".
        profile: whose results it belongs to.
        data: as above.

    Raises:
        TypeError: a field is missing or unknown.
        ValueError: a field does not fit the others, logits are not finite, or the file would be too large.
    """
    if kind not in _PREPARE:
        raise ValueError(f"kind must be one of {', '.join(_PREPARE)}, got {kind!r}")
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise ValueError(f"name becomes a file's: lower-case letters, digits and hyphens, got {name!r}")
    # The name of a keyword that does not fit is in Python's own message, the same as for any function.
    content = {"kind": kind, "name": name, "profile": profile, **_PREPARE[kind](**data)}
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    if len(text) > LARGEST_FILE:
        raise ValueError(f"{kind}-{name} takes {len(text)} bytes, more than {LARGEST_FILE}: pass fewer examples")
    path = results_dir(profile) / "interactive" / f"{kind}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def load_interactive(results: Path) -> list[dict[str, Any]]:
    """Everything saved below a results folder, in the order of the lessons.

    `logits` and `pictures` come as {"shape": ..., "values": base64} of little-endian float32 and of bytes 0 to 255;
    otherwise the fields are those of `save_interactive`, with `kind` and `name`.

    Raises:
        ValueError: a file is damaged; the message names it.
    """
    found = []
    for path in sorted((results / "interactive").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append((content["notebook"], content["kind"], content["name"], content))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it and run its notebook again") from error
    return [entry[-1] for entry in sorted(found, key=lambda entry: entry[:3])]


def _temperature(
    *,
    logits: Any,
    labels: Any,
    class_names: Sequence[str],
    title: str,
    notebook: str,
    examples: Sequence[int] | None = None,
    pictures: Any = None,
    sentences: Sequence[str] | None = None,
    adversarial_accuracy: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> dict[str, Any]:
    logits, labels = _logits(logits, 2), _array(labels).astype(int)
    chosen = [int(row) for row in (range(min(8, len(logits))) if examples is None else examples)]
    _check_labels(labels, len(logits), logits.shape[-1], class_names)
    if not chosen or not all(0 <= row < len(logits) for row in chosen):
        raise ValueError(f"examples must be rows of the {len(logits)} logits, at least one, got {chosen}")
    for field, shown in (("pictures", pictures), ("sentences", sentences)):
        if shown is not None and len(shown) != len(chosen):
            raise ValueError(f"{field} must be one for each of the {len(chosen)} examples, got {len(shown)}")
    curves = {str(series): _pairs(pairs) for series, pairs in (adversarial_accuracy or {}).items()}
    for series, pairs in curves.items():
        if not all(temperature > 0 and 0 <= percent <= 100 for temperature, percent in pairs):
            raise ValueError(f"adversarial_accuracy of {series!r} must be pairs (temperature > 0, percent 0 to 100)")
    return {
        "title": str(title),
        "notebook": _lesson(notebook),
        "class_names": list(map(str, class_names)),
        "logits": _exact(logits),
        "labels": labels.tolist(),
        "examples": chosen,
        "pictures": None if pictures is None else _bytes(_array(pictures)),
        "sentences": None if sentences is None else list(map(str, sentences)),
        "adversarial_accuracy": curves,
    }


def _landscape(
    *,
    logits: Any,
    labels: Any,
    coordinates: Any,
    axes: Sequence[str],
    class_names: Sequence[str],
    title: str,
    notebook: str,
    paths: Sequence[tuple[float | None, Any]] = (),
) -> dict[str, Any]:
    grid = _array(logits)
    grid = _logits(grid[:, :, None] if grid.ndim == 3 else grid, 4)
    labels, coordinates = np.atleast_1d(_array(labels)).astype(int), _array(coordinates).astype(float)
    side = len(coordinates)
    _check_labels(labels, grid.shape[2], grid.shape[3], class_names)
    kept = max(1, LARGEST_FILE * 7 // 10 // grid[:, :, 0].nbytes)  # base64 takes 4 bytes for 3
    if grid.shape[:2] != (side, side) or side < 2 or not (np.diff(coordinates) > 0).all():
        raise ValueError(f"coordinates must be {grid.shape[0]} increasing numbers for logits {grid.shape}, got {side}")
    if len(axes) != 2:
        raise ValueError(f"axes must be the names of the two axes, got {axes!r}")
    drawn = []
    for temperature, points in paths:
        points = _array(points).astype(float)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"a path must be finite points (n, 2), got {points.shape} at temperature {temperature}")
        drawn.append(
            {"temperature": None if temperature is None else float(temperature), "points": points.round(4).tolist()}
        )
    return {
        "title": str(title),
        "notebook": _lesson(notebook),
        "class_names": list(map(str, class_names)),
        "logits": _exact(grid[:, :, :kept]),
        "labels": labels[:kept].tolist(),
        "n_examples": grid.shape[2],
        "coordinates": coordinates.round(6).tolist(),
        "axes": list(map(str, axes)),
        "paths": drawn,
    }


_PREPARE = {"temperature": _temperature, "landscape": _landscape}


def _array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _logits(values: Any, ndim: int) -> np.ndarray:
    logits = _array(values).astype(np.float32)
    if logits.ndim != ndim or logits.shape[-1] < 2 or not logits.size:
        raise ValueError(f"logits must have {ndim} dimensions, the last one n_classes >= 2, got {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("logits hold NaN or infinity: check the model before showing it")
    return logits


def _check_labels(labels: np.ndarray, n: int, n_classes: int, class_names: Sequence[str]) -> None:
    if labels.shape != (n,) or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"labels must be {n} class indices in [0, {n_classes - 1}], got shape {labels.shape}")
    if len(class_names) != n_classes:
        raise ValueError(f"class_names must be {n_classes} words, got {len(class_names)}")


def _lesson(notebook: str) -> str:
    if not re.fullmatch(r"\d\d", notebook):
        raise ValueError(f'notebook must be the number of a lesson, as "01", got {notebook!r}')
    return notebook


def _pairs(values: Any) -> list[list[float]]:
    return sorted([float(first), round(float(second), 3)] for first, second in values)


def _exact(values: np.ndarray) -> dict[str, Any]:
    return {"shape": list(values.shape), "values": base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")}


def _bytes(pictures: np.ndarray) -> dict[str, Any]:
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or pictures.min() < 0 or pictures.max() > 1:
        raise ValueError(f"pictures must be (k, 1 or 3 channels, height, width) in [0, 1], got {pictures.shape}")
    pixels = np.round(pictures * 255).astype(np.uint8)
    return {"shape": list(pixels.shape), "values": base64.b64encode(pixels.tobytes()).decode("ascii")}
