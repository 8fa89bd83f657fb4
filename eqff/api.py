"""The functions at the top of eqff that are more than another name: each takes a path, or what is already in memory.

import eqff

frames = eqff.read_frames("rmd17_ethanol.npz", energy_unit="kcal/mol")
eqff.train("recipe.toml", "run")
eqff.export("run", "ethanol.eqff.pt")
print(eqff.evaluate("ethanol.eqff.pt", frames).metrics["forces_mae_meV_A"])
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from ase import Atoms

from eqff import artifact
from eqff.artifact.potential import Potential, Prediction
from eqff.data.frame import Frame
from eqff.data.reading.read import read_frames
from eqff.engines.ase import EqffCalculator
from eqff.engines.ase.baseline import baseline_of
from eqff.errors import ConfigError
from eqff.tasks.evaluate import Evaluation
from eqff.tasks.evaluate import evaluate as evaluate_frames
from eqff.tasks.relax import RelaxConfig, Relaxed
from eqff.tasks.relax import relax as relax_one

if TYPE_CHECKING:
    from torch import nn

    from eqff.compiler import Compiled
    from eqff.training.run import TrainedRun

Structures: TypeAlias = str | Path | Atoms | Frame | Iterable[Atoms | Frame]


def predict(
    potential: str | Path | Potential,
    structures: Structures,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    accelerate: str = "ready",
    max_edges: int | None = None,
) -> list[Prediction]:
    """Energies, forces and stress of structures; `eqff predict` does the same from file to file, of any size.

        for prediction in eqff.predict("ethanol-nequip", "frames.extxyz"):
            print(prediction.energy, prediction.forces.max())

    Args:    potential: name, path, or what `eqff.load` returned;
             structures: a file that `eqff.read_frames` reads, one ase.Atoms or Frame, or many;
             device, dtype, accelerate: as in `eqff.load`, not used for a potential that is loaded already;
             max_edges: edges of one batch, None for the default of the device
    Returns: one Prediction for each structure, in their order: energy eV, energies [n_atoms] eV, forces [n_atoms, 3]
             eV/Å, stress [6] eV/Å^3 (Voigt order xx yy zz yz xz xy; None unless periodic in three directions).  The
             results of a potential with a baseline include those of the baseline.
    Raises:  PotentialError as `eqff.load`, and for a baseline that fails; DataError for a file that cannot be read;
             GraphError naming a structure that is invalid; RunError EQ5301 for results that are not finite
    """
    loaded = _loaded(potential, device, dtype, accelerate)
    atoms = [_atoms(structure) for structure in _many(structures)]
    baseline = baseline_of(loaded)
    if baseline is None:
        return loaded.predict(atoms, max_edges)
    plain = [(one.positions, one.numbers, one.cell.array, one.pbc) for one in atoms]
    differences = loaded.differences(atoms, max_edges)
    return [
        baseline.added(difference, *arrays, f"structure {index}")
        for index, (difference, arrays) in enumerate(zip(differences, plain, strict=True))
    ]


def evaluate(
    potential: str | Path | Potential,
    frames: str | Path | Sequence[Frame],
    *,
    device: str = "cpu",
    dtype: str = "auto",
    accelerate: str = "ready",
    max_edges: int | None = None,
    **options: Any,
) -> Evaluation:
    """Errors of a potential on labelled frames; `eqff evaluate` also draws them.

        found = eqff.evaluate("ethanol-nequip", "rmd17_ethanol_test_01.npz", energy_unit="kcal/mol")
        print(found.metrics["forces_mae_meV_A"], found.metrics["energy_mae_meV"])

    Args:    potential: name, path, or what `eqff.load` returned; frames: a file, or what `eqff.read_frames` returned;
             device, dtype, accelerate: as in `eqff.load`, not used for a potential that is loaded already;
             max_edges: edges of one batch, None for the default of the device;
             options: of `eqff.read_frames`, for a file
    Returns: Evaluation: metrics (each name ends in its unit), errors by element and by size of force, worst frames
    Raises:  DataError EQ3110 for frames without labels, and for a file that cannot be read; GraphError, RunError,
             PotentialError as `eqff.predict`; ConfigError EQ1700 for options with frames in memory
    """
    if isinstance(frames, str | Path):
        where, frames = str(frames), read_frames(frames, **options)
    elif options:
        raise ConfigError("EQ1700", f"{', '.join(options)}: options of a file, but frames are given; leave them out")
    else:
        where = "frames"
    return evaluate_frames(_loaded(potential, device, dtype, accelerate), frames, where, max_edges=max_edges)


def relax(
    potential: str | Path | Potential | EqffCalculator,
    structure: str | Path | Atoms | Frame,
    *,
    fmax: float = 0.01,
    steps: int = 500,
    cell: bool = False,
    optimizer: Literal["bfgs", "lbfgs", "fire"] = "bfgs",
) -> tuple[Atoms, Relaxed]:
    """Relax one structure in memory; `eqff relax` relaxes many and writes files.

        atoms, course = eqff.relax("ethanol-nequip", ase.build.molecule("CH3CH2OH"), fmax=0.001)
        print(atoms.get_potential_energy(), course.converged, course.n_steps)

    Args:    potential: name, path, what `eqff.load` returned, or an EqffCalculator; structure: ase.Atoms, a Frame, or a
             file with one structure; constraints are obeyed; fmax: eV/Å, largest force at the end; steps: at most;
             cell: relax the cell, too; optimizer: bfgs, lbfgs or fire
    Returns: the relaxed copy with its energy and forces, and how the relaxation ended; `converged` may be False
    Raises:  ConfigError EQ1240 to EQ1246 for options, EQ1701 for a file of several structures; PotentialError,
             DataError, GraphError as `eqff.predict`; RunError EQ5321 if the forces grow without limit
    """
    many = _many(structure)
    if len(many) != 1:
        raise ConfigError("EQ1701", f"structure: {len(many)} structures, expected one; call relax for each of them")
    calculator = potential if isinstance(potential, EqffCalculator) else EqffCalculator(potential)
    # the name of an output is part of the configuration; nothing is written
    config = RelaxConfig(fmax=fmax, steps=steps, cell=cell, optimizer=optimizer, output=Path("relaxed.traj"))
    return relax_one(config, _atoms(many[0]), calculator)


def export(
    source: "str | Path | TrainedRun | nn.Module",
    path: str | Path,
    *,
    family: str | None = None,
    config: Mapping[str, Any] | None = None,
    force: bool = False,
    **details: Any,
) -> dict[str, Any]:
    """Write a potential file of a training run, or of a model in memory.

        eqff.export("runs/ethanol", "ethanol.eqff.pt", licence="MIT")
        eqff.export(model, "toy.eqff.pt", family="nequip", config=eqff.config.to_mapping(config))

    The file gets its name only after a fresh process has loaded it and reproduced the model.

    Args:    source: run folder or what `eqff.train` returned, whose best model is taken, or a model in memory;
             path: <name>.eqff.pt; family: for a model, its file name in eqff/models; config: for a model, its
             configuration as plain values; force: overwrite an existing file;
             details: for a run, card, metrics, structure (paths), licence, citation, see
             `eqff.training.folder.trained.export_run`; for a model, metadata, card, structures, see
             `eqff.exporter.export`
    Returns: the header of the file
    Raises:  ConfigError EQ1071 for a folder that is no run, EQ1702 for a model without family and config,
             EQ1703 for a run with them;
             PotentialError if the model cannot be stored, or the stored program does not reproduce it
    """
    from torch import nn

    if not isinstance(source, nn.Module):
        from eqff.training.folder.trained import export_run

        if family is not None or config is not None:
            raise ConfigError("EQ1703", "family, config: a run folder states them; leave them out")
        folder = source if isinstance(source, str | Path) else source.folder
        return export_run(folder, path, force=force, **details)
    from eqff.exporter import export as export_model

    if family is None or config is None:
        raise ConfigError("EQ1702", "family, config: expected both for a model in memory; pass them")
    return export_model(source, family, config, path, force=force, **details)


def compile(potential: str | Path, *, dtype: str = "auto", exact: bool = False) -> "Compiled":
    """Make a potential several times faster on this machine; `eqff.load` and every verb use the result from then on.

        eqff.compile("ethanol-nequip")
        print(eqff.load("ethanol-nequip").program)

    It takes a minute or so and needs a C++ compiler.  The program is accepted only if it reproduces the test vectors of
    the file, and is kept in your cache.

    Args:    potential: name or path; dtype: of the weights, "float32", "float64" or "auto" for the stored one;
             exact: keep the radial networks, instead of splines that change forces by less than 1e-5 of their RMS
    Returns: folder, seconds, and the errors that were measured
    Raises:  ResourceError EQ6110 without a compiler, EQ6112 without a private cache; PotentialError for a file that
             cannot be rebuilt, or a program that misses the test vectors; ConfigError EQ1101 for an unknown dtype
    """
    from eqff.compiler import compile_potential

    return compile_potential(potential, dtype, exact)


def _loaded(potential: str | Path | Potential, device: str, dtype: str, accelerate: str) -> Potential:
    return potential if isinstance(potential, Potential) else artifact.load(potential, device, dtype, accelerate)


def _many(structures: Structures) -> list[Atoms | Frame]:
    if isinstance(structures, str | Path):
        return list(read_frames(structures))
    return [structures] if isinstance(structures, Atoms | Frame) else list(structures)


def _atoms(structure: Atoms | Frame) -> Atoms:
    if isinstance(structure, Atoms):
        return structure
    numbers, pbc = structure.atomic_numbers, np.asarray(structure.pbc, dtype=bool)
    return Atoms(numbers, structure.positions, cell=structure.cell, pbc=pbc)
