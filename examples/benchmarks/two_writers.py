"""Two processes that write the same output at the same time, verb by verb.

    python examples/benchmarks/two_writers.py [--tries 50] [--verbs md,predict] [--seed 0]

Two processes start within 0.2 s of each other, in turn in an empty folder and with --force over the output of an
earlier run.  Allowed: one of them succeeds and the other is refused with a typed error, or they follow each other.
What is there afterwards must be the files of an undisturbed run: the same names, and the same content.

Prints a table; exit code 1 if anything was damaged.  Needs a system with fork (Linux, macOS).
"""

import argparse
import contextlib
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

import eqff.cli
import eqff.tasks.md.replicas
import eqff.tasks.predict
import eqff.tasks.relax
import eqff.tasks.sample
import eqff.tasks.vibrations  # all imports here, so that a start costs no more than a fork
from eqff.artifact import archive, lookup
from eqff.data.store.store import Store

DATA = Path(__file__).parents[1] / "data" / "ethanol_gfn2_500K_400frames.npz"
REFUSED = re.compile(r"\b(EQ\d{4})\b")
LATEST_START = 0.2  # s, of the second process after the first


class Verb(NamedTuple):
    """How to call a verb."""

    arguments: str
    force: str = "--force"  # to call it again; "" if the verb never replaces


UNITS = "--energy-unit kcal/mol"
MD = "md {potential} --steps 60 --interval 2 --accelerate off -o out"
VERBS = {
    "md": Verb(f"{MD}.extxyz --no-plot"),
    "md .traj": Verb(f"{MD}.traj"),
    "md .h5": Verb(f"{MD}.h5 --no-plot"),
    "md --resume": Verb(f"{MD}.extxyz --no-plot", "--resume"),
    "predict": Verb("predict {potential} {data} -o out.extxyz --accelerate off " + UNITS),
    "predict --resume": Verb("predict {potential} {data} -o out.extxyz --accelerate off --resume " + UNITS),
    "relax": Verb("relax {potential} -o out.extxyz --steps 20 --fmax 0.2 --accelerate off"),
    "vib": Verb("vib {potential} -o out --fmax 1e-3"),
    "evaluate": Verb("evaluate {potential} {data}@:20 -o out.json --no-plot --accelerate off " + UNITS),
    "convert .h5": Verb("data convert {data} out.h5 " + UNITS),
    "convert .extxyz": Verb("data convert {data} out.extxyz " + UNITS),
    "convert .db": Verb("data convert {data}@:20 out.db " + UNITS),
    "convert deepmd": Verb("data convert {data} out --to deepmd " + UNITS, ""),
    "select": Verb("data select {data} -n 5 -o out.extxyz " + UNITS),
    "split": Verb("data split {data} --train 100 --validation 50 -o out.json"),
    "split folder": Verb("data split {data} --train 100 --validation 50 -o out"),
    "export": Verb("export {run} -o out.eqff.pt"),
}
RECIPE = """
[data]
train = "{data}"
energy_unit = "kcal/mol"
n_train = 20
n_validation = 4
[model]
family = "nequip"
r_max = 4.0
l_max = 1
n_layers = 1
n_channels = 4
radial_hidden = [8]
[training]
epochs = 1
kernels = "reference"
threads = 1
report = false
export_best = false
"""


def start(
    arguments: list[str], folder: Path, messages: Path, delay: float, prepare: Callable[[], None] = lambda: None
) -> int:
    """A process that calls `prepare` and runs a verb in a folder.  Returns: its id"""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        with open(messages, "wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        sys.argv = ["eqff", *arguments]
        time.sleep(delay)
        prepare()
        eqff.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def outcome(child: int, messages: Path) -> str:
    """ "done", the id of a typed error, or what else happened."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return "done"
    text = messages.read_text(errors="replace")
    found = REFUSED.findall(text)
    return found[-1] if found and "Traceback" not in text else f"exit code {code}: {text.strip()[-200:]}"


def content(folder: Path) -> dict[str, object]:
    """Name -> content of every file, without what states the time of writing."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path: Path) -> object:
    if path.name.endswith(lookup.SUFFIX):
        return sorted(archive.read(path).extra)
    if path.suffix == ".h5" and "md" not in path.parts[-2]:
        with Store(path) as store:
            store.verify()
            return store.digest
    if path.suffix in (".png", ".json", ".db", ".npz", ".h5"):
        return path.stat().st_size > 0
    return path.read_bytes()


def contest(name: str, places: dict[str, str], tries: int, work: Path, random_numbers: random.Random) -> str:
    """A row of the table; raises AssertionError when something is damaged."""
    verb = VERBS[name]
    arguments = verb.arguments.format(**places).split()
    alone = work / name.replace(" ", "_")
    alone.mkdir()
    first = outcome(start(arguments, alone, work / "messages", 0.0), work / "messages")
    assert first == "done", f"{name} alone: {first}"
    expected, ends = content(alone), Counter[str]()
    for number in range(tries):
        forced = number % 2 == 1 and verb.force
        folder = work / f"{alone.name}_{number}"
        folder.mkdir()
        options = arguments
        if forced:
            ready = outcome(start(arguments, folder, work / "messages", 0.0), work / "messages")
            assert ready == "done", ready
            options = [*arguments, verb.force]
        delays = (0.0, random_numbers.choice([0.0, random_numbers.uniform(0.0, LATEST_START)]))
        logs = [work / "first", work / "second"]
        children = [start(options, folder, log, delay) for log, delay in zip(logs, delays, strict=True)]
        results = sorted(outcome(child, log) for child, log in zip(children, logs, strict=True))
        ends["; ".join(results)] += 1
        typed = all(result == "done" or re.fullmatch(r"EQ\d{4}", result) for result in results)
        assert typed, f"{name}, try {number}: {results}"
        assert "done" in results, f"{name}, try {number}: {results}"
        found = content(folder)
        assert found.keys() == expected.keys(), f"{name}, try {number}: {sorted(found)}, expected {sorted(expected)}"
        for file, value in expected.items():
            assert found[file] == value, f"{name}, try {number}: {file} differs"
    return f"{name:18s} {tries:5d}   " + ", ".join(f"{count} x {end}" for end, count in ends.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    random_numbers, damaged = random.Random(options.seed), False
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        places = {"data": str(DATA), "potential": str(lookup.find("ethanol-nequip")), "run": str(work / "run")}
        if "export" in options.verbs:
            (work / "recipe.toml").write_text(RECIPE.format(data=DATA))
            child = start(["train", "recipe.toml", "-o", "run"], work, work / "messages", 0.0)
            assert outcome(child, work / "messages") == "done", (work / "messages").read_text()
        print("verb               tries   how the two ended")
        for name in options.verbs.split(","):
            try:
                print(contest(name, places, options.tries, work, random_numbers), flush=True)
            except AssertionError as error:
                damaged = True
                print(f"{name:18s} DAMAGED  {error}", flush=True)
    sys.exit(damaged)


if __name__ == "__main__":
    main()
