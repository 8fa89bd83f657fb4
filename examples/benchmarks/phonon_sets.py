"""Forces and phonons of a potential beside published force sets of phonopy and phono3py.

python examples/benchmarks/phonon_sets.py 7net-0 phonons/NaCl phonons/Si-PBE -o phonon_sets

A folder holds phonopy_disp.yaml and FORCE_SETS, or phono3py_disp.yaml and FORCES_FC3, of which the single displacements
give the harmonic forces. Both sides have the cell, displacements and symmetry of the file, forces of displaced minus
those of perfect supercells, and no non-analytic correction. Frequencies are compared on a mesh of 8 x 8 x 8 points.
Writes phonon_sets.json and phonon_sets.png, and prints a table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import phonopy
import yaml
from ase import Atoms
from phonopy.file_IO import parse_FORCE_SETS
from phonopy.structure.atoms import PhonopyAtoms

import eqff

MESH = 8


def atoms_of(cell: PhonopyAtoms) -> Atoms:
    """The same cell for ASE."""
    return Atoms(cell.symbols, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)


def read_set(folder: Path) -> tuple[Any, np.ndarray, np.ndarray]:
    """(phonopy object with the published forces, displacements [n, n_atoms, 3] Å, forces [n, n_atoms, 3] eV/Å)."""
    if (folder / "phonopy_disp.yaml").is_file():
        phonons = phonopy.load(folder / "phonopy_disp.yaml", is_nac=False, produce_fc=False, log_level=0)
        dataset = parse_FORCE_SETS(filename=folder / "FORCE_SETS")
        rows = [(one["number"], one["displacement"], one["forces"]) for one in dataset["first_atoms"]]
    else:
        told = yaml.load((folder / "phono3py_disp.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        points = told["unit_cell"]["points"]
        unit = PhonopyAtoms(
            symbols=[point["symbol"] for point in points],
            scaled_positions=[point["coordinates"] for point in points],
            cell=told["unit_cell"]["lattice"],
        )
        matrix = told["supercell_matrix"], told["primitive_matrix"]
        phonons = phonopy.Phonopy(unit, *matrix, log_level=0)
        n_atoms = len(phonons.supercell)
        blocks = np.loadtxt(folder / "FORCES_FC3").reshape(-1, n_atoms, 3)  # lines with # are comments
        rows = []
        for pair in told["displacement_pairs"]:
            rows.append((pair["atom"] - 1, pair["displacement"], blocks[pair["displacement_id"] - 1]))
    n_atoms = len(phonons.supercell)
    displacements, forces = np.zeros((len(rows), n_atoms, 3)), np.array([row[2] for row in rows])
    for displacement, (atom, vector, _) in zip(displacements, rows, strict=True):
        displacement[atom] = vector
    return phonons, displacements, forces


def frequencies(phonons: Any, displacements: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """THz, [n_points * n_modes], for forces of displaced supercells."""
    moved = [int(np.abs(one).sum(axis=1).argmax()) for one in displacements]
    phonons.dataset = {
        "natom": displacements.shape[1],
        "first_atoms": [
            {"number": atom, "displacement": one[atom], "forces": force}
            for atom, one, force in zip(moved, displacements, forces, strict=True)
        ],
    }
    phonons.produce_force_constants()
    phonons.run_mesh([MESH] * 3, is_gamma_center=True)
    return np.asarray(phonons.mesh.frequencies).ravel()


def compare(potential: Any, folder: Path) -> dict[str, Any]:
    """Numbers of one folder."""
    phonons, displacements, published = read_set(folder)
    perfect = atoms_of(phonons.supercell)
    structures = [perfect.copy() for _ in displacements]
    for atoms, displacement in zip(structures, displacements, strict=True):
        atoms.positions += displacement
    first, *found = (one.forces for one in potential.predict([perfect, *structures]))
    forces = np.array(found) - first
    rms = float(np.sqrt(np.square(published).mean()))
    reference, own = frequencies(phonons, displacements, published), frequencies(phonons, displacements, forces)
    return {
        "set": folder.name,
        "supercells": len(structures),
        "forces_mae_meV_A": 1e3 * float(np.abs(forces - published).mean()),
        "forces_rms_error_percent": 100.0 * float(np.sqrt(np.square(forces - published).mean())) / rms,
        "frequencies_mae_THz": float(np.abs(own - reference).mean()),
        "highest_THz": float(own.max()),
        "highest_of_set_THz": float(reference.max()),
        "frequencies": own.tolist(),
        "frequencies_of_set": reference.tolist(),
    }


def draw(rows: list[dict[str, Any]], path: Path, name: str) -> None:
    """Frequencies of the potential against those of the sets."""
    import matplotlib.pyplot as plt

    figure, all_axes = plt.subplots(1, len(rows), figsize=(4.5 * len(rows), 4.5), layout="constrained", squeeze=False)
    for axes, row in zip(all_axes[0], rows, strict=True):
        axes.plot(row["frequencies_of_set"], row["frequencies"], ".", color="#0072B2", markersize=3)
        top = 1.05 * max(row["highest_THz"], row["highest_of_set_THz"])
        axes.plot([0.0, top], [0.0, top], color="0.6", linewidth=0.8)
        axes.set_title(row["set"])
        axes.set_xlabel("published forces, frequency (THz)")
        axes.set_ylabel(f"{name}, frequency (THz)")
    figure.savefig(path, dpi=150)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential", help="name or file")
parser.add_argument("folders", nargs="+", type=Path)
parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
arguments = parser.parse_args()
arguments.output.mkdir(parents=True, exist_ok=True)
loaded = eqff.load(arguments.potential, dtype="float64")
results = [compare(loaded, folder) for folder in arguments.folders]
for result in results:
    forces = f"forces MAE {result['forces_mae_meV_A']:.2f} meV/Å, RMS error {result['forces_rms_error_percent']:.1f} %"
    highest = f"highest {result['highest_THz']:.2f} THz, of the set {result['highest_of_set_THz']:.2f} THz"
    print(f"{result['set']}: {forces}; frequencies MAE {result['frequencies_mae_THz']:.3f} THz, {highest}")
(arguments.output / "phonon_sets.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
draw(results, arguments.output / "phonon_sets.png", arguments.potential)
