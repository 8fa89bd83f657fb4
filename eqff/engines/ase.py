"""ASE: a potential as an ASE calculator.

    from eqff.engines.ase import EqffCalculator
    atoms.calc = EqffCalculator("ethanol-nequip")

Energy eV, forces eV/Å, stress eV/Å^3 in Voigt order xx yy zz yz xz xy, tension positive (ASE's conventions).
"""

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.formula import Formula

from eqff import artifact
from eqff.elements import species_index
from eqff.errors import ConfigError, GraphError, PotentialError
from eqff.graph import check_atoms
from eqff.neighbors import VerletList
from eqff.potential import EnergyForces, Potential, voigt_stress

DTYPES = ("auto", "float32", "float64")


class EqffCalculator(Calculator):
    """Energy, free_energy, energies (per atom), forces and stress of any structure of known species.

    The file is found at once and loaded at the first calculation.  Stress exists only for structures periodic in three
    directions; asking for it otherwise raises ASE's PropertyNotImplementedError.  Charge and spin are not looked at.
    Pickles as path and options with the last results; deep copies share the loaded potential.

    Args:   potential: name, path of a potential file, or a Potential (which brings its own device and dtype);
            device: as torch names it, None for the CPU or where the given Potential is;
            dtype: of the weights, "auto" for the stored one;
            skin: Å, >= 0, neighbours kept beyond r_max between steps; costs memory, changes no result
    Raises: PotentialError when the potential is not found, is damaged, or gives a result that is not finite;
            GraphError for structures it cannot take; ConfigError for options
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  ASE's own form
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(
        self, potential: str | Path | Potential, device: str | None = None, dtype: str = "auto", skin: float = 0.5
    ) -> None:
        if device is None:
            device = str(potential.device) if isinstance(potential, Potential) else "cpu"
        self._given = potential if isinstance(potential, Potential) else None
        self._loaded: Potential | None = None
        self._neighbors: VerletList | None = None
        self._composition: list[int] = []
        self._warned = False
        if isinstance(potential, Potential):
            place = None if potential.path is None else str(Path(potential.path).resolve())
        else:
            place = str(artifact.find(potential).resolve())
        super().__init__(potential=place, device=str(device), dtype=dtype, skin=skin)

    @property
    def potential(self) -> Potential:
        """The potential behind this calculator, loaded when first asked for."""
        if self._loaded is None:
            options = self.parameters
            if self._given is None:
                self._loaded = artifact.load(options["potential"], options["device"], options["dtype"])
            else:
                _check_options(self._given, options["device"], options["dtype"])
                self._loaded = self._given
        return self._loaded

    def set(self, **options: Any) -> dict[str, Any]:
        """Change device, dtype or skin; drops results and, where needed, the loaded potential.

        Raises: ConfigError for an unknown option or value
        """
        for name in options:
            if name not in ("potential", "device", "dtype", "skin"):
                raise ConfigError("EQ1302", f"{name}={options[name]!r}: no such option; use device, dtype or skin")
        if "potential" in options and "potential" in self.parameters:
            raise ConfigError("EQ1306", "potential: cannot be exchanged in a calculator; make a new EqffCalculator")
        if options.get("dtype", "auto") not in DTYPES:
            raise ConfigError("EQ1303", f"dtype={options['dtype']!r}: expected {', '.join(DTYPES)}")
        if "skin" in options:
            VerletList(1.0, options["skin"])  # raises if this is no length
        changed: dict[str, Any] = super().set(**options)
        if changed:
            self.reset()
            self._neighbors = None
        if "device" in changed or "dtype" in changed:
            self._loaded = None
        return changed

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results` with every property that this structure has, whatever was asked for.

        Raises: see the class; `results` is empty after an error, except after asking for a stress that does not exist
        """
        self.results = {}
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise GraphError("EQ2113", "atoms=None: this calculator has seen no structure yet; pass atoms")
        positions, cell, pbc = self.atoms.positions, self.atoms.cell.array, self.atoms.pbc
        check_atoms(positions, self.atoms.numbers, cell, pbc)
        potential = self.potential
        species = species_index(self.atoms.numbers, potential.species)
        self._warn_of_composition(potential, np.bincount(species, minlength=len(potential.species)))
        if self._neighbors is None:
            self._neighbors = VerletList(potential.r_max, self.parameters["skin"])
        structure = self._neighbors.structure(positions, species, cell, pbc, potential.device)
        result = potential(structure)
        _check_finite(result)
        energy = float(result.energy[0])
        results: dict[str, Any] = {
            "energy": energy,
            "free_energy": energy,
            "energies": _own(result.energies),
            "forces": _own(result.forces),
        }
        if pbc.all():
            results["stress"] = _own(voigt_stress(result.strain_gradient[0], structure.cell[0]))
        self.results = results
        if "stress" in properties and "stress" not in results:
            raise PropertyNotImplementedError(
                f"stress needs a structure periodic in three directions, this one has pbc={pbc.tolist()}; "
                "set atoms.pbc and a cell, or do not ask for stress"
            )

    def _warn_of_composition(self, potential: Potential, counts: np.ndarray) -> None:
        """Once: total energies are known only for sums of the compositions that were trained on."""
        data = potential.header.get("training_data")
        known = data.get("compositions") if isinstance(data, dict) else None
        if not known or self._composition == counts.tolist() or self._warned:
            return
        self._composition = counts.tolist()
        rows = [[Formula(formula).count().get(symbol, 0) for symbol in potential.species] for formula in known]
        if np.linalg.matrix_rank(np.array([*rows, counts])) > np.linalg.matrix_rank(np.array(rows)):
            self._warned = True
            warnings.warn(
                f"the potential was trained on {', '.join(known)} only: the energy of "
                f"{self.atoms.get_chemical_formula()} has an unknown constant, and its forces are extrapolated",
                UserWarning,
                stacklevel=2,
            )

    def _get_name(self) -> str:
        return "eqff"

    def __repr__(self) -> str:
        options = self.parameters
        what = options["potential"] or "Potential in memory"
        return (
            f"EqffCalculator({str(what)!r}, device={options['device']!r}, dtype={options['dtype']!r}, "
            f"skin={options['skin']:g} Å; energy eV, forces eV/Å, stress eV/Å^3)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        options = dict(self.parameters)
        if options["potential"] is None:
            raise PotentialError(
                "EQ4160", "potential: lives in memory only and cannot be pickled; export it and give the file's path"
            )
        if self._given is not None:
            options["device"], options["dtype"] = str(self._given.device), str(self._given.dtype).removeprefix("torch.")
        arguments = (options["potential"], options["device"], options["dtype"], options["skin"])
        return type(self), arguments, {"atoms": self.atoms, "results": self.results}

    def __deepcopy__(self, memo: dict[int, Any]) -> "EqffCalculator":
        options = self.parameters
        source = options["potential"] if self._given is None else self._given
        twin = type(self)(source, options["device"], options["dtype"], options["skin"])
        twin._loaded = self._loaded  # a loaded potential never changes
        twin.atoms, twin.results = copy.deepcopy(self.atoms, memo), copy.deepcopy(self.results, memo)
        return twin


def _own(tensor: torch.Tensor) -> np.ndarray:
    """float64 array with its own memory."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float64)


def _check_finite(result: EnergyForces) -> None:
    """A model that diverges must stop the simulation here."""
    forces, energies = torch.isfinite(result.forces).all(dim=1), torch.isfinite(result.energies)
    if bool(forces.all()) and bool(energies.all()) and bool(torch.isfinite(result.strain_gradient).all()):
        return
    atom = int(torch.argmin((forces & energies).to(torch.int64)))
    force = ", ".join(f"{x:g}" for x in result.forces[atom].tolist())
    raise PotentialError(
        "EQ4161",
        f"result: atom {atom} has energy {float(result.energies[atom]):g} eV and force ({force}) eV/Å, expected finite "
        "numbers; the structure is far from what the potential was trained on: remove close contacts, or take a "
        "smaller time step",
    )


def _check_options(potential: Potential, device: str, dtype: str) -> None:
    """A Potential that is already loaded must be what the options say."""
    place = torch.device(device)
    if place.type != potential.device.type or (place.index or 0) != (potential.device.index or 0):
        raise ConfigError(
            "EQ1304", f"device={device!r}: the given Potential is on {potential.device}; load it there, or give a path"
        )
    if dtype != "auto" and getattr(torch, dtype) != potential.dtype:
        raise ConfigError(
            "EQ1307", f"dtype={dtype!r}: the given Potential has {potential.dtype} weights; load it so, or give a path"
        )
