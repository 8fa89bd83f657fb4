"""Faults planted into good data sets: `eqff data check` must name every fault, and pass every clean set.

python examples/benchmarks/planted_faults.py NAME=FILE ... [--energy-unit NAME=kcal/mol ...] [--frames 1000] [-o FOLDER]

A fault is planted wherever it can be: those of the stress where there is a stress, and so on.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eqff.data.forensics.examination import Report, check_frames
from eqff.data.frame import Frame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.units import BOHR, HARTREE, KCAL_PER_MOL

GPA = 160.21766208  # 1 eV/Å^3
Frames = list[Frame]


class Planted(NamedTuple):
    """A fault, how to plant it, and the names under which it counts as found."""

    title: str
    names: tuple[str, ...]
    plant: Callable[[Frames, np.random.Generator], Frames | tuple[Frames, Frames]]
    needs: str = ""  # "forces", "stress", "hydrogen", "molecule"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--energy-unit", nargs="*", default=[], metavar="NAME=UNIT")
    parser.add_argument("--frames", type=int, default=1000, help="of each set, the first ones")
    parser.add_argument("--output", "-o", type=Path, help="folder for table.md and results.json")
    arguments = parser.parse_args()
    units = dict(pair.split("=", 1) for pair in arguments.energy_unit)
    results = []
    for pair in arguments.sets:
        name, path = pair.split("=", 1)
        frames = Source(path, ReadOptions(energy_unit=units.get(name))).frames[: arguments.frames]
        for result in examine(name, frames):
            print(
                f"{result['set']:28s} {result['fault']:48s} {result['verdict']:5s} {', '.join(result['named']) or '-'}"
            )
            results.append(result)
    lines = table(results)
    print("\n" + "\n".join(lines))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (arguments.output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def examine(name: str, frames: Frames) -> Iterator[dict]:
    """The clean set, then every fault that it can have."""
    yield result(name, "clean", (), lambda: check_frames(frames, name=name))
    for fault in FAULTS:
        if not possible(fault.needs, frames):
            continue
        planted = fault.plant(list(frames), np.random.default_rng(0))
        broken, against = planted if isinstance(planted, tuple) else (planted, None)
        yield result(name, fault.title, fault.names, lambda b=broken, a=against: check_frames(b, a, name=name))


def result(name: str, title: str, names: tuple[str, ...], run: Callable[[], Report]) -> dict:
    """One line of the table."""
    start = time.perf_counter()
    report = run()
    found = not report.faults if not names else bool(set(names) & set(report.faults))
    seconds = round(time.perf_counter() - start, 2)
    return {
        "set": name,
        "fault": title,
        "expected": list(names),
        "named": report.faults,
        "verdict": ("clean" if not names else "FOUND") if found else ("ALARM" if not names else "MISS"),
        "seconds": seconds,
    }


def table(results: list[dict]) -> list[str]:
    """Faults by sets: found, missed, or not possible there."""
    sets = list(dict.fromkeys(one["set"] for one in results))
    titles = list(dict.fromkeys(one["fault"] for one in results))
    cells = {(one["fault"], one["set"]): one for one in results}
    lines = [f"| planted | {' | '.join(sets)} |", "| --- |" + " --- |" * len(sets)]
    for title in titles:
        row = [cells.get((title, name)) for name in sets]
        words = ["" if one is None else _word(one) for one in row]
        lines.append(f"| {title} | {' | '.join(words)} |")
    planted = [one for one in results if one["expected"]]
    clean = [one for one in results if not one["expected"]]
    n_found = sum(one["verdict"] == "FOUND" for one in planted)
    n_alarms = sum(one["verdict"] == "ALARM" for one in clean)
    lines += [
        "",
        f"{n_found} of {len(planted)} planted faults named; {n_alarms} false alarms on {len(clean)} clean sets",
    ]
    return lines


def _word(one: dict) -> str:
    named = "" if one["verdict"] in ("clean", "FOUND") else f" ({', '.join(one['named'])})"
    return one["verdict"] + named


def possible(needs: str, frames: Frames) -> bool:
    """Whether a set can have a fault."""
    first = frames[0]
    same = all(np.array_equal(f.atomic_numbers, first.atomic_numbers) for f in frames)
    return {
        "": True,
        "forces": first.forces is not None and first.energy is not None,
        "stress": first.stress is not None,
        "hydrogen": same and 1 in first.atomic_numbers and 8 in first.atomic_numbers,
        "molecule": same and not first.pbc.any() and len(set(first.atomic_numbers)) > 1,
        "all electrons": same and 8 in first.atomic_numbers and first.energy / len(first.atomic_numbers) < -400.0,
        "several": len(first.atomic_numbers) > 1,
        "consecutive": same
        and np.mean([np.abs(b.positions - a.positions).max() < 0.05 for a, b in pairwise(frames)]) > 0.5,
    }[needs]


def scaled(energy: float = 1.0, forces: float = 1.0, positions: float = 1.0) -> Callable[..., Frames]:
    """Labels and lengths times numbers."""

    def plant(frames: Frames, random: np.random.Generator) -> Frames:
        return [
            replace(
                f,
                energy=None if f.energy is None else f.energy * energy,
                forces=None if f.forces is None else f.forces * forces,
                positions=f.positions * positions,
                cell=f.cell * positions,
            )
            for f in frames
        ]

    return plant


def stress_as(change: Callable[[Frame], np.ndarray]) -> Callable[..., Frames]:
    """Another stress."""
    return lambda frames, random: [replace(f, stress=change(f)) for f in frames]


def volume(frame: Frame) -> float:
    return abs(float(np.linalg.det(frame.cell)))


def shuffled(name: str) -> Callable[..., Frames]:
    """A label of other frames with the same number of atoms."""

    def plant(frames: Frames, random: np.random.Generator) -> Frames:
        planted = list(frames)
        for n_atoms in {len(f.atomic_numbers) for f in frames}:
            rows = [i for i, f in enumerate(frames) if len(f.atomic_numbers) == n_atoms]
            for row, source in zip(rows, random.permutation(rows), strict=True):
                planted[row] = replace(frames[row], **{name: getattr(frames[source], name)})
        return planted

    return plant


def rows_permuted(frames: Frames, random: np.random.Generator) -> Frames:
    """One permutation of atoms for the forces of all frames."""
    order = {n: random.permutation(n) for n in {len(f.atomic_numbers) for f in frames}}
    return [replace(f, forces=f.forces[order[len(f.forces)]]) for f in frames]


def with_nan(frames: Frames, random: np.random.Generator) -> Frames:
    row = int(random.integers(len(frames)))
    forces = frames[row].forces.copy()
    forces[0, 1] = np.nan
    frames[row] = replace(frames[row], forces=forces)
    return frames


def duplicated(share: float, noise: float = 0.0, energy: float = 0.0) -> Callable[..., Frames]:
    """Copies of frames at random places, moved a little, or with another energy."""

    def plant(frames: Frames, random: np.random.Generator) -> Frames:
        for row in random.choice(len(frames), max(1, round(share * len(frames))), replace=False):
            f = frames[row]
            moved = f.positions + random.normal(scale=noise, size=f.positions.shape) if noise else f.positions
            copy = replace(f, positions=moved, energy=None if f.energy is None else f.energy + energy)
            frames.insert(int(random.integers(len(frames))), copy)
        return frames

    return plant


def leaking(frames: Frames, random: np.random.Generator) -> tuple[Frames, Frames]:
    """One frame in twenty of the test part, turned if it is a molecule, is in the training part."""
    half = len(frames) // 2
    test, train = frames[:half], frames[half:]
    for row in random.choice(half, max(1, half // 20), replace=False):
        f = test[row]
        if not f.pbc.any():
            turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
            turn *= np.sign(np.linalg.det(turn))
            f = replace(f, positions=f.positions @ turn + 1.0, forces=None if f.forces is None else f.forces @ turn)
        train.append(f)
    return test, train


def interleaved(frames: Frames, random: np.random.Generator) -> tuple[Frames, Frames]:
    """A random split of a trajectory."""
    order = random.permutation(len(frames))
    half = len(frames) // 2
    return [frames[i] for i in sorted(order[:half])], [frames[i] for i in sorted(order[half:])]


def overlapping(frames: Frames, random: np.random.Generator) -> Frames:
    row = int(random.integers(len(frames)))
    positions = frames[row].positions.copy()
    positions[1] = positions[0] + np.array([0.2, 0.1, 0.0])
    frames[row] = replace(frames[row], positions=positions)
    return frames


def renamed(old: int, new: int) -> Callable[..., Frames]:
    """The first atom of an element gets the name of another one, in all frames."""

    def plant(frames: Frames, random: np.random.Generator) -> Frames:
        numbers = frames[0].atomic_numbers.copy()
        numbers[int(np.argmax(numbers == old))] = new
        return [replace(f, atomic_numbers=numbers) for f in frames]

    return plant


def names_rolled(frames: Frames, random: np.random.Generator) -> Frames:
    """Atomic numbers in another order than positions."""
    return [replace(f, atomic_numbers=np.roll(f.atomic_numbers, 1)) for f in frames]


def outlier(frames: Frames, random: np.random.Generator) -> Frames:
    row = len(frames) // 2
    spread = float(np.std([f.energy / len(f.atomic_numbers) for f in frames])) * len(frames[row].atomic_numbers)
    frames[row] = replace(frames[row], energy=frames[row].energy + 10.0 * spread)
    return frames


def without_forces(frames: Frames, random: np.random.Generator) -> Frames:
    return [replace(f, forces=None) if i % 10 == 3 else f for i, f in enumerate(frames)]


FAULTS = (
    Planted("forces in kcal/mol/Å", ("force unit",), scaled(forces=1 / KCAL_PER_MOL), "forces"),
    Planted("forces in Hartree/Bohr", ("force unit",), scaled(forces=BOHR / HARTREE), "forces"),
    Planted("forces in eV/Bohr", ("force unit",), scaled(forces=BOHR), "forces"),
    Planted("gradients instead of forces", ("force sign",), scaled(forces=-1.0), "forces"),
    Planted("gradients in Hartree/Bohr", ("force sign",), scaled(forces=-BOHR / HARTREE), "forces"),
    Planted("energies in Hartree", ("energy unit",), scaled(energy=1 / HARTREE), "forces"),
    Planted("energies in kcal/mol", ("energy unit",), scaled(energy=1 / KCAL_PER_MOL), "forces"),
    Planted("energies with the wrong sign", ("energy sign",), scaled(energy=-1.0), "forces"),
    Planted("positions in Bohr", ("length unit",), scaled(positions=1 / BOHR), "several"),
    Planted("positions in nm", ("length unit",), scaled(positions=0.1), "several"),
    Planted("energies shuffled", ("energies shuffled",), shuffled("energy"), "forces"),
    Planted("forces of other frames", ("forces of other atoms",), shuffled("forces"), "forces"),
    Planted("rows of forces permuted", ("forces of other atoms",), rows_permuted, "forces"),
    Planted("one NaN", ("not finite",), with_nan, "forces"),
    Planted("5 % duplicates", ("duplicates",), duplicated(0.05)),
    Planted("5 % duplicates moved by 0.0003 Å", ("near duplicates",), duplicated(0.05, noise=3e-4)),
    Planted("one copy with another energy", ("contradicting labels",), duplicated(0.0, energy=0.05)),
    Planted("5 % of the test frames in training, turned", ("leakage",), leaking),
    Planted("random split of consecutive frames", ("neighbours in time",), interleaved, "consecutive"),
    Planted("two atoms overlap in one frame", ("overlapping atoms",), overlapping, "several"),
    Planted("a hydrogen called carbon", ("wrong element",), renamed(1, 6), "hydrogen"),
    Planted("an oxygen called nitrogen", ("wrong element",), renamed(8, 7), "all electrons"),
    Planted("atomic numbers in another order", ("wrong element",), names_rolled, "molecule"),
    Planted("one energy 10 sigma off", ("outliers",), outlier, "consecutive"),
    Planted("no forces in every tenth frame", ("labels missing",), without_forces, "forces"),
    Planted("stress in GPa", ("stress unit",), stress_as(lambda f: f.stress * GPA), "stress"),
    Planted("stress in kBar", ("stress unit",), stress_as(lambda f: f.stress * 10 * GPA), "stress"),
    Planted("stress with the wrong sign", ("stress sign",), stress_as(lambda f: -f.stress), "stress"),
    Planted(
        "stress in kBar with VASP's sign",
        ("stress unit and sign",),
        stress_as(lambda f: -f.stress * 10 * GPA),
        "stress",
    ),
    Planted("virial instead of stress", ("virial for stress",), stress_as(lambda f: -f.stress * volume(f)), "stress"),
    Planted("stress in VASP's order", ("stress order",), stress_as(lambda f: f.stress[[0, 1, 2, 5, 3, 4]]), "stress"),
    Planted("stress of other frames", ("stress of other frames",), shuffled("stress"), "stress"),
)

if __name__ == "__main__":
    main()
