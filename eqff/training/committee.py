"""Several models that differ only in their initial weights and order of frames, trained one after another."""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path

from eqff.errors import ConfigError
from eqff.training.folder.run_file import CONFIG
from eqff.training.prepare.recipe import read_config
from eqff.training.run import TrainedRun, train


def train_members(
    path: str | Path,
    output: str | Path,
    n_members: int,
    resume: bool = False,
    overrides: Sequence[str] = (),
    time_limit: float = math.inf,
) -> list[TrainedRun]:
    """Train a committee: OUTPUT/member-0, member-1, ... with seeds training.seed, training.seed + 1, ...

    All members have the same split, so that their errors on validation frames can be compared.

    Args:    path: recipe or data file; n_members: at least 2; time_limit: seconds for all members together; the others
             as for `train`
    Returns: their runs
    Raises:  as `train`; ConfigError EQ1404 for fewer than 2 members
    """
    if n_members < 2:
        raise ConfigError(
            "EQ1404",
            f"--members {n_members}: a committee has at least 2 members; give 2 or more, or leave --members out",
        )
    config, deadline = read_config(Path(path), overrides), time.monotonic() + time_limit
    runs = []
    for k in range(n_members):
        training = dataclasses.replace(config.training, seed=config.training.seed + k)
        folder = Path(output) / f"member-{k}"
        began = resume and (folder / CONFIG).is_file()
        member = dataclasses.replace(config, training=training)
        runs.append(train(member, folder, began, time_limit=deadline - time.monotonic()))
    return runs
