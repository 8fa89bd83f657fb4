"""float32 against float64, and what must stay float64 in any case."""

import copy
import dataclasses

import torch

from ..exam import Exam, close, cluster, crystal, edges_of, rotation_matrix

REFERENCES = (-13.605693122994, -1029.4889999)  # eV, not representable in float32


def single_precision(exam: Exam) -> None:
    """Weights in float32: energies and forces within 1e-5 of the float64 ones, where forces are about 1 eV/Å."""
    rounded = in_float32(exam)
    points, species, cell = crystal(exam.r_max)
    for frame in (exam.structure(*cluster(exam.r_max)), exam.structure(points, species, cell)):
        exact, got = exam.evaluate(frame), rounded.evaluate(frame)
        assert got.energies.dtype == got.forces.dtype == torch.float64, "results are not float64"
        size = float(exact.forces.square().mean().sqrt().clamp(min=1.0))
        close(got.energies, exact.energies, 1e-5 * size, "energies in float32 and float64, eV")
        close(got.forces, exact.forces, 3e-5 * size, "forces in float32 and float64, eV/Å")
        assert float((got.forces - exact.forces).abs().max()) > 0.0, "float32 has not been used"


def symmetry_in_float32(exam: Exam) -> None:
    """Rotation invariance to 1e-5 of the forces."""
    rounded = in_float32(exam)
    positions, species = cluster(exam.r_max)
    turn = rotation_matrix(4)
    still, turned = rounded.results(positions, species), rounded.results(positions @ turn.T, species)
    close(turned.energies, still.energies, 1e-5, "energies turned, float32, eV")
    close(turned.forces, still.forces @ torch.tensor(turn).T, 5e-5, "forces turned, float32, eV/Å")


def reference_energies(exam: Exam) -> None:
    """Added in float64 and not rounded with the weights: what is left is what the model without them says."""
    arguments = edges_of(exam.structure(*cluster(exam.r_max)))
    config = dataclasses.replace(exam.config, energy_scale=1.0)
    plain, with_references = (
        exam.family.Model(dataclasses.replace(config, reference_energies=values)).to(dtype)
        for values, dtype in (((), torch.float32), (REFERENCES, torch.float32))
    )
    shift = torch.tensor(REFERENCES, dtype=torch.float64)[arguments[0]]
    close(with_references(*arguments) - shift, plain(*arguments), 1e-12 * 1e3, "energies less reference energies, eV")


def cutoff_in_float32(exam: Exam) -> None:
    """Edges beyond the cut-off weigh exactly nothing in float32 as well."""
    rounded = in_float32(exam)
    frame = exam.structure(cluster(exam.r_max)[0] * 10.0, cluster(exam.r_max)[1], reach=20.0 * exam.r_max)
    none = frame._replace(senders=frame.senders[:0], receivers=frame.receivers[:0], edge_shift=frame.edge_shift[:0])
    far, alone = rounded.evaluate(frame), rounded.evaluate(none)
    assert torch.equal(far.energies, alone.energies), "edges beyond the cut-off change energies"
    assert not bool(far.forces.any()), "edges beyond the cut-off give forces"


def in_float32(exam: Exam) -> Exam:
    return dataclasses.replace(exam, model=copy.deepcopy(exam.model).to(torch.float32))
