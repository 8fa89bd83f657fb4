"""Compiled programs of potentials in the user's cache: where they are, and loading one that was verified here.

They are made by `eqff.compiler` from header and weights, never shipped in a file, never taken from elsewhere.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqff.artifact import vectors
from eqff.artifact.archive import Contents, read
from eqff.artifact.header import run_dtype
from eqff.artifact.potential import Potential
from eqff.artifact.program_key import code_digest
from eqff.cache import is_private_file, private_cache
from eqff.errors import GraphError, PotentialError, last_line
from eqff.graph import reverse_pairs
from eqff.kernels import build, fused
from eqff.potential import Evaluator, full_precision

PROGRAM, REPORT = "program.pt2", "report.json"
INPUT_DTYPES = [torch.int64] * 3 + [torch.float64] * 2
logger = logging.getLogger("eqff.accelerate")


class CompiledEvaluator:
    """Evaluator of a compiled program.

    Inputs that the program was not compiled for go to the exact evaluator: fewer than two atoms or edges, and
    structures with an edge shorter than r_min, where its radial splines end.

    Args: program: AOTInductor package; exact: Evaluator; report: how the program was made
    """

    def __init__(self, program: Any, exact: Evaluator, report: Mapping[str, Any]) -> None:
        self.program, self.exact, self.report = program, exact, report
        self.shortest = float(report["r_min_A"]) ** 2
        self.shared = bool(report.get("shared_radial", False))
        self.description = describe(report)

    def __call__(
        self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor, node_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        if species.shape[0] < 2 or senders.shape[0] < 2:
            return self.exact(species, senders, receivers, edge_vector, node_weight)
        inputs = [species, senders, receivers, edge_vector.detach(), node_weight]
        if [x.dtype for x in inputs] != INPUT_DTYPES or edge_vector.shape != (
            senders.shape[0],
            3,
        ):  # the program itself does not check
            raise GraphError(
                "EQ2130",
                "inputs: expected int64 indices, float64 edge_vector [n_edges, 3] and node_weight; convert the arrays",
            )
        if senders.shape != receivers.shape or node_weight.shape != species.shape:
            raise GraphError(
                "EQ2910",
                "inputs: expected one sender and receiver per edge, one weight per atom; make the arrays equally long",
            )
        if self._too_short(edge_vector):
            return self.exact(species, senders, receivers, edge_vector, node_weight)
        with (
            full_precision(edge_vector.device),
            torch._C._AutoDispatchBelowAutograd(),
        ):  # the result cannot be differentiated: skip autograd's bookkeeping
            if self.shared:
                inputs += reverse_pairs(senders, receivers, inputs[3])
            node_energy, edge_gradient = self.program.run([tensor.contiguous() for tensor in inputs])
        return node_energy, edge_gradient

    def _too_short(self, edge_vector: Tensor) -> bool:
        vector = edge_vector.detach().numpy()
        return self.shortest > 0.0 and bool(np.einsum("ij,ij->i", vector, vector).min() < self.shortest)


def folder(digest: str, dtype: torch.dtype, exact: bool) -> Path | None:
    """Where the compiled program of a file belongs on this machine; None without a private cache."""
    options = [digest, str(dtype), f"exact={exact}", torch.__version__, build.processor(), code_digest()]
    cache_folder = private_cache("compiled")
    return None if cache_folder is None else cache_folder / hashlib.sha256("\n".join(options).encode()).hexdigest()[:32]


def describe(report: Mapping[str, Any]) -> str:
    """One line about a compiled program."""
    radial = f"radial splines of {report['n_knots']} knots" if report["n_knots"] else "exact radial functions"
    return f"compiled for {report['instructions']}, {radial}"


def find(contents: Contents) -> str:
    """The compiled programs of a file that are ready on this machine, in the dtype of its runs; "" if none."""
    found = []
    for exact in (False, True):
        place = folder(contents.digest, getattr(torch, run_dtype(contents.header)), exact)
        if place is not None and (place / REPORT).is_file():
            try:
                found.append(describe(json.loads((place / REPORT).read_text())))
            except (OSError, ValueError, KeyError):
                found.append("compiled, but damaged: compile again")
    return "; ".join(found)


def load(contents: Contents, dtype: torch.dtype, exact: bool, fallback: Evaluator) -> CompiledEvaluator | None:
    """Compiled evaluator of a file, checked against all its test vectors; None if there is none on this machine.

    Args:    exact: without radial splines; fallback: evaluator of the file's own program
    Raises:  PotentialError if what is there is damaged or misses a test vector
    """
    place = folder(contents.digest, dtype, exact)
    if place is None or not (place / REPORT).is_file():
        return None
    evaluator = open_folder(place, fallback)
    if evaluator is not None:
        verify(evaluator, contents, dtype)
    return evaluator


def accelerated(potential: Potential, exact: bool = False, contents: Contents | None = None) -> Potential | None:
    """The same potential on its compiled program; None if this machine has none, or the potential cannot use it.

    A program that is damaged or misses a test vector is not used; the log "eqff.accelerate" then has a warning.

    Args: exact: use only the program without radial splines; contents: of the potential's file, read if not given
    """
    if potential.path is None or potential.device.type != "cpu" or isinstance(potential.evaluator, CompiledEvaluator):
        return None
    if contents is None:
        contents = read(potential.path)
        if contents.header != potential.header:  # another file has taken its name
            return None
    for networks_kept in (True,) if exact else (False, True):
        try:
            evaluator = load(contents, potential.dtype, networks_kept, potential.evaluator)
        except PotentialError as error:
            logger.warning("going on without a compiled program: %s", error)
            continue
        if evaluator is not None:
            return dataclasses.replace(potential, evaluator=evaluator, program=evaluator.description)
    return None


def open_folder(place: Path, fallback: Evaluator) -> CompiledEvaluator | None:
    """Evaluator of a compiled program, not verified; None if a kernel it needs is no longer in the cache."""
    try:
        report = json.loads((place / REPORT).read_text())
        intact = hashlib.sha256((place / PROGRAM).read_bytes()).hexdigest() == report["sha256"]
        kernels = {name: build.find_kernel(file) for name, file in report["kernels"].items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise PotentialError("EQ4170", f"{place}: damaged ({error}); compile again") from error
    if not all(is_private_file(place / name) for name in (REPORT, PROGRAM)):
        raise PotentialError("EQ4501", f"{place}: others could have written it; delete this folder and compile again")
    if not intact:
        raise PotentialError("EQ4910", f"{place}: {PROGRAM} has changed; compile again")
    try:
        if not fused.load_files(kernels):
            return None
        # what torch._inductor.aoti_load_package does, without importing the compiler, which takes seconds
        program = torch._C._aoti.AOTIModelPackageLoader(str(place / PROGRAM), "model", False, 1, -1)
    except (OSError, RuntimeError) as error:  # another C library, a full or noexec folder of temporary files
        reason = last_line(error)
        raise PotentialError("EQ4173", f"{place}: cannot be loaded here ({reason}); compile again") from error
    _remove_unpacked()
    return CompiledEvaluator(program, fallback, report)


def _remove_unpacked() -> None:
    """Remove the folders where torch unpacks programs, which it does only when a process ends by itself.

    The program is in memory by then.  On Linux, where the system says what this process has mapped.
    """
    with contextlib.suppress(OSError):
        mapped = Path("/proc/self/maps").read_text(errors="replace")
        for folder in set(re.findall(r"(/\S.*/aotinductor_\w+)/", mapped)):
            shutil.rmtree(folder, ignore_errors=True)


def verify(evaluator: Evaluator, contents: Contents, dtype: torch.dtype) -> tuple[float, float]:
    """Check all test vectors of a file.

    Returns: largest errors of node energies, eV, and forces, eV/Å
    Raises:  PotentialError for a miss
    """
    splines = isinstance(evaluator, CompiledEvaluator) and evaluator.shortest > 0.0
    tolerance = torch.float32 if splines else dtype  # splines are good to 1e-5 of the force RMS in any dtype
    errors = [
        vectors.check(evaluator, vector, tolerance, contents.header, f"{contents.path}, compiled")
        for vector in vectors.unpack(contents)
    ]
    return max(energy for energy, _ in errors), max(force for _, force in errors)
