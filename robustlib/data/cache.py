"""One cache for everything expensive: keyed by its full configuration, checked, safe for two processes."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from robustlib.data.folders import cache_dir, cache_dirs, is_writable, replace_file
from robustlib.data.source import source_digest

_FORMAT = 2  # raised when the layout of an entry changes: older entries are then recomputed

computed: Counter[str] = Counter()  # how many entries of each kind this process did not find


class DamagedEntryError(Exception):
    """An entry that cannot be trusted: truncated, altered, or written for another configuration."""


def cache_key(kind: str, config: Any, rooms: tuple[str, ...]) -> str:
    settings = {"format": _FORMAT, "kind": kind, "config": _plain(config), "source": source_digest(rooms)}
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
    rooms: tuple[str, ...] = ("attacks", "calibration", "models"),
) -> dict[str, Any]:
    """Return `compute()`, or an earlier result of exactly this configuration.

    An entry is one safetensors file with a checksum, under a lock; a damaged one is computed again, with a warning.
    Where none of `cache_dirs()` is writable, results are not kept. ROBUSTLIB_REFRESH (Unix seconds) recomputes what is
    older.

    Args:
        kind: name of the computation, used as folder.
        config: frozen dataclass or dict of plain values (else a TypeError) that determines the result.
        compute: returns a dict of JSON values, torch tensors and numpy arrays (these at the top level only); tuples
            come back as lists.
        rooms: packages or modules of the library that compute; their source belongs to the key (`source_digest`).
    """
    key = cache_key(kind, config, rooms)
    entry = look_up(kind, key)
    if entry is not None:
        return entry
    path = cache_dir() / kind / f"{key}.safetensors"
    if not is_writable(path.parent):
        warnings.warn(
            f"the cache {path.parent.parent} cannot be written to, so results are not kept; name a writable folder in "
            f"ROBUSTLIB_CACHE (after the shared one: {path.parent.parent}{os.pathsep}mine)",
            stacklevel=2,
        )
        computed[kind] += 1
        return _unpacked(*_packed(compute()))
    with FileLock(path.with_suffix(".lock")):
        entry = look_up(kind, key)  # another process may have held the lock and computed it
        if entry is None:
            computed[kind] += 1
            write_entry(path, key, compute(), {"kind": kind, "config": _plain(config)})
            entry = read_entry(path, key)
    return entry


def look_up(kind: str, key: str) -> dict[str, Any] | None:
    """The entry that `cached` would give without computing, by its `cache_key`; None where it would compute."""
    oldest = float(os.environ.get("ROBUSTLIB_REFRESH") or 0)
    for folder in cache_dirs():
        path = folder / kind / f"{key}.safetensors"
        if path.exists() and path.stat().st_mtime >= oldest:
            try:
                return read_entry(path, key)
            except DamagedEntryError as error:
                warnings.warn(f"cache entry {path.name} is damaged ({error}); computing it again", stacklevel=3)
    return None


def write_entry(path: Path, key: str, payload: dict[str, Any], about: dict[str, Any]) -> None:
    """Write a payload atomically."""
    tensors, metadata = _packed(payload)
    checksum = _checksum(tensors, metadata["values"])
    metadata |= {"key": key, "about": json.dumps(about, sort_keys=True), "checksum": checksum}
    replace_file(path, save(tensors, metadata))


def read_entry(path: Path, key: str) -> dict[str, Any]:
    """Read an entry; DamagedEntryError: it is truncated, does not match its checksum, or has another key."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        payload = _unpacked(tensors, metadata)
        if metadata["key"] != key:
            raise DamagedEntryError("it was written under another key")
        if metadata["checksum"] != _checksum(tensors, metadata["values"]):
            raise DamagedEntryError("checksum does not match")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DamagedEntryError(f"unreadable: {error}") from error
    return payload


def _packed(payload: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors, kinds, values = {}, {}, {}
    for name, value in payload.items():
        if isinstance(value, torch.Tensor):
            tensors[name], kinds[name] = value.detach().cpu().contiguous().clone(), "torch"
        elif isinstance(value, np.ndarray):
            tensors[name], kinds[name] = torch.from_numpy(np.ascontiguousarray(value)).clone(), "numpy"
        else:
            values[name] = _plain(value, f"payload[{name!r}]", allow_nan=True)
    return tensors, {"values": json.dumps(values, sort_keys=True), "kinds": json.dumps(kinds, sort_keys=True)}


def _unpacked(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> dict[str, Any]:
    values, kinds = json.loads(metadata["values"]), json.loads(metadata["kinds"])
    return {**values, **{name: t.numpy() if kinds[name] == "numpy" else t for name, t in tensors.items()}}


def _checksum(tensors: dict[str, torch.Tensor], body: str) -> str:
    return content_digest({"values": body, **{name: tensors[name] for name in sorted(tensors)}})


def _plain(value: Any, where: str = "config", *, allow_nan: bool = False) -> Any:
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
