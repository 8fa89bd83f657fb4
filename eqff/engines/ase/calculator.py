"""A potential as an ASE calculator, with its baseline if it has one."""

import copy
import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.formula import Formula

from eqff import artifact
from eqff.artifact.background import Acceleration
from eqff.artifact.potential import Potential, Prediction
from eqff.elements import species_index
from eqff.engines.ase.baseline import Baseline, added_to
from eqff.errors import ConfigError, GraphError, PotentialError
from eqff.graph import check_atoms
from eqff.neighbors import VerletList
from eqff.potential import hessian, voigt_stress

DTYPES = ("auto", "float32", "float64")
OPTIONS = ("potential", "device", "dtype", "skin", "strict", "accelerate", "exact", "add")
MODES = ("off", "ready", "auto")
# names in atoms.info for the state of a structure, with the value that stands for neutral or singlet
NEUTRAL_SINGLET = dict.fromkeys(("charge", "total_charge", "net_charge", "spin", "total_spin"), 0) | dict.fromkeys(
    ("spin_multiplicity", "multiplicity"), 1
)


class EqffCalculator(Calculator):
    """Energy, free_energy, energies (per atom), forces and stress of any structure of known species.

        atoms.calc = eqff.EqffCalculator("ethanol-nequip")
        atoms.get_forces()

    The constructor finds the file; the first calculation loads it.  Stress exists only for structures periodic in three
    directions; asking for it otherwise raises ASE's PropertyNotImplementedError.  Potentials ignore charge and
    spin: a structure with either (in atoms.info, initial charges or magnetic moments) causes one warning.
    A potential with a baseline gives the sum of both; energies of atoms and stress then exist only if the baseline has
    them.  A pickle holds path, options and the last results; deep copies share the loaded potential.
    Threads may share a calculator: `atoms.get_forces()` and its like wait for each other and give the results of these
    atoms; `results` belongs to the last structure of any thread.

    Args:   potential: name, path of a potential file, or a Potential (which brings its own device and dtype);
            device: as torch names it, None for the CPU or where the given Potential is;
            dtype: of the weights, "auto" for the stored one;
            skin: Å, >= 0, lists reach to r_max + skin and serve several steps; costs memory, changes no result;
            strict: refuse structures with charge or spin instead of warning;
            accelerate: "ready" runs the program that `eqff compile` has made of the potential on this machine, if there
            is one; "auto" also compiles in the background once evaluations have taken 20 s, and switches to the program
            when it is verified (results then change within its tolerance, at a moment that differs from run to run);
            "off" runs the program in the file; a given Potential keeps its program;
            exact: of compiled programs, use only the one without radial splines;
            baseline: ASE calculator to use as the baseline, None for the one that the potential names;
            add: dispersion to add, "d3:PBE" or "d3zero:PBE" (needs the extra `dispersion`); None for none
    Raises: PotentialError when the potential is not found, is damaged, or gives a result that is not finite, and for a
            baseline that cannot be made, fails, or is not the one used in training;
            GraphError for structures that are invalid; ConfigError for options
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  ASE's own form
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012
    default_parameters = {"strict": False, "accelerate": "ready", "exact": False, "add": None}  # noqa: RUF012
    _first_process: ClassVar[int | None] = None  # that loaded a potential first; other processes are its forks

    def __init__(
        self,
        potential: str | Path | Potential,
        device: str | None = None,
        dtype: str = "auto",
        skin: float = 0.5,
        strict: bool = False,
        accelerate: str = "ready",
        exact: bool = False,
        baseline: Any = None,
        add: str | None = None,
    ) -> None:
        if device is None:
            device = str(potential.device) if isinstance(potential, Potential) else "cpu"
        self._lock = threading.RLock()  # results are of the structure that was asked for, whichever thread asks
        self._given = potential if isinstance(potential, Potential) else None
        self._loaded: Potential | None = None
        self._neighbors: VerletList | None = None
        self._numbers = np.zeros(0, dtype=np.int64)  # whose indices self._species holds
        self._species = np.zeros(0, dtype=np.int64)
        self._warned: set[str] = set()
        self._acceleration: Acceleration | None = None
        self._given_baseline = baseline
        self._baseline: Baseline | None = None  # after it was made and checked
        if isinstance(potential, Potential):
            place = None if potential.path is None else str(Path(potential.path).resolve())
        else:
            place = str(artifact.find(potential).resolve())
        options = {"dtype": dtype, "skin": skin, "strict": strict, "accelerate": accelerate, "exact": exact}
        options["add"] = add
        super().__init__(potential=place, device=str(device), **options)

    @property
    def potential(self) -> Potential:
        """The potential of this calculator, loaded at first use."""
        _check_fork()
        with self._lock:
            return self._load()

    def _load(self) -> Potential:
        if self._loaded is None:
            options = self.parameters
            if self._given is None:
                accelerate = "off" if options["accelerate"] == "off" else "ready"
                place, device, dtype = (options[name] for name in OPTIONS[:3])
                self._loaded = artifact.load(place, device, dtype, accelerate, options["exact"])
            else:
                _check_options(self._given, options)
                self._loaded = self._given
        return self._loaded

    @property
    def baseline(self) -> Baseline | None:
        """What is added to the potential's results, baseline and dispersion, made and checked at first use; or None."""
        with self._lock:
            if self._baseline is None:
                self._baseline = added_to(self.potential, self._given_baseline, self.parameters["add"])
            return self._baseline

    def set(self, **options: Any) -> dict[str, Any]:
        """Change options; drops results and, where needed, the loaded potential.

        Raises: ConfigError for an unknown option or value
        """
        for name in options:
            if name not in OPTIONS:
                known = ", ".join(OPTIONS[1:])
                raise ConfigError("EQ1302", f"{name}={options[name]!r}: no such option; use one of {known}")
        if "potential" in options and "potential" in self.parameters:
            raise ConfigError("EQ1306", "potential: cannot be exchanged in a calculator; make a new EqffCalculator")
        if options.get("dtype", "auto") not in DTYPES:
            raise ConfigError("EQ1303", f"dtype={options['dtype']!r} is unknown; choose from {', '.join(DTYPES)}")
        if "skin" in options:
            VerletList(1.0, options["skin"])  # raises if this is no length
        for name in ("strict", "exact"):
            if not isinstance(options.get(name, False), bool):
                raise ConfigError("EQ1308", f"{name}={options[name]!r} is no switch; give True or False")
        if options.get("accelerate", "off") not in MODES:
            raise ConfigError(
                "EQ1310", f"accelerate={options['accelerate']!r} is unknown; choose from {', '.join(MODES)}"
            )
        changed: dict[str, Any] = super().set(**options)
        if changed:
            self.reset()
            self._neighbors = None
        if "add" in changed:
            self._baseline = None
        if changed.keys() & {"device", "dtype", "accelerate", "exact"}:
            if self._acceleration is not None:
                self._acceleration.stop()
            self._loaded = self._acceleration = None
        return changed

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's, one thread after the other."""
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)

    def calculate_properties(self, atoms: Atoms, properties: Sequence[str]) -> Any:
        """As ASE's, one thread after the other."""
        with self._lock:
            return super().calculate_properties(atoms, properties)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Names of the inputs that have changed since the last calculation, compared bit by bit."""
        seen = self.atoms
        if seen is None:
            return list(all_changes)
        pairs = {
            "positions": (seen.positions, atoms.positions),
            "numbers": (seen.numbers, atoms.numbers),
            "cell": (seen.cell.array, atoms.cell.array),
            "pbc": (seen.pbc, atoms.pbc),
        }
        changes = [name for name, (a, b) in pairs.items() if a.tobytes() != b.tobytes()]
        if not changes:
            self.check_charge_and_spin(atoms)
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results` with every property of this structure, also those that were not requested.

        Raises: see the class; `results` is empty after an error, except after asking for a stress that does not exist
        """
        with self._lock:
            self._calculate(atoms, properties)

    def _calculate(self, atoms: Atoms | None, properties: Sequence[str]) -> None:
        self.results = {}
        if atoms is not None:
            self.atoms = atoms.copy()
        if self.atoms is None:
            raise GraphError("EQ2113", "atoms=None: this calculator has seen no structure yet; pass atoms")
        self.check_charge_and_spin(self.atoms)
        potential, baseline = self.potential, self.baseline
        if self._neighbors is None:
            self._neighbors = VerletList(potential.r_max, self.parameters["skin"])
        positions, cell, pbc = self.atoms.positions, self.atoms.cell.array, self.atoms.pbc
        species = self._species_of(self.atoms)
        structure, edge_vector = self._neighbors.update(positions, species, cell, pbc, potential.device)
        started = time.monotonic()
        result = potential(structure, edge_vector)
        if self.parameters["accelerate"] == "auto":
            self._accelerate(potential, time.monotonic() - started)
        stress = _own(voigt_stress(result.strain_gradient[0], structure.cell[0])) if pbc.all() else None
        prediction = Prediction(float(result.energy[0]), _own(result.energies), _own(result.forces), stress)
        _check_finite(prediction)
        if baseline is not None:
            prediction = baseline.added(prediction, positions, self.atoms.numbers, cell, pbc)
        results: dict[str, Any] = {"free_energy": prediction.energy, **prediction._asdict()}
        self.results = {name: value for name, value in results.items() if value is not None}
        if "stress" in properties and "stress" not in self.results:
            if baseline is not None and pbc.all():
                raise PropertyNotImplementedError(f"stress: baseline {baseline.name} has none")
            raise PropertyNotImplementedError(
                f"stress needs a structure periodic in three directions, this one has pbc={pbc.tolist()}; "
                "set atoms.pbc and a cell, or do not ask for stress"
            )

    def get_hessian(
        self,
        atoms: Atoms | None = None,
        chosen: Sequence[int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Second derivatives of the energy: analytic, plus finite differences of the baseline if there is one.

        Args:    chosen: atoms whose rows to compute, None for all; progress: called with the number of rows done
        Returns: [3 n_rows, 3 n_atoms] eV/Å^2; the full matrix is symmetric up to rounding
        Raises:  as `calculate`
        """
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise GraphError("EQ2113", "atoms=None: this calculator has seen no structure yet; pass atoms")
        arrays = (atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
        rows = _own(hessian(self.potential.module, self.potential.structure(*arrays), chosen, progress))
        if self.baseline is not None:
            rows += self.baseline.hessian(*arrays, range(len(atoms)) if chosen is None else chosen)
        return rows

    def _accelerate(self, potential: Potential, seconds: float) -> None:
        """Count an evaluation, and switch to the compiled potential once it is ready."""
        if self._acceleration is None:
            self._acceleration = Acceleration(potential, self.parameters["exact"])
        self._loaded = self._acceleration.step(seconds) or self._loaded

    def _species_of(self, atoms: Atoms) -> np.ndarray:
        """Species indices; elements are checked only when they change."""
        numbers = atoms.numbers
        if numbers.shape == self._numbers.shape and (numbers == self._numbers).all() and len(numbers):
            return self._species
        check_atoms(atoms.positions, numbers, atoms.cell.array, atoms.pbc)
        potential = self.potential
        species = species_index(numbers, potential.species)
        counts = np.bincount(species, minlength=len(potential.species))
        if "composition" not in self._warned and not potential.knows_composition(counts.tolist()):
            self._warn(
                "composition",
                f"the potential was trained on {', '.join(potential.compositions)} only: the energy of "
                f"{atoms.get_chemical_formula()} has an unknown constant, and its forces are extrapolated",
            )
        self._numbers, self._species = numbers.copy(), species
        return species

    def foreign_compositions(self, structures: Sequence[Atoms]) -> list[str]:
        """Formulas of known elements on which the potential was not trained, for a caller who names all of them: this
        calculator does not warn of the first any more."""
        potential, formulas = self.potential, []
        for formula in dict.fromkeys(atoms.get_chemical_formula() for atoms in structures):
            symbols = Formula(formula).count()
            known = symbols.keys() <= set(potential.species)
            if known and not potential.knows_composition([symbols.get(symbol, 0) for symbol in potential.species]):
                formulas.append(formula)
        self._warned.add("composition")
        return formulas

    def check_charge_and_spin(self, atoms: Atoms) -> None:
        """Warn once of charge or spin, which potentials ignore; if strict, refuse.  Raises: GraphError EQ2114"""
        strict = self.parameters["strict"]
        if "state" in self._warned and not strict:
            return
        state = charge_and_spin(atoms)
        if not state:
            return
        if strict:
            raise GraphError(
                "EQ2114",
                f"atoms: {state}, but the potential knows neither charge nor spin; "
                "remove the entry if the structure is a neutral singlet, or drop strict=True",
            )
        self._warn(
            "state",
            f"atoms: {state} is not looked at: the potential knows neither charge nor spin; its results are those of "
            "the state it was trained on",
        )

    def _warn(self, subject: str, message: str) -> None:
        self._warned.add(subject)
        warnings.warn(message, UserWarning, stacklevel=4)

    def _get_name(self) -> str:
        return "eqff"

    def __repr__(self) -> str:
        options = self.parameters
        what = options["potential"] or "Potential in memory"
        return (
            f"EqffCalculator({str(what)!r}, device={options['device']!r}, dtype={options['dtype']!r}, "
            f"skin={options['skin']:g} Å{', strict=True' * options['strict']}, accelerate={options['accelerate']!r}"
            f"{', exact=True' * options['exact']}{_added(options['add'])}; "
            f"runs {self.program}; energy eV, forces eV/Å, stress eV/Å^3)"
        )

    @property
    def program(self) -> str:
        """Which program runs: the TorchScript program of the file, or a compiled one."""
        if self._loaded is None:
            return "nothing yet"
        parts = [self._loaded.program, self._loaded.baseline, self.parameters["add"]]
        return " + ".join(part for part in parts if part is not None)

    def __reduce__(self) -> tuple[Any, ...]:
        options = dict(self.parameters)
        if options["potential"] is None:
            raise PotentialError(
                "EQ4160", "potential: lives in memory only and cannot be pickled; export it and give the file's path"
            )
        if self._given is not None:
            options["device"], options["dtype"] = str(self._given.device), str(self._given.dtype).removeprefix("torch.")
        *arguments, add = (options[name] for name in OPTIONS)
        return type(self), (*arguments, self._given_baseline, add), {"atoms": self.atoms, "results": self.results}

    def __deepcopy__(self, memo: dict[int, Any]) -> "EqffCalculator":
        options = self.parameters
        source = options["potential"] if self._given is None else self._given
        twin = type(self)(source, **{name: options[name] for name in OPTIONS[1:]})
        with self._lock:
            self._copy_to(twin, memo)
        return twin

    def _copy_to(self, twin: "EqffCalculator", memo: dict[int, Any]) -> None:
        twin._given_baseline = self._given_baseline
        twin._loaded = self._loaded  # a loaded potential never changes
        twin._baseline = self._baseline  # a baseline keeps no state
        twin.atoms, twin.results = copy.deepcopy(self.atoms, memo), copy.deepcopy(self.results, memo)


def _added(name: str | None) -> str:
    return "" if name is None else f", add={name!r}"


def _own(tensor: torch.Tensor) -> np.ndarray:
    """float64 array with its own memory."""
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float64)


def _check_fork() -> None:
    """torch's threads do not survive a fork: a child process that needs them would wait forever."""
    here = os.getpid()
    if EqffCalculator._first_process is None:
        EqffCalculator._first_process = here
    n_threads = 1 if here == EqffCalculator._first_process else torch.get_num_threads()
    if n_threads > 1:
        raise ConfigError(
            "EQ1309",
            f"threads={n_threads}: this process was forked from one that has used a potential, where torch with more "
            "than one thread would hang; call torch's set_num_threads(1) first in every worker (initializer of a pool) "
            "or start them with multiprocessing.get_context('spawn')",
        )


def charge_and_spin(atoms: Atoms) -> str:
    """Charge or spin that the structure states, as text; empty if it states none, or a neutral singlet."""
    for name, neutral in NEUTRAL_SINGLET.items():
        value = atoms.info.get(name)
        if value is not None and not np.array_equal(value, neutral):
            return f"info[{name!r}]={value!r}"
    for name in ("initial_charges", "initial_magmoms"):
        values = atoms.arrays.get(name)
        if values is not None and values.any():
            return f"{name} with sum {values.sum():g}"
    return ""


def _check_finite(prediction: Prediction) -> None:
    """Raises: PotentialError EQ4161 naming the atom: a model that diverges must stop the simulation."""
    energies, forces = np.asarray(prediction.energies), prediction.forces
    stress = 0.0 if prediction.stress is None else prediction.stress
    if all(np.isfinite(array).all() for array in (energies, forces, stress)):
        return
    good = np.isfinite(forces).all(axis=1) & np.isfinite(energies)
    atom = int(np.argmin(good))
    force = ", ".join(f"{x:g}" for x in forces[atom])
    raise PotentialError(
        "EQ4161",
        f"result: atom {atom} has energy {energies[atom]:g} eV and force ({force}) eV/Å, expected finite "
        "numbers; the structure is far from what the potential was trained on: remove close contacts, or take a "
        "smaller time step",
    )


def _check_options(potential: Potential, options: dict[str, Any]) -> None:
    """A given Potential must agree with the options.  Raises: ConfigError EQ1304, EQ1307, EQ1311"""
    device, dtype = options["device"], options["dtype"]
    for name, value, without in (("accelerate", "off", "compiled"), ("exact", True, "splines")):
        if options[name] == value and without in potential.program:
            raise ConfigError(
                "EQ1311", f"{name}={value!r}: the given Potential runs {potential.program}; load it so, or give a path"
            )
    place = torch.device(device)
    if place.type != potential.device.type or (place.index or 0) != (potential.device.index or 0):
        raise ConfigError(
            "EQ1304", f"device={device!r}: the given Potential is on {potential.device}; load it there, or give a path"
        )
    if dtype != "auto" and getattr(torch, dtype) != potential.dtype:
        raise ConfigError(
            "EQ1307", f"dtype={dtype!r}: the given Potential has {potential.dtype} weights; load it so, or give a path"
        )
