"""What a killed training loses: SIGKILL and SIGTERM at random moments, and a SIGKILL at every stage of every file.

    python examples/benchmarks/kill_training.py [--sigkill 20] [--sigterm 8] [--seed 0]

One run of `eqff train` on the shipped sample is killed, examined and resumed, again and again.  After each kill every
file of the run folder must be whole and the work lost at most one checkpoint interval; in the end weights, averages,
optimiser and the rows of metrics.csv must be those of an undisturbed run, bit for bit.

Prints the kill table; exit code 1 if anything was missed.  Needs a system with fork (Linux, macOS); minutes on a core.
"""

import argparse
import json
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
import tomllib
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import torch

import eqff.cli
import eqff.tasks.training_report
import eqff.training.fit.trainer  # all imports here, so that a start of `eqff train` costs no more than a fork
from eqff import artifact
from eqff.training.fit.module import TrainingModule
from eqff.training.folder.metrics_file import read_metrics
from eqff.training.folder.run_file import BEST, LAST
from eqff.training.folder.trained import read_checkpoint

SAMPLE = Path(__file__).parents[1] / "data" / "ethanol_gfn2_500K_400frames.npz"
MINUTES = 0.01
RECIPE = """
[data]
train = "{sample}"
energy_unit = "kcal/mol"
n_train = 60
n_validation = 10
[model]
family = "nequip"
r_max = 4.0
l_max = 1
n_layers = 1
n_channels = 4
radial_hidden = [8]
[training]
epochs = {epochs}
batch_size = 4
warmup_steps = 20
validate_every = 2
checkpoint_every = 1000
checkpoint_minutes = {minutes}
kernels = "reference"
threads = 1
report = false
export_best = false
"""
FILES = ("config.toml", "metrics.csv", "last.ckpt", "best.ckpt")
STAGES = ("not begun", "half written", "not renamed", "renamed")
STATE = struct.Struct("=qqddd64s")


class Kill(NamedTuple):
    """What happens to one part of the run."""

    number: int
    steps: int = 0  # after so many steps of this part ...
    fraction: float = 0.0  # ... and this part of a step; negative: while it starts
    file: str = ""  # or at this file
    stage: str = ""
    export: bool = False  # whether this part exports best.eqff.pt


class State(NamedTuple):
    """What a training says of itself."""

    epoch: int = 0
    step: int = 0
    began: float = 0.0  # its first step, s of time.time()
    last: float = 0.0  # its last one
    gap: float = 0.0  # longest time between two steps, which validation is part of, s
    doing: str = "starting"


class Watch:
    """Memory that a training shares with this process."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, STATE.size)

    def write(self, state: State) -> None:
        self.memory[:] = STATE.pack(*state[:-1], state.doing.encode()[:64])

    def read(self) -> State:
        *numbers, doing = STATE.unpack(self.memory[:])
        return State._make([*numbers, doing.rstrip(b"\0").decode()])


def observe(watch: Watch, kill: Kill | None) -> None:
    """In the process to be killed: say what it does, and kill it where a file is meant."""
    optimizer_step, validate = TrainingModule.optimizer_step, TrainingModule.on_validation_epoch_start

    def stepping(self: TrainingModule, *arguments: Any, **more: Any) -> None:
        now, state = time.time(), watch.read()
        gap = max(state.gap, now - state.last) if state.last else 0.0
        optimizer_step(self, *arguments, **more)
        watch.write(State(self.current_epoch + 1, self.global_step + 1, state.began or now, now, gap, "training step"))

    def validating(self: TrainingModule) -> None:
        watch.write(watch.read()._replace(doing="validation"))
        validate(self)

    setattr(TrainingModule, "optimizer_step", stepping)  # noqa: B010  mypy refuses to assign to methods
    setattr(TrainingModule, "on_validation_epoch_start", validating)  # noqa: B010
    renamed = [False]

    def event(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open" and isinstance(arguments[0], str) and ".part" in arguments[0]:
            watch.write(watch.read()._replace(doing=f"writing {real_name(arguments[0])}"))
            at, path = ("not begun", arguments[0])
        elif name == "os.rename" and ".part" in str(arguments[0]):
            at, path = ("not renamed", str(arguments[0]))
        else:
            if renamed[0]:
                renamed[0] = False  # to kill is an event, too
                os.kill(os.getpid(), signal.SIGKILL)
            return
        if kill is None or real_name(path) != kill.file:
            return
        if kill.stage == "half written" and at == "not renamed":
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        if kill.stage == at:
            os.kill(os.getpid(), signal.SIGKILL)
        renamed[0] = kill.stage == "renamed" and at == "not renamed"  # the next event comes behind the rename

    sys.addaudithook(event)


def real_name(path: str) -> str:
    """config.toml of .config.0123.part.toml, best.eqff.pt of .best.eqff.0123.part.pt."""
    stem, _, suffix = Path(path).name.lstrip(".").partition(".part")
    return stem.rsplit(".", 1)[0] + suffix


def start(recipe: Path, folder: Path, watch: Watch, kill: Kill | None, resume: bool) -> int:
    """`eqff train` in a process of its own; its number."""
    watch.write(State())
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        log = os.open(folder.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        observe(watch, kill)
        sys.argv = ["eqff", "train", str(recipe), "-o", str(folder), *(["--resume"] if resume else [])]
        sys.argv += ["--set", "training.export_best=true"] if kill is not None and kill.export else []
        eqff.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def disturb(process: int, kill: Kill, watch: Watch) -> tuple[int, State, float]:
    """Kill it at its moment.  Returns: status of its end, what it did then, and when that was."""
    moment, at = time.time(), watch.read()
    first = None
    while not kill.file:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status, watch.read(), time.time()
        at = watch.read()
        first = at.step if first is None and at.step else first
        if kill.fraction < 0.0 or (first is not None and at.step >= first + kill.steps):
            time.sleep(abs(kill.fraction) * (0.5 if kill.fraction < 0.0 else at.gap))
            at, moment = watch.read(), time.time()
            os.kill(process, kill.number)
            break
        time.sleep(1e-3)
    _, status = os.waitpid(process, 0)
    return (status, watch.read(), time.time()) if kill.file else (status, at, moment)


def inspect(folder: Path) -> list[str]:
    """What is wrong with the files of a run."""
    wrong = []
    readers = {
        ".ckpt": read_checkpoint,
        ".toml": lambda path: tomllib.loads(path.read_text()),
        ".json": lambda path: json.loads(path.read_text()),
        ".csv": check_metrics,
        ".pt": artifact.read,
        ".png": check_png,
    }
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        try:
            readers[path.suffix](path)
        except Exception as error:  # whatever it is, it goes into the table
            wrong.append(f"{path.name}: {type(error).__name__} {str(error)[:80]}")
    return wrong


def last_line(folder: Path) -> str:
    """What a run said at last."""
    return (folder.parent / "log").read_text().strip().rpartition("\n")[2][:160]


def check_metrics(path: Path) -> None:
    epochs = [row["epoch"] for row in read_metrics(path)]
    if epochs != sorted(set(epochs)):
        raise ValueError(f"epochs {epochs}")


def check_png(path: Path) -> None:
    if not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
        raise ValueError("is cut off")


def differences(one: Path, other: Path) -> list[str]:
    """Where two finished runs are not the same."""
    found = []
    for name in (LAST, BEST):
        first, second = read_checkpoint(one / name), read_checkpoint(other / name)
        for key in ("state_dict", "average", "optimizer_states", "lr_schedulers", "global_step"):
            if not same(first[key], second[key]):
                found.append(f"{name}: {key}")
    tables = [[{**row, "time_s": 0.0} for row in read_metrics(folder / "metrics.csv")] for folder in (one, other)]
    return found + ([] if tables[0] == tables[1] else ["rows of metrics.csv"])


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def plan(n_sigkill: int, n_sigterm: int, seed: int) -> list[Kill]:
    """Files at every stage of writing first, then random moments, then the export at the end."""
    chance = random.Random(seed)
    files = [Kill(signal.SIGKILL, file=file, stage=stage) for file in FILES for stage in STAGES]
    numbers = [signal.SIGKILL] * n_sigkill + [signal.SIGTERM] * n_sigterm
    chance.shuffle(numbers)
    moments = []
    for number in numbers:
        begins = chance.random() < 0.15
        fraction = -chance.random() if begins else chance.random()
        moments.append(Kill(number, steps=chance.randrange(20), fraction=fraction, export=chance.random() < 0.15))
    return files + moments + [Kill(signal.SIGKILL, file="best.eqff.pt", stage=stage, export=True) for stage in STAGES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sigkill", type=int, default=20, help="random moments (default 20)")
    parser.add_argument("--sigterm", type=int, default=8, help="random moments (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        missed = run(Path(work), plan(given.sigkill, given.sigterm, given.seed))
    sys.exit(1 if missed else 0)


def run(work: Path, kills: list[Kill]) -> int:
    """Returns: number of kills, and of comparisons at the end, that went wrong."""
    recipe, folder, watch, began = work / "recipe.toml", work / "disturbed" / "run", Watch(), time.monotonic()
    recipe.write_text(RECIPE.format(sample=SAMPLE, minutes=MINUTES, epochs=20 + len(kills) // 2))  # none comes too late
    for place in ("disturbed", "alone"):
        (work / place).mkdir()
    alone = work / "alone" / "run"
    eqff.cli.build()
    _, status = os.waitpid(start(recipe, alone, watch, None, resume=False), 0)
    if status:
        sys.exit(f"the undisturbed run failed:\n{(work / 'alone' / 'log').read_text()}")
    print(f"{'signal':8}{'epoch':>6}{'step':>6}  {'doing':28}{'steps lost':>11}{'s lost':>8}  result")
    missed, worst = 0, 0
    for index, kill in enumerate(kills):
        process = start(recipe, folder, watch, kill, resume=index > 0)
        status, state, moment = disturb(process, kill, watch)
        wrong = inspect(folder) if folder.exists() else []
        last = folder / LAST
        lost = max(state.step - (read_checkpoint(last)["global_step"] if last.is_file() else 0), 0)
        seconds = moment - max(state.began, last.stat().st_mtime if last.is_file() else 0.0) if lost else 0.0
        code = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if kill.number == signal.SIGKILL and code is not None:
            wrong += [f"was not killed: exit code {code}, {last_line(folder)}"]
        if kill.number == signal.SIGTERM and (lost or code != 143):
            wrong += [f"exit code {code}, {last_line(folder)}; expected 143 and nothing lost"]
        gap = max(state.gap, moment - state.last)  # what is in hand is finished first, then a checkpoint written
        if seconds > 60.0 * MINUTES + 2.0 * gap:
            wrong += [f"more than one interval of {60.0 * MINUTES:.1f} s lost, steps of at most {gap:.2f} s"]
        doing = f"{kill.file} {kill.stage}" if kill.file else state.doing
        missed, worst = missed + bool(wrong), max(worst, lost)
        name = signal.Signals(kill.number).name
        result = "; ".join(wrong) or "whole"
        print(f"{name:8}{state.epoch:6}{state.step:6}  {doing:28}{lost:11}{seconds:8.2f}  {result}", flush=True)
    _, status = os.waitpid(start(recipe, folder, watch, Kill(0, file="none", export=True), resume=True), 0)
    left = [path.name for path in folder.rglob(".*.part*")]
    end = (
        inspect(folder)
        + differences(alone, folder)
        + left
        + ([f"exit status {status}, {last_line(folder)}"] if status else [])
    )
    end += [] if (folder / "best.eqff.pt").is_file() else ["no best.eqff.pt"]
    result = "; ".join(end) or "weights, averages, optimiser and metrics.csv equal the undisturbed run's bit for bit"
    spent = time.monotonic() - began
    print(f"{len(kills)} kills, {missed} missed, at most {worst} steps lost, {spent:.0f} s; at the end: {result}")
    return missed + len(end)


if __name__ == "__main__":
    main()
