"""Trained model -> potential file that has proved itself in a fresh process before it gets its name."""

import copy
import importlib.metadata
import io
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

import eqff
from eqff import registry
from eqff.artifact import archive, vectors
from eqff.artifact.header import FORMAT, FORMAT_DIFFERENCE, PROVENANCE, UNITS
from eqff.artifact.lookup import SUFFIX
from eqff.errors import PotentialError
from eqff.graph import Structure
from eqff.neighbors import build_structure
from eqff.potential import GradientEvaluator
from eqff.rebuild import rebuild

# Operations of torch that read or write files: a potential has no use for them.
FORBIDDEN = frozenset({"aten::from_file", "aten::save", "prim::PythonOp"})
PROOF_SECONDS = 1800.0


def export(
    model: nn.Module,
    family: str,
    config: Mapping[str, Any],
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    baseline: Mapping[str, Any] | None = None,
    card: str = "",
    structures: Sequence[Structure] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Write a potential file; on any failure there is none.

    Args:    model: weights in float32 or float64, that dtype is stored; it is not changed;
             family: its file name in models; config: plain values, as eqff.config.to_mapping gives them;
             path: <name>.eqff.pt; metadata: any of training_data, metrics, level_of_theory, licence, citation;
             baseline: who gives the energies that these are differences from, see eqff.training.prepare.baseline;
             card: Markdown for people; structures: test vectors beside the three made here; force: overwrite
    Returns: the header
    Raises:  PotentialError if the model cannot be stored, or the stored program does not reproduce it
    """
    path, metadata = checked_path(path, force), dict(metadata or {})
    unknown = sorted(metadata.keys() - set(PROVENANCE))
    if unknown:
        raise PotentialError("EQ4141", f"metadata: unknown {unknown}; known are {', '.join(PROVENANCE)}")
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    weights = _weights(model)
    dtype = _dtype(model)
    absent = [key for key in ("species", "r_max") if key not in config]
    if absent:
        raise PotentialError("EQ4149", f"config lacks {', '.join(absent)}; pass the whole configuration of the model")
    exact = copy.deepcopy(model).to(torch.float64)  # the reference for everything below
    species, r_max, n_hops = list(config["species"]), float(config["r_max"]), int(model.n_hops)  # type: ignore[arg-type]
    _check_n_hops(exact, n_hops, r_max, len(species))
    evaluator = GradientEvaluator(exact)
    expected = [vectors.expect(evaluator, s) for s in (*example_structures(len(species), r_max), *structures)]
    program = torch.jit.script(model)
    header = {
        "format": FORMAT if baseline is None else FORMAT_DIFFERENCE,
        "name": path.name.removesuffix(SUFFIX),
        "family": family,
        "config": dict(config),
        "species": species,
        "r_max": r_max,
        "n_hops": n_hops,
        "symmetry": getattr(model, "symmetry", "not stated"),
        "dtype": str(dtype).removeprefix("torch."),
        "units": UNITS,
        "reference_energies": list(config.get("reference_energies") or [0.0] * len(species)),
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{field: metadata.get(field, "not stated") for field in PROVENANCE},
        **({} if baseline is None else {"baseline": dict(baseline)}),
        "versions": package_versions(),
        "operators": check_operators(program),
    }
    extra = {
        archive.WEIGHTS: safetensors.torch.save(weights),
        archive.VECTORS: vectors.pack(expected, species),
        archive.CARD: card.encode(),
    }

    def prove(written: Path) -> None:
        prove_in_fresh_process(written)
        if family in registry.names("models"):
            rebuild(written)  # header and weights alone must give this model, too

    return write_program(path, program, header, extra, prove, force)


def checked_path(path: str | Path, force: bool) -> Path:
    """Where a potential file may be written.  Raises: PotentialError for a wrong suffix, or an existing file"""
    path = Path(path)
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise PotentialError("EQ4140", f"path={str(path)!r}: expected <name>{SUFFIX}")
    if path.exists() and not force:
        raise PotentialError("EQ4116", f"{path}: exists already; choose another name or overwrite with --force")
    return path


def script(model: nn.Module) -> torch.jit.ScriptModule:
    """The TorchScript program of a module.

    Raises: PotentialError with torch's reason when it cannot be scripted
    """
    try:
        return torch.jit.script(model)
    except (RuntimeError, torch.jit.frontend.FrontendError) as error:
        reason = " ".join(str(error).split())[:400]
        raise PotentialError("EQ4330", f"the model cannot be scripted: {reason}") from error


def write_program(
    path: Path,
    program: torch.jit.ScriptModule,
    header: Mapping[str, Any],
    extra: Mapping[str, bytes],
    prove: Callable[[Path], None],
    force: bool,
) -> dict[str, Any]:
    """Write a scripted program with its header and further members; see `archive.write`.  Returns the header."""
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    archive.write(path, archive.pack(buffer.getvalue(), header, extra), prove, force)
    return archive.read(path).header


def operators(program: torch.jit.ScriptModule) -> list[str]:
    """Names of all operations that any part of the scripted program can run, e.g. "aten::mul"."""
    found = {name.split(".")[0] for name in torch.jit.export_opnames(program)}  # methods forward never calls, too
    for name in program._c._method_names():
        found |= {node.kind() for node in _nodes(program._c._get_method(name).inlined_graph)}
    return sorted(found)


def check_operators(program: torch.jit.ScriptModule) -> list[str]:
    """The operations of the program, all of torch itself.

    Raises: PotentialError naming operations that another machine may not have, or that touch files
    """
    used = operators(program)
    foreign = [name for name in used if not name.startswith(("aten::", "prim::")) or name in FORBIDDEN]
    if foreign:
        raise PotentialError("EQ4142", f"program uses {', '.join(foreign)}; write the exact model in plain torch")
    return used


def measure_n_hops(model: nn.Module, n_max: int, r_max: float, n_species: int) -> int:
    """Receptive field in units of r_max: how far along a chain of atoms the first energy depends on edges.

    Args: model: float64; n_max: chain length is n_max + 1 edges, more hops cannot be told apart from n_max + 1
    """
    n_atoms = n_max + 2
    index = torch.arange(n_atoms)
    turn = 0.5 * torch.sin(1.0 + 2.0 * index.double())  # no symmetry that would make a derivative vanish
    step = 0.7 * r_max * torch.stack([torch.cos(turn), torch.sin(turn), 0.3 * torch.cos(3 * turn)], 1)[:-1]
    forward, backward = (index[:-1], index[1:]), (index[1:], index[:-1])  # (receivers, senders), 1.3 r_max to the next
    receivers, senders = torch.cat([forward[0], backward[0]]), torch.cat([forward[1], backward[1]])
    edge_vector = torch.cat([step, -step])
    order = torch.argsort(receivers * n_atoms + senders)
    node_weight = torch.zeros(n_atoms, dtype=torch.float64)
    node_weight[0] = 1.0
    _, edge_gradient = GradientEvaluator(model)(
        index % n_species, senders[order], receivers[order], edge_vector[order], node_weight
    )
    reached = receivers[order][edge_gradient.abs().sum(1) > 0]
    return int(reached.max()) + 1 if reached.numel() else 0


def example_structures(n_species: int, r_max: float) -> list[Structure]:
    """One atom without edges, a molecule, and a crystal smaller than r_max whose atoms see their own images."""
    generator = torch.Generator().manual_seed(0)
    n_atoms = max(8, min(n_species, 64))
    side = math.ceil(n_atoms ** (1 / 3))
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:n_atoms]
    molecule = 0.35 * r_max * (grid + 0.3 * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64))
    cell = r_max * torch.tensor([[0.8, 0.0, 0.0], [0.2, 0.9, 0.0], [-0.1, 0.3, 1.1]], dtype=torch.float64)
    fractional = torch.tensor([[0.0, 0.0, 0.0], [0.45, 0.55, 0.4]], dtype=torch.float64)
    cases = [
        (torch.zeros(1, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64), False),
        (molecule, torch.zeros(3, 3, dtype=torch.float64), False),
        (fractional @ cell, cell, True),
    ]
    structures = []
    for positions, lattice, periodic in cases:
        species, pbc = torch.arange(len(positions)) % n_species, torch.tensor([periodic] * 3)
        structures.append(build_structure(positions.numpy(), species.numpy(), lattice.numpy(), pbc.numpy(), r_max))
    return structures


def prove_in_fresh_process(path: Path) -> None:
    """Load the file with torch alone and check it: 3 shapes x 3 calls, see eqff.artifact.program.prove.

    Raises: PotentialError with what the child said
    """
    code = "import sys; from pathlib import Path; from eqff.artifact.program import prove; prove(Path(sys.argv[1]))"
    search = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    command = [sys.executable, "-P", "-c", code, str(path)]  # -P: the working directory shadows nothing
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PROOF_SECONDS)
    except subprocess.TimeoutExpired as error:
        reason = f"{path}: the proof took longer than {PROOF_SECONDS} s; export a smaller model"
        raise PotentialError("EQ4143", reason) from error
    if child.returncode != 0:
        said = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        raise PotentialError("EQ4144", f"{path}: the written program failed its proof: {said[0]}")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, unshared.  Raises: PotentialError for a buffer that would not be stored."""
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    transient = [name for name, _ in model.named_buffers(remove_duplicate=False) if name not in weights]
    if transient:
        raise PotentialError(
            "EQ4145", f"buffers {', '.join(transient)} are not persistent: rebuild could not restore them; make them so"
        )
    bad = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise PotentialError("EQ4146", f"weights {', '.join(bad)} are not finite; take an earlier checkpoint")
    return weights


def _dtype(model: nn.Module) -> torch.dtype:
    """dtype of the weights.  Raises: PotentialError if there is not one, float32 or float64."""
    dtypes = {parameter.dtype for parameter in model.parameters()} or {torch.float64}
    if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
        found = ", ".join(sorted(map(str, dtypes)))
        raise PotentialError("EQ4147", f"weights are {found}; expected all float32 or all float64, use model.to(...)")
    return dtypes.pop()


def _check_n_hops(model: nn.Module, n_hops: int, r_max: float, n_species: int) -> None:
    measured = measure_n_hops(model, n_hops + 3, r_max, n_species)
    if measured != n_hops:
        raise PotentialError(
            "EQ4148",
            f"n_hops={n_hops}, but on a chain of atoms energies depend on edges of {measured} hops; correct the model",
        )


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes of a TorchScript graph or block, those in inner blocks too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def package_versions() -> dict[str, str]:
    """Versions of what writes a potential file."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "e3nn", "numpy", "safetensors")}
    return {"eqff": eqff.__version__, "python": platform.python_version(), **packages}
