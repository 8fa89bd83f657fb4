"""SHA-256 of files."""

import hashlib
from pathlib import Path


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits, as `sha256sum` prints it.

    Raises: OSError if it cannot be read
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
