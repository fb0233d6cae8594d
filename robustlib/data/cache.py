"""One cache for everything expensive: keyed by its full configuration, checked, safe for two processes."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from robustlib.data.folders import cache_dir

_FORMAT = 1  # raised when the layout of an entry changes: older entries are then recomputed


class DamagedEntryError(Exception):
    """An entry that cannot be trusted: truncated, altered, or written for another configuration."""


def cache_key(kind: str, config: Any, code: tuple[ModuleType, ...] = ()) -> str:
    """Key of an entry: hash of its kind, its whole configuration and the source of the modules it depends on."""
    settings = {
        "format": _FORMAT,
        "kind": kind,
        "config": _plain(config),
        "code": [hashlib.sha256(inspect.getsource(module).encode()).hexdigest() for module in code],
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()[:20]


def content_digest(values: dict[str, Any] | list[Any]) -> str:
    """Hash of a dict's or list's tensors and texts, for a key: data and weights count by their content."""
    digest = hashlib.sha256()
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, torch.Tensor):
            plain = value.detach().cpu().contiguous()
            digest.update(f"{tuple(plain.shape)}{plain.dtype}".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:20]


def cached(
    kind: str,
    config: Any,
    compute: Callable[[], dict[str, Any]],
    *,
    code: tuple[ModuleType, ...] = (),
    refresh: bool | None = None,
) -> dict[str, Any]:
    """Return `compute()`, or an earlier result of exactly this configuration.

    An entry is one safetensors file (no pickle) that carries its configuration and a checksum. It is
    written to a temporary file and moved into place; a lock per entry lets one of two processes compute
    while the other waits, and is freed when its holder dies. A damaged entry is reported by a warning
    and computed again.

    Args:
        kind: name of the computation, used as folder.
        config: frozen dataclass or dict of plain values that determines the result.
        compute: returns a dict of JSON values, torch tensors and numpy arrays (nested dicts and lists allowed;
            arrays at the top level only).
        code: modules whose source belongs to the key, so that an edit of the computation recomputes.
        refresh: recompute even if an entry exists; None asks ROBUSTLIB_REFRESH, which `--refresh` sets to the
            time (Unix seconds) the run started: what is older than that is computed again, once.

    Returns:
        The payload. Arrays come back in the type they had; tuples come back as lists.

    Raises:
        TypeError: configuration or payload holds something that has no plain form.
    """
    key = cache_key(kind, config, code)
    path = cache_dir() / kind / f"{key}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if refresh is None:
        refresh = path.exists() and path.stat().st_mtime < float(os.environ.get("ROBUSTLIB_REFRESH") or 0)
    with FileLock(path.with_suffix(".lock")):
        if path.exists() and not refresh:
            try:
                return read_entry(path, key)
            except DamagedEntryError as error:
                warnings.warn(f"cache entry {path.name} is damaged ({error}); computing it again", stacklevel=2)
        payload = compute()
        write_entry(path, key, payload, {"kind": kind, "config": _plain(config)})
        return read_entry(path, key)


def write_entry(path: Path, key: str, payload: dict[str, Any], about: dict[str, Any]) -> None:
    """Write a payload atomically: readers see the old entry or the new one, never a part."""
    tensors, kinds, values = {}, {}, {}
    for name, value in payload.items():
        if isinstance(value, torch.Tensor):
            tensors[name], kinds[name] = value.detach().cpu().contiguous().clone(), "torch"
        elif isinstance(value, np.ndarray):
            tensors[name], kinds[name] = torch.from_numpy(np.ascontiguousarray(value)).clone(), "numpy"
        else:
            values[name] = _plain(value, f"payload[{name!r}]", allow_nan=True)
    body = json.dumps(values, sort_keys=True)
    metadata = {
        "key": key,
        "about": json.dumps(about, sort_keys=True),
        "values": body,
        "kinds": json.dumps(kinds, sort_keys=True),
        "checksum": _checksum(tensors, body),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_entry(path: Path, key: str) -> dict[str, Any]:
    """Read and check an entry.

    Raises:
        DamagedEntryError: the file is truncated, its content does not match its checksum, or it has another key.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        values, kinds = json.loads(metadata["values"]), json.loads(metadata["kinds"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DamagedEntryError(f"unreadable: {error}") from error
    if metadata["key"] != key:
        raise DamagedEntryError("it was written under another key")
    if metadata["checksum"] != _checksum(tensors, metadata["values"]):
        raise DamagedEntryError("checksum does not match")
    arrays = {name: tensor.numpy() if kinds[name] == "numpy" else tensor for name, tensor in tensors.items()}
    return {**values, **arrays}


def _checksum(tensors: dict[str, torch.Tensor], body: str) -> str:
    return content_digest({"values": body, **{name: tensors[name] for name in sorted(tensors)}})


def _plain(value: Any, where: str = "config", *, allow_nan: bool = False) -> Any:
    """JSON form of a value; floats keep 1 and 1.0 apart from each other only by their type, as Python does."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"__class__": type(value).__name__, **_plain(asdict(value), where, allow_nan=allow_nan)}
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise TypeError(f"{where} has a key that is not a string")
        return {name: _plain(item, f"{where}[{name!r}]", allow_nan=allow_nan) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", allow_nan=allow_nan) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if value != value and not allow_nan:
            raise TypeError(f"{where} is NaN: two configurations with NaN are never equal")
        # 1 and 1.0 are the same setting but differ in JSON, and would give two keys for one computation
        return int(value) if value.is_integer() and abs(value) < 2**53 and not allow_nan else value
    raise TypeError(f"{where} is a {type(value).__name__}: only plain values and dataclasses of them can be keyed")
