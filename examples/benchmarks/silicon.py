"""What a potential for silicon is worth: errors by kind of frame, equation of state, elasticity, relaxation, dynamics.

python examples/benchmarks/silicon.py POTENTIAL TEST_DATA -o bench/silicon [--picoseconds 10] [--compiled] [--no-npt]

TEST_DATA: the Si test frames of mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)) as extended XYZ, or any labelled
frames of silicon; frames are told apart by `group` and `description` in their info.  Diamond silicon, 300 K.
Prints tables, and writes metrics.json and silicon.png into the output folder.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.eos import EquationOfState
from ase.io import read

import eqff
from eqff.compiler import compile_potential
from eqff.data.frame import Frame
from eqff.data.reading.read import Source
from eqff.report.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, _figure, _finish, _legend_above
from eqff.tasks.evaluate import evaluate
from eqff.tasks.md import MDConfig, run_md
from eqff.tasks.relax import RelaxConfig, run_relax

LATTICE = np.linspace(5.0, 5.9, 37)  # Å, cubic lattice constants of the equation of state
STRAIN = 0.005  # of the elastic constants, central differences
METRICS = ("energy_per_atom_mae_meV", "forces_mae_meV_A", "stress_mae_GPa")
# PBE, from the labels of mlearn's Si frames: its ground state, and central differences of the stress at strains of
# +-2 %, where atoms are clamped; B = (C11 + 2 C12) / 3
PBE = {"lattice": 5.4687, "bulk_modulus": 88.6, "C11": 152.7, "C12": 56.5, "C44_clamped": 99.1}


def kind(frame: Frame) -> str:
    """What a frame of mlearn shows."""
    group, description = frame.info.get("group", "frames"), str(frame.info.get("description", ""))
    if group == "Elastic":
        return "sheared" if any(f"mode_{mode}" in description for mode in (3, 4, 5)) else "strained"
    if group == "AIMD-NVT":
        return description.rsplit("_", 2)[-2] + " K"
    if group == "Vacancy":  # the file's labels of the two temperatures are interchanged; the energy tells
        hot = frame.energy is not None and frame.energy / len(frame.atomic_numbers) > -5.0
        return "vacancy, 3374 K" if hot else "vacancy, 300 K"
    return str(group).lower()


def errors_by_kind(potential: Any, frames: Sequence[Frame]) -> dict[str, dict[str, float]]:
    """Errors of all frames, then of each kind."""
    groups: dict[str, list[Frame]] = {"all": list(frames)}
    for frame in frames:
        groups.setdefault(kind(frame), []).append(frame)
    found = {}
    for name, members in groups.items():
        metrics = evaluate(potential, members).metrics
        kept = METRICS if name != "all" else [key for key in metrics if key.endswith(("meV", "meV_A", "GPa"))]
        found[name] = {"n_frames": len(members), **{key: metrics[key] for key in kept if key in metrics}}
    return found


def diamond(lattice: float, repeat: int = 1) -> Atoms:
    """8 repeat^3 atoms."""
    return bulk("Si", "diamond", a=lattice, cubic=True).repeat(repeat)


def equation_of_state(calculator: Any) -> dict[str, Any]:
    """Energy against volume; every minimum on the way is counted, inner points only."""
    volumes, energies = [], []
    for lattice in LATTICE:
        atoms = diamond(float(lattice))
        atoms.calc = calculator
        volumes.append(atoms.get_volume() / len(atoms))
        energies.append(atoms.get_potential_energy() / len(atoms))
    energy = np.array(energies)
    inner = energy[1:-1]
    minima = int(((inner < energy[:-2]) & (inner < energy[2:])).sum())
    near = np.abs(LATTICE - LATTICE[energy.argmin()]) < 0.03 * LATTICE[energy.argmin()]
    volume, _, bulk_modulus = EquationOfState(np.array(volumes)[near], energy[near], eos="birchmurnaghan").fit(
        warn=False
    )
    lattice = float((8.0 * volume) ** (1.0 / 3.0))
    lowest = diamond(lattice)
    lowest.calc = calculator
    return {
        "n_minima": minima,
        "lattice_A": lattice,
        "energy_eV_per_atom": lowest.get_potential_energy() / len(lowest),
        "bulk_modulus_GPa": float(bulk_modulus / units.GPa),
        "volumes_A3_per_atom": volumes,
        "energies_eV_per_atom": energies,
    }


def elastic_constants(calculator: Any, lattice: float, folder: Path) -> dict[str, float]:
    """C11, C12 and C44 from the stress of a strained cell; C44 with atoms clamped, and relaxed.  GPa"""

    def stress(axes: tuple[int, int], size: float, relaxed: bool = False) -> np.ndarray:
        strain = np.eye(3)
        strain[axes] += 0.5 * size
        strain[axes[::-1]] += 0.5 * size
        atoms = diamond(lattice)
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        if relaxed:
            config = RelaxConfig(fmax=1e-4, output=folder / "strained.extxyz", keep_trajectory=False, force=True)
            run_relax(config, [atoms], calculator)
            atoms = read(config.output)
        atoms.calc = calculator
        return np.asarray(atoms.get_stress()) / units.GPa

    def slope(axes: tuple[int, int], relaxed: bool = False) -> np.ndarray:
        return (stress(axes, STRAIN, relaxed) - stress(axes, -STRAIN, relaxed)) / (2.0 * STRAIN)

    stretched = slope((0, 0))
    return {
        "C11": float(stretched[0]),
        "C12": float(stretched[1]),
        "C44_clamped": float(slope((1, 2))[3]),
        "C44": float(slope((1, 2), relaxed=True)[3]),
    }


def relaxations(calculator: Any, lattice: float, energy: float, folder: Path) -> list[dict[str, Any]]:
    """Variable cell, from a sheared, stretched and shaken crystal of 8 and of 64 atoms, back to diamond or not."""
    generator = np.random.default_rng(0)
    starts = []
    for repeat in (1, 2):
        atoms = diamond(1.03 * lattice, repeat)
        strain = np.eye(3) + 0.02 * generator.normal(size=(3, 3))
        atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
        atoms.positions += generator.normal(scale=0.1, size=atoms.positions.shape)
        starts.append(atoms)
    config = RelaxConfig(fmax=0.001, cell=True, output=folder / "relaxed.extxyz", keep_trajectory=False, force=True)
    report = run_relax(config, starts, calculator)
    rows = []
    for result, atoms in zip(report.results, read(config.output, ":"), strict=True):
        rows.append(
            {
                "n_atoms": result.n_atoms,
                "converged": result.converged,
                "n_steps": result.n_steps,
                "energy_above_diamond_meV_per_atom": 1e3 * (result.energy / result.n_atoms - energy),
                "lattice_A": float((8.0 * atoms.get_volume() / len(atoms)) ** (1.0 / 3.0)),
                "angles_deg": [float(angle) for angle in atoms.cell.angles()],
                "max_force_eV_A": result.max_force,
                "max_stress_GPa": result.max_stress_gpa,
                "course_meV_per_atom": [1e3 * (step.energy / result.n_atoms - energy) for step in result.course],
            }
        )
    return rows


def constant_pressure(calculator: Any, lattice: float, picoseconds: float, timestep: float, folder: Path) -> dict:
    """Nosé-Hoover chains and isotropic barostat, 64 atoms, 300 K, 1 bar; means over the last four fifths."""
    steps = round(1000.0 * picoseconds / timestep)
    atoms = diamond(lattice, 2)
    config = MDConfig(
        ensemble="npt",
        timestep=timestep,
        steps=steps,
        interval=max(1, steps // 500),
        trajectory=folder / "npt.extxyz",
        force=True,
    )
    report = run_md(config, atoms, calculator)
    samples = report.samples
    late = samples["time_fs"] > 0.2 * samples["time_fs"][-1]
    pressures = []
    frames = read(config.trajectory, ":")
    for frame in frames[len(frames) // 5 :]:
        pressures.append(-frame.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa)
    lattice_of = (8.0 * samples["volume"] / len(atoms)) ** (1.0 / 3.0)
    return {
        "picoseconds": report.time_ps,
        "timestep_fs": timestep,
        "wall_seconds": report.wall_seconds,
        "mean_temperature_K": float(samples["temperature"][late].mean()),
        "mean_lattice_A": float(lattice_of[late].mean()),
        "std_lattice_A": float(lattice_of[late].std()),
        "mean_pressure_GPa": float(np.mean(pressures)),
        "pressure_error_GPa": float(block_error(np.array(pressures))),
        "drift_meV_per_atom_per_ps": report.drift,
        "drift_resolution_meV_per_atom_per_ps": report.drift_resolution,
        "fluctuation_meV_per_atom": report.fluctuation,
        "time_ps": (samples["time_fs"] * 1e-3).tolist(),
        "lattice_A": lattice_of.tolist(),
        "temperature_K": samples["temperature"].tolist(),
        "conserved_meV_per_atom": (1e3 * (samples["conserved"] - samples["conserved"][0]) / len(atoms)).tolist(),
    }


def block_error(values: np.ndarray, n_blocks: int = 8) -> float:
    """Standard error of the mean of a correlated series, from block means."""
    means = [block.mean() for block in np.array_split(values, n_blocks)]
    return float(np.std(means, ddof=1) / np.sqrt(n_blocks))


def draw(path: Path, found: dict[str, Any], title: str) -> None:
    """Errors by kind, equation of state, relaxation; with dynamics also lattice constant and conserved energy."""
    figure = _figure(10.0, 6.4)
    axes = figure.subplots(2, 3).ravel()
    kinds = list(found["by_kind"])
    panels = ((METRICS[0], "energy MAE (meV/atom)", BLUE), (METRICS[1], "force MAE (meV/Å)", VERMILION))
    for one, (metric, label, colour) in zip(axes, panels, strict=False):
        one.barh(kinds, [found["by_kind"][name].get(metric, np.nan) for name in kinds], color=colour)
        one.axvline(found["test"][metric], color=GREY, linestyle="--", linewidth=1.0, label="all frames")
        one.invert_yaxis()
        one.tick_params(axis="y", labelsize=8)
        one.set_xlabel(label)
        _legend_above(one)
    state = found["equation_of_state"]
    above = 1e3 * (np.array(state["energies_eV_per_atom"]) - state["energy_eV_per_atom"])
    axes[2].plot(LATTICE, above, ".-", color=BLUE, linewidth=1.0)
    axes[2].axvline(state["lattice_A"], color=GREY, linestyle="--", linewidth=1.0, label=f"{state['lattice_A']:.3f} Å")
    axes[2].set_xlabel("lattice constant (Å)")
    axes[2].set_ylabel("energy (meV/atom)")
    _legend_above(axes[2])
    for row, colour in zip(found["relaxations"], (ORANGE, PURPLE), strict=True):
        course = np.maximum(row["course_meV_per_atom"], 1e-4)
        axes[3].plot(course, color=colour, linewidth=1.2, label=f"{row['n_atoms']} atoms")
    axes[3].set_yscale("log")
    axes[3].set_xlabel("relaxation step")
    axes[3].set_ylabel("energy above diamond (meV/atom)")
    _legend_above(axes[3])
    if "npt" in found:
        npt = found["npt"]
        axes[4].plot(npt["time_ps"], npt["lattice_A"], color=GREEN, linewidth=0.8)
        mean = npt["mean_lattice_A"]
        axes[4].axhline(mean, color=GREY, linestyle="--", linewidth=1.0, label=f"mean {mean:.3f} Å")
        axes[4].set_ylabel("lattice constant at 300 K (Å)")
        _legend_above(axes[4])
        axes[5].plot(npt["time_ps"], npt["conserved_meV_per_atom"], color=PURPLE, linewidth=0.8)
        axes[5].set_ylabel("conserved energy − first (meV/atom)")
        for one in axes[4:]:
            one.set_xlabel("time (ps)")
    for one in axes if "npt" not in found else ():
        one.set_visible(bool(one.has_data()))
    _finish(figure, path, title)


def without_series(value: Any) -> Any:
    """The figures, without what was drawn."""
    if isinstance(value, dict):
        return {
            name: without_series(one) for name, one in value.items() if not (isinstance(one, list) and len(one) > 3)
        }
    return [without_series(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("potential")
    parser.add_argument("data")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench/silicon"))
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--timestep", type=float, default=2.0, help="fs, of npt")
    parser.add_argument("--no-npt", action="store_true")
    parser.add_argument("--compiled", action="store_true", help="dynamics with the compiled program")
    arguments = parser.parse_args()
    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)

    source = Source(arguments.data)
    test = {"data": source.path.name, "data_sha256": source.sha256}
    exact = eqff.EqffCalculator(arguments.potential, dtype="float64", accelerate="off")
    errors = errors_by_kind(eqff.load(arguments.potential), source.frames)
    found: dict[str, Any] = {"test": test | errors.pop("all"), "by_kind": errors}
    print(f"{'errors (MAE)':18s} frames  meV/atom   meV/Å     GPa")
    for name, row in {"all": found["test"], **errors}.items():
        print(f"{name:18s} {row['n_frames']:6d} " + " ".join(f"{row.get(key, np.nan):9.3f}" for key in METRICS))

    state = found["equation_of_state"] = equation_of_state(exact)
    lattice, energy = state["lattice_A"], state["energy_eV_per_atom"]
    print(f"equation of state, {LATTICE[0]:g} to {LATTICE[-1]:g} Å: minima {state['n_minima']}")
    constants = found["elastic_constants_GPa"] = elastic_constants(exact, lattice, folder)
    print(f"{'':22s} this      PBE")
    values = {"lattice": lattice, "bulk_modulus": state["bulk_modulus_GPa"], **constants}
    for name, value in values.items():
        print(f"{name:18s} {value:8.3f} {PBE.get(name, np.nan):8.3f} {'Å' if name == 'lattice' else 'GPa'}")

    found["relaxations"] = relaxations(exact, lattice, energy, folder)
    for row in found["relaxations"]:
        angles = " ".join(f"{angle:.3f}" for angle in row["angles_deg"])
        print(
            f"relaxed {row['n_atoms']:3d} atoms: converged {row['converged']}, {row['n_steps']} steps, "
            f"{row['energy_above_diamond_meV_per_atom']:+.4f} meV/atom above diamond, {row['lattice_A']:.4f} Å, "
            f"angles {angles}, stress {row['max_stress_GPa']:.4f} GPa"
        )
    title = f"{Path(arguments.potential).name.removesuffix('.eqff.pt')} on {source.path.name}"
    save(folder, found, title)
    if not arguments.no_npt:
        if arguments.compiled:
            compile_potential(arguments.potential)
        program = eqff.EqffCalculator(arguments.potential, accelerate="ready" if arguments.compiled else "off")
        npt = constant_pressure(program, lattice, arguments.picoseconds, arguments.timestep, folder)
        found["npt"] = npt | {"program": program.program}
        for key in [key for key, value in npt.items() if not isinstance(value, list)]:
            print(f"npt {key:40s} {npt[key]:.5g}")
        save(folder, found, title)
    print(f"wrote {folder / 'metrics.json'}, {folder / 'silicon.png'}")


def save(folder: Path, found: dict[str, Any], title: str) -> None:
    """What is there so far; dynamics take longest."""
    draw(folder / "silicon.png", found, title)
    (folder / "metrics.json").write_text(json.dumps(without_series(found), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
