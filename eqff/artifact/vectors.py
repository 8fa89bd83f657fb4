"""Test vectors: inputs for a program, with the results that it must return on any machine."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from eqff.artifact.archive import VECTORS, Contents
from eqff.elements import atomic_number
from eqff.errors import PotentialError, last_line
from eqff.graph import Structure, edge_vectors
from eqff.potential import Evaluator, assemble

# With float64 weights: |d node_energy| <= 1e-9 eV + 1e-10 |node_energy|, |d force| <= 1e-8 eV/Å + 1e-9 |force|.
EXACT_ENERGY, EXACT_FORCE = (1e-9, 1e-10), (1e-8, 1e-9)
# With float32 weights: the largest error over the RMS of the float64 results (of node energies without reference
# energies, of forces); an RMS below 1 eV, or 1 eV/Å, counts as 1.
SINGLE = 1e-5

# Tensors of one vector in the file: dtype and shape.
LAYOUT: dict[str, tuple[Any, ...]] = {
    "positions": (torch.float64, "atoms", 3),
    "cell": (torch.float64, 3, 3),
    "pbc": (torch.bool, 3),
    "atomic_numbers": (torch.int64, "atoms"),
    "species": (torch.int64, "atoms"),
    "senders": (torch.int64, "edges"),
    "receivers": (torch.int64, "edges"),
    "edge_shift": (torch.int64, "edges", 3),
    "edge_vector": (torch.float64, "edges", 3),
    "node_energy": (torch.float64, "atoms"),
    "edge_gradient": (torch.float64, "edges", 3),
}


class Expected(NamedTuple):
    """One structure and what the program returns for it with float64 weights, all atoms weighted 1."""

    structure: Structure  # one graph
    edge_vector: Tensor  # [n_edges, 3] Å, float64
    node_energy: Tensor  # [n_atoms] eV, float64
    edge_gradient: Tensor  # [n_edges, 3] eV/Å, float64


def expect(evaluator: Evaluator, structure: Structure) -> Expected:
    """Make a test vector: evaluate a structure with float64 weights."""
    edge_vector = edge_vectors(structure)
    node_energy, edge_gradient = evaluate(evaluator, structure, edge_vector)
    return Expected(structure, edge_vector, node_energy, edge_gradient)


def evaluate(evaluator: Evaluator, structure: Structure, edge_vector: Tensor) -> tuple[Tensor, Tensor]:
    """(node_energy [n_atoms] eV, edge_gradient [n_edges, 3] eV/Å) with all atoms weighted 1.

    Raises: PotentialError for a model that stops with an error of torch
    """
    node_weight = torch.ones(structure.species.shape[0], dtype=torch.float64, device=edge_vector.device)
    try:
        return evaluator(structure.species, structure.senders, structure.receivers, edge_vector, node_weight)
    except (RuntimeError, IndexError, torch.jit.Error) as error:
        reason = last_line(error)
        n_atoms, n_edges = structure.species.shape[0], structure.senders.shape[0]
        raise PotentialError(
            "EQ4134",
            f"the model stops on the test vector of {n_atoms} atoms, {n_edges} edges: {reason}; export it again",
        ) from error


def pack(vectors: Sequence[Expected], species: Sequence[str]) -> bytes:
    """Test vectors as safetensors: `<k>.positions`, `<k>.edge_vector`, ... for vector k, see Structure and Expected.

    Atomic numbers, beside species indices, let other programs make the structure without knowing eqff.
    """
    numbers = torch.tensor([atomic_number(symbol) for symbol in species])
    tensors: dict[str, Tensor] = {}
    for k, expected in enumerate(vectors):
        structure = expected.structure
        fields = {
            "positions": structure.positions,
            "cell": structure.cell[0],
            "pbc": structure.pbc[0],
            "atomic_numbers": numbers[structure.species],
            "species": structure.species,
            "senders": structure.senders,
            "receivers": structure.receivers,
            "edge_shift": structure.edge_shift,
            "edge_vector": expected.edge_vector,
            "node_energy": expected.node_energy,
            "edge_gradient": expected.edge_gradient,
        }
        tensors |= {f"{k}.{name}": tensor.detach().clone().contiguous() for name, tensor in fields.items()}
    return safetensors.torch.save(tensors)


def unpack(contents: Contents) -> list[Expected]:
    """Test vectors of a potential file.  Raises: PotentialError if they cannot be read or there are none."""
    n_species = len(contents.header["species"])
    try:
        tensors = safetensors.torch.load(contents.extra[VECTORS])
        n_vectors = len({name.split(".")[0] for name in tensors})
        vectors = [_unpack_one(tensors, k, n_species) for k in range(n_vectors)]
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        reason = f"{contents.path}: test vectors cannot be used ({error}); export the model again"
        raise PotentialError("EQ4130", reason) from error
    if not vectors:
        raise PotentialError("EQ4135", f"{contents.path}: no test vectors; export the model again")
    return vectors


def to_device(expected: Expected, device: torch.device) -> Expected:
    """The same vector on another device."""
    fields = expected.structure._asdict()
    moved: dict[str, Any] = {name: x.to(device) for name, x in fields.items() if isinstance(x, Tensor)}
    structure = expected.structure._replace(**moved)
    return Expected(structure, *(tensor.to(device) for tensor in expected[1:]))


def check(
    evaluator: Evaluator, expected: Expected, dtype: torch.dtype, header: Mapping[str, Any], where: str
) -> tuple[float, float]:
    """Evaluate a test vector and compare.

    Args:    dtype: of the evaluator's weights, chooses the tolerance; header: for the reference energies;
             where: file and device for messages
    Returns: largest error of node energies, eV, and of forces, eV/Å
    Raises:  PotentialError with the deviation
    """
    structure = expected.structure
    node_energy, edge_gradient = evaluate(evaluator, structure, expected.edge_vector)
    forces = assemble(structure, expected.edge_vector, node_energy, edge_gradient).forces
    target = assemble(structure, expected.edge_vector, expected.node_energy, expected.edge_gradient).forces
    energy_error, force_error = (node_energy - expected.node_energy).abs(), (forces - target).abs()
    if dtype == torch.float64:
        energy_bound = EXACT_ENERGY[0] + EXACT_ENERGY[1] * expected.node_energy.abs()
        force_bound = EXACT_FORCE[0] + EXACT_FORCE[1] * target.abs()
    else:
        reference = torch.tensor(header["reference_energies"], dtype=torch.float64, device=node_energy.device)
        energy_bound = SINGLE * _rms(expected.node_energy - reference[structure.species])
        force_bound = SINGLE * _rms(target)
    largest = energy_error.max().item(), force_error.max().item()
    if not bool((energy_error <= energy_bound).all()) or not bool((force_error <= force_bound).all()):
        n_atoms, n_edges = structure.species.shape[0], structure.senders.shape[0]
        raise PotentialError(
            "EQ4131",
            f"{where}: with {dtype} weights the test vector of {n_atoms} atoms, {n_edges} edges "
            f"is missed by {largest[0]:.1e} eV and {largest[1]:.1e} eV/Å (allowed {energy_bound.min().item():.1e} and "
            f"{force_bound.min().item():.1e}); try dtype='float64', the CPU, TF32 off, and report it if that fails too",
        )
    return largest


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt().clamp(min=1.0)


def _unpack_one(tensors: Mapping[str, Tensor], k: int, n_species: int) -> Expected:
    """Test vector k.  Raises: KeyError, ValueError for a tensor that is missing, misshapen, or points nowhere."""
    n_atoms, n_edges = len(tensors[f"{k}.species"]), len(tensors[f"{k}.senders"])
    limits = {"species": n_species, "senders": n_atoms, "receivers": n_atoms}
    fields = {}
    for name, (dtype, *shape) in LAYOUT.items():
        tensor = tensors[f"{k}.{name}"]
        if tensor.dtype != dtype or list(tensor.shape) != [
            {"atoms": n_atoms, "edges": n_edges}.get(n, n) for n in shape
        ]:
            raise ValueError(f"{k}.{name} is {tensor.dtype} {list(tensor.shape)}, expected {dtype} {shape}")
        if name in limits and bool(((tensor < 0) | (tensor >= limits[name])).any()):
            raise ValueError(f"{k}.{name} has an index outside 0 ... {limits[name] - 1}")
        fields[name] = tensor
    structure = Structure(
        positions=fields["positions"],
        species=fields["species"],
        cell=fields["cell"].unsqueeze(0),
        pbc=fields["pbc"].unsqueeze(0),
        batch=torch.zeros_like(fields["species"]),
        n_graphs=1,
        senders=fields["senders"],
        receivers=fields["receivers"],
        edge_shift=fields["edge_shift"],
    )
    return Expected(structure, fields["edge_vector"], fields["node_energy"], fields["edge_gradient"])
