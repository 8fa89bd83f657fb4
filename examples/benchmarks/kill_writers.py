"""What is left when a verb is killed while it writes, or when the disk is full.

    python examples/benchmarks/kill_writers.py [--verbs md,predict]

    killed at N bytes    the kernel ends the process inside the write that would make a file longer (RLIMIT_FSIZE)
    full at N bytes      the same write is refused
    killed at fsync, at the renaming   SIGKILL before the call

After each: no output, a whole one, or one that can be resumed; a refusal is a typed error.  The same command, started
again, must leave the files of an undisturbed run and nothing else.

Prints a table; exit code 1 if anything was missed.  Needs a system with fork (Linux, macOS).
kill_training.py does the same to `train`.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from two_writers import DATA, RECIPE, VERBS, content, outcome, start

from eqff.artifact import lookup

NAMES = (
    *("md", "md .traj", "md .h5", "predict", "relax", "evaluate"),
    *("convert .h5", "convert .extxyz", "convert .db", "convert deepmd", "split", "export"),
)
SHARES = (0.02, 0.3, 0.6, 0.95)  # of the largest file


def at_bytes(n_bytes: int, kill: bool) -> None:
    """From now on no file of this process grows beyond n_bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def at_call(name: str, number: int) -> None:
    """SIGKILL instead of the number-th call of a function of os."""
    call: Any = getattr(os, name)
    left = [number]

    def deadly(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    setattr(os, name, deadly)


def faults(n_largest: int) -> dict[str, Callable[[], None]]:
    """Description -> what a process does to itself before it starts."""
    found: dict[str, Callable[[], None]] = {}
    for share in SHARES:
        n_bytes = max(1, int(share * n_largest))
        found[f"killed at {n_bytes} bytes"] = lambda n=n_bytes: at_bytes(n, kill=True)  # type: ignore[misc]
        found[f"full at {n_bytes} bytes"] = lambda n=n_bytes: at_bytes(n, kill=False)  # type: ignore[misc]
    for name, words in (("fsync", "at fsync"), ("replace", "at the renaming")):
        for number in (1, 2):
            found[f"killed {words} {number}"] = lambda n=name, k=number: at_call(n, k)  # type: ignore[misc]
    return found


def trial(
    arguments: list[str], folder: Path, expected: dict[str, object], fault: Callable[[], None]
) -> tuple[str, str]:
    """Returns: how the process ended, what was wrong afterwards ("" for nothing)"""
    messages = folder.with_suffix(".messages")
    ended = outcome(start(arguments, folder, messages, 0.0, fault), messages)
    if ended.startswith("exit code") and "exit code -9" not in ended and f"exit code {-signal.SIGXFSZ}" not in ended:
        return ended, "no typed error"
    final = [name for name in expected if (folder / name).exists()]
    again = list(arguments)
    if arguments[0] == "md":
        again.append("--resume" if list(folder.glob("*.restart.npz")) else "--force")
    elif arguments[0] == "predict":
        again.append("--resume")
    elif final:
        damaged = [name for name in final if content(folder)[name] != expected[name]]
        if damaged:
            return ended, f"damaged: {', '.join(damaged)}"
        if arguments[:2] == ["data", "convert"] and "deepmd" in arguments:
            return ended, "" if content(folder) == expected else "not whole"
        again.append("--force")
    second = outcome(start(again, folder, messages, 0.0), messages)
    if second != "done":
        return ended, f"started again: {second}"
    found = content(folder)
    if found.keys() != expected.keys():
        return ended, f"files {sorted(found.keys() ^ expected.keys())}"
    different = [name for name in expected if found[name] != expected[name]]
    return ended, f"different: {', '.join(different)}" if different else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbs", default=",".join(NAMES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        places = {"data": str(DATA), "potential": str(lookup.find("ethanol-nequip")), "run": str(work / "run")}
        (work / "recipe.toml").write_text(RECIPE.format(data=DATA))
        trained = outcome(start(["train", "recipe.toml", "-o", "run"], work, work / "messages", 0.0), work / "messages")
        assert trained == "done", (work / "messages").read_text()
        print("verb               fault                          ended             afterwards")
        for name in options.verbs.split(","):
            arguments = VERBS[name].arguments.format(**places).split()
            alone = work / name.replace(" ", "_")
            alone.mkdir()
            done = outcome(start(arguments, alone, work / "messages", 0.0), work / "messages")
            assert done == "done", f"{name} alone: {done}"
            expected = content(alone)
            largest = max(path.stat().st_size for path in alone.rglob("*"))
            for number, (words, fault) in enumerate(faults(largest).items()):
                folder = work / f"{alone.name}_{number}"
                folder.mkdir()
                ended, wrong = trial(arguments, folder, expected, fault)
                missed += bool(wrong)
                print(f"{name:18s} {words:30s} {ended[:16]:17s} {'MISSED ' + wrong if wrong else 'right'}", flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
