"""The methods that engines and uncertainties call one by one."""

from collections.abc import Iterator

import numpy as np
import torch

from eqff.validation.finding import Measured, check, statement
from eqff.validation.subject import ModelSubject, edges_of


@check("forward is not the composition of the model's methods")
def composition(subject: ModelSubject) -> Iterator[Measured]:
    """forward is exactly geometry, embed, n_hops times interact, readout; h is one tensor [n_atoms, width]."""
    model: torch.nn.Module = subject.model
    for structure in (subject.clusters[0], subject.structure(np.zeros((1, 3)), [1])):
        species, senders, receivers, edge_vector = edges_of(structure)
        n_atoms = len(species)
        geometry = model.geometry(edge_vector)  # type: ignore[operator]
        yield statement(isinstance(geometry, list | tuple), "geometry gives neither a list nor a tuple")
        yield statement(all(len(t) == len(senders) for t in geometry), "geometry gives no row for each edge")
        h = model.embed(species, senders, receivers, geometry)  # type: ignore[operator]
        for k in range(subject.n_hops):
            good = h.dim() == 2 and len(h) == n_atoms
            yield statement(good, f"h of layer {k} has shape {list(h.shape)}, not [{n_atoms}, width]")
            h = model.interact(k, h, species, senders, receivers, geometry)  # type: ignore[operator]
        features = model.features(h)  # type: ignore[operator]
        good = features.dim() == 2 and len(features) == n_atoms
        yield statement(good, f"features have shape {list(features.shape)}, not [{n_atoms}, n_features]")
        whole = model(species, senders, receivers, edge_vector)
        yield statement(whole.shape == (n_atoms,), f"energies have shape {list(whole.shape)}, not [{n_atoms}]")
        equal = torch.equal(model.readout(h, species), whole)  # type: ignore[operator]
        yield statement(equal, "energies differ from those of the methods called one by one")
