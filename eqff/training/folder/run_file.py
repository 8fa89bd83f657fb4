"""Files of a run folder: their names, writing them whole or not at all, and a lock that admits one process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from eqff.errors import ResourceError
from eqff.files import UNFINISHED, locked, new_file

CONFIG, PLAN, MODEL = "config.toml", "plan.json", "model.json"
BASELINE = "baseline.eqff.pt"  # copy of a baseline that is a potential; best.eqff.pt finds it beside itself
FORGOTTEN = "forgotten.json"  # errors on foreign frames, before and after
BEST, LAST = "checkpoints/best.ckpt", "checkpoints/last.ckpt"


@contextlib.contextmanager
def run_file(path: Path) -> Iterator[Path]:
    """Name of a temporary file that replaces `path`, synced, when the block ends; removed if the block fails.

    Raises: ResourceError EQ6130 if it cannot be written, e.g. on a full disk
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, force=True) as temporary:
            yield temporary
    except OSError as error:
        raise ResourceError(
            "EQ6130",
            f"{path}: cannot be written ({error.strerror or error}); what the run wrote before is kept; free space, or "
            "repair the permissions, and continue with --resume",
        ) from error


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that a killed process left behind; their real names were never touched."""
    for place in (folder, folder / "checkpoints"):
        for path in place.glob(UNFINISHED):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Within this context no other process trains in this folder; the lock of a process that dies is released.

    Raises: ResourceError EQ6131 if another process trains there, EQ6132 if the folder cannot be written to
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder))
        except OSError as error:
            raise ResourceError(
                "EQ6132",
                f"{folder}: cannot be written to ({error.strerror or error}); choose another folder, or free space",
            ) from error
        yield
