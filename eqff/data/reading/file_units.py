"""Which units a data file is in: given by the caller, stated by the file, fixed by a convention, or asked for.

Files of the MD17 family rarely state their units, and a wrong guess trains a potential that is wrong by a factor of
23.06 without any sign of it.  So a unit that is neither given nor stated is asked for by an error with a suggestion.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eqff.data.reading import stated_units
from eqff.errors import ConfigError, DataError
from eqff.units import energy_factor, force_factor, length_factor, stress_factor

MAX_FORCE_RMS = 8.0  # eV/Å, above it energies by convention in eV are doubted
DEFINED = "defined by the format"


@dataclass(frozen=True)
class Units:
    """The units a file was read in, and how that was decided."""

    energy: str
    length: str
    energy_source: str  # "option", "stated in the file", "convention of the format" or "defined by the format"
    length_source: str
    force: str | None = None  # e.g. "Hartree/Bohr"; None: energy over length
    stress: str | None = None  # e.g. "GPa"; None: energy over length^3
    force_rms: float | None = None  # eV/Å, after conversion, of the frames that were judged

    @property
    def energy_factor(self) -> float:
        """Energies of the file times this are eV."""
        return energy_factor(self.energy)

    @property
    def length_factor(self) -> float:
        """Lengths of the file times this are Å."""
        return length_factor(self.length)

    @property
    def force_factor(self) -> float:
        """Forces of the file times this are eV/Å."""
        return self.energy_factor / self.length_factor if self.force is None else force_factor(self.force)

    @property
    def stress_factor(self) -> float:
        """Stresses of the file times this are eV/Å^3."""
        return self.energy_factor / self.length_factor**3 if self.stress is None else stress_factor(self.stress)

    @property
    def doubt(self) -> str | None:
        """A warning for the user if the magnitude of the forces speaks against the units."""
        if self.force_rms is None or 0.02 <= self.force_rms <= MAX_FORCE_RMS:
            return None
        unit = f"energies really in {self.energy}" if self.force is None else f"forces really in {self.force}"
        return f"a force RMS of {self.force_rms:.4g} eV/Å is unusual: are {unit}?"

    def __str__(self) -> str:
        others = {"forces": self.force, "stress": self.stress}
        more = "".join(f", {what} in {unit}" for what, unit in others.items() if unit is not None)
        return (
            f"energies in {self.energy} ({self.energy_source}), lengths in {self.length} ({self.length_source}){more}"
        )


def same_unit(one: str, other: str) -> bool:
    """Whether two spellings of units of energy or length mean one unit."""
    return any(
        spelling(one).lower() == spelling(other).lower()
        for spelling in (stated_units.energy_unit, stated_units.length_unit)
    )


def decide_units(
    where: str,
    *,
    energy: tuple[str | None, str | None, str | None],
    length: tuple[str | None, str | None, str | None],
    forces: np.ndarray | None = None,
    energies: tuple[Sequence[float], Sequence[np.ndarray]] = ((), ()),
    shortest_distance: float | None = None,
    force: tuple[str | None, str | None] = (None, None),
    stress: tuple[str | None, str | None] = (None, None),
) -> Units:
    """Settle the units of a file; the first of (option, stated in the file, convention of the format) that is given.

    Args:    where: file name for messages; energy, length: (option, stated, convention), None where there is none;
             forces [..., 3], energies of some frames with their atomic numbers, shortest_distance: in the file's own
             units, for the suggestion; force, stress: (option, stated), None: of energies and lengths
    Returns: Units
    Raises:  DataError EQ3010 if a unit is neither given nor stated, EQ3013 if the file states one that is unknown,
             EQ3011 if it contradicts the option, EQ3012 if eV by convention meets forces that look like kcal/mol or
             energies that look like Hartree
    """
    rms = _root_mean_square(forces)
    total = _looks_like(energies)
    energy_unit, energy_source = _settle(where, "energy", energy, energy_factor, _suggestion(rms, total))
    hint = "" if shortest_distance is None else f"The shortest distance in frame 0 is {shortest_distance:.3g}"
    length_unit, length_source = _settle(where, "length", length, length_factor, hint)
    units = Units(
        energy_unit,
        length_unit,
        energy_source,
        length_source,
        _compound(where, "force", force, stated_units.force_unit),
        _compound(where, "stress", stress, stated_units.stress_unit),
    )
    _check_together(where, units, (force[1] is not None, stress[1] is not None))
    if energy[1] is not None and rms is not None and length[:2] == (None, None):
        _check_forces_are_clear(where, units)
    converted = None if rms is None else rms * units.force_factor
    odd = (converted is not None and converted > MAX_FORCE_RMS) or (total is not None and total != energy_unit)
    if energy_source.startswith("convention") and odd:
        raise DataError(
            "EQ3012",
            f"{where}: energy unit is not stated and would be {energy_unit} by convention, but: "
            f"{_suggestion(rms, total)}; pass energy_unit (--energy-unit on the command line) to say what it is",
        )
    return replace(units, force_rms=converted)


def _compound(
    where: str, quantity: str, given: tuple[str | None, str | None], spelling: Callable[[str], str]
) -> str | None:
    """A unit of forces or stress; None where neither option nor file say one.  Raises: DataError EQ3011"""
    option, stated = (None if unit is None else spelling(unit) for unit in given)
    if option is not None and stated is not None and option != stated:
        raise DataError(
            "EQ3011",
            f"{where}: {quantity}_unit={option!r}, but the file states {stated!r}; drop the option, or repair the file",
        )
    return stated if stated is not None else option


def _check_together(where: str, units: Units, stated: tuple[bool, bool]) -> None:
    """Whether the units of one file can belong together; forces or stress are `stated` by the file.

    Raises: DataError EQ3602 for an energy by convention beside a force in another unit, EQ3604 for two that the file
            states and that do not belong together
    """
    for (quantity, unit), by_file in zip((("force", units.force), ("stress", units.stress)), stated, strict=True):
        energy = None if unit is None or "/" not in unit else unit.rpartition("/")[0]
        if energy is not None and units.energy_source.startswith("convention") and energy != units.energy:
            raise DataError(
                "EQ3602",
                f"{where}: the {quantity} is in {unit}, and the energy unit is not stated: {energy} or, by "
                f"convention, {units.energy}; pass energy_unit (--energy-unit)",
            )
        if energy not in (None, units.energy) and by_file and units.energy_source.startswith("stated"):
            raise DataError(
                "EQ3604",
                f"{where}: the file states energies in {units.energy}, but {quantity} in {unit}, which seldom belong "
                "together; correct the file",
            )


def _check_forces_are_clear(where: str, units: Units) -> None:
    """Energies in Hartree and lengths in Å leave open what forces are.  Raises: DataError EQ3603"""
    if units.force is None and units.energy in ("Hartree", "Rydberg") and units.length == "Å":
        raise DataError(
            "EQ3603",
            f"{where}: the file states energies in {units.energy} and no unit of forces, which may be "
            f"{units.energy}/Bohr or {units.energy}/Å; pass force_unit (--force-unit)",
        )


def _settle(
    where: str,
    quantity: str,
    given: tuple[str | None, str | None, str | None],
    factor: Callable[[str], float],
    hint: str,
) -> tuple[str, str]:
    spelling = stated_units.energy_unit if quantity == "energy" else stated_units.length_unit
    option, stated, convention = (None if unit is None else spelling(unit) for unit in given)
    if option is not None:
        factor(option)  # ConfigError for an unknown unit
    if stated is not None:
        try:
            factor(stated)
        except ConfigError as error:
            raise DataError(
                "EQ3013",
                f"{where}: the file states an unknown {quantity} unit: {error.message}; correct the unit in the file",
            ) from None
    if option is not None and stated is not None and option != stated:
        raise DataError(
            "EQ3011",
            f"{where}: {quantity}_unit={option!r}, but the file states {stated!r}; drop the option, or repair the file",
        )
    for unit, source in ((stated, "stated in the file"), (option, "option"), (convention, "convention of the format")):
        if unit is not None:
            return unit, source
    raise DataError(
        "EQ3010",
        f"{where}: the file does not state its {quantity} unit; pass {quantity}_unit "
        f"(--{quantity}-unit on the command line). {hint}",
    )


def _root_mean_square(forces: np.ndarray | None) -> float | None:
    """Of the finite ones; None where there are none."""
    finite = np.zeros(0) if forces is None else np.asarray(forces, dtype=float)
    finite = finite[np.isfinite(finite)]
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else None


def _looks_like(energies: tuple[Sequence[float], Sequence[np.ndarray]]) -> str | None:
    """Unit of total energies of all electrons, which are -Z^2.4 / 2 Hartree an atom within a few per cent (Z < 20).

    Valence-only energies (plane waves, semi-empirical methods) lie elsewhere: None.
    """
    ratios = []
    for energy, numbers in zip(*energies, strict=True):
        estimate = -0.5 * float(np.sum(np.clip(numbers, 0, 118).astype(float) ** 2.4))
        if estimate < 0.0 and np.max(numbers, initial=1) < 20:
            ratios.append(energy / estimate)
    if not ratios:
        return None
    ratio = float(np.median(ratios))
    for unit in ("Hartree", "eV", "kcal/mol", "kJ/mol"):
        if abs(ratio * energy_factor(unit) / energy_factor("Hartree") - 1.0) < 0.1:
            return unit
    return None


def _suggestion(rms: float | None, total: str | None = None) -> str:
    """What magnitudes say: in molecules at 300 to 500 K forces are about 1 eV/Å."""
    if total is not None:
        tail = "" if rms is None else f"; a force RMS of {rms:.4g} looks like {_force_unit(rms) or 'no usual unit'}"
        return f"The energies look like totals of all electrons in {total}{tail}"
    if rms is None:
        return "There are no forces to judge by"
    unit = _force_unit(rms)
    return f"A force RMS of {rms:.4g} " + (f"looks like {unit}" if unit else "does not look like any usual unit")


def _force_unit(rms: float) -> str | None:
    for low, high, name in (
        (0.004, 0.09, "Hartree/Bohr"),
        (0.2, 4.0, "eV/Å"),
        (8.0, 60.0, "kcal/mol/Å"),
        (60.0, 250.0, "kJ/mol/Å"),
    ):
        if low <= rms < high:
            return name
    return None
