"""Foreign TorchScript energy models -> eqff's signature, in eV and Å.

flat        forward(species, senders, receivers, edge_vector) -> node_energy [n_atoms] (or [n_atoms, 1])
            species [n_atoms] index into --species; edge_vector [n_edges, 3] = r_sender - r_receiver, with images
dictionary  forward(Dict[str, Tensor]) -> Dict[str, Tensor], or the energies as one Tensor; the keys given are
            pos, positions [n_atoms, 3] · cell [3, 3] (else [n_graphs, 3, 3]), rows are lattice vectors · edge_index
            [2, n_edges], row 0 the receiving atom, row 1 the sending one (exchanged if a trial shows that) ·
            edge_cell_shift, shifts [n_edges, 3] · atom_types [n_atoms] index into --species, atomic_numbers [n_atoms]
            Z (both else [n_atoms, 1]) · batch [n_atoms], ptr [n_graphs + 1]
            energies are read from the first of ENERGY_KEYS that is there
nequip      a file of `nequip-deploy` (0.5, 0.6): its energy network as a dictionary model, times its energy scale

A dictionary model is a function of positions, and eqff needs the one gradient dE / d edge_vector.  It exists where the
model uses positions only in  pos[edge_index[1]] - pos[edge_index[0]] + edge_cell_shift @ cell  (or + shifts): here all
positions are 0, the cell is the identity and the shifts are the edge vectors, so that this sum is the edge vector, and
derivatives of any order pass.  A model that uses positions otherwise (angles from pos, charges, a dipole, its own
neighbour list) gives other numbers than with real positions; `eqff.validation` compares the two and refuses.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any, Dict, NamedTuple

import torch
from torch import Tensor, nn

from eqff.artifact.foreign import STOPS
from eqff.elements import atomic_number
from eqff.errors import PotentialError, last_line
from eqff.graph import Structure, edge_vectors

ADAPTERS = ("flat", "dictionary", "nequip")
ATOM_KEYS = ("atomic_energy", "atomic_energies", "node_energy", "energies")
TOTAL_KEYS = ("total_energy", "energy")
ENERGY_KEYS = (*ATOM_KEYS, *TOTAL_KEYS)
FLAT_SIGNATURE = ["Tensor"] * 4
LAYERS = {"GraphModel": "model", "RescaleOutput": "model", "GradientOutput": "func", "StressOutput": "func"}


class Form(NamedTuple):
    """How a dictionary model wants its input, and where its energies are; found by trial."""

    key: str = ""  # of the energies; "" when the model returns a tensor
    column: bool = False  # per-atom integers as [n_atoms, 1]
    cell_per_graph: bool = False
    every_atom_a_graph: bool = False  # makes energies per graph energies per atom
    spread: bool = False  # one total energy, divided evenly over the atoms
    sender_first: bool = False  # rows of edge_index exchanged


class Adapted(NamedTuple):
    """A foreign program in eqff's signature, with what was found out about it."""

    model: "Wrapped"
    adapter: str
    form: Form | None  # None for flat
    dtypes: tuple[torch.dtype, ...]  # of weights it can run with, the stored one first
    real: Callable[[Structure], tuple[float, Tensor]] | None  # the unchanged program on real positions: E eV, F eV/Å


class DictionaryModel(nn.Module):
    """The flat signature around a model of dictionaries that returns a dictionary (see the top of this file)."""

    def __init__(self, program: nn.Module, numbers: Sequence[int], form: Form, scale: float) -> None:
        super().__init__()
        self.program = program
        self.numbers: Tensor
        self.register_buffer("numbers", torch.tensor(numbers))
        self.key, self.scale, self.spread = form.key, scale, form.spread
        self.column, self.cell_per_graph = form.column, form.cell_per_graph
        self.every_atom_a_graph, self.sender_first = form.every_atom_a_graph, form.sender_first

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        positions = edge_vector.new_zeros(species.shape[0], 3)
        cell = torch.eye(3, dtype=edge_vector.dtype, device=edge_vector.device)
        data = self.inputs(species, positions, cell, senders, receivers, edge_vector, edge_vector)
        return self.node_energy(self.program(data), species.shape[0])

    def inputs(
        self,
        species: Tensor,
        positions: Tensor,
        cell: Tensor,
        senders: Tensor,
        receivers: Tensor,
        shift: Tensor,
        cartesian_shift: Tensor,
    ) -> Dict[str, Tensor]:
        n_atoms = species.shape[0]
        if self.every_atom_a_graph:
            batch = torch.arange(n_atoms, device=species.device)
            ptr = torch.arange(n_atoms + 1, device=species.device)
        else:
            batch = torch.zeros_like(species)
            ptr = torch.tensor([0, n_atoms], device=species.device)
        if self.cell_per_graph:
            cell = cell.unsqueeze(0).repeat(ptr.shape[0] - 1, 1, 1)
        edge_index = torch.stack([receivers, senders])
        if self.sender_first:
            edge_index, shift, cartesian_shift = torch.stack([senders, receivers]), -shift, -cartesian_shift
        atomic_numbers = self.numbers.index_select(0, species)
        if self.column:
            species, atomic_numbers = species.unsqueeze(1), atomic_numbers.unsqueeze(1)
        return {
            "pos": positions,
            "positions": positions,
            "cell": cell,
            "edge_index": edge_index,
            "edge_cell_shift": shift,
            "shifts": cartesian_shift,
            "atom_types": species,
            "atomic_numbers": atomic_numbers,
            "batch": batch,
            "ptr": ptr,
        }

    def node_energy(self, output: Dict[str, Tensor], n_atoms: int) -> Tensor:
        energy = output[self.key].reshape(-1)
        if self.spread:
            energy = (energy / n_atoms).expand(n_atoms)
        return self.scale * energy


class TensorModel(DictionaryModel):
    """The same for a model that returns its energies as one tensor."""

    def node_energy(self, output: Tensor, n_atoms: int) -> Tensor:  # type: ignore[override]
        energy = output.reshape(-1)
        if self.spread:
            energy = (energy / n_atoms).expand(n_atoms)
        return self.scale * energy


class Wrapped(nn.Module):
    """eqff's model contract around a model with the flat signature: eV and Å, float64, no edge at or beyond r_max.

    Args: inner: flat signature in its own units; r_max Å; energy_factor: its unit in eV; length_factor: its unit in Å;
          dtype: of its weights; wide: it takes float64 edge vectors whatever its weights are
    """

    def __init__(
        self,
        inner: nn.Module,
        r_max: float,
        energy_factor: float,
        length_factor: float,
        dtype: torch.dtype,
        wide: bool,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.r_max, self.energy_factor, self.length_factor = r_max, energy_factor, length_factor
        self.wide = wide
        self.weight: Tensor
        self.register_buffer("weight", torch.zeros(1, dtype=dtype))  # has the dtype that `module.to` gave the weights

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        far = edge_vector.detach().square().sum(1) >= self.r_max * self.r_max
        near = torch.nonzero(torch.logical_not(far)).squeeze(1)
        vector = edge_vector.index_select(0, near) / self.length_factor
        if not self.wide:
            vector = vector.to(self.weight.dtype)
        energy = self.native_energy(species, senders.index_select(0, near), receivers.index_select(0, near), vector)
        return self.energy_factor * energy.reshape(-1).to(torch.float64)

    def native_energy(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        return self.inner(species, senders, receivers, edge_vector)


def adapter_of(program: Any, notes: Mapping[str, str]) -> str:
    """Name of the adapter that fits the program's signature.

    Raises: PotentialError for a signature none fits
    """
    arguments = [str(argument.type) for argument in program.forward.schema.arguments[1:]]
    if notes.get("nequip_version") or "_jit_bailout_depth" in notes:
        return "nequip"
    if arguments == FLAT_SIGNATURE:
        return "flat"
    if arguments in (["Dict[str, Tensor]"], ["Dict(str, Tensor)"]):
        return "dictionary"
    raise PotentialError(
        "EQ4324",
        f"forward({', '.join(arguments)}): expected (species, senders, receivers, edge_vector), four tensors, or one "
        "dictionary of tensors; write a small module with that signature around the model and script it",
    )


def adapt(
    program: Any,
    adapter: str,
    species: Sequence[str],
    r_max: float,
    sample: Structure,
    energy_factor: float = 1.0,
    length_factor: float = 1.0,
) -> Adapted:
    """Find by trial how a program wants to be called.  This executes it.

    Args:    program: the loaded ScriptModule; adapter: one of ADAPTERS; species: symbols in the order of the program's
             type index; r_max Å; sample: structure of several atoms with edges; factors: its units in eV and Å
    Raises:  PotentialError with the program's own error when no form of the call works
    """
    stored = stored_dtype(program)
    numbers = [atomic_number(symbol) for symbol in species]
    network, scale = energy_network(program) if adapter == "nequip" else (program, 1.0)
    forms: list[Form | None] = [None]
    if adapter == "dictionary":
        forms = [Form(column=column, cell_per_graph=cell) for column, cell in product((False, True), repeat=2)]
    elif adapter == "nequip":
        forms = [Form(key="atomic_energy", column=True)]
    wides = (False,) if adapter == "nequip" or stored == torch.float64 else (True, False)
    reason = ""
    for form, wide in product(forms, wides):
        try:
            if form is not None:
                form = _located(program, numbers, form, sample, length_factor, stored, wide)
            inner = network if form is None else _around(network, numbers, form, scale)
            model = Wrapped(inner, r_max, energy_factor, length_factor, stored, wide).eval()
            raw = _try(model, sample)
            break
        except (*STOPS, KeyError, TypeError, ValueError) as error:
            said = last_line(error)
            reason = reason or said
            if "backward through the graph a second time" in said:
                reason = "it takes a gradient itself and frees the graph: return energies only, or use create_graph"
    else:
        raise PotentialError(
            "EQ4325",
            f"the program stops when called as a {adapter} model ({reason}); check --species (order and number), "
            f"--adapter, and the keys and shapes in eqff/artifact/torchscript.py",
        )
    if form is not None and adapter == "dictionary" and _changes_sender(model, sample):
        form = form._replace(sender_first=True)
        model.inner = _around(network, numbers, form, scale)
    real = None
    if form is not None:
        caller = _around(program, numbers, form._replace(every_atom_a_graph=False, spread=False), 1.0)
        factors = energy_factor, length_factor
        real = lambda structure: _real(caller, structure, stored, factors)  # noqa: E731
    dtypes = (raw,) if raw == torch.float32 != stored else _dtypes(model, sample, stored)
    return Adapted(model, adapter, form, dtypes, real)


def stored_dtype(program: nn.Module) -> torch.dtype:
    """float32 if any weight is, else float64.  Raises: PotentialError for half precision"""
    found = {t.dtype for t in (*program.parameters(), *program.buffers()) if t.is_floating_point() and t.numel()}
    foreign = found - {torch.float32, torch.float64}
    if foreign:
        raise PotentialError("EQ4326", f"weights are {foreign.pop()}; save the model in float32 or float64")
    return torch.float32 if torch.float32 in found else torch.float64


def energy_network(program: Any) -> tuple[nn.Module, float]:
    """The part of a deployed nequip model that gives atomic energies, and the scale that its outer layer puts on them.

    Its forces are not needed, and taking them would free the graph that the one gradient passes.

    Raises: PotentialError for layers this does not know
    """
    scale = 1.0
    while getattr(program, "original_name", "") in LAYERS:
        if program.original_name == "RescaleOutput":
            if program.has_shift and "total_energy" in program.shift_keys and float(program.shift_by) != 0.0:
                raise PotentialError(
                    "EQ4327",
                    f"global_rescale_shift={float(program.shift_by):g} is added once per structure, whatever its size; "
                    "train with per_species_rescale_shifts",
                )
            if program.has_scale and "atomic_energy" in program.scale_keys:
                scale *= float(program.scale_by)
        program = getattr(program, LAYERS[program.original_name])
    if getattr(program, "original_name", "") != "SequentialGraphNetwork":
        raise PotentialError(
            "EQ4328",
            f"layer {getattr(program, 'original_name', '?')!r} is not one of {', '.join(LAYERS)}, "
            "SequentialGraphNetwork; deploy with nequip 0.5 or 0.6, not frozen",
        )
    return program, scale


def nequip_facts(notes: Mapping[str, str]) -> tuple[list[str], float]:
    """Type names in order and r_max (in the model's length unit) that a deployed file states; empty, NaN if not."""
    try:
        r_max = float(notes.get("r_max", "nan"))
    except ValueError:
        r_max = math.nan
    return notes.get("type_names", "").split(), r_max


def _around(program: nn.Module, numbers: Sequence[int], form: Form, scale: float) -> DictionaryModel:
    kind = DictionaryModel if form.key else TensorModel
    return kind(program, numbers, form, scale)


def _located(
    program: Any,
    numbers: Sequence[int],
    form: Form,
    sample: Structure,
    length_factor: float,
    dtype: torch.dtype,
    wide: bool,
) -> Form:
    """The form completed with the place of the energies."""
    if form.key:
        return form
    n_atoms = sample.species.shape[0]
    for every in (False, True):
        form = form._replace(every_atom_a_graph=every)
        caller = DictionaryModel(program, numbers, form, 1.0)
        vector = (edge_vectors(sample) / length_factor).to(torch.float64 if wide else dtype).requires_grad_(True)
        positions = torch.zeros(n_atoms, 3, dtype=vector.dtype)
        cell = torch.eye(3, dtype=vector.dtype)
        output = program(
            caller.inputs(sample.species, positions, cell, sample.senders, sample.receivers, vector, vector)
        )
        if isinstance(output, Tensor):
            output = {"": output}
        elif not isinstance(output, dict):
            raise TypeError(f"it returns {type(output).__name__}, expected a dictionary of tensors or one tensor")
        known = [key for key in ("", *ENERGY_KEYS) if key in output]
        if not known:
            raise KeyError(f"it returns {', '.join(sorted(output))}; expected one of {', '.join(ENERGY_KEYS)}")
        for key in known:
            if output[key].numel() == n_atoms:
                return form._replace(key=key)
    if output[known[0]].numel() != 1:
        shape = list(output[known[0]].shape)
        raise ValueError(f"{known[0] or 'its energy'} has shape {shape}, expected [{n_atoms}], one energy per atom")
    return form._replace(key=known[0], every_atom_a_graph=False, spread=True)


def _try(model: Wrapped, sample: Structure) -> torch.dtype:
    """Energy and gradient once; returns the dtype in which energies come."""
    vector = edge_vectors(sample).requires_grad_(True)
    native = model.native_energy(
        sample.species, sample.senders, sample.receivers, vector if model.wide else vector.to(model.weight.dtype)
    )
    energy = model(sample.species, sample.senders, sample.receivers, vector)
    if energy.shape != sample.species.shape:
        raise ValueError(f"{energy.numel()} energies for {sample.species.shape[0]} atoms")
    torch.autograd.grad(energy.sum(), vector)
    return native.dtype


def _changes_sender(model: Wrapped, sample: Structure) -> bool:
    """Whether an edge changes the energy of the atom that should be its sender, and not of its receiver."""
    vector = torch.tensor([[0.5 * model.r_max, 0.0, 0.0], [0.0, 0.6 * model.r_max, 0.0]], dtype=torch.float64)
    receivers, senders = torch.tensor([0, 2]), torch.tensor([1, 3])
    species = sample.species[:4]
    try:
        with torch.no_grad():
            moved = vector.clone()
            moved[0] *= 1.1
            before, after = (model(species, senders, receivers, v) for v in (vector, moved))
    except STOPS:
        return False
    change = (after - before).abs()
    return bool(change[1] > 0) and bool(change[0] == 0)


def _real(
    caller: DictionaryModel, structure: Structure, dtype: torch.dtype, factors: tuple[float, float]
) -> tuple[float, Tensor]:
    """Total energy eV and forces [n_atoms, 3] eV/Å of the unchanged program on real positions, cell and shifts."""
    energy_factor, length_factor = factors
    positions = (structure.positions / length_factor).to(dtype).requires_grad_(True)
    cell = structure.cell[0] / length_factor
    if not structure.pbc.any():
        cell = torch.eye(3, dtype=torch.float64)
    shift = structure.edge_shift.to(torch.float64)
    tensors = (cell.to(dtype), structure.senders, structure.receivers, shift.to(dtype), (shift @ cell).to(dtype))
    output: Any = caller.program(caller.inputs(structure.species, positions, *tensors))
    output = {"": output} if isinstance(output, Tensor) else output
    energy = output[caller.key].sum()
    if "forces" in output:
        forces = output["forces"].detach()
    else:
        forces = -torch.autograd.grad(energy, positions)[0]
    return energy_factor * float(energy.detach()), energy_factor / length_factor * forces.to(torch.float64)


def _dtypes(model: Wrapped, sample: Structure, stored: torch.dtype) -> tuple[torch.dtype, ...]:
    """dtypes the weights may have: the stored one, and the other if the program runs with it."""
    other = torch.float32 if stored == torch.float64 else torch.float64
    try:
        twin = copy.deepcopy(model).to(other)
        got = _try(twin, sample)
    except STOPS:
        return (stored,)
    if other == torch.float64 and got != torch.float64:  # computes in float32 whatever its weights are
        return (stored,)
    return (stored, other)
