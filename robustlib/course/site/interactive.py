"""What the sliders of the static site draw from: stored logits, written by notebooks, read without a kernel.

Logits keep every bit of their float32: the last one decides where a loss is *exactly* flat.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustlib.calibration.checks import check_labels, check_logits, check_pixels
from robustlib.data.folders import replace_file, results_dir

LARGEST_FILE = 2_000_000  # bytes: a page embeds one file and has to stay below 5 MB


def save_temperature(
    name: str,
    *,
    profile: str,
    notebook: str,
    title: str,
    class_names: Sequence[str],
    logits: Any,
    labels: Any,
    examples: Sequence[int],
    pictures: Any = None,
    sentences: Sequence[str] | None = None,
    adversarial_accuracy: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Path:
    """Write what a page with softmax, reliability diagram, confidences and walls under one slider for T draws from.

    Args:
        name: of the page, lower-case letters, digits and hyphens.
        notebook: number of the lesson that the page belongs to, as "01".
        logits, labels: (n, n_classes), no temperature applied, and (n,).
        examples: the k rows of `logits` to choose from.
        pictures, sentences: what those look like, (k, channels, height, width) in [0, 1], or k texts.
        adversarial_accuracy: by series, pairs (design temperature, percent).

    Raises:
        TypeError, ValueError: a field does not fit the others, or the file would be too large.
    """
    values = torch.as_tensor(logits).float()
    check_logits(values)
    classes = _labels(labels, *values.shape, class_names)
    chosen = [int(row) for row in examples]
    if not chosen or not all(0 <= row < len(values) for row in chosen):
        raise ValueError(f"examples must be rows of the {len(values)} logits, at least one, got {chosen}")
    for field, entries in (("pictures", pictures), ("sentences", sentences)):
        if entries is not None and len(entries) != len(chosen):
            raise ValueError(f"{field} must be one for each of the {len(chosen)} examples, got {len(entries)}")
    curves = {
        series: sorted([float(t), round(float(percent), 3)] for t, percent in pairs)
        for series, pairs in (adversarial_accuracy or {}).items()
    }
    for series, pairs in curves.items():
        if not all(temperature > 0 and 0 <= percent <= 100 for temperature, percent in pairs):
            raise ValueError(f"adversarial_accuracy of {series!r} must be pairs (temperature > 0, percent 0 to 100)")
    if pictures is not None:
        check_pixels(torch.as_tensor(pictures), "pictures")
        pictures = _packed((torch.as_tensor(pictures) * 255).round(), np.uint8)
    content = {"logits": _packed(values, "<f4"), "labels": classes.tolist(), "examples": chosen, "pictures": pictures}
    content |= {"sentences": None if sentences is None else list(sentences), "adversarial_accuracy": curves}
    return _write("temperature", name, profile, notebook, title, class_names, content)


def save_landscape(
    name: str,
    *,
    profile: str,
    notebook: str,
    title: str,
    class_names: Sequence[str],
    logits: Any,
    labels: Any,
    coordinates: Any,
    axes: tuple[str, str],
    paths: Sequence[tuple[float | None, Any]] = (),
) -> Path:
    """Write what a page with a loss on a grid under a slider for T draws from; see `save_temperature`.

    Args:
        logits: (side, side, n, n_classes), to be averaged over n examples; the first axis is drawn along x. As many
            of the first examples are kept as fit into a file.
        coordinates: (side,), of both axes; `axes` their names with the unit.
        paths: pairs (temperature, points), what PGD does at that temperature, or for None on the margin; points
            (n_steps + 1, 2) in the units of `coordinates`.

    Raises:
        TypeError, ValueError: a field does not fit the others, or the file would be too large.
    """
    grid, places = torch.as_tensor(logits), np.asarray(coordinates, dtype=float)
    side = len(places)
    if grid.ndim != 4 or grid.shape[:2] != (side, side) or side < 2 or not (np.diff(places) > 0).all():
        raise ValueError(
            f"coordinates must be increasing, one for each point along logits (side, side, n, n_classes), got {side} "
            f"for {tuple(grid.shape)}"
        )
    check_logits(grid.flatten(0, 2).float())
    classes = _labels(labels, *grid.shape[2:], class_names)
    kept = max(1, LARGEST_FILE * 7 // 10 // (grid[:, :, 0].numel() * 4))  # base64 takes 4 bytes for 3
    drawn = []
    for temperature, points in paths:
        points = np.asarray(points, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"a path must be finite points (n, 2), got {points.shape} at temperature {temperature}")
        temperature = None if temperature is None else float(temperature)
        drawn.append({"temperature": temperature, "points": points.round(4).tolist()})
    content = {"logits": _packed(grid[:, :, :kept], "<f4"), "labels": classes[:kept].tolist()}
    content |= {"n_examples": len(classes), "coordinates": places.round(6).tolist(), "axes": list(axes), "paths": drawn}
    return _write("landscape", name, profile, notebook, title, class_names, content)


def load_interactive(results: Path) -> list[dict[str, Any]]:
    """Everything saved below a results folder, in the order of the lessons; ValueError for a damaged file.

    `logits` and `pictures` come as {"shape": ..., "values": base64} of little-endian float32 and of bytes 0 to 255.
    """
    contents = []
    for path in sorted((results / "interactive").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            contents.append((content["notebook"], content["kind"], content["name"], content))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it and run its notebook again") from error
    return [entry[-1] for entry in sorted(contents, key=lambda entry: entry[:3])]


def _labels(labels: Any, n: int, n_classes: int, class_names: Sequence[str]) -> Tensor:
    classes = torch.as_tensor(labels)
    check_labels(classes, n, n_classes)
    if len(class_names) != n_classes:
        raise ValueError(f"class_names must be {n_classes} words, got {len(class_names)}")
    return classes


def _packed(values: Tensor, dtype: Any) -> dict[str, Any]:
    raw = values.detach().cpu().numpy().astype(dtype).tobytes()
    return {"shape": list(values.shape), "values": base64.b64encode(raw).decode("ascii")}


def _write(
    kind: str, name: str, profile: str, notebook: str, title: str, class_names: Sequence[str], content: dict[str, Any]
) -> Path:
    common = {"kind": kind, "name": name, "profile": profile, "notebook": notebook, "title": title}
    common["class_names"] = list(class_names)
    text = json.dumps(common | content, separators=(",", ":"), allow_nan=False)
    if len(text) > LARGEST_FILE:
        raise ValueError(f"{kind}-{name} takes {len(text)} bytes, more than {LARGEST_FILE}: pass fewer examples")
    path = results_dir(profile) / "interactive" / f"{kind}-{name}.json"
    replace_file(path, text)
    return path
