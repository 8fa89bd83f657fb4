"""Downloads that appear whole or not at all: mirrors in turn, resumed where they broke off, checked and recorded.

Written on urllib: none of the small packages for downloads resumes one or changes to a mirror.

    NAME.part         what has arrived; NAME.part.json names the source, which alone can continue it
    NAME.source.json  beside the finished file: its SHA-256, where it came from and when, licence and citation
"""

import contextlib
import json
import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from eqff.data.published.catalogue import RemoteFile
from eqff.digest import file_sha256
from eqff.errors import DataError, ResourceError
from eqff.files import locked, new_file

TRIES = 3  # of each mirror
PAUSE = 1.0  # s between tries, doubled each time
SILENCE = 30.0  # s without a byte, then a try has failed
BYTES = 2**20  # per read
Progress = Callable[[int, int | None], None]  # bytes so far, total bytes or None


class Fetched(NamedTuple):
    """A file that `fetch` loaded or found."""

    path: Path
    sha256: str
    source: str  # URL or local path
    known: bool  # whether its SHA-256 was compared with an expected one
    new: bool  # whether it was downloaded by this call


def fetch(
    remote: RemoteFile,
    folder: str | Path,
    *,
    about: dict[str, str] | None = None,
    from_file: str | Path | None = None,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> Fetched:
    """Bring a file of the catalogue into a folder, unless it is there already with the right SHA-256.

    Args:    remote; folder: made if missing; about: kept beside the file; from_file: a copy from elsewhere, for
             machines without network; force: replace a file that exists; progress: called with bytes
    Raises:  DataError EQ3340 another file has that name, EQ3341 wrong SHA-256, EQ3342 from_file is
             missing; ResourceError EQ6191 no mirror gave the file, EQ6131 another process loads it
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target, record = folder / remote.name, folder / f"{remote.name}.source.json"
    recorded = _read_json(record).get("sha256")
    expected = remote.sha256 or recorded
    with locked(target):
        if target.exists() and not force:
            return _present(target, expected, remote, record)
        part = folder / f"{remote.name}.part"
        if from_file is None:
            source = _load(remote, part, progress)
        else:
            source = _copy(Path(from_file), part, progress)
        found = file_sha256(part)
        if expected is not None and found != expected and not (force and remote.sha256 is None):
            whose = "known" if remote.sha256 else "of the first download"
            _forget(part)
            raise DataError(
                "EQ3341", f"{remote.name} from {source}: SHA-256 {found[:16]}..., but the one {whose} is "
                f"{expected[:16]}...; it was damaged or changed: try again, or another mirror",
            )  # fmt: skip
        os.replace(part, target)
        _forget(part)
        content = {"sha256": found, "source": source, "date": time.strftime("%Y-%m-%d"), **(about or {})}
        with new_file(record, force=True) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return Fetched(target, found, source, expected is not None, True)


def _present(target: Path, expected: str | None, remote: RemoteFile, record: Path) -> Fetched:
    found = file_sha256(target)
    if expected is None or found != expected:
        what = "nothing is recorded of it" if expected is None else f"its SHA-256 is not {expected[:16]}..."
        raise DataError("EQ3340", f"{target}: a file of this name is there, but {what}; move it, or --force")
    return Fetched(target, found, str(_read_json(record).get("source", remote.name)), True, False)


def _copy(source: Path, part: Path, progress: Progress) -> str:
    if not source.is_file():
        raise DataError("EQ3342", f"{source}: no such file; give the copy that was loaded elsewhere")
    total, done = source.stat().st_size, 0
    with open(source, "rb") as reading, open(part, "wb") as writing:
        while data := reading.read(BYTES):
            writing.write(data)
            done += len(data)
            progress(done, total)
        os.fsync(writing.fileno())
    return str(source)


def _load(remote: RemoteFile, part: Path, progress: Progress) -> str:
    """Try mirrors until the whole file is there; returns the URL of the mirror that had it."""
    problems = []
    # only the mirror that a part came from can continue it
    begun = _read_json(_memo(part)).get("url") if part.exists() else None
    for url in sorted(remote.urls, key=lambda url: url != begun):
        pause = PAUSE
        for attempt in range(TRIES):
            try:
                _load_from(url, part, progress)
            except (OSError, HTTPException, ValueError) as error:
                problems.append(f"{urlsplit(url).netloc}: {error}")
                if isinstance(error, HTTPError) and 400 <= error.code < 500 and error.code not in (408, 416, 429):
                    break  # a retry gets the same answer
                if attempt + 1 < TRIES:
                    time.sleep(pause)
                    pause *= 2
            else:
                return url
    reasons = "; ".join(dict.fromkeys(problems))
    raise ResourceError(
        "EQ6191",
        f"{remote.name}: no mirror gave it ({reasons}); try later (what came is kept and continued), or load it "
        f"elsewhere from {remote.urls[0]} and pass it with --from-file",
    )


def _load_from(url: str, part: Path, progress: Progress) -> None:
    """One request; it continues the part on disk if the server still has the same file."""
    memo = _read_json(_memo(part))
    done = part.stat().st_size if part.exists() and memo.get("url") == url and memo.get("tag") else 0
    request = Request(url, headers={"User-Agent": "eqff", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", memo["tag"])  # if the file has changed, the server sends all of it
    try:
        response = urlopen(request, timeout=SILENCE)
    except HTTPError as error:
        if error.code == 416:  # nothing follows this part: begin again
            _forget(part)
        raise
    with response:
        if response.status == 206:
            if not str(response.headers.get("Content-Range", "")).startswith(f"bytes {done}-"):
                raise ValueError("the answer does not start where the part ends")
        elif response.status == 200:
            done = 0
        else:
            raise ValueError(f"status {response.status} instead of the file")  # e.g. 202: not yet
        if response.headers.get_content_type() == "text/html":
            raise ValueError("a web page instead of the file")
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if tag is not None and tag.startswith("W/"):
            tag = None  # weak: does not identify bytes
        _memo(part).write_text(json.dumps({"url": url, "tag": tag}), encoding="utf-8")
        with open(part, "ab" if done else "wb") as file:
            while data := response.read(BYTES):
                file.write(data)
                done += len(data)
                progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if done == 0 or (total is not None and done != total):
        raise ValueError(f"broke off after {done} of {'unknown' if total is None else total} bytes")


def unpack(archive: Path, endings: tuple[str, ...], folder: Path, force: bool = False) -> list[Path]:
    """Unpack members of a tar or zip archive into a folder, without sub-folders.

    Args:    archive; endings: of the names of members to unpack; folder; force: replace existing files
    Returns: paths of the members, those of existing files among them
    Raises:  DataError EQ3345 if it is no archive or damaged, EQ3346 if it has no such member
    """
    written: list[Path] = []
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    if not info.is_dir() and info.filename.endswith(endings):
                        written += _extract(info.filename, partial(zipped.open, info), folder, force)
        else:
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(endings):
                        written += _extract(member.name, partial(tar.extractfile, member), folder, force)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError("EQ3345", f"{archive}: not an archive, or damaged ({error}); download it again") from None
    if not written:
        raise DataError(
            "EQ3346",
            f"{archive}: holds no file that ends in {' or '.join(endings)}; check that this is the right archive",
        )
    return written


def _extract(name: str, opened: Callable[[], Any], folder: Path, force: bool) -> list[Path]:
    target = folder / Path(name).name  # never the path in the archive
    if target.name.startswith("."):
        return []  # resource forks of macOS
    if not target.exists() or force:
        with new_file(target, force=force) as temporary, opened() as source, open(temporary, "wb") as file:
            shutil.copyfileobj(source, file, BYTES)
    return [target]


def _memo(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    for path in (part, _memo(part)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
