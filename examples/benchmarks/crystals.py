"""Volumes and bulk moduli of 64 elements and 5 compounds by a universal potential, beside density-functional theory.

python examples/benchmarks/crystals.py 7net-0 -o crystals [--sevenn-python .peers/sevenn/bin/python]

Energies at seven volumes (94 to 106 %) with the shape of the reference crystal, as in the Delta project; parameters by
the Birch-Murnaghan equation. Elements: WIEN2k with PBE in ase.collections.dcdft (K. Lejaeghere et al., Crit. Rev. Solid
State Mater. Sci. 39, 1 (2014)), without noble gases, which PBE hardly binds, and without Po and Rn, which are no
elements of SevenNet's. Compounds: PBE lattice constants and bulk moduli after Haas, Tran and Blaha, Phys. Rev. B 79,
085104 (2009), quoted from memory. No input sets a magnetic order: O, Cr, Mn, Fe, Co and Ni have that of the training
data. With --sevenn-python the same structures are evaluated by sevenn's own calculator, too. Writes
crystals.json and crystals.png, and prints a table.
"""

import argparse
import json
import subprocess
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.collections import dcdft
from ase.eos import EquationOfState
from ase.io import write

import eqff

LEFT_OUT = ("He", "Ne", "Ar", "Kr", "Xe", "Po", "Rn")
COMPOUNDS = {  # lattice, a in Å, B in GPa
    "NaCl": ("rocksalt", 5.70, 24.0),
    "MgO": ("rocksalt", 4.26, 149.0),
    "LiF": ("rocksalt", 4.07, 67.0),
    "GaAs": ("zincblende", 5.75, 61.0),
    "SiC": ("zincblende", 4.38, 212.0),
}
FACTORS = np.linspace(0.94, 1.06, 7)


class Crystal(NamedTuple):
    """A crystal with the volume and bulk modulus of the reference."""

    name: str
    atoms: Atoms
    volume: float  # Å^3 per atom
    modulus: float  # GPa


def crystals() -> list[Crystal]:
    """Those of the table, each at the volume of the reference."""
    found = []
    for symbol in dcdft.names:
        if symbol not in LEFT_OUT:
            atoms, data = dcdft[symbol], dcdft.data[symbol]
            atoms.set_initial_magnetic_moments(None)
            found.append(Crystal(symbol, atoms, data["wien2k_volume"], data["wien2k_B"]))
    for name, (lattice, length, modulus) in COMPOUNDS.items():
        atoms = bulk(name, lattice, a=length)
        found.append(Crystal(name, atoms, atoms.get_volume() / len(atoms), modulus))
    return found


def scaled(crystal: Crystal) -> list[Atoms]:
    """The crystal at the seven volumes."""
    structures = []
    for factor in FACTORS:
        atoms = crystal.atoms.copy()
        length = (factor * crystal.volume * len(atoms) / atoms.get_volume()) ** (1.0 / 3.0)
        atoms.set_cell(atoms.cell * length, scale_atoms=True)
        structures.append(atoms)
    return structures


def fitted(crystal: Crystal, energies: np.ndarray) -> tuple[float, float]:
    """(volume in Å^3 per atom, bulk modulus in GPa); NaN where the energies have no minimum."""
    n_atoms = len(crystal.atoms)
    equation = EquationOfState(FACTORS * crystal.volume, energies / n_atoms, eos="birchmurnaghan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            volume, _, modulus = equation.fit()
        except (RuntimeError, ValueError):
            return np.nan, np.nan
    inside = 0.7 * crystal.volume < volume < 1.4 * crystal.volume
    return (volume, modulus / units.GPa) if inside else (np.nan, np.nan)


def summary(rows: list[dict[str, Any]], side: str) -> str:
    """Mean and median absolute deviations, in per cent."""
    volume = np.array([100.0 * (row[f"{side}_volume"] / row["volume"] - 1.0) for row in rows])
    modulus = np.array([100.0 * (row[f"{side}_modulus"] / row["modulus"] - 1.0) for row in rows])
    parts = [
        f"{what} mean |deviation| {np.nanmean(np.abs(values)):.2f} %, median {np.nanmedian(np.abs(values)):.2f} %"
        for what, values in (("volume", volume), ("bulk modulus", modulus))
    ]
    missing = [row["name"] for row in rows if np.isnan(row[f"{side}_volume"])]
    return f"{side}: {len(rows) - len(missing)} crystals; {'; '.join(parts)}" + (
        f"; no minimum: {', '.join(missing)}" if missing else ""
    )


def draw(rows: list[dict[str, Any]], path: Path, name: str) -> None:
    """Deviations of the volumes, and bulk moduli against the reference."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12.0, 5.5), layout="constrained")
    bound = [row for row in rows if np.isfinite(row["eqff_volume"])]
    order = sorted(bound, key=lambda row: abs(row["eqff_volume"] / row["volume"] - 1.0))
    deviations = [100.0 * (row["eqff_volume"] / row["volume"] - 1.0) for row in order]
    left.barh(range(len(order)), deviations, color="#0072B2")
    left.set_yticks(range(len(order)), [row["name"] for row in order], fontsize=5)
    left.set_xlabel("volume, deviation from the reference (%)")
    reference, found = ([row[key] for row in rows] for key in ("modulus", "eqff_modulus"))
    right.loglog(reference, found, "o", color="#0072B2", markersize=4)
    right.plot([1.0, 500.0], [1.0, 500.0], color="0.6", linewidth=0.8)
    for row in rows:
        if row["eqff_modulus"] > 0.0 and abs(np.log(row["eqff_modulus"] / row["modulus"])) > 0.3:
            right.annotate(
                row["name"],
                (row["modulus"], row["eqff_modulus"]),
                fontsize=7,
                xytext=(4, -2),
                textcoords="offset points",
            )
    right.set_xlabel("bulk modulus, reference (GPa)")
    right.set_ylabel(f"bulk modulus, {name} (GPa)")
    figure.savefig(path, dpi=150)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("potential", help="name or file")
parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
parser.add_argument("--sevenn-python", type=Path, help="Python of an environment with sevenn")
parser.add_argument("--sevenn-model", nargs="+", default=["7net-0"], metavar="MODEL MODALITY")
arguments = parser.parse_args()
arguments.output.mkdir(parents=True, exist_ok=True)

chosen = crystals()
structures = [atoms for crystal in chosen for atoms in scaled(crystal)]
potential = eqff.load(arguments.potential, dtype="float64")
energies = {"eqff": np.array([one.energy for one in potential.predict(structures)])}
if arguments.sevenn_python is not None:
    file, results = arguments.output / "structures.extxyz", arguments.output / "sevenn.npy"
    write(file, structures)
    script = Path(__file__).parent / "peers" / "sevenn_results.py"
    subprocess.run([arguments.sevenn_python, script, file, results, *arguments.sevenn_model], check=True)
    energies["sevenn"] = np.load(results)
rows = []
for k, crystal in enumerate(chosen):
    row: dict[str, Any] = {"name": crystal.name, "volume": crystal.volume, "modulus": crystal.modulus}
    for side, values in energies.items():
        row[f"{side}_volume"], row[f"{side}_modulus"] = fitted(crystal, values[7 * k : 7 * k + 7])
    rows.append(row)
    shown = "  ".join(f"{side} {row[f'{side}_volume']:8.3f} {row[f'{side}_modulus']:7.1f}" for side in energies)
    print(f"{crystal.name:5s} reference {crystal.volume:8.3f} {crystal.modulus:7.1f}  {shown}")
print("volumes in Å^3 per atom, bulk moduli in GPa")
for side in energies:
    print(summary(rows, side))
    print(summary(rows[-len(COMPOUNDS) :], side))
if "sevenn" in energies:
    difference = energies["eqff"] - energies["sevenn"]
    sizes = np.repeat([len(crystal.atoms) for crystal in chosen], len(FACTORS))
    print(f"largest difference between the two: {1e3 * np.abs(difference / sizes).max():.1e} meV/atom")
(arguments.output / "crystals.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
draw(rows, arguments.output / "crystals.png", arguments.potential)
