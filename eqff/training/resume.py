"""Which folders a run may use, and which changes a resumed run may make."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from eqff import config as config_io
from eqff.errors import ConfigError, PotentialError, RunError
from eqff.training.config import RunConfig
from eqff.training.folder.run_file import BEST, CONFIG, LAST, MODEL, PLAN
from eqff.training.folder.trained import read_checkpoint
from eqff.training.plan import Kept
from eqff.training.prepare.preparation import Prepared

logger = logging.getLogger("eqff.training")
# what may change when a run is resumed, and the remark about it
FREE = (
    *("preset", "data.train", "data.split", "data.level_of_theory", "data.licence"),  # data are compared by content
    *("training.validate_every", "training.checkpoint_every", "training.checkpoint_minutes", "training.export_best"),
    *("training.report", "training.loggers", "training.max_skipped_steps"),
)
ROUNDING = ("training.threads", "training.accelerator", "training.kernels", "training.compile")
PROCESSES = ("training.devices", "training.nodes")
SCHEDULE = ("training.epochs",)
MOVED = ("init_from", "data.baseline", "data.foreign")  # files that may be in another place
DECIDED = ("training.steps",)  # becomes training.epochs, which is compared
REMARKS = (
    (ROUNDING + PROCESSES, "rounding differs from here on, so the run continues, but not bit for bit as before"),
    (SCHEDULE, "learning rate and weights of the loss follow the new schedule from here on"),
)

Change = tuple[str, Any, Any]  # key, before, now


class Earlier(NamedTuple):
    """What a run folder says about the run that is to be resumed."""

    config: RunConfig  # what the user said
    decided: dict[str, Any]  # key of the configuration -> value, as `Plan.decided`
    isolated: bool = True  # whether isolated atoms were recognised


def read_earlier(folder: Path) -> Earlier | None:
    """config.toml and plan.json of a run folder; None if the run was stopped before they were written."""
    if not (folder / CONFIG).is_file() or not (folder / PLAN).is_file():
        return None
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    config, decided = config_io.from_toml(RunConfig, folder / CONFIG), plan["decided"]
    decided.setdefault("training.loss.stress", config.training.loss.stress or 0.0)
    return Earlier(config, decided, "isolated_atoms" in plan)


def kept(earlier: Earlier | None, config: RunConfig) -> Kept:
    """What a resumed run keeps of the decisions about it."""
    if earlier is None:
        return Kept()
    return Kept(epochs_to_keep(earlier, config), earlier.decided.get("training.loss.stress"), earlier.isolated)


def epochs_to_keep(earlier: Earlier | None, config: RunConfig) -> int | None:
    """The number of epochs of a resumed run, if the user has changed neither steps nor epochs; None: decide anew."""
    if earlier is None or earlier.config.training.steps != config.training.steps or not config.training.steps:
        return None
    return int(earlier.decided["training.epochs"])


def prepare_folder(folder: Path, resume: bool) -> None:
    """Check that nothing is overwritten and that there is a run to resume.

    Raises: ConfigError EQ1066 without a run to resume, EQ1068 for a folder that is not empty, EQ1073 if a run has lost
            its last checkpoint
    """
    empty = not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir())
    if resume:
        if not (folder / CONFIG).is_file() and not (folder.exists() and empty):
            raise ConfigError("EQ1066", f"{folder}: there is nothing to resume; start without --resume")
        if (folder / BEST).is_file() and not (folder / LAST).is_file():
            raise ConfigError(
                "EQ1073", f"{folder}: {LAST} is missing; restore it, or start another run with --init-from {folder}"
            )
    elif not empty:
        raise ConfigError("EQ1068", f"{folder}: the folder is not empty; choose another run folder, or --resume")


def check_same_run(folder: Path, earlier: Earlier | None, prepared: Prepared) -> None:
    """Check that a resumed run is the run that was stopped; permitted changes are logged.

    Raises: ConfigError EQ1067, with the differences; RunError EQ5220 for a damaged last.ckpt, EQ5221 if the run has
            already done more epochs
    """
    if earlier is None:
        return
    training = prepared.config.training
    changes = [*_changes(_values(earlier.config, earlier.decided), _values(prepared.config, prepared.plan.decided()))]
    changes += _changed_data(folder, prepared)
    allowed = {*FREE, *ROUNDING, *SCHEDULE, *(() if training.max_edges else PROCESSES)}
    refused = [change for change in changes if change[0] not in allowed and not _moved(change)]
    if refused:
        raise ConfigError(
            "EQ1067",
            f"{folder}: a resumed run must not change {_shown(refused)}; resume it unchanged, with "
            f"`eqff train {folder / CONFIG} -o {folder} --resume`, or start another run with --init-from {folder}",
        )
    if (folder / LAST).is_file():
        _check_last(folder, prepared.plan.epochs)
    if changes:
        logger.info("resumed with changes: %s", _shown(changes))
    for keys, remark in REMARKS:
        if any(change[0] in keys for change in changes):
            logger.info("%s", remark)


def _values(config: RunConfig, decided: Mapping[str, Any]) -> dict[str, Any]:
    """Every key of a run with the value that it uses: decided, or else as the user said."""
    values = _flat(config_io.to_mapping(config)) | dict(decided)
    return {key: value for key, value in values.items() if key not in DECIDED}


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _check_last(folder: Path, epochs: int) -> None:
    try:
        n_done = read_checkpoint(folder / LAST)["progress"][0]
    except PotentialError as error:
        raise RunError(
            "EQ5220", f"{error.message}; restore it, or start another run from the best weights: --init-from {folder}"
        ) from error
    if n_done > epochs:
        raise RunError(
            "EQ5221", f"training.epochs={epochs}: the run has done {n_done} epochs already; give at least as many"
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    keys = sorted(before.keys() | now.keys())
    return [(key, before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)]


def _changed_data(folder: Path, prepared: Prepared) -> list[Change]:
    """Changes of frames and split, compared by content: files may move."""
    try:
        before = json.loads((folder / MODEL).read_text(encoding="utf-8"))["data"]
    except FileNotFoundError:  # stopped before it was written
        return []
    now = {"frames (sha256)": prepared.source.sha256, "split (sha256)": prepared.plan.split.sha256}
    old = {"frames (sha256)": before["source_sha256"], "split (sha256)": before["split_sha256"]}
    return [(key, old[key][:12], now[key][:12]) for key in now if old[key] != now[key]]


def _moved(change: Change) -> bool:
    """Initial weights and a potential as baseline may be in another place; contents are compared elsewhere."""
    key, old, new = change
    return key in MOVED and None not in (old, new) and Path(old).name == Path(new).name


def _shown(changes: list[Change]) -> str:
    return "; ".join(f"{key}: {old!r} -> {new!r}" for key, old, new in changes)
