r"""Elastic constants of a crystal: C_ij = d sigma_i / d eps_j, from stresses under small strains.

Voigt's order xx yy zz yz xz xy, shear strains eps_4 = 2 e_yz; positions are relaxed under every strain.  The tensor is
given along the axes of the conventional cell (a along x, b in the xy plane, as spglib standardises it), whatever the
orientation of the structure.  The symmetry of the crystal is imposed by averaging over its rotations; how far that
moves the tensor is reported, and so is C_ij against C_ji.  Moduli of a polycrystal after Voigt (equal strain), Reuss
(equal stress) and Hill (their mean).

Source: R. Hill, Proc. Phys. Soc. A 65, 349 (1952); stability: F. Mouhat, F.-X. Coudert, Phys. Rev. B 90, 224104 (2014);
anisotropy: S. Ranganathan, M. Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008).
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units

from eqff.data.reading.structures import frame_text
from eqff.errors import ConfigError, ResourceError, RunError
from eqff.tasks.crystal import CrystalConfig, Progress, prepare, relaxed, strained
from eqff.tasks.results_folder import results_folder, write_texts
from eqff.units import VOIGT

SYMMETRY = 1e-3  # Å, within which atoms are symmetric, after a relaxation
STEPS = (-1.0, -0.5, 0.5, 1.0)  # of the largest strain


@dataclass(frozen=True, kw_only=True)
class ElasticConfig(CrystalConfig):
    """Settings; the folder gets elastic.json, elastic.csv and the relaxed crystal."""

    strain: float = 0.005  # the largest; stress is linear up to about 0.01
    fmax: float = 1e-4  # eV/Å
    output: Path = Path("elastic")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.strain <= 0.05:
            raise ConfigError("EQ1275", f"strain={self.strain}: expected a number up to 0.05; give e.g. 0.005")


class Moduli(NamedTuple):
    """Of a polycrystal without texture."""

    bulk: float  # GPa
    shear: float  # GPa
    young: float  # GPa
    poisson: float


class ElasticReport(NamedTuple):
    """Results."""

    atoms: Atoms  # the crystal, relaxed unless the settings say no
    space_group: str  # e.g. "Fm-3m (225)"
    constants: np.ndarray  # [6, 6] GPa, symmetric, along the axes of the conventional cell
    rotation: np.ndarray  # [3, 3] from Cartesian vectors of `atoms` to those axes
    asymmetry: float  # GPa, largest |C_ij - C_ji| / 2 of the slopes
    symmetrization: float  # GPa, largest change by the symmetry of the crystal
    residual_stress: float  # GPa, largest component of the unstrained crystal
    eigenvalues: np.ndarray  # [6] GPa of the tensor in Mandel's form; all positive: stable
    voigt: Moduli
    reuss: Moduli
    hill: Moduli
    anisotropy: float  # universal index, 0 for an isotropic crystal
    files: tuple[Path, ...]

    @property
    def stable(self) -> bool:
        return bool(self.eigenvalues[0] > 0.0)


def run_elastic(
    config: ElasticConfig, atoms: Atoms, calculator: Any, progress: Progress = lambda text: None
) -> ElasticReport:
    """Relax, strain, fit and write; the caller's atoms are not changed.

    Args:    config; atoms: a crystal; calculator: any ASE calculator with stress; progress
    Returns: ElasticReport
    Raises:  as `crystal.prepare` and `results_folder`; ResourceError EQ6030 without spglib; RunError EQ5332
             without stiffness
    """
    with results_folder(config.output, config.force):
        return _run(config, atoms, calculator, progress)


def _run(config: ElasticConfig, atoms: Atoms, calculator: Any, progress: Progress) -> ElasticReport:
    _spglib()
    start = prepare(config, atoms, calculator, progress)
    slopes = np.empty((6, 6))
    steps = config.strain * np.array(STEPS)
    for j in range(6):
        progress(f"strain {j + 1} of 6")
        stresses = np.array([_stress(config, start, j, step, calculator) for step in steps])
        slopes[:, j] = (steps @ stresses) / (steps @ steps)  # the steps sum up to 0
    symmetric = 0.5 * (slopes + slopes.T)
    rotations, conventional, group = symmetry(start)
    constants = symmetrized(symmetric, rotations)
    change = float(np.abs(constants - symmetric).max())
    constants = symmetrized(constants, conventional[None])
    eigenvalues = np.linalg.eigvalsh(mandel(constants))
    if np.abs(eigenvalues).min() <= 1e-9 * max(np.abs(eigenvalues).max(), 1.0):
        raise RunError(
            "EQ5332", "the crystal resists some strain with no force: atoms do not interact; give a denser structure"
        )
    voigt, reuss, hill = moduli(constants)
    report = ElasticReport(
        start,
        group,
        constants,
        conventional,
        float(np.abs(slopes - slopes.T).max()) / 2.0,
        change,
        float(np.abs(start.get_stress()).max() / units.GPa),
        eigenvalues,
        voigt,
        reuss,
        hill,
        5.0 * voigt.shear / reuss.shear + voigt.bulk / reuss.bulk - 6.0,
        (),
    )
    return report._replace(files=tuple(write_texts(config.output, _contents(report), calculator)))


def symmetry(atoms: Atoms, tolerance: float = SYMMETRY) -> tuple[np.ndarray, np.ndarray, str]:
    """Rotations of a crystal's space group [n, 3, 3], the rotation to its conventional axes [3, 3], and its name.

    Args: atoms; tolerance: Å.  Rotations act on Cartesian column vectors.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about None as the answer, which is handled
        dataset = _spglib().get_symmetry_dataset(cell, symprec=tolerance)
    if dataset is None:
        return np.eye(3)[None], np.eye(3), "P1 (1)"
    basis = atoms.cell.array.T
    rotations = basis @ dataset.rotations @ np.linalg.inv(basis)
    return rotations, np.asarray(dataset.std_rotation_matrix), f"{dataset.international} ({dataset.number})"


def symmetrized(constants: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Mean over rotations of a tensor of elastic constants.

    Args: constants [6, 6] in Voigt's form; rotations [n, 3, 3], orthogonal
    """
    tensor = _tensor(constants)
    mean = np.mean([np.einsum("ai,bj,ck,dl,ijkl->abcd", r, r, r, r, tensor, optimize=True) for r in rotations], axis=0)
    pairs = np.array(VOIGT)
    matrix = mean[pairs[:, None, 0], pairs[:, None, 1], pairs[None, :, 0], pairs[None, :, 1]]
    return np.asarray(0.5 * (matrix + matrix.T))


def mandel(constants: np.ndarray) -> np.ndarray:
    """The tensor as a symmetric map of symmetric matrices, whose eigenvalues do not depend on the axes."""
    roots = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    return constants * roots[:, None] * roots[None, :]


def moduli(constants: np.ndarray) -> tuple[Moduli, Moduli, Moduli]:
    """After Voigt, Reuss and Hill.  Args: constants [6, 6] GPa"""
    c, s = constants, np.linalg.inv(constants)
    bulk_voigt = c[:3, :3].sum() / 9.0
    shear_voigt = (3.0 * np.trace(c[:3, :3]) - c[:3, :3].sum() + 6.0 * np.trace(c[3:, 3:])) / 30.0
    bulk_reuss = 1.0 / s[:3, :3].sum()
    shear_reuss = 30.0 / (12.0 * np.trace(s[:3, :3]) - 4.0 * s[:3, :3].sum() + 6.0 * np.trace(s[3:, 3:]))
    pairs = [(bulk_voigt, shear_voigt), (bulk_reuss, shear_reuss)]
    pairs.append((0.5 * (bulk_voigt + bulk_reuss), 0.5 * (shear_voigt + shear_reuss)))
    voigt, reuss, hill = (
        Moduli(float(k), float(g), float(9.0 * k * g / (3.0 * k + g)), float((1.5 * k - g) / (3.0 * k + g)))
        for k, g in pairs
    )
    return voigt, reuss, hill


def plain(report: ElasticReport) -> dict[str, Any]:
    """The numbers of a report by name and unit, for JSON."""
    names = {"bulk": "bulk_GPa", "shear": "shear_GPa", "young": "young_GPa", "poisson": "poisson"}
    return {
        "formula": report.atoms.get_chemical_formula(),
        "space_group": report.space_group,
        "constants_GPa": report.constants.tolist(),
        "rotation_to_conventional_axes": report.rotation.tolist(),
        **{
            which: {names[key]: value for key, value in getattr(report, which)._asdict().items()}
            for which in ("voigt", "reuss", "hill")
        },
        "anisotropy": report.anisotropy,
        "stable": report.stable,
        "eigenvalues_GPa": report.eigenvalues.tolist(),
        "asymmetry_GPa": report.asymmetry,
        "symmetrization_GPa": report.symmetrization,
        "residual_stress_GPa": report.residual_stress,
    }


def _stress(config: ElasticConfig, start: Atoms, component: int, size: float, calculator: Any) -> np.ndarray:
    """[6] GPa, under one strain."""
    a, b = VOIGT[component]
    strain = np.zeros((3, 3))
    strain[a, b] = strain[b, a] = size if a == b else 0.5 * size
    atoms = relaxed(config, strained(start, strain), calculator)
    atoms.calc = calculator
    return np.asarray(atoms.get_stress() / units.GPa)


def _tensor(constants: np.ndarray) -> np.ndarray:
    """[3, 3, 3, 3] from [6, 6]."""
    index = np.zeros((3, 3), dtype=int)
    for number, (a, b) in enumerate(VOIGT):
        index[a, b] = index[b, a] = number
    return constants[index[:, :, None, None], index[None, None, :, :]]


def _spglib() -> Any:
    """Raises: ResourceError EQ6030"""
    try:
        import spglib
    except ImportError as error:
        raise ResourceError(
            "EQ6030", "elastic constants need spglib for the symmetry; install it with `pip install 'eqff[crystals]'`"
        ) from error
    return spglib


def _contents(report: ElasticReport) -> list[tuple[str, str]]:
    """Names and contents of the files."""
    names = ["xx", "yy", "zz", "yz", "xz", "xy"]
    rows = [",".join(["C_GPa", *names])]
    rows += [
        ",".join([name, *(f"{value:.6f}" for value in row)]) for name, row in zip(names, report.constants, strict=True)
    ]
    return [
        ("elastic.csv", "\n".join(rows) + "\n"),
        ("elastic.json", json.dumps(plain(report), indent=1) + "\n"),
        ("structure.extxyz", frame_text(report.atoms)),
    ]
