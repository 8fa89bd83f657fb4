"""Nudged elastic band with all images in one evaluation of the potential.

from ase.optimize import FIRE
from eqff.tasks.neb import BatchedNEB

band = BatchedNEB(images, "malonaldehyde.eqff.pt", climb=True)   # as ase.mep.NEB(images, climb=True)
band.interpolate("idpp")
FIRE(band).run(fmax=0.02)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.mep import NEB

from eqff import artifact
from eqff.artifact.potential import Potential, check_finite
from eqff.engines.ase.baseline import baseline_of
from eqff.errors import ConfigError
from eqff.graph import grouped, n_edges


class BatchedNEB(NEB):
    """ASE's NEB whose images are evaluated together.  All of ASE's methods, optimisers and tools work on it.

    Each image gets a separate calculator; after images have moved, the first call evaluates all of them together.

    Args:   images: at least three ase.Atoms, the ends relaxed; their calculators are replaced;
            potential: name, path of a potential file, or a Potential; device, dtype: as `eqff.load`, of a name or path;
            options: of ase.mep.NEB (k, climb, method, remove_rotation_and_translation, ...); method "improvedtangent"
    Raises: ConfigError EQ1256 for images; PotentialError for the potential; GraphError and RunError, naming the image,
            when an image cannot be evaluated
    """

    def __init__(
        self,
        images: Sequence[Atoms],
        potential: str | Path | Potential,
        device: str = "cpu",
        dtype: str = "auto",
        **options: Any,
    ) -> None:
        images = list(images)
        if len(images) < 3:
            raise ConfigError(
                "EQ1256", f"images: {len(images)} are too few; give at least 3, two ends and one between them"
            )
        if len({id(image) for image in images}) < len(images):
            raise ConfigError("EQ1257", "images: one Atoms object stands in two places; use image.copy()")
        loaded = potential if isinstance(potential, Potential) else artifact.load(potential, device, dtype)
        super().__init__(images, **({"method": "improvedtangent"} | options))
        share(images, loaded)


def share(images: Sequence[Atoms], potential: Potential) -> None:
    """Give every image a calculator that evaluates all of them together (for other classes of ASE than NEB)."""
    band = _Band(list(images), potential)
    for image in images:
        image.calc = _ImageCalculator(band)


class _Band:
    """Images that are evaluated together."""

    def __init__(self, images: list[Atoms], potential: Potential) -> None:
        self.images, self.potential, self.baseline = images, potential, baseline_of(potential)

    def evaluate(self, caller: "_ImageCalculator", atoms: Atoms) -> None:
        """Fill the calculator that was called, for these atoms, and that of every other image that has moved."""
        stale = [(f"image {self._place(caller)}", caller, atoms)]
        for place, image in enumerate(self.images):
            calculator = image.calc
            if not (isinstance(calculator, _ImageCalculator) and calculator.band is self) or calculator is caller:
                continue  # the user has replaced the calculator of this image
            if calculator.calculation_required(image, ["forces"]):
                stale.append((f"image {place}", calculator, image))
        jobs = (
            (
                where,
                calculator,
                image,
                self.potential.structure(image.positions, image.numbers, image.cell.array, image.pbc, where),
            )
            for where, calculator, image in stale
        )
        for group in grouped(jobs, lambda job: n_edges(job[3]), self.potential.max_edges()):
            predictions = self.potential.predict_batch([job[3] for job in group])
            for (where, calculator, image, _), prediction in zip(group, predictions, strict=True):
                check_finite(prediction, where)
                if self.baseline is not None:
                    plain = (image.positions, image.numbers, image.cell.array, image.pbc)
                    prediction = self.baseline.added(prediction, *plain, where)
                calculator.fill(image, prediction)

    def _place(self, calculator: "_ImageCalculator") -> str:
        return next((str(k) for k, image in enumerate(self.images) if image.calc is calculator), "?")


class _ImageCalculator(Calculator):
    """Calculator of one image of a band."""

    implemented_properties = ["energy", "free_energy", "energies", "forces"]  # noqa: RUF012  ASE's own form
    ignored_changes = {"initial_charges", "initial_magmoms"}  # noqa: RUF012

    def __init__(self, band: _Band) -> None:
        super().__init__()
        self.band = band

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.band.evaluate(self, self.atoms)

    def fill(self, atoms: Atoms, prediction: Any) -> None:
        """Results for these atoms."""
        self.atoms = atoms.copy()
        self.results = {
            "energy": prediction.energy,
            "free_energy": prediction.energy,
            "forces": prediction.forces,
        }
        if prediction.energies is not None:
            self.results["energies"] = prediction.energies
