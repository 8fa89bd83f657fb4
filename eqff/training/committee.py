"""Several models that differ in their initial weights and shuffles alone, one after another."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from eqff.errors import ConfigError
from eqff.training.prepare.preparation import read_config
from eqff.training.run import train


def train_members(
    path: str | Path,
    output: str | Path,
    n_members: int,
    resume: bool = False,
    overrides: Sequence[str] = (),
    time_limit: float = math.inf,
) -> list[Path]:
    """Train a committee: OUTPUT/member-0, member-1, ... with seeds training.seed, training.seed + 1, ...

    The split is the same for all, so that their errors on validation frames compare.

    Args:    as `train`; n_members: at least 2; time_limit: of all together
    Returns: their run folders
    Raises:  as `train`; ConfigError for fewer than 2
    """
    if n_members < 2:
        raise ConfigError("EQ1404", f"--members {n_members}: a committee has at least 2")
    config, deadline = read_config(Path(path), overrides), time.monotonic() + time_limit
    folders = [Path(output) / f"member-{k}" for k in range(n_members)]
    for k, folder in enumerate(folders):
        again = resume and (folder / "config.toml").is_file()
        own = (*overrides, f"training.seed={config.training.seed + k}")
        train(path, folder, again, own, deadline - time.monotonic())
    return folders
