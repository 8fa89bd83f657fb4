"""Eager = TorchScript = potential file = rebuilt model = compiled program: several shapes, several calls."""

import copy
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import close

import eqff
from eqff import artifact, exporter
from eqff.compiler import compile_potential
from eqff.config import to_mapping
from eqff.elements import ATOMIC_NUMBERS
from eqff.graph import Structure, batch_structures
from eqff.potential import Evaluator, GradientEvaluator, energy_forces_stress
from eqff.rebuild import rebuild

from .exam import Exam

CALLS = 3  # torch's profiling executor runs other code in the first, second and third call


def torchscript(exam: Exam) -> None:
    """Scripted, and saved and loaded again: changing shapes, three rounds."""
    program = torch.jit.script(copy.deepcopy(exam.model))
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    buffer.seek(0)
    equal(exam, GradientEvaluator(program), "TorchScript", structures(exam)[:3])
    equal(exam, GradientEvaluator(torch.jit.load(buffer)), "TorchScript, loaded again", structures(exam)[2:3])


def torchscript_in_float32(exam: Exam) -> None:
    """The program with weights in float32 does what the model with weights in float32 does."""
    model = copy.deepcopy(exam.model).to(torch.float32)
    program = torch.jit.script(copy.deepcopy(model))
    rounded = dataclasses.replace(exam, model=model)
    equal(rounded, GradientEvaluator(program), "TorchScript in float32", structures(exam)[:2], (1e-5, 3e-5))


def second_derivatives_of_torchscript(exam: Exam) -> None:
    """Hessians and training differentiate the program twice."""
    program = torch.jit.script(copy.deepcopy(exam.model))
    frame = exam.clusters[1]
    for _ in range(CALLS):
        rows = []
        for module in (exam.model, program):
            positions = frame.positions.clone().requires_grad_(True)
            result = energy_forces_stress(GradientEvaluator(module, True), frame._replace(positions=positions))
            rows.append(torch.autograd.grad(result.forces[1, 2], positions)[0])
        close(rows[1], rows[0], 1e-9, "second derivatives, TorchScript and eager, eV/Å^2")


def exported(exam: Exam, folder: Path) -> Path:
    """Potential file, loaded, and rebuilt from its header and weights.  Returns the file, its proof left out."""
    path = folder / f"{exam.name}.eqff.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "prove_in_fresh_process", lambda path: None)  # one process proves all families
        header = exporter.export(exam.model, exam.name.split("-")[0], to_mapping(trained_config(exam)), path)
    assert header["n_hops"] == exam.model.n_hops
    assert header["symmetry"] == exam.model.symmetry, f"the header says {header['symmetry']}"
    frames = structures(exam)
    equal(exam, artifact.load(path).evaluator, "potential file", frames)
    equal(exam, GradientEvaluator(rebuild(path).requires_grad_(False)), "rebuilt from its file", frames)
    crystal = exam.crystal
    numbers = np.array([ATOMIC_NUMBERS[exam.config.species[k]] for k in crystal.species.tolist()])
    potential = eqff.load(path)
    frame = potential.structure(crystal.positions.numpy(), numbers, crystal.cell[0].numpy(), [True] * 3)
    close(potential(frame).forces, exam.evaluate(frame).forces, 1e-11, "forces of the file and of the model, eV/Å")
    return path


def compiled(exam: Exam, path: Path) -> None:
    """Compiled for this machine by AOTInductor, radial functions exact: several shapes, several calls."""
    result = compile_potential(path, dtype="float64", exact=True)
    assert result.n_knots == 0
    potential = artifact.load(path, dtype="float64", accelerate="ready", exact=True)
    assert potential.program.startswith("compiled"), f"{exam.name} runs {potential.program}"
    equal(exam, potential.evaluator, "compiled program", structures(exam), (1e-10, 1e-10))


def equal(
    exam: Exam,
    evaluator: Evaluator,
    name: str,
    frames: list[Structure],
    tolerances: tuple[float, float] = (1e-11, 1e-11),
) -> None:
    """Energies (eV) and forces (eV/Å) of all structures, three rounds."""
    expected = [exam.evaluate(frame) for frame in frames]
    for call in range(1, CALLS + 1):
        for frame, eager in zip(frames, expected, strict=True):
            got = energy_forces_stress(evaluator, frame)
            where = f"{name}, round {call}, {len(frame.species)} atoms"
            close(got.energies, eager.energies, tolerances[0], f"energies, {where}, eV")
            close(got.forces, eager.forces, tolerances[1], f"forces, {where}, eV/Å")


def structures(exam: Exam) -> list[Structure]:
    """Different numbers of atoms and edges; none, too; and several in one."""
    frames = [exam.clusters[0], exam.structure(np.zeros((1, 3)), [1]), exam.crystal]
    return [*frames, batch_structures(frames)]


def trained_config(exam: Exam) -> object:
    """The configuration as a file states it; scales are in the model's state."""
    return dataclasses.replace(exam.config, reference_energies=())
