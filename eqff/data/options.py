"""What a caller may say about a file that the file does not say itself."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Units and label names of a data file; None means: as stated in the file, or by the convention of the format."""

    energy_unit: str | None = None  # a name in eqff.units.ENERGY
    length_unit: str | None = None  # a name in eqff.units.LENGTH
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None

    @property
    def keys(self) -> tuple[str | None, str | None, str | None]:
        """Names of (energy, forces, stress) in the file, where told."""
        return self.energy_key, self.forces_key, self.stress_key
