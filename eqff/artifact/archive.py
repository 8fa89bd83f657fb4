"""The zip archive of a potential file: members, their hashes, the digest of the whole file.

    <prefix>/...                  the members torch.jit.save wrote, uncompressed, without its debugging records
    <prefix>/extra/...            weights.safetensors, test_vectors.safetensors, card.md, last header.json
                                  (a wrapped foreign program has no weights member: its weights are in the program)
    zip comment                   eqff1 sha256:<64 hex>: digest of the file with those 64 digits set to 0

Python's zipfile reads the second of two members of equal name, torch the first and without regard to case; a file
may also hide bytes between members, or unpack to a thousand times its size.  Here members are not compressed, and every
byte must belong to exactly one member, the directory or the comment: what is checked is what torch reads.
"""

import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eqff.artifact import agreement
from eqff.artifact import header as header_fields
from eqff.errors import PotentialError, ResourceError
from eqff.files import new_file

TAG = b"eqff1 sha256:"
N_DIGITS = 64
COMMENT_SIZE = len(TAG) + N_DIGITS
END = struct.Struct("<4s4H2LH")  # end of central directory
LOCAL = struct.Struct("<4s5H3L2H")  # local file header
MIDNIGHT = (0, 33)  # 1980-01-01 in a zip header: files carry no clock
MAX_BYTES = 2**31 - 1
MAX_MEMBERS = 20_000
WEIGHTS, VECTORS, CARD, HEADER = "weights.safetensors", "test_vectors.safetensors", "card.md", "header.json"


class Contents(NamedTuple):
    """A verified potential file, in memory."""

    content: bytes  # the whole file: torch loads from these bytes, never from the path again
    digest: str  # SHA-256 that the file carries
    header: dict[str, Any]
    extra: dict[str, bytes]  # members under extra/, by name
    path: Path


def pack(program: bytes, header: Mapping[str, Any], extra: Mapping[str, bytes]) -> bytes:
    """Bytes of a potential file.

    Args:    program: as torch.jit.save writes it; header: without `members`, which is made here;
             extra: weights, test vectors and card by member name
    Raises:  PotentialError for a header JSON cannot carry
    """
    members: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        prefix = archive.namelist()[0].split("/")[0]
        for name in archive.namelist():
            if not name.endswith(".debug_pkl"):  # source text and local paths of who exported; not needed
                members[name[len(prefix) + 1 :]] = archive.read(name)
    members |= {f"extra/{name}": text for name, text in extra.items()}
    table = {name: {"sha256": hashlib.sha256(text).hexdigest(), "size": len(text)} for name, text in members.items()}
    members[f"extra/{HEADER}"] = header_fields.to_json({**header, "members": table})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():  # stored, not deflated: no bit of the file is without meaning
            archive.writestr(zipfile.ZipInfo(f"{prefix}/{name}", (1980, 1, 1, 0, 0, 0)), text)
        archive.comment = TAG + b"0" * N_DIGITS
    return seal(buffer.getvalue())


def seal(content: bytes) -> bytes:
    """Put the digest of a file that ends in the comment with zeros into that comment."""
    return content[:-N_DIGITS] + _digest(content).encode()


def read(path: str | Path) -> Contents:
    """Read a potential file once into memory and verify it, without executing anything.

    Raises: PotentialError for a file that is missing, too large, foreign or damaged
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise PotentialError(
                    "EQ4110",
                    f"{path}: larger than {MAX_BYTES} bytes, so it is no potential file; give a *.eqff.pt file",
                )
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PotentialError("EQ4111", f"{path}: cannot be read ({error.strerror}); check path and rights") from error
    return verify(content, path)


def verify(content: bytes, path: Path) -> Contents:
    """Check every byte of a potential file: digest, layout, member hashes, header.

    Args:    content: the whole file; path: for messages
    Raises:  PotentialError saying what is wrong
    """
    if not content.startswith(b"PK\x03\x04") or len(content) > MAX_BYTES:
        size = f"{len(content)} bytes" if content else "empty"
        raise PotentialError("EQ4112", f"{path}: not a potential file ({size}); give a file that `eqff export` wrote")
    comment = content[-COMMENT_SIZE:]
    if not comment.startswith(TAG):
        if comment.startswith(b"eqff"):
            reason = f"digest tag {comment[: len(TAG)]!r} is not {TAG!r}: damaged, or written by another eqff"
        elif content.rfind(TAG) >= 0:
            reason = "bytes follow the digest: the file was changed"
        else:
            reason = "no eqff digest at its end: truncated, or plain TorchScript"
        raise PotentialError("EQ4113", f"{path}: {reason}; get a fresh copy, or write it with `eqff export`")
    digest = content[-N_DIGITS:].decode("latin-1")
    if digest != _digest(content):
        raise PotentialError("EQ4114", f"{path}: SHA-256 of the file is not the one it carries; get a fresh copy")
    members = _members(content, path)
    header_text = members.pop(f"extra/{HEADER}", None)
    if header_text is None:
        raise PotentialError("EQ4115", f"{path}: extra/{HEADER} is missing; export the model again")
    header = header_fields.from_json(header_text, str(path))
    _check_hashes(members, header["members"], path)
    extra = {name.removeprefix("extra/"): text for name, text in members.items() if name.startswith("extra/")}
    for name in (VECTORS, CARD) if header_fields.is_wrapped(header) else (WEIGHTS, VECTORS, CARD):
        if name not in extra:
            raise PotentialError("EQ4115", f"{path}: extra/{name} is missing; export the model again")
    agreement.check(header, extra[VECTORS], extra.get(WEIGHTS), path)
    return Contents(content, digest, header, extra, path)


def write(path: str | Path, content: bytes, check: Callable[[Path], None], force: bool = False) -> None:
    """Write a potential file that is complete, and passes `check`, or absent.

    Args:    path: final place; check: called with the temporary file, may refuse it by raising; force: overwrite
    Raises:  PotentialError EQ4116 if the file exists and not force; DataError EQ3077 if it is a folder;
             ResourceError EQ6101 if it cannot be written; what check raises
    """
    path = Path(path)
    if path.exists() and not force:
        raise PotentialError("EQ4116", f"{path}: exists already; choose another name or overwrite with --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, force=force) as temporary:
            temporary.write_bytes(content)
            check(temporary)
    except OSError as error:
        raise ResourceError(
            "EQ6101", f"{path}: cannot be written ({error.strerror}); check space and rights"
        ) from error


def _digest(content: bytes) -> str:
    """SHA-256 of a file with the last 64 bytes, its own digits, taken as zeros."""
    digest = hashlib.sha256(memoryview(content)[:-N_DIGITS])
    digest.update(b"0" * N_DIGITS)
    return digest.hexdigest()


def _members(content: bytes, path: Path) -> dict[str, bytes]:
    """Unpack all members after checking that they tile the file; names are returned without the prefix."""
    end = len(content) - COMMENT_SIZE - END.size
    if end < 0:
        raise _layout(path, "too short")
    signature, disk, first_disk, n_here, n_members, size, start, comment_size = END.unpack_from(content, end)
    if (signature, disk, first_disk, comment_size) != (b"PK\x05\x06", 0, 0, COMMENT_SIZE) or n_here != n_members:
        raise _layout(path, "no plain end of central directory before the digest")
    if content[end - 20 : end - 16] == b"PK\x06\x07":  # zip64 locator: would move the directory elsewhere
        raise _layout(path, "zip64 directory")
    if start + size != end or not 0 < n_members <= MAX_MEMBERS:
        raise _layout(path, f"{n_members} members, directory of {size} bytes at {start}, expected to end at {end}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            prefix = infos[0].filename.split("/")[0] if infos else ""
            _check_names([info.orig_filename for info in infos], n_members, prefix, path)
            _check_tiling(content, infos, start, path)
            return {info.filename[len(prefix) + 1 :]: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise _layout(path, str(error)) from error


def _check_names(names: list[str], n_members: int, prefix: str, path: Path) -> None:
    """Names must be plain, below one prefix, and different even when case is ignored, as torch ignores it."""
    if len(names) != n_members:
        raise _layout(path, f"{len(names)} directory entries, {n_members} announced")
    seen: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        plain = name.isascii() and name.isprintable() and "\\" not in name
        if not plain or len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or parts[0] != prefix:
            raise PotentialError("EQ4118", f"{path}: member {name!r} lies outside {prefix!r}; do not use this file")
        if name.lower() in seen:
            raise PotentialError(
                "EQ4119", f"{path}: members {seen[name.lower()]!r} and {name!r} share a name; do not use this file"
            )
        seen[name.lower()] = name


def _check_tiling(content: bytes, infos: list[zipfile.ZipInfo], start: int, path: Path) -> None:
    """Members must follow each other without gaps or overlaps, and their two headers must agree."""
    offset = 0
    for info in infos:
        if info.header_offset != offset or offset + LOCAL.size > start:
            raise _layout(path, f"member {info.filename!r} begins at {info.header_offset}, expected {offset}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise PotentialError(
                "EQ4120",
                f"{path}: member {info.filename!r} is compressed, {info.compress_size} to {info.file_size} bytes; "
                "eqff stores members as they are, do not use this file",
            )
        if info.flag_bits or info.extra or info.comment:
            raise _layout(path, f"member {info.filename!r} has flags or notes that eqff does not write")
        local = LOCAL.unpack_from(content, offset)
        name = info.filename.encode()
        sizes = (info.CRC, info.file_size, info.file_size, len(name), 0)
        agrees = local == (b"PK\x03\x04", 20, 0, zipfile.ZIP_STORED, *MIDNIGHT, *sizes)
        offset += LOCAL.size
        if not agrees or content[offset : offset + len(name)] != name:
            raise _layout(path, f"member {info.filename!r}: its two headers differ")
        offset += len(name) + info.compress_size
    if offset != start:
        raise _layout(path, f"{start - offset} bytes lie between the last member and the directory")


def _check_hashes(members: Mapping[str, bytes], table: Mapping[str, Any], path: Path) -> None:
    """Every member must be listed in the header, be there, and have its size and SHA-256."""
    unlisted, missing = sorted(members.keys() - table.keys()), sorted(table.keys() - members.keys())
    if unlisted or missing:
        raise PotentialError(
            "EQ4122",
            f"{path}: members not in the header {unlisted}, in the header only {missing}; do not use this file",
        )
    for name, content in members.items():
        if len(content) != table[name]["size"] or hashlib.sha256(content).hexdigest() != table[name]["sha256"]:
            raise PotentialError("EQ4123", f"{path}: member {name!r} is not the one the header lists; get a fresh copy")


def _layout(path: Path, reason: str) -> PotentialError:
    return PotentialError("EQ4117", f"{path}: not the layout eqff writes: {reason}; get a fresh copy")
