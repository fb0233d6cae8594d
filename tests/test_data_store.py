"""Finding, verifying and fetching data files: nothing with wrong content is ever used."""

import gzip
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_fixtures import make_dataset, web_server

from robustlib.data import FetchError, cli, content, fetch, registry, resolve_dataset, sources, store
from robustlib.data.sources import Download

PAYLOAD = bytes(range(256)) * 40
SHA256 = hashlib.sha256(PAYLOAD).hexdigest()
PACKED = gzip.compress(PAYLOAD)


@pytest.fixture
def register(monkeypatch):
    """Let the data set "toy" be one file with these URLs, each said to give content of this sum."""

    def add(*urls: str, sha256: str | None = SHA256) -> None:
        downloads = [Download((("toy/numbers.bin", url, sha256),)) for url in urls]
        monkeypatch.setitem(registry.DATASETS, "toy", make_dataset("toy", {"toy/numbers.bin": PAYLOAD}, downloads))

    return add


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Put files into a read-only folder that ROBUSTLIB_DATA names."""

    def place(name: str, body: bytes) -> Path:
        path = tmp_path / "shelf" / "toy" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
        (tmp_path / "shelf").chmod(0o555)
        monkeypatch.setenv("ROBUSTLIB_DATA", str(tmp_path / "shelf"))
        return path

    return place


def visible(folder: Path) -> set[str]:
    """Every file below `folder` but the locks."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize(
    ("name", "body", "kind", "n_requests"),
    [
        ("numbers.bin", PAYLOAD, "ok", 1),
        ("numbers.bin.gz", PACKED, "ok", 1),
        ("numbers.bin", PAYLOAD, "once", 2),  # a failed download is tried again
    ],
)
def test_a_file_is_fetched_once_unwrapped_and_leaves_nothing_beside_it(
    data, register, name, body, kind, n_requests, monkeypatch
):
    monkeypatch.setattr(sources, "RETRIES", 1)
    with web_server({name: body}) as (url, hits):
        register(f"{url}/{kind}/{name}", sha256=hashlib.sha256(body).hexdigest())
        paths = fetch("toy")
        assert fetch("toy") == paths == {"numbers.bin": data / "toy" / "numbers.bin"}
        assert hits == {f"/{kind}/{name}": n_requests}
    assert paths["numbers.bin"].read_bytes() == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


@pytest.mark.parametrize(
    ("kind", "sha256", "reason"),
    [
        ("wrong", SHA256, "SHA256 hash"),
        ("wrong", None, f"has sha256 [0-9a-f]+, not {SHA256}"),
        ("truncated", SHA256, "IncompleteRead|SHA256 hash"),
        ("absent", SHA256, "404"),
        ("hang", SHA256, "timed out"),
    ],
)
def test_a_misbehaving_source_is_named_and_the_next_one_is_used(data, register, kind, sha256, reason):
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/{kind}/numbers.bin", sha256=sha256)
        with pytest.raises(FetchError, match=rf"(?s)1\. {url}/{kind}/numbers.bin\s+.*({reason})"):
            fetch("toy")
        assert visible(data) == set()
        register(f"{url}/{kind}/numbers.bin", f"{url}/ok/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


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


@pytest.mark.parametrize(
    ("name", "body", "right"),
    [
        ("numbers.bin", PAYLOAD, True),
        ("numbers.bin.gz", PACKED, True),
        ("numbers.bin", PAYLOAD[::-1], False),
        ("numbers.bin.gz", PACKED[:-9], False),
        ("numbers.bin.gz", gzip.compress(PAYLOAD * 2), False),
    ],
    ids=["plain", "packed", "other", "cut", "longer"],
)
def test_a_file_in_a_read_only_folder_is_used_in_place_or_passed_over(data, register, shelf, name, body, right):
    path = shelf(name, body)
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/ok/numbers.bin")
        paths = fetch("toy")
        assert paths == {"numbers.bin": path if right else data / "toy" / "numbers.bin"} and bool(hits) != right
    assert content(paths, "numbers.bin") == PAYLOAD and path.read_bytes() == body


def test_downloads_go_to_the_folder_in_robustlib_data_which_is_named_where_none_can_be_written(
    data, register, tmp_path, monkeypatch
):
    data.chmod(0o555)
    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/ok/numbers.bin")
        with pytest.raises(FetchError, match=f"no data folder can be written to .{data}.; name .* in ROBUSTLIB_DATA"):
            fetch("toy")
        monkeypatch.setenv("ROBUSTLIB_DATA", str(tmp_path / "new" / "place"))
        assert fetch("toy") == {"numbers.bin": tmp_path / "new" / "place" / "toy" / "numbers.bin"}


def test_offline_tries_no_network_and_says_how_to_put_the_file_there(data, register, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/ok/numbers.bin")
        with pytest.raises(FetchError) as caught:
            fetch("toy")
        assert not hits
    for part in ("ROBUSTLIB_OFFLINE is set", f"{url}/ok/numbers.bin"):
        assert part in str(caught.value)
    assert f"{data / 'toy' / 'numbers.bin'}  10,240 bytes, sha256 {SHA256}" in str(caught.value)


def test_every_source_of_the_registry_keeps_to_offline(data, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: pytest.fail(f"ran {arguments}"))
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail(f"connected {arguments}"))
    for dataset in registry.DATASETS.values():
        for source in dataset.sources:
            if not isinstance(source, sources.InstalledFiles):
                with pytest.raises((ConnectionError, FileNotFoundError), match=r"ROBUSTLIB_OFFLINE|not a Debian"):
                    source.obtain(data)


def test_a_verified_file_is_not_hashed_again_until_it_changes(data, register):
    (data / "toy").mkdir()
    path = data / "toy" / "numbers.bin"
    path.write_bytes(PAYLOAD)
    register()
    (file,) = registry.DATASETS["toy"].files
    fetch("toy")
    status = path.stat()
    path.write_bytes(PAYLOAD[::-1])
    assert "has sha256" in store.check(path, file)
    # The same size and time of change deceive the quick check only: it trusts what it has seen.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.check(path, file) is None
    assert "has sha256" in store.check(path, file, remember=False)
    assert cli.main(["verify", "toy"]) == 1


def start_fetcher() -> multiprocessing.Process:
    def fetch_patiently():
        sources.CONNECT_AND_READ_TIMEOUT = (1, 30)
        fetch("toy")

    process = multiprocessing.get_context("fork").Process(target=fetch_patiently)
    process.start()
    return process


def test_two_processes_download_once(data, register):
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/slow/numbers.bin")
        both = [start_fetcher() for _ in range(2)]
        for process in both:
            process.join(60)
        assert [process.exitcode for process in both] == [0, 0]
        assert hits == {"/slow/numbers.bin": 1}
    assert visible(data) == {"toy/numbers.bin"}


def test_a_killed_download_leaves_no_half_file_and_does_not_block_the_next(data, register):
    with web_server({"numbers.bin": PAYLOAD}) as (url, hits):
        register(f"{url}/slow/numbers.bin")
        process = start_fetcher()
        deadline = time.monotonic() + 60
        while not hits and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)  # the first byte is there, the rest is not
        process.kill()
        process.join()
        assert not (data / "toy" / "numbers.bin").exists()
        register(f"{url}/ok/numbers.bin")
        assert content(fetch("toy"), "numbers.bin") == PAYLOAD
    assert visible(data) == {"toy/numbers.bin"}


def test_resolve_gives_the_first_that_is_available_and_why_not_the_others(data, register, monkeypatch):
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    register("http://127.0.0.1:9/x")
    name, reasons = resolve_dataset(("toy", "digits", "cifar10"))
    assert (name, list(reasons)) == ("digits", ["toy"])
    assert "ROBUSTLIB_OFFLINE" in reasons["toy"]
    for names, error, message in (
        (("toy",), FetchError, "could not get the data set 'toy'"),
        (("nothing", "digits"), ValueError, "unknown data set 'nothing'; known: fashion_mnist"),
        ((), ValueError, "at least one"),
    ):
        with pytest.raises(error, match=message):
            resolve_dataset(names)


def test_command_line(data, register, capsys):
    def call(*arguments: str) -> tuple[int, str]:
        return cli.main([*arguments]), capsys.readouterr().out

    with web_server({"numbers.bin": PAYLOAD}) as (url, _):
        register(f"{url}/ok/numbers.bin")
        for arguments, status, words in (
            (["list", "toy"], 0, "missing"),
            (["verify"], 0, "toy: not here"),
            (["verify", "toy"], 1, "missing: toy/numbers.bin"),
            (["fetch", "toy"], 0, str(data / "toy")),
            (["verify", "toy"], 0, "toy: right"),
            (["list", "toy"], 0, f"present   made-up toy\n{'':22} licence: none"),
        ):
            printed = call(*arguments)
            assert printed[0] == status and words in printed[1]
    (data / "toy" / "numbers.bin").write_bytes(b"spoilt")
    status, text = call("verify")
    assert status == 1 and "has 6 bytes" in text
    status, text = call("fetch", "cifar10_jpeg", "digits")
    assert status == 1 and "no source to download from" in text and "digits: here and verified" in text
    with pytest.raises(SystemExit):
        cli.main(["fetch", "nothing"])
    script = "import json, sys, robustlib.data.cli; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"torch", "sklearn", "pooch"}.isdisjoint(json.loads(done.stdout)), "the command line waits for them"


def test_the_registry_is_complete():
    for dataset in registry.DATASETS.values():
        assert dataset.licence and dataset.citation and dataset.title
        assert len({file.key for file in dataset.files}) == len(dataset.files)
        for file in dataset.files:
            assert file.size > 0 and len(bytes.fromhex(file.sha256)) == 32
        for source in dataset.sources:
            rows = source.members if hasattr(source, "members") else source.files
            assert {file.name for file in dataset.files} <= {row[0] for row in rows}
