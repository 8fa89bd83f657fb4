"""Trained model -> potential file that has proved itself in a fresh process before it gets its name."""

import contextlib
import copy
import importlib.metadata
import io
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
from eqff.artifact.lookup import SUFFIX, potential_name
from eqff.artifact.scripting import check_operators
from eqff.errors import PotentialError, ResourceError
from eqff.graph import Structure
from eqff.locks import locked_in_new_folder
from eqff.potential import Evaluator, GradientEvaluator
from eqff.rebuild import rebuild
from eqff.validation.checks.n_hops import measure_n_hops
from eqff.validation.structures import example_structures

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
    run_dtype: str = "",
    force: bool = False,
) -> dict[str, Any]:
    """Write a potential file; on any failure there is none.

    Args:    model: weights in float32 or float64, that dtype is stored; it is not changed;
             family: its file name in models; config: plain values, as eqff.config.to_mapping gives them;
             path: <name>.eqff.pt; metadata: any of training_data, metrics, level_of_theory, licence, citation;
             baseline: who gives the energies that these are differences from, see eqff.training.prepare.baseline;
             card: Markdown for people; structures: test vectors beside the three made here;
             run_dtype: in which it runs unless the user names another, "" for the stored one; force: overwrite
    Returns: the header
    Raises:  PotentialError if the model cannot be stored, or the stored program does not reproduce it; ResourceError
             EQ6131 while another process writes the file
    """
    with only_exporter(path, force) as checked:
        return _export(
            model, family, config, checked, dict(metadata or {}), baseline, card, structures, run_dtype, force
        )


def _export(
    model: nn.Module,
    family: str,
    config: Mapping[str, Any],
    path: Path,
    metadata: dict[str, Any],
    baseline: Mapping[str, Any] | None,
    card: str,
    structures: Sequence[Structure],
    run_dtype: str,
    force: bool,
) -> dict[str, Any]:
    unknown = sorted(metadata.keys() - set(PROVENANCE))
    if unknown:
        raise PotentialError("EQ4141", f"metadata: unknown {unknown}; choose from {', '.join(PROVENANCE)}")
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    weights = _weights(model)
    dtype = _dtype(model)
    absent = [key for key in ("species", "r_max") if key not in config]
    if absent:
        raise PotentialError("EQ4149", f"config lacks {', '.join(absent)}; pass the whole configuration of the model")
    exact = copy.deepcopy(model).to(torch.float64)  # the reference for everything below
    species, r_max, n_hops = list(config["species"]), float(config["r_max"]), int(model.n_hops)  # type: ignore[arg-type]
    evaluator = GradientEvaluator(exact)
    _check_n_hops(evaluator, n_hops, r_max, len(species))
    expected = [vectors.expect(evaluator, s) for s in (*example_structures(species, r_max), *structures)]
    program = torch.jit.script(model)
    header = {
        "format": FORMAT if baseline is None else FORMAT_DIFFERENCE,
        "name": potential_name(path),
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
        **({"run_dtype": run_dtype} if run_dtype else {}),
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
        raise PotentialError("EQ4140", f"path={str(path)!r} is no name of a potential; give one that ends in {SUFFIX}")
    if path.exists() and not force:
        raise PotentialError("EQ4116", f"{path}: exists already; choose another name or overwrite with --force")
    return path


@contextlib.contextmanager
def only_exporter(path: str | Path, force: bool) -> Iterator[Path]:
    """`checked_path`, which no other process writes within this context.

    Raises: as `checked_path`; ResourceError EQ6131 while another process writes the file, EQ6101 if the system refuses
    """
    path = checked_path(path, force)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked_in_new_folder(path))
        except OSError as error:
            raise ResourceError(
                "EQ6101", f"{path}: cannot be written ({error.strerror}); check space and rights"
            ) from error
        yield checked_path(path, force)  # again: another process may have written it meanwhile


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
        raise PotentialError(
            "EQ4144", f"{path}: the written program failed its proof: {said[0]}; do not use the file; write it again"
        )


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
        raise PotentialError("EQ4147", f"weights are {found}, expected all float32 or all float64; use model.to(...)")
    return dtypes.pop()


def _check_n_hops(evaluator: Evaluator, n_hops: int, r_max: float, n_species: int) -> None:
    measured = measure_n_hops(evaluator, n_hops + 3, r_max, n_species)
    if measured != n_hops:
        raise PotentialError(
            "EQ4148",
            f"n_hops={n_hops}, but on a chain of atoms energies depend on edges of {measured} hops; correct the model",
        )


def package_versions() -> dict[str, str]:
    """Versions of what writes a potential file."""
    packages = {name: importlib.metadata.version(name) for name in ("torch", "e3nn", "numpy", "safetensors")}
    return {"eqff": eqff.__version__, "python": platform.python_version(), **packages}
