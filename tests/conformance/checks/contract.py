"""What graph, potential, engines, export and training rely on beyond physics."""

import copy
import dataclasses

import numpy as np
import torch

from eqff.config import from_mapping, to_mapping

from ..exam import Exam, cluster, edges_of, read


def sensitive(exam: Exam) -> None:
    """The exam can fail: forces are about 1 eV/Å, species and angles matter, not distances alone."""
    positions, species = cluster(exam.r_max)
    result = exam.results(positions, species)
    rms = float(result.forces.square().mean().sqrt())
    assert 0.2 < rms < 5.0, f"forces are {rms:.1e} eV/Å, to be about 1"
    assert float(result.forces.abs().amin()) > 1e-9, "a component of the forces vanishes"
    exchanged = exam.results(positions, 1 - species)
    assert float((exchanged.energies - result.energies).abs().max()) > 1e-2, "species do not matter"
    bent = [arm(exam, angle, 0.6) for angle in (1.9, 2.9)]  # the outer atoms do not see each other
    stretched = arm(exam, 1.9, 0.8)
    by_angle, by_length = abs(bent[0] - bent[1]), abs(bent[0] - stretched)
    assert by_angle > 1e-3 * by_length, f"bending changes the energy by {by_angle:.1e}, stretching by {by_length:.1e}"


def arm(exam: Exam, angle: float, length: float) -> float:
    """Energy of three atoms with this angle, one bond of 0.65 r_max and one of `length` r_max."""
    ends = [0.65 * np.array([1.0, 0, 0]), length * np.array([np.cos(angle), np.sin(angle), 0])]
    points = exam.r_max * np.vstack([np.zeros(3), *ends])
    return float(exam.results(points, [0, 1, 1]).energy)


def composition(exam: Exam) -> None:
    """forward is exactly geometry, embed, n_hops times interact, readout; h is one tensor [n_atoms, width]."""
    model = exam.model
    for frame in (exam.structure(*cluster(exam.r_max)), exam.structure(np.zeros((1, 3)), [1])):
        species, senders, receivers, edge_vector = edges_of(frame)
        geometry = model.geometry(edge_vector)
        assert isinstance(geometry, list | tuple), "geometry gives neither a list nor a tuple"
        assert all(tensor.shape[0] == len(senders) for tensor in geometry), "geometry gives other than one row an edge"
        h = model.embed(species, senders, receivers, geometry)
        for k in range(model.n_hops):
            assert h.dim() == 2, f"h of layer {k} has shape {list(h.shape)}, not [n_atoms, width]"
            assert h.shape[0] == len(species), f"h of layer {k} has {h.shape[0]} rows for {len(species)} atoms"
            h = model.interact(k, h, species, senders, receivers, geometry)
        features = model.features(h)
        assert features.dim() == 2, f"features have shape {list(features.shape)}"
        assert features.shape[0] == len(species), f"features have shape {list(features.shape)}"
        whole = model(species, senders, receivers, edge_vector)
        assert torch.equal(model.readout(h, species), whole), "forward is not the composition of its five methods"
        assert whole.shape == (len(species),), f"energies have shape {list(whole.shape)}"


def determinism(exam: Exam) -> None:
    """Two calls are equal to the bit, others between them; nothing in the model's state moves."""
    arguments = edges_of(exam.structure(*cluster(exam.r_max)))
    before = {name: value.clone() for name, value in exam.model.state_dict().items()}
    first = exam.model(*arguments)
    exam.model(*edges_of(exam.structure(*cluster(exam.r_max, 3, seed=9))))
    assert torch.equal(exam.model(*arguments), first), "the same input gives other numbers"
    after = exam.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "a call changes the model's state"


def construction(exam: Exam) -> None:
    """The seed decides all weights, which are float32; no global state is touched; the configuration survives TOML."""
    family, config = read(exam.name)
    before = torch.random.get_rng_state(), torch.get_default_dtype()
    one = family.Model(config)
    assert torch.equal(torch.random.get_rng_state(), before[0]), "making a model draws from torch's global generator"
    assert torch.get_default_dtype() == before[1], "making a model changes the default dtype"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        other = family.Model(config)
    states = one.state_dict(), other.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), "the seed does not fix all weights"
    assert {parameter.dtype for parameter in one.parameters()} == {torch.float32}, "weights do not start in float32"
    assert from_mapping(family.Config, to_mapping(config)) == config, "Config does not survive to_mapping"
    another = family.Model(dataclasses.replace(config, seed=config.seed + 1))
    assert any(not torch.equal(one.state_dict()[k], v) for k, v in another.state_dict().items()), "seed does nothing"


def state(exam: Exam) -> None:
    """Weights and buffers are all there is: copied into a fresh model they give the same numbers."""
    fresh = exam.family.Model(dataclasses.replace(exam.config, reference_energies=())).to(torch.float64)
    fresh.load_state_dict(exam.model.state_dict(), strict=True)
    arguments = edges_of(exam.structure(*cluster(exam.r_max)))
    expected = exam.model(*arguments)
    assert torch.equal(fresh(*arguments), expected), "a fresh model with the same state differs"
    assert torch.equal(copy.deepcopy(exam.model)(*arguments), expected), "a deep copy differs"


def unused_species(exam: Exam) -> None:
    """A model of more species than a structure has."""
    wide = dataclasses.replace(exam.config, species=(*exam.config.species, "Au"), reference_energies=())
    model = exam.family.Model(wide).to(torch.float64)
    energies = model(*edges_of(exam.structure(*cluster(exam.r_max))))
    assert bool(torch.isfinite(energies).all()), f"energies {energies} of a model with a species more"
