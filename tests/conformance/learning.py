"""What takes minutes: the smallest model learns five frames by heart, and its dynamics conserves energy."""

import contextlib
import dataclasses

import numpy as np
import torch
from ase.build import molecule

from eqff.graph import Structure, batch_structures
from eqff.potential import GradientEvaluator, energy_forces_stress

from .exam import Exam

WANTED = 1e-3  # eV/Å, mean absolute error of forces
N_FRAMES = 5
MASS = 12.0  # of every atom, amu
SPRING = 4.0  # eV/Å^2, from every atom to its place
SHARE = 0.1  # of the model, whose forces are about 1 eV/Å: untrained, it must not pull atoms into each other
FEMTOSECOND = 0.09822694788464063  # Å sqrt(amu / eV)


class LearnedEnoughError(Exception):
    """The optimiser may stop."""


def over_fit(exam: Exam) -> float:
    """Five frames of a vibrating methane, forces of 2 eV/Å, are learnt to less than 1 meV/Å; returns the error."""
    frames, energy, forces = methane(exam)
    batch = batch_structures(frames)
    rms = float(forces.square().mean().sqrt())
    config = dataclasses.replace(exam.config, reference_energies=(), energy_scale=rms)
    model = exam.family.Model(config).to(torch.float64)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.LBFGS(
        weights, max_iter=3000, history_size=100, line_search_fn="strong_wolfe", tolerance_grad=0, tolerance_change=0
    )
    error = [np.inf]

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        result = energy_forces_stress(GradientEvaluator(model, create_graph=True), batch)
        error[0] = float((result.forces - forces).abs().mean().detach())
        if error[0] < WANTED:
            raise LearnedEnoughError
        difference = result.energy - energy
        value = (result.forces - forces).square().mean() + (difference - difference.mean()).square().mean()
        value.backward()
        return value

    with contextlib.suppress(LearnedEnoughError):
        optimizer.step(loss)
    assert error[0] < WANTED, f"five frames are learnt to {1000 * error[0]:.1f} meV/Å only"
    return error[0]


def methane(exam: Exam) -> tuple[list[Structure], torch.Tensor, torch.Tensor]:
    """Frames of CH4 with energies [n_frames] eV and forces [n_atoms, 3] eV/Å of Morse bonds and H-H springs."""
    rng = np.random.default_rng(0)
    ideal = molecule("CH4").positions
    frames, energies, forces = [], [], []
    for _ in range(N_FRAMES):
        positions = torch.tensor(ideal + 0.05 * rng.normal(size=ideal.shape), requires_grad=True)
        pairs = torch.triu_indices(5, 5, 1)
        length = (positions[pairs[0]] - positions[pairs[1]]).norm(dim=1)
        bond = pairs[0] == 0
        morse = 4.5 * (1.0 - torch.exp(-1.9 * (length[bond] - 1.09))).square().sum()
        energy = morse + 1.5 * (length[~bond] - 1.78).square().sum()
        (gradient,) = torch.autograd.grad(energy, positions)
        frames.append(exam.structure(positions.detach().numpy(), [1, 0, 0, 0, 0]))
        energies.append(energy.detach())
        forces.append(-gradient)
    return frames, torch.stack(energies), torch.cat(forces)


def conservation(exam: Exam) -> float:
    """Fluctuations of the total energy fall fourfold when the time step is halved, and there is no drift.

    Atoms on springs, with the model, a tenth of it, between them; they cross the cut-off all the time. Velocity Verlet,
    a new list at every step. Energies that jump, or forces that are not their gradient, break the law.

    Returns: the ratio
    """
    fluctuations = []
    for step, n_steps in ((1.0, 400), (0.5, 800)):
        total, n_lists = trajectory(exam, step * FEMTOSECOND, n_steps)
        assert n_lists > 3, f"{n_lists} different neighbour lists: too few atoms cross the cut-off"
        fluctuations.append(float(np.std(total)))
        time = np.linspace(0.0, 0.4, n_steps + 1)  # ps
        drift = np.polyfit(time, total, 1)[0]
        assert abs(drift) < 3 * fluctuations[-1], f"energy drifts by {drift:.1e} eV/ps at {step} fs"
    ratio = fluctuations[0] / fluctuations[1]
    assert 3.6 < ratio < 4.4, f"fluctuations of {fluctuations} eV with 1 and 0.5 fs: ratio {ratio:.2f} instead of 4"
    return ratio


def trajectory(exam: Exam, step: float, n_steps: int) -> tuple[np.ndarray, int]:
    """Total energies [n_steps + 1] eV, and how many different neighbour lists there were."""
    origin, species = exam.clusters[1].positions.numpy(), exam.clusters[1].species
    positions = origin.copy()
    velocities = np.random.default_rng(1).normal(size=positions.shape) * 0.1  # sqrt(eV / amu): 1400 K
    lists, total = set(), []

    def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
        frame = exam.structure(positions, species)
        lists.add(tuple(torch.cat([frame.senders, frame.receivers]).tolist()))
        result = exam.evaluate(frame)
        shift = positions - origin
        energy = SHARE * float(result.energy) + 0.5 * SPRING * float((shift**2).sum())
        return energy, SHARE * result.forces.numpy() - SPRING * shift

    energy, forces = evaluate(positions)
    for _ in range(n_steps + 1):
        total.append(energy + 0.5 * MASS * float((velocities**2).sum()))
        velocities = velocities + 0.5 * step / MASS * forces
        positions = positions + step * velocities
        energy, forces = evaluate(positions)
        velocities = velocities + 0.5 * step / MASS * forces
    return np.array(total), len(lists)
