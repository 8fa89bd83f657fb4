"""Making a model of a family: what decides its weights, and what does not."""

import copy
import dataclasses
from collections.abc import Iterator

import torch

from eqff.config import from_mapping, to_mapping
from eqff.validation.finding import Measured, check, difference, statement
from eqff.validation.subject import FamilySubject, edges_of

REFERENCES = (-13.605693122994, -1029.4889999)  # eV, not representable in float32


@check("making a model depends on, or changes, more than its configuration")
def construction(subject: FamilySubject) -> Iterator[Measured]:
    """The seed decides all weights, which are float32; no global state is touched; the configuration survives TOML."""
    family, config = subject.family, subject.config
    before = torch.random.get_rng_state(), torch.get_default_dtype()
    first = family.Model(config)
    untouched = torch.equal(torch.random.get_rng_state(), before[0])
    yield statement(untouched, "making a model draws from torch's global generator")
    yield statement(torch.get_default_dtype() == before[1], "making a model changes the default dtype")
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)  # the global generator is in another state
        second = family.Model(config)
    states = first.state_dict(), second.state_dict()
    yield statement(
        all(torch.equal(states[0][k], states[1][k]) for k in states[0]), "the seed does not fix all weights"
    )
    single = {parameter.dtype for parameter in first.parameters()} == {torch.float32}
    yield statement(single, "weights do not start in float32")
    yield statement(from_mapping(family.Config, to_mapping(config)) == config, "Config does not survive to_mapping")
    other = family.Model(dataclasses.replace(config, seed=config.seed + 1)).state_dict()
    yield statement(any(not torch.equal(states[0][k], v) for k, v in other.items()), "seed does nothing")


@check("weights and buffers are not all there is to a model")
def state(subject: FamilySubject) -> Iterator[Measured]:
    """Copied into a fresh model they give the same numbers."""
    config = dataclasses.replace(subject.config, reference_energies=())
    fresh = subject.family.Model(config).to(torch.float64)
    fresh.load_state_dict(subject.model.state_dict(), strict=True)
    arguments = edges_of(subject.clusters[0])
    expected = subject.model(*arguments)
    yield statement(torch.equal(fresh(*arguments), expected), "a fresh model with the same state differs")
    yield statement(torch.equal(copy.deepcopy(subject.model)(*arguments), expected), "a deep copy differs")


@check("a model stops at structures without one of its species")
def unused_species(subject: FamilySubject) -> Iterator[Measured]:
    """A model of more species than a structure has."""
    wide = dataclasses.replace(subject.config, species=(*subject.config.species, "Au"), reference_energies=())
    energies = subject.family.Model(wide).to(torch.float64)(*edges_of(subject.clusters[0]))
    yield statement(bool(torch.isfinite(energies).all()), f"energies {energies.tolist()}")


@check("reference energies are rounded with the weights")
def reference_energies(subject: FamilySubject) -> Iterator[Measured]:
    """Added in float64: what is left without them is what a float32 model without them says."""
    arguments = edges_of(subject.clusters[0])
    config = dataclasses.replace(subject.config, energy_scale=1.0)
    plain, shifted = (
        subject.family.Model(dataclasses.replace(config, reference_energies=values)).to(torch.float32)
        for values in ((), REFERENCES)
    )
    shift = torch.tensor(REFERENCES, dtype=torch.float64)[arguments[0]]
    yield difference("energy eV", shifted(*arguments) - shift, plain(*arguments), 1e-9, "less reference energies")
