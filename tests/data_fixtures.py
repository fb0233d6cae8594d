"""Help for the tests of the data layer: an isolated workspace, made-up data sets, a local web server."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from robustlib.data import registry, sources
from robustlib.data.registry import Dataset, File


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """The empty data folder of a checkout of its own, whose sources are tried once; no test touches the real ones."""
    monkeypatch.setattr(sources, "RETRIES", 0)
    monkeypatch.setattr(sources, "CONNECT_AND_READ_TIMEOUT", (1, 0.5))
    checkout = tmp_path / "checkout"
    (checkout / "notebooks").mkdir(parents=True)
    (checkout / "data").mkdir()
    (checkout / "run_all.sh").touch()
    monkeypatch.setenv("ROBUSTLIB_ROOT", str(checkout))
    monkeypatch.setenv("ROBUSTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("ROBUSTLIB_DATA", raising=False)
    monkeypatch.delenv("ROBUSTLIB_OFFLINE", raising=False)
    return checkout / "data"


def tar_of(contents: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, body in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def zip_of(contents: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, body in contents.items():
            archive.writestr(name, body)
    return packed.getvalue()


def file_of(name: str, content: bytes) -> File:
    """The registry's description of a file with this content."""
    return File(name, len(content), hashlib.sha256(content).hexdigest())


def make_dataset(name: str, contents: dict[str, bytes], origins=()) -> Dataset:
    """A data set of files with these names and contents."""
    files = tuple(file_of(key, content) for key, content in contents.items())
    return Dataset(name, f"made-up {name}", files, tuple(origins), "none", "nobody")


def place(data: Path, monkeypatch, name: str, contents: dict[str, bytes], *, wrap: bool = False) -> None:
    """Let the registry's data set `name` consist of these contents, and write them to the data folder."""
    files = []
    for file in registry.DATASETS[name].files:
        content = contents[file.key]
        files.append(file_of(file.name, content))
        path = data / (f"{file.name}.gz" if wrap else file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if wrap else content)
    changed = replace(registry.DATASETS[name], files=tuple(files), sources=())
    monkeypatch.setitem(registry.DATASETS, name, changed)


@contextmanager
def web_server(pages: dict[str, bytes]):
    """Serve `pages` at /ok/NAME; /absent, /wrong, /truncated, /hang, /slow and /once (fails first) misbehave.

    Yields the URL and a count of the requests by path.
    """
    hits: Counter[str] = Counter()
    closing = threading.Event()

    def respond(request: Request) -> Response:
        _, kind, name = request.path.split("/", 2)
        hits[request.path] += 1
        if kind == "absent" or (kind == "once" and hits[request.path] == 1):
            return Response(status=404 if kind == "absent" else 503)
        body = pages[name][:: -1 if kind == "wrong" else 1]

        def parts():
            yield body[:1]
            closing.wait({"hang": 20, "slow": 1.5}.get(kind, 0))
            yield body[1 : len(body) // 2 if kind == "truncated" else None]

        return Response(parts(), headers={"Content-Length": str(len(body))})

    with HTTPServer(threaded=True) as server:
        server.expect_request(re.compile(".*")).respond_with_handler(respond)
        try:
            yield server.url_for("").rstrip("/"), hits
        finally:
            closing.set()
