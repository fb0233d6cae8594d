"""The cache: keyed by everything, atomic, safe with two processes, and suspicious of damage."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from robustlib.data.cache import cache_key, cached
from robustlib.data.folders import ReadOnlyFolderError, cache_dir, replace_file
from robustlib.data.source import source_digest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("ROBUSTLIB_REFRESH", raising=False)
    return tmp_path


@dataclass(frozen=True)
class Settings:
    steps: int = 3
    rate: float = 0.1


def counting(payload):
    calls = []

    def compute():
        calls.append(1)
        return payload

    return compute, calls


def entry(folder):
    (path,) = folder.glob("*/*.safetensors")
    return path


def test_payload_comes_back_as_it_was_and_is_computed_once_until_refreshed(monkeypatch):
    tensors = {"weights": torch.randn(3, 4), "half": torch.randn(5).bfloat16(), "empty": torch.empty(0, 2)}
    values = {"name": "x", "nested": {"a": [1, 2.5, None, True]}, "infinite": float("inf")}
    compute, calls = counting({**tensors, **values, "counts": np.arange(6).reshape(2, 3), "nan": float("nan")})
    for _ in range(2):
        payload = cached("kind", Settings(), compute)
        assert all(torch.equal(payload[name], tensor) for name, tensor in tensors.items())
        assert {name: payload[name] for name in values} == values and np.isnan(payload["nan"])
        assert isinstance(payload["counts"], np.ndarray) and payload["counts"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert len(calls) == 1
    monkeypatch.setenv("ROBUSTLIB_REFRESH", str(time.time()))  # what is older than the run is computed again, once
    for _ in range(2):
        cached("kind", Settings(), compute)
    assert len(calls) == 2


def test_every_part_of_the_configuration_is_in_the_key():
    def key(config, kind="kind", rooms=("models",)):
        return cache_key(kind, config, rooms)

    configurations = Settings(), Settings(steps=4), Settings(rate=0.2), {"steps": 3, "rate": 0.1}
    keys = [*map(key, configurations), key(Settings(), kind="other"), key(Settings(), rooms=("attacks",))]
    assert len(set(keys)) == 6
    assert keys[0] == key(Settings(rate=0.1, steps=3))
    assert key({"a": 1}) == key({"a": 1.0}) == key({"a": np.float32(1)})
    assert key({"a": (1, 2)}) == key({"a": [1, 2]})


LIBRARY = {
    "attacks/__init__.py": "from robustlib.attacks.pgd import pgd",
    "attacks/pgd.py": "def pgd(x, steps=10):\n    from robustlib.calibration.fit import f\n    return f(x) * steps",
    "calibration/fit.py": "from ..models import forward\nfrom robustlib.data.folders import N\nf = forward.f",
    "models/forward.py": "def f(x):\n    return x",
    "models/texts.py": "N = 1",
    "data/folders.py": "N = 1",
}


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("attacks/pgd.py", LIBRARY["attacks/pgd.py"].replace("x, ", "# why\n    x,\n    "), False),
        ("attacks/pgd.py", LIBRARY["attacks/pgd.py"].replace("    from", '    """What it does."""\n    from'), False),
        ("attacks/pgd.py", LIBRARY["attacks/pgd.py"].replace("10", "20"), True),
        ("calibration/fit.py", LIBRARY["calibration/fit.py"] + "\nf = abs", True),
        ("models/forward.py", "def f(x):\n    return -x", True),
        ("attacks/new.py", "N = 1", True),
        ("models/texts.py", "N = 2", False),  # attacks does not import it
        ("data/folders.py", "N = 2", False),  # data count by their content
    ],
    ids=["comment", "docstring", "default", "import in a function", "relative import", "new", "foreign", "data"],
)
def test_a_key_holds_the_code_that_computes_and_all_it_imports_but_no_prose(tmp_path, name, text, counts):
    digests = []
    for folder, changed in ((tmp_path / "a" / "robustlib", {}), (tmp_path / "b" / "robustlib", {name: text})):
        for file, content in (LIBRARY | changed).items():
            replace_file(folder / file, content)
        digests.append(source_digest(("attacks",), folder))
    assert (digests[0] != digests[1]) == counts


@pytest.fixture
def lock(folder):
    """Take the right to write to folders away, for root too."""
    paths = []

    def take_away(*folders):
        for path in folders:
            paths.extend([path, *path.rglob("*")])
        for path in paths:
            path.chmod(path.stat().st_mode & ~0o222)

    yield take_away
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def test_a_read_only_cache_is_read_and_what_it_lacks_is_computed_and_not_kept(folder, lock):
    compute, calls = counting({"weights": torch.ones(2), "pair": (1, 2)})
    first = cached("kind", Settings(), compute)
    lock(folder)
    assert cached("kind", Settings(), compute)["pair"] == first["pair"] == [1, 2]
    assert len(calls) == 1
    with pytest.warns(UserWarning, match=f"cache {folder} cannot be written to.* ROBUSTLIB_CACHE"):
        again = cached("kind", Settings(steps=4), compute)
    assert torch.equal(again["weights"], torch.ones(2)) and again["pair"] == [1, 2]
    assert len(list(folder.glob("*/*.safetensors"))) == 1
    with pytest.raises(ReadOnlyFolderError, match=f"^{folder} cannot be written to; name .* in ROBUSTLIB_CACHE$"):
        replace_file(folder / "note.txt", "text")


def test_a_shared_read_only_cache_stands_before_ones_own(folder, lock, monkeypatch):
    compute, calls = counting({"a": 1})
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(folder / "shared"))
    cached("kind", Settings(), compute)
    lock(folder / "shared")
    monkeypatch.setenv("ROBUSTLIB_CACHE", f"{folder / 'shared'}{os.pathsep}{folder / 'own'}")
    for _ in range(2):
        cached("kind", Settings(), compute)
        cached("kind", Settings(steps=4), compute)
    assert len(calls) == 2
    assert cache_dir() == folder / "own"
    assert len(list((folder / "own").glob("*/*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "swap"])
def test_a_damaged_entry_is_noticed_and_computed_again(folder, damage):
    compute, calls = counting({"weights": torch.arange(1000.0)})
    cached("kind", Settings(), compute)
    path = entry(folder)
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[-3] ^= 0x40  # one bit of one weight: safetensors alone would not notice
    elif damage == "text":
        content = b"not an entry"
    else:
        cached("kind", Settings(steps=9), counting({"weights": torch.zeros(1000)})[0])
        content = next(other for other in folder.glob("*/*.safetensors") if other != path).read_bytes()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        assert torch.equal(cached("kind", Settings(), compute)["weights"], torch.arange(1000.0))
    assert len(calls) == 2


def test_a_failing_computation_leaves_nothing_behind(folder):
    def fail():
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        cached("kind", Settings(), fail)
    with pytest.raises(TypeError, match="payload"):
        cached("kind", Settings(), lambda: {"bad": object()})
    assert not list(folder.glob("*/*.safetensors"))
    assert not list(folder.glob("*/*.part"))


def _slow_compute(folder, seconds):
    os.environ["ROBUSTLIB_CACHE"] = str(folder)

    def compute():
        with open(folder / "calls.txt", "a") as file:
            file.write("x")
        time.sleep(seconds)
        return {"value": torch.ones(3)}

    assert torch.equal(cached("kind", Settings(), compute)["value"], torch.ones(3))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_two_processes_compute_once_and_a_killed_holder_blocks_nobody(folder):
    context = multiprocessing.get_context("fork")
    pair = [context.Process(target=_slow_compute, args=(folder, 0.5)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(20)
    assert [process.exitcode for process in pair] == [0, 0]
    assert (folder / "calls.txt").read_text() == "x"

    entry(folder).unlink()
    holder = context.Process(target=_slow_compute, args=(folder, 60))
    holder.start()
    while (folder / "calls.txt").read_text() != "xx":
        time.sleep(0.01)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    _slow_compute(folder, 0)
    assert (folder / "calls.txt").read_text() == "xxx"
    assert not list(folder.glob("*/*.part"))
