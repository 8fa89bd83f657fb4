"""A long output file that survives being killed at any moment: written in pieces, continued after the last whole one.

    OUT.partial         the output until now; pieces that the state file does not cover are cut off on resume
    OUT.partial.json    settings of the run, length of the good part, and the memory of the task

Both are gone when the file is finished, and OUT appears as a whole.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from eqff.errors import ConfigError, EqffError, RunError
from eqff.files import named
from eqff.locks import locked_in_new_folder


class ResumableFile:
    """A file written piece by piece; each piece comes with the memory of the task at that point.

    A context manager, in which no other process writes this file: `memory` and `finished` are those of the run to
    continue from its beginning on.

    Args:   path: of the finished file; settings: JSON values, a run continues only with the same; memory: at the
            start, JSON values; resume: continue an existing run, or begin; force: replace existing files
    Raises: on entry ConfigError EQ1221 OUT exists, EQ1222 an unfinished run is there, EQ1223 it had other settings;
            RunError EQ5302, EQ5303 its files are damaged; ResourceError EQ6131 another process writes it; OSError when
            writing fails
    """

    def __init__(
        self, path: Path, settings: dict[str, Any], memory: dict[str, Any], resume: bool = False, force: bool = False
    ) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.state = path.with_name(f"{path.name}.partial.json")
        self.settings = settings
        self.memory = memory
        self.resume, self.force = resume, force
        self.n_bytes = 0
        self.finished = False  # before the run wrote anything
        self._file: BinaryIO | None = None
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> "ResumableFile":
        with contextlib.ExitStack() as lock:
            lock.enter_context(locked_in_new_folder(self.path))
            self._continue_or_begin()
            self._open()
            self._lock = lock.pop_all()
        return self

    def _continue_or_begin(self) -> None:
        path = self.path
        saved = self._found() if self.resume else None
        if saved is not None:
            self._check_settings(saved["settings"])
            self.memory, self.n_bytes = saved["memory"], saved["bytes"]
            self.finished = saved["finished"] and not self.partial.exists()
        elif path.exists() and self.resume and not self.partial.exists():
            self.finished = True
        elif (path.exists() or path.is_symlink()) and not self.force:
            raise ConfigError("EQ1221", f"{path} exists; choose another name or overwrite it with --force")
        elif self.partial.exists() and not (self.force or self.resume):
            raise ConfigError(
                "EQ1222",
                f"{self.partial} is left from a run that was stopped; continue it with --resume, or start "
                "again with --force",
            )

    def _open(self) -> None:
        if self.finished:
            self.state.unlink(missing_ok=True)
            return
        if self.n_bytes == 0:
            self.state.unlink(missing_ok=True)  # before the file that it describes is emptied
        self._file = self.partial.open("ab")
        try:
            self._file.truncate(self.n_bytes)
            self._remember(finished=False)
        except BaseException:
            self._file.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if self._file is not None:
                self._file.close()
                if self.n_bytes == 0 and isinstance(error, EqffError):  # bad input: there is nothing to continue
                    self.partial.unlink(missing_ok=True)
                    self.state.unlink(missing_ok=True)
        finally:
            self._lock.__exit__(kind, error, trace)

    def append(self, text: str, memory: dict[str, Any]) -> None:
        """Write a piece; after this, a run that is killed continues behind it with this memory."""
        assert self._file is not None
        content = text.encode()
        with named(self.partial):
            self._file.write(content)
            self._file.flush()
        self.n_bytes += len(content)
        self.memory = memory
        self._remember(finished=False)

    def finish(self) -> None:
        """Give the file its name."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._remember(finished=True)
        self.partial.replace(self.path)
        self.state.unlink()

    def _found(self) -> dict[str, Any] | None:
        """State of a run that can be continued or was just finished; None if there is none."""
        try:
            saved: dict[str, Any] = json.loads(self.state.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError("EQ5303", f"{self.state} is damaged ({error}); start again with --force") from error
        place = self.partial if self.partial.exists() else self.path
        if place is self.path and not saved["finished"]:
            return None
        if not place.exists() or place.stat().st_size < saved["bytes"]:
            raise RunError("EQ5302", f"{place} is shorter than {self.state} says; start again with --force")
        return saved

    def _check_settings(self, before: dict[str, Any]) -> None:
        for name, value in self.settings.items():
            if before.get(name) != value:
                raise ConfigError(
                    "EQ1223",
                    f"{name}={value!r}: the run to continue had {before.get(name)!r}; use the same, or start again "
                    "with --force and without --resume",
                )

    def _remember(self, finished: bool) -> None:
        state = {"settings": self.settings, "bytes": self.n_bytes, "finished": finished, "memory": self.memory}
        temporary = self.state.with_name(f"{self.state.name}.tmp")
        try:
            with named(self.state):
                temporary.write_text(json.dumps(state), encoding="utf-8")
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        temporary.replace(self.state)
