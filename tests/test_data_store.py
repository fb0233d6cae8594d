"""Finding, verifying and fetching data files: nothing with wrong content is ever used."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_fixtures import make_dataset, make_workspace, web_server

from robustlib.data import FetchError, cli, content, fetch, registry, resolve_dataset, sources, store
from robustlib.data.sources import Download

PAYLOAD = bytes(range(256)) * 40


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "RETRIES", 0)
    monkeypatch.setattr(sources, "CONNECT_AND_READ_TIMEOUT", (1, 0.5))
    return make_workspace(tmp_path, monkeypatch)


@pytest.fixture
def register(monkeypatch):
    def add(*urls: str, name: str = "toy") -> registry.Dataset:
        dataset = make_dataset(name, {f"{name}/numbers.bin": PAYLOAD})
        sha256 = dataset.files[0].sha256
        wanted = [Download(((f"{name}/numbers.bin", url, sha256),)) for url in urls]
        dataset = make_dataset(name, {f"{name}/numbers.bin": PAYLOAD}, wanted)
        monkeypatch.setitem(registry.DATASETS, name, dataset)
        return dataset

    return add


def visible(folder: Path) -> set[str]:
    """Every file below `folder` but the locks."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_file_is_fetched_once_and_leaves_nothing_beside_it(data, register):
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/ok/numbers.bin")
        paths = fetch("toy")
        assert fetch("toy") == paths == {"numbers.bin": data / "toy" / "numbers.bin"}
        assert hits == {"/ok/numbers.bin": 1}
    assert content(paths, "numbers.bin") == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("wrong", "SHA256 hash"), ("truncated", "IncompleteRead|SHA256 hash"), ("absent", "404"), ("hang", "timed out")],
)
def test_a_misbehaving_source_is_named_and_the_next_one_is_used(data, register, kind, reason):
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/{kind}/numbers.bin")
        with pytest.raises(FetchError, match=rf"(?s)1\. {url}/{kind}/numbers.bin\s+\w+: .*({reason})"):
            fetch("toy")
        assert visible(data) == set()
        register(f"{url}/{kind}/numbers.bin", f"{url}/ok/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


def test_a_failed_download_is_tried_again(data, register, monkeypatch):
    monkeypatch.setattr(sources, "RETRIES", 1)
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/once/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD
        assert hits == {"/once/numbers.bin": 2}


def test_a_source_whose_own_sum_is_unknown_is_held_to_the_files_sum(data, monkeypatch):
    dataset = make_dataset("toy", {"toy/numbers.bin": PAYLOAD})
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        wrong = Download((("toy/numbers.bin", f"{url}/wrong/numbers.bin", None),))
        monkeypatch.setitem(registry.DATASETS, "toy", make_dataset("toy", {"toy/numbers.bin": PAYLOAD}, [wrong]))
        with pytest.raises(FetchError, match=f"has sha256 [0-9a-f]+, not {dataset.files[0].sha256}"):
            fetch("toy")
    assert visible(data) == set()


def test_a_gzipped_download_is_unwrapped(data, monkeypatch):
    import hashlib

    packed = gzip.compress(PAYLOAD)
    with web_server({"numbers.bin.gz": packed}) as (url, _):
        source = Download((("toy/numbers.bin", f"{url}/ok/numbers.bin.gz", hashlib.sha256(packed).hexdigest()),))
        monkeypatch.setitem(registry.DATASETS, "toy", make_dataset("toy", {"toy/numbers.bin": PAYLOAD}, [source]))
        assert fetch("toy")["numbers.bin"].read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    "damage", [b"", PAYLOAD[:-1], PAYLOAD + b"x", PAYLOAD[::-1]], ids=["empty", "cut", "longer", "other"]
)
def test_a_damaged_file_is_fetched_again(data, register, damage):
    (data / "toy").mkdir()
    (data / "toy" / "numbers.bin").write_bytes(damage)
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/absent/numbers.bin")
        with pytest.raises(FetchError, match=r"Files found, but not used:\n.*numbers.bin has"):
            fetch("toy")
        assert (data / "toy" / "numbers.bin").read_bytes() == damage
        register(f"{url}/ok/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD


@pytest.mark.parametrize("wrap", [False, True])
def test_a_right_file_in_a_read_only_folder_is_used_in_place(data, register, tmp_path, monkeypatch, wrap):
    shelf = tmp_path / "shelf"
    (shelf / "toy").mkdir(parents=True)
    path = shelf / "toy" / ("numbers.bin.gz" if wrap else "numbers.bin")
    path.write_bytes(gzip.compress(PAYLOAD) if wrap else PAYLOAD)
    shelf.chmod(0o555)
    monkeypatch.setenv("ROBUSTLIB_DATA", str(shelf))
    register()
    paths = fetch("toy")
    assert paths == {"numbers.bin": path}
    assert content(paths, "numbers.bin") == PAYLOAD
    assert store.download_dir() == data


@pytest.mark.parametrize(
    "damage", [PAYLOAD[::-1], gzip.compress(PAYLOAD)[:-9], gzip.compress(PAYLOAD * 2)], ids=["other", "cut", "longer"]
)
def test_a_wrong_file_in_a_named_folder_is_passed_over_and_left_alone(data, register, tmp_path, monkeypatch, damage):
    shelf = tmp_path / "shelf"
    (shelf / "toy").mkdir(parents=True)
    wrong = shelf / "toy" / ("numbers.bin.gz" if damage[:2] == b"\x1f\x8b" else "numbers.bin")
    wrong.write_bytes(damage)
    shelf.chmod(0o555)
    monkeypatch.setenv("ROBUSTLIB_DATA", str(shelf))
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/ok/numbers.bin")
        assert fetch("toy") == {"numbers.bin": data / "toy" / "numbers.bin"}
    assert wrong.read_bytes() == damage


def test_where_no_data_folder_can_be_written_to_the_variable_is_named(data, register):
    register("http://127.0.0.1:9/x")
    data.chmod(0o555)
    with pytest.raises(FetchError, match=f"^no data folder can be written to .{data}.; name .* in ROBUSTLIB_DATA$"):
        fetch("toy")


def test_downloads_go_to_the_folder_in_robustlib_data(data, register, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_DATA", str(tmp_path / "new" / "place"))
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/ok/numbers.bin")
        assert fetch("toy") == {"numbers.bin": tmp_path / "new" / "place" / "toy" / "numbers.bin"}


def test_offline_tries_no_network_and_says_how_to_put_the_file_there(data, register, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        dataset = register(f"{url}/ok/numbers.bin")
        with pytest.raises(FetchError) as caught:
            fetch("toy")
        assert not hits
    message = str(caught.value)
    assert "ROBUSTLIB_OFFLINE is set" in message
    assert f"{url}/ok/numbers.bin" in message
    assert f"{data / 'toy' / 'numbers.bin'}  10,240 bytes, sha256 {dataset.files[0].sha256}" in message
    # and doing as it says works
    (data / "toy").mkdir()
    (data / "toy" / "numbers.bin").write_bytes(PAYLOAD)
    assert content(fetch("toy"), "numbers.bin") == PAYLOAD


def test_every_source_of_the_registry_keeps_to_offline(data, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: pytest.fail(f"ran {arguments}"))
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail(f"connected {arguments}"))
    for dataset in registry.DATASETS.values():
        for source in dataset.sources:
            if not isinstance(source, sources.InstalledFiles):
                with pytest.raises((ConnectionError, FileNotFoundError), match=r"ROBUSTLIB_OFFLINE|not a Debian"):
                    source.obtain(data)


def test_a_verified_file_is_not_hashed_again_until_it_changes(data, register, monkeypatch):
    (data / "toy").mkdir()
    path = data / "toy" / "numbers.bin"
    path.write_bytes(PAYLOAD)
    dataset = register()
    fetch("toy")
    with monkeypatch.context() as patch:
        patch.setattr(store, "_size_and_sha256", lambda *arguments: pytest.fail("hashed again"))
        fetch("toy")
    status = path.stat()
    path.write_bytes(PAYLOAD[::-1])
    assert "has sha256" in store.check(path, dataset.files[0])
    # the same size and time of change deceive the quick check only
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.check(path, dataset.files[0]) is None
    assert "has sha256" in store.check(path, dataset.files[0], remember=False)
    assert cli.main(["verify", "toy"]) == 1


FETCHER = """
import sys
sys.path.insert(0, {tests!r})
from data_fixtures import make_dataset
from robustlib.data import fetch, registry, sources
payload = bytes(range(256)) * 40
sha256 = make_dataset("toy", {{"toy/numbers.bin": payload}}).files[0].sha256
source = sources.Download((("toy/numbers.bin", {url!r}, sha256),))
registry.DATASETS["toy"] = make_dataset("toy", {{"toy/numbers.bin": payload}}, [source])
print("started", flush=True)
assert fetch("toy")["numbers.bin"].read_bytes() == payload
"""


def start_fetcher(url: str) -> subprocess.Popen:
    script = FETCHER.format(tests=str(Path(__file__).parent), url=url)
    environment = {**os.environ, "PYTHONPATH": str(Path(registry.__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_once(data):
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        both = [start_fetcher(f"{url}/slow/numbers.bin") for _ in range(2)]
        assert [process.wait(30) for process in both] == [0, 0]
        assert hits == {"/slow/numbers.bin": 1}
    assert visible(data) == {"toy/numbers.bin"}


def test_a_killed_download_leaves_no_half_file_and_does_not_block_the_next(data, register):
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        process = start_fetcher(f"{url}/slow/numbers.bin")
        deadline = time.monotonic() + 20
        while not hits and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)  # the first byte is there, the rest is not
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (data / "toy" / "numbers.bin").exists()
        assert (data / ".fetching-toy").is_dir()
        register(f"{url}/ok/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


def test_resolve_gives_the_first_that_can_be_had_and_why_not_the_others(data, register, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    register("http://127.0.0.1:9/x", name="toy")
    name, reasons = resolve_dataset(("toy", "digits", "cifar10"))
    assert name == "digits"
    assert list(reasons) == ["toy"]
    assert "ROBUSTLIB_OFFLINE" in reasons["toy"]
    with pytest.raises(FetchError, match="could not get the data set 'toy'"):
        resolve_dataset(("toy",))
    with pytest.raises(ValueError, match="unknown data set 'nothing'; known: fashion_mnist"):
        resolve_dataset(("nothing", "digits"))
    with pytest.raises(ValueError, match="at least one"):
        resolve_dataset(())


def test_command_line(data, register, capsys):
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/ok/numbers.bin")
        assert cli.main(["list", "toy"]) == 0
        assert "missing" in capsys.readouterr().out
        assert cli.main(["verify"]) == 0
        assert "toy: not here" in capsys.readouterr().out
        assert cli.main(["verify", "toy"]) == 1
        assert cli.main(["fetch", "toy"]) == 0
        assert str(data / "toy") in capsys.readouterr().out
    assert cli.main(["verify", "toy"]) == 0
    assert cli.main(["list", "toy"]) == 0
    assert f"present   made-up toy\n{'':22} licence: none" in capsys.readouterr().out
    (data / "toy" / "numbers.bin").write_bytes(b"spoilt")
    assert cli.main(["verify"]) == 1
    assert "has 6 bytes" in capsys.readouterr().out
    assert cli.main(["fetch", "cifar10_jpeg", "digits"]) == 1
    shown = capsys.readouterr().out
    assert "no source to download from" in shown
    assert "digits: here and verified" in shown
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fetch", "nothing"])
    assert stopped.value.code == 2


def test_the_command_line_does_not_wait_for_torch():
    script = "import json, sys, robustlib.data.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"torch", "sklearn", "pooch"}.isdisjoint(json.loads(done.stdout))


def test_the_registry_is_complete():
    from robustlib.data import images, text

    lexica = {"counter_fitting", "wordnet", "wordnet_debian", "pos_tagger"}
    assert set(registry.DATASETS) == {*images._READERS, *text._READERS, *lexica}
    for dataset in registry.DATASETS.values():
        assert dataset.licence and dataset.citation and dataset.title
        assert len({file.key for file in dataset.files}) == len(dataset.files)
        for file in dataset.files:
            assert file.size > 0 and len(bytes.fromhex(file.sha256)) == 32
        for source in dataset.sources:
            rows = source.members if hasattr(source, "members") else source.files
            assert {file.name for file in dataset.files} <= {row[0] for row in rows}
