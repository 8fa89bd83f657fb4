"""Foreign frames: other materials, whose errors before and after tell what a fine-tuning forgets."""

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from eqff import config as config_io
from eqff import registry
from eqff.data.frame import Frame
from eqff.data.frame_list import FrameList
from eqff.data.reading.read import read_frames
from eqff.elements import SYMBOLS, species_index
from eqff.errors import ConfigError
from eqff.neighbors import build_structure
from eqff.potential import GradientEvaluator, energy_forces_stress
from eqff.training.config import DataConfig
from eqff.training.prepare.initial_weights import Start
from eqff.units import GPA, VOIGT


class ForeignErrors(NamedTuple):
    """Mean absolute errors on the foreign frames that do not train."""

    forces_mae: float  # meV/Å
    stress_mae: float | None  # GPa; None without stress

    def plain(self) -> dict[str, float | None]:
        """For JSON, with units."""
        return {"forces_mae_meV_A": self.forces_mae, "stress_mae_GPa": self.stress_mae}

    def text(self) -> str:
        """As it is printed."""
        stress = "" if self.stress_mae is None else f", stress {self.stress_mae:.3f} GPa"
        return f"forces {self.forces_mae:.2f} meV/Å{stress}"


class Foreign(NamedTuple):
    """Foreign frames with labels, eV and Å."""

    name: str  # of the file
    replayed: FrameList  # that train beside the frames of the run, on forces and stress
    measured: list[Frame]  # the others
    labelled_by: str
    before: ForeignErrors  # of the initial weights

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur."""
        return tuple(sorted({int(z) for frame in (*self.replayed, *self.measured) for z in frame.atomic_numbers}))

    def sentences(self) -> tuple[str, ...]:
        """What is printed before the run."""
        measured = f"foreign: {len(self.measured)} frames of {self.name}, labels of {self.labelled_by}"
        start = f"{measured}; as it starts: {self.before.text()}"
        n = len(self.replayed)
        return (start, f"replay: {n} more of them train, on forces and stress") if n else (start,)


def read_foreign(data: DataConfig, start: Start | None) -> Foreign | None:
    """Read and label data.foreign; data.replay frames of it train, taken at equal distances.

    Labels are those of the file if all frames have forces, else those of the initial weights: then the error after the
    run is what it changed.  Energies are not compared and not trained on, because those of two sets of labels differ by
    a constant for each element.

    Raises: ConfigError EQ1213 to EQ1217 for options or frames that do not go together
    """
    if data.foreign is None:
        if data.replay:
            raise ConfigError(
                "EQ1213",
                f"data.replay={data.replay}: there are no foreign frames; give a file of them with --foreign FILE",
            )
        return None
    if start is None or not start.family:
        raise ConfigError(
            "EQ1214",
            "data.foreign: shows what initial weights forget, and there are none, or a checkpoint outside its run "
            "folder; give a potential or run folder with --init-from",
        )
    if data.baseline is not None:
        raise ConfigError("EQ1215", "data.foreign: not together with data.baseline; leave one of them out")
    frames = read_frames(data.foreign)
    if data.replay >= len(frames):
        raise ConfigError(
            "EQ1216",
            f"data.replay={data.replay}: {data.foreign} has {len(frames)} frames, and at least one must be left to "
            "measure; lower data.replay",
        )
    unknown = sorted({SYMBOLS[z] for frame in frames for z in frame.atomic_numbers} - set(start.species))
    if unknown:
        raise ConfigError(
            "EQ1217", f"{data.foreign}: {start.path} does not know {', '.join(unknown)}; leave these frames out"
        )
    model = _model_of(start)
    of_file = all(frame.forces is not None for frame in frames)
    labelled = frames if of_file else [_labelled(model, frame, start.species) for frame in frames]
    chosen = set(np.linspace(0, len(frames) - 1, data.replay).astype(int).tolist()) if data.replay else set()
    measured = [frame for row, frame in enumerate(labelled) if row not in chosen]
    return Foreign(
        name=str(data.foreign).replace("\\", "/").rsplit("/", 1)[-1],
        replayed=FrameList([dataclasses.replace(labelled[row], energy=None) for row in sorted(chosen)]),
        measured=measured,
        labelled_by="the file" if of_file else "the initial weights",
        before=foreign_errors(model, start.species, measured),
    )


def foreign_errors(model: nn.Module, species: list[str], frames: list[Frame]) -> ForeignErrors:
    """Errors of a model.

    Args: species: symbols in the model's order; frames: with forces, and a stress or not, eV, Å
    """
    forces, stresses = [], []
    for frame in frames:
        found = _labelled(model, frame, species)
        assert found.forces is not None
        assert frame.forces is not None
        forces.append(np.abs(found.forces - frame.forces).reshape(-1))
        if found.stress is not None and frame.stress is not None:
            stresses.append(np.abs(found.stress - frame.stress))
    stress = float(np.concatenate(stresses).mean()) / GPA if stresses else None
    return ForeignErrors(1000.0 * float(np.concatenate(forces).mean()), stress)


def _model_of(start: Start) -> nn.Module:
    family = registry.load("models", start.family)
    model: nn.Module = family.Model(config_io.from_mapping(family.Config, start.config, where=str(start.path)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(start.weights[name])
    return model.eval()


def _labelled(model: nn.Module, frame: Frame, species: list[str]) -> Frame:
    """The frame with the model's forces, and its stress where the cell has a volume in three periodic directions."""
    index = species_index(frame.atomic_numbers, species)
    structure = build_structure(frame.positions, index, frame.cell, frame.pbc, model.r_max)  # type: ignore[arg-type]
    found = energy_forces_stress(GradientEvaluator(model), structure)
    stress = None
    if frame.pbc.all():
        strain_gradient = found.strain_gradient[0].numpy()
        stress = np.array([strain_gradient[i, j] for i, j in VOIGT]) / abs(np.linalg.det(frame.cell))
    return dataclasses.replace(frame, energy=None, forces=found.forces.numpy(), stress=stress)
