"""A potential, rebuilt and compiled for this machine: kernels of its own, radial splines, AOTInductor.

    energy and gradient in one program   <-   make_fx of model and autograd   <-   rebuild(header + weights)

The program goes into the user's cache after it has reproduced the test vectors of the file.
"""

import copy
import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eqff.artifact import archive, compiled, vectors
from eqff.artifact.header import DTYPES, run_dtype
from eqff.artifact.lookup import find
from eqff.errors import ConfigError, EqffError, PotentialError, ResourceError
from eqff.files import locked, new_folder
from eqff.kernels import build
from eqff.nn.fast.fused import FusedConvolution, SharedRadial, fuse, share_radial
from eqff.nn.fast.layers import spline_obstacle
from eqff.nn.fast.spline import SplineConvolution, spline_errors, tabulate
from eqff.potential import Evaluator, GradientEvaluator, assemble
from eqff.rebuild import rebuild

FORCE_ERROR = 1e-5  # of the force RMS: what splines may add
# on all of [r_min, r_max], relative to the largest exact value in a layer
RADIAL_ERRORS = {"spline_value_error": 1e-6, "spline_slope_error": 2e-5, "spline_curvature_error": 2e-3}
KNOTS = (48, 64, 96, 128, 192, 256)  # small tables stay in the processor's cache
SHORTEST = 0.6  # of the shortest training distance: where splines begin
DEFAULT_SHORTEST = 0.8  # Å, for files that do not say


class Compiled(NamedTuple):
    """What `compile_potential` made."""

    folder: Path
    seconds: float  # 0 if it was there before
    n_knots: int  # 0 for exact radial functions
    r_min: float  # Å, 0 for exact radial functions
    spline_force_error: float  # largest, of the force RMS, with float64 weights
    energy_error: float  # eV, largest on the test vectors in the dtype of the run
    force_error: float  # eV/Å


def compile_potential(
    name_or_path: str | Path, dtype: str = "auto", exact: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Compiled:
    """Compile a potential for this machine and put it into the cache, where `eqff.load(..., accelerate="ready")` looks.

    Args:    name_or_path; dtype: of the weights, "auto" for that of the file's runs; exact: keep the radial networks
             instead of splines; progress: told what is being done
    Raises:  ResourceError without a compiler or cache; PotentialError for a file that cannot be rebuilt, or a program
             that misses the test vectors; ConfigError for an unknown dtype
    """
    if dtype not in ("auto", *DTYPES):
        raise ConfigError("EQ1101", f"dtype={dtype!r} is unknown; choose auto, {' or '.join(DTYPES)}")
    if build.compiler() is None:
        raise ResourceError("EQ6110", "no C++ compiler found; install g++ or clang++, or set CXX")
    contents = archive.read(find(name_or_path))
    of_run: torch.dtype = getattr(torch, run_dtype(contents.header) if dtype == "auto" else dtype)
    place = compiled.folder(contents.digest, of_run, exact)
    if place is None:
        raise ResourceError(
            "EQ6112", "no private cache for compiled programs; make ~/.cache writable, or set XDG_CACHE_HOME"
        )
    with locked(place.with_suffix(".compiling"), wait=True):  # not in the folder itself, which is replaced
        return _compile(contents, of_run, exact, place, progress)


def _compile(
    contents: archive.Contents, dtype: torch.dtype, exact: bool, place: Path, progress: Callable[[str], None]
) -> Compiled:
    started = time.monotonic()
    progress("rebuilding the model")
    model = rebuild(contents.path).to(torch.float64).requires_grad_(False)
    fallback = GradientEvaluator(copy.deepcopy(model).to(dtype))
    found = _ready(contents, dtype, place, fallback)
    if found is not None:
        return found
    progress("compiling kernels")
    report: dict[str, Any] = {"r_min_A": 0.0, "n_knots": 0, "spline_force_error": 0.0}
    obstacle = spline_obstacle(model)
    if not exact and not obstacle:
        model, splines = _with_splines(model, contents, progress)
        report |= splines
    elif not exact:
        progress(f"no radial splines, radial networks stay exact: {obstacle}")
    progress("compiling the program")
    shutil.rmtree(place, ignore_errors=True)  # what is there is unsound
    with new_folder(place) as scratch:
        model = fuse(model).to(dtype)
        if not obstacle:  # radial networks are functions of the length alone, used by convolutions alone
            model = share_radial(model)
        report["shared_radial"] = bool(_shared(model))
        _make_program(model, scratch / compiled.PROGRAM, contents.path)
        report["sha256"] = hashlib.sha256((scratch / compiled.PROGRAM).read_bytes()).hexdigest()
        report["kernels"] = _kernel_files(model)
        report |= {"file": contents.path.name, "torch": torch.__version__, "instructions": build.capability()}
        report["seconds"] = time.monotonic() - started
        (scratch / compiled.REPORT).write_text(json.dumps(report, indent=1))
        progress("checking against the test vectors")
        evaluator = compiled.open_folder(scratch, fallback)
        if evaluator is None:
            raise ResourceError("EQ6113", "kernels vanished from the cache while compiling; compile again")
        errors = compiled.verify(evaluator, contents, dtype)
    return _result(place, report, *errors, seconds=time.monotonic() - started)


def _make_program(model: nn.Module, path: Path, file: Path) -> None:
    """Trace and compile; whatever torch cannot do with a model becomes ResourceError EQ6122."""
    try:
        package(trace(model), path, _example(shared=bool(_shared(model))))
    except (EqffError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        raise ResourceError(
            "EQ6122",
            f"{file}: torch cannot compile this model ({reason}); use it uncompiled, as TorchScript",
        ) from error


def _ready(contents: archive.Contents, dtype: torch.dtype, place: Path, fallback: Evaluator) -> Compiled | None:
    """What was compiled before, if it is sound."""
    if not (place / compiled.REPORT).is_file():
        return None
    try:
        evaluator = compiled.open_folder(place, fallback)
        if evaluator is None:
            return None
        return _result(place, evaluator.report, *compiled.verify(evaluator, contents, dtype), seconds=0.0)
    except PotentialError:
        return None


def _result(
    place: Path, report: Mapping[str, Any], energy_error: float, force_error: float, seconds: float
) -> Compiled:
    splines = (report["n_knots"], report["r_min_A"], report["spline_force_error"])
    return Compiled(place, seconds, *splines, energy_error, force_error)


def _with_splines(
    model: nn.Module, contents: archive.Contents, progress: Callable[[str], None]
) -> tuple[nn.Module, dict[str, Any]]:
    """The model with radial splines fine enough for FORCE_ERROR, and what was measured."""
    data = contents.header.get("training_data")
    shortest = data.get("min_distance_A") if isinstance(data, Mapping) else None
    r_min = SHORTEST * float(shortest or DEFAULT_SHORTEST)
    reference = GradientEvaluator(fuse(copy.deepcopy(model)))
    expected = [vector for vector in vectors.unpack(contents) if _longest_enough(vector, r_min)]
    if not expected:
        raise PotentialError(
            "EQ4172", f"{contents.path}: no test vector has only edges longer than {r_min:.2f} Å; compile with --exact"
        )
    for n_knots in KNOTS:
        progress(f"radial splines with {n_knots} knots")
        candidate = tabulate(copy.deepcopy(model), r_min, n_knots)
        error = _force_error(GradientEvaluator(candidate), reference, expected)
        radial = spline_errors(model, r_min, n_knots)
        if error <= FORCE_ERROR and all(radial[name] <= bound for name, bound in RADIAL_ERRORS.items()):
            return candidate, {"r_min_A": r_min, "n_knots": n_knots, "spline_force_error": error} | radial
    raise PotentialError(
        "EQ4171",
        f"{contents.path}: radial splines with {KNOTS[-1]} knots change forces by {error:.1e} of their RMS (allowed "
        f"{FORCE_ERROR:.0e}), radial functions by {radial} (allowed {RADIAL_ERRORS}); compile with --exact",
    )


def _longest_enough(vector: vectors.Expected, r_min: float) -> bool:
    """Whether splines hold for all edges of a test vector, of which there are some."""
    lengths = vector.edge_vector.norm(dim=1)
    return lengths.shape[0] > 0 and bool((lengths >= r_min).all())


def _force_error(evaluator: Evaluator, reference: Evaluator, expected: list[vectors.Expected]) -> float:
    """Largest difference of forces over the RMS of the reference, on all test vectors together."""
    forces = [torch.cat([_forces(each, vector) for vector in expected]) for each in (evaluator, reference)]
    return float((forces[0] - forces[1]).abs().max() / forces[1].square().mean().sqrt().clamp(min=1e-6))


def _forces(evaluator: Evaluator, vector: vectors.Expected) -> Tensor:
    structure, edge_vector = vector.structure, vector.edge_vector
    return assemble(structure, edge_vector, *vectors.evaluate(evaluator, structure, edge_vector)).forces


def _kernel_files(model: nn.Module) -> dict[str, str]:
    """Kernel name -> file name in the cache, of all convolutions."""
    names = {m.kernel: m.library for m in model.modules() if isinstance(m, FusedConvolution | SplineConvolution)}
    return {name: Path(library).name for name, library in names.items()}


def _shared(model: nn.Module) -> list[SharedRadial]:
    return [module for module in model.modules() if isinstance(module, SharedRadial)]


def trace(model: nn.Module) -> torch.fx.GraphModule:
    """Graph of (species, senders, receivers, edge_vector, node_weight) -> (node_energy, edge_gradient).

    With shared radial networks, pairs of edges are further inputs, see `graph.reverse_pairs`.  Any numbers of atoms and
    edges from two on; everything that depends on weights alone is computed here.
    """
    shared = _shared(model)
    from torch.fx.experimental.proxy_tensor import make_fx

    def evaluate(
        species: Tensor,
        senders: Tensor,
        receivers: Tensor,
        edge_vector: Tensor,
        node_weight: Tensor,
        *pairs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        for radial in shared:
            radial.pairs = pairs[0], pairs[1]
        edge_vector = edge_vector.detach().requires_grad_(True)
        node_energy = model(species, senders, receivers, edge_vector)
        (gradient,) = torch.autograd.grad([torch.dot(node_weight, node_energy)], [edge_vector])
        return node_energy.detach(), gradient

    try:
        example = _example(shared=bool(shared))
        graph = make_fx(evaluate, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
    finally:
        for radial in shared:
            radial.pairs = None
    return _fold_constants(graph)


def package(graph: torch.fx.GraphModule, path: Path, example: tuple[Tensor, ...]) -> None:
    """Compile a graph of `trace` to an AOTInductor package; example: inputs of any size."""
    dynamic = {0: torch.export.Dim.AUTO}
    # kernels and matrix products use torch's threads; what is left is too little to share, and one program serves all
    serial = torch._inductor.config.patch({"cpp.threads": 1})
    with warnings.catch_warnings(), serial:
        warnings.simplefilter("ignore")  # torch's own, about its own code
        exported = torch.export.export(graph, example, dynamic_shapes=(dynamic,) * len(example), strict=False)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


def _example(n_atoms: int = 11, n_edges: int = 97, n_rows: int = 53, shared: bool = False) -> tuple[Tensor, ...]:
    """Inputs to trace with; sizes that occur nowhere else, so that none is mistaken for another."""
    pairs = (torch.arange(n_rows), torch.arange(n_edges) % n_rows) if shared else ()
    receivers = torch.arange(n_edges) * n_atoms // n_edges
    angle = torch.arange(n_edges, dtype=torch.float64)
    edge_vector = 0.7 * torch.stack([1.5 * angle.cos(), 1.5 * angle.sin(), 1.0 + (2.3 * angle).sin()], 1)
    node_weight = torch.ones(n_atoms, dtype=torch.float64)
    species, senders = torch.zeros(n_atoms, dtype=torch.int64), receivers.flip(0).clone()
    return species, senders, receivers, edge_vector, node_weight, *pairs


def _fold_constants(graph: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Compute once what depends on weights alone."""
    values: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(graph, node.target)
        elif node.op == "call_function" and node.all_input_nodes and all(n in values for n in node.all_input_nodes):
            arguments = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*arguments[0], **arguments[1])
    for number, (node, value) in enumerate(values.items()):
        users = [user for user in node.users if user not in values]
        if node.op == "call_function" and isinstance(value, Tensor) and users:
            graph.register_buffer(f"folded_{number}", value.detach().clone())
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(f"folded_{number}")
            for user in users:
                user.replace_input_with(node, constant)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph
