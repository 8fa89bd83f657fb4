"""eqff doctor: what this installation can do, for a first look and for bug reports."""

import json
import os
import platform
import re
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

import eqff
from eqff.errors import EqffError, printable

PACKAGES = ("torch", "e3nn", "ase", "torch-geometric", "numpy", "h5py", "vesin", "safetensors", "matplotlib")


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON for machines.")] = False,
) -> None:
    """Show versions, devices, fast paths and shipped potentials."""
    findings = {
        "eqff": {"version": eqff.__version__, "python": platform.python_version(), "platform": platform.platform()},
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": _extras(),
        "cpu": _cpu(),
        "devices": _devices(),
        "compiler": _compiler(),
        "fast paths": _fast_paths(),
        "potentials": _potentials(),
    }
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
    else:
        _show(findings)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _extras() -> dict[str, str]:
    """Extra -> "complete" or the packages it lacks."""
    try:
        requirements = metadata.requires("eqff") or []
    except metadata.PackageNotFoundError:
        return {}
    wanted: dict[str, list[str]] = {}
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", requirement)
        if name and extra:
            wanted.setdefault(extra[1], []).append(name[0])
    states = {}
    for group, names in wanted.items():
        missing = [name for name in names if _version(name) == "not installed"]
        states[group] = f"lacks {', '.join(missing)}; pip install 'eqff[{group}]'" if missing else "complete"
    return states


def _cpu() -> dict[str, Any]:
    import torch

    return {
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": platform.processor() or platform.machine()}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU (no float64)"
    return found


def _compiler() -> str:
    from eqff.kernels import build

    return (
        build.compiler() or "none found; needed to compile kernels and potentials for this machine, else ATen does all"
    )


def _fast_paths() -> dict[str, str]:
    """What computes the heavy parts here."""
    import torch

    from eqff.kernels import build

    def on(state: bool) -> str:
        return "on" if state else "off"

    compiled = build.compiler() is not None
    training = f"compiled kernels for {build.capability()}" if compiled else "ATen reference (no compiler)"
    return {
        "convolution, training": training,
        "convolution, potentials": "ATen, or what `eqff compile` makes; see potentials below",
        "MKL": on(torch.backends.mkl.is_available()),
        "oneDNN": on(torch.backends.mkldnn.is_available()),
        "OpenMP": on(torch.backends.openmp.is_available()),
        "cuBLAS": on(torch.cuda.is_available()),
    }


def _potentials() -> dict[str, str]:
    """Shipped potential -> its file, or why it cannot be used."""
    from eqff import artifact
    from eqff.artifact import compiled

    found = {}
    for name in artifact.available():
        try:
            path = artifact.find(name)
            header = artifact.inspect(path)
            ready = compiled.find(artifact.read(path))
            runs = f"; {ready}" if ready else "; TorchScript, `eqff compile` makes it faster"
            found[name] = f"{path} ({header['family']}: {' '.join(header['species'])}{runs})"
        except EqffError as error:
            found[name] = str(error)
    return found


def _show(findings: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_column(overflow="fold")
    for section, content in findings.items():
        rows = content.items() if isinstance(content, dict) else [("", content)]
        heading = section
        for key, value in rows or [("", "none")]:
            table.add_row(heading, *(Text(printable(str(cell))) for cell in (key, value)))
            heading = ""
    Console(file=sys.stdout, highlight=False).print(table)
