"""Mutated files through everything that opens them: each gives a result or a typed error, in 5 s.

    python examples/benchmarks/hostile_files.py --n 3000

Potentials (bits, truncation, members exchanged, headers edited with all hashes made right) go through inspect, load and
rebuild; data (extended xyz, npz, HDF5, DeePMD, cif, json, databases) through the reader.
"""

import argparse
import collections
import io
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from eqff import artifact
from eqff.artifact import archive, header
from eqff.config import to_mapping
from eqff.data.h5md import read_h5md
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream, read_frames
from eqff.data.store.store import Store, write_store
from eqff.errors import EqffError
from eqff.exporter import export
from eqff.models import nequip
from eqff.rebuild import rebuild

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "data"))
import test_fuzz  # type: ignore[import-not-found]

SECONDS = 5
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    10**9,
    2**62,
    10**400,
    1e300,
    "",
    "x",
    "\x1b[2J",
    [],
    {},
    ["H", "H"],
    "9" * 5000,
    [[[]]] * 3,
]


class TooLong(BaseException):
    """Raised by the alarm; nothing catches it."""


def good_data(folder: Path) -> dict[str, bytes]:
    """A small good file of every kind, by name."""
    (folder / "tests").mkdir()
    seeds = test_fuzz.make_seeds(folder / "tests")
    images = []
    for seed in range(3):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        images.append(atoms)
    for name in ("ase.extxyz", "ase.json", "ase.cif", "ase.traj"):
        write(folder / name, images[0] if name.endswith("cif") else images)
        seeds[name] = (folder / name).read_bytes()
    write(folder / "molecule.xyz", molecule("H2O"))
    seeds["molecule.xyz"] = (folder / "molecule.xyz").read_bytes()
    write_store(folder / "store.h5", read_frames(folder / "ase.extxyz"))
    seeds["store.h5"] = (folder / "store.h5").read_bytes()
    return seeds


def good_potential(folder: Path) -> archive.Contents:
    config = nequip.Config(species=("H", "C", "O"), r_max=4.0, l_max=1, n_layers=1, n_channels=4)
    export(nequip.Model(config), "nequip", to_mapping(config), folder / "good.eqff.pt")
    return archive.read(folder / "good.eqff.pt")


def edited(contents: archive.Contents, chance: random.Random) -> bytes:
    """The file with its header or a member changed, and every hash right."""
    fields, extra = json.loads(json.dumps(contents.header)), dict(contents.extra)
    program = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents.content)) as old, zipfile.ZipFile(program, "w") as new:
        for name in old.namelist():
            if "/extra/" not in name:
                new.writestr(name, old.read(name))
    if chance.random() < 0.3:
        name = chance.choice(sorted(extra))
        extra[name] = test_fuzz.mutated(extra[name], chance)
        return archive.pack(program.getvalue(), fields, extra)
    for _ in range(chance.choice([1, 1, 2])):
        below = [fields[name] for name in ("config", "versions") if isinstance(fields.get(name), dict)]
        table = chance.choice([fields, *below])
        table[chance.choice([*table, "more"])] = chance.choice(ODD)
    fields.pop("members", None)
    whole = header.to_json
    try:
        if chance.random() < 0.3:  # text that json would not write
            header.to_json = lambda header: test_fuzz.mutated(whole(header), chance)
        return archive.pack(program.getvalue(), fields, extra)
    finally:
        header.to_json = whole


def potential(contents: archive.Contents, chance: random.Random, path: Path) -> None:
    """Make one file and open it in all ways."""
    kind = chance.randrange(4)
    if kind < 2:
        content = edited(contents, chance)
    elif kind == 2:
        content = test_fuzz.mutated(contents.content, chance)
    else:  # a changed file with the right digest of the whole
        changed = bytearray(contents.content)
        for _ in range(chance.choice([1, 3, 30])):
            changed[chance.randrange(len(changed) - archive.COMMENT_SIZE)] = chance.randrange(256)
        content = archive.seal(bytes(changed[: -archive.N_DIGITS]) + b"0" * archive.N_DIGITS)
    path.write_bytes(content)
    errors = []
    for verb in (artifact.inspect, rebuild, lambda path: repr(artifact.load(path, accelerate="off"))):
        try:
            verb(path)
        except EqffError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def data(seeds: dict[str, bytes], chance: random.Random, folder: Path) -> None:
    """Make one file and read it."""
    if chance.random() < 0.5:
        path = test_fuzz.make_input(chance, seeds, folder)
    else:
        name = chance.choice([name for name in sorted(seeds) if "/" not in name])
        path = folder / f"y{Path(name).suffix}"
        path.unlink(missing_ok=True)
        path.write_bytes(test_fuzz.mutated(seeds[name], chance))
    kind = chance.random()
    if path.suffix == ".h5" and kind < 0.1:
        Store(path).close()
    elif path.suffix == ".h5" and kind < 0.2:
        for _ in read_h5md(path):
            pass
    else:
        recover, skip_bad = chance.random() < 0.5, chance.random() < 0.5
        options = ReadOptions(energy_unit=chance.choice([None, None, "eV"]), skip_bad=skip_bad, recover=recover)
        for _ in Stream(path, options):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")

    def alarm(number: int, frame: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, alarm)
    found: collections.Counter[str] = collections.Counter()
    slowest = (0.0, -1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds, contents = good_data(folder), good_potential(folder)
        for number in range(arguments.seed, arguments.seed + arguments.n):
            chance = random.Random(number)
            started = time.monotonic()
            signal.alarm(SECONDS)
            what = "potential" if number % 3 == 0 else "data"
            try:
                if what == "potential":
                    potential(contents, chance, folder / "x.eqff.pt")
                else:
                    data(seeds, chance, folder)
                found[f"{what}: opened"] += 1
            except EqffError:
                found[f"{what}: typed error"] += 1
            except TooLong:
                found[f"{what}: TOO LONG"] += 1
                print(f"{number}: longer than {SECONDS} s", flush=True)
            except Exception as error:
                found[f"{what}: UNTYPED"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                print(
                    f"{number}: {type(error).__name__}: {str(error)[:100]} ({place.filename}:{place.lineno})",
                    flush=True,
                )
            finally:
                signal.alarm(0)
            slowest = max(slowest, (time.monotonic() - started, number))
    for what, count in sorted(found.items()):
        print(f"{count:6d}  {what}")
    print(f"slowest: {slowest[0]:.1f} s, input {slowest[1]}")


if __name__ == "__main__":
    main()
