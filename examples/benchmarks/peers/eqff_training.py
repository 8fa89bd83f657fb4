"""One training step of eqff behind a pipe, as any peer."""

import time
from typing import Any

import numpy as np
import torch
from worker import peak_memory, serve

import eqff
from eqff.elements import species_index
from eqff.graph import batch_structures
from eqff.neighbors import build_structure
from eqff.rebuild import rebuild
from eqff.training.config import LossConfig
from eqff.training.fit.losses import complete, loss_weights
from eqff.training.fit.step import CompiledStep, EagerStep

state: dict[str, Any] = {}


def load(request: dict[str, Any]) -> dict[str, Any]:
    """The model of the potential file at `path`; one batch, kept.

    `mode`: "kernels" exchanges convolutions for compiled kernels, "compile" compiles the step; both, or "eager"
    """
    model = rebuild(request["path"]).train().requires_grad_(True)
    compiled = "compile" in request["mode"]
    if "kernels" in request["mode"]:
        from eqff.nn.fast.fused import fuse, share_radial

        model = share_radial(fuse(model))  # as in `eqff train`
    config = eqff.artifact.inspect(request["path"])
    species = species_index(np.array(request["numbers"]), config["species"])
    frames = np.array(request["frames"])
    r_edges = config["r_max"]
    if compiled:  # complete graphs have one shape
        r_edges = max(r_edges, np.linalg.norm(frames[:, :, None] - frames[:, None], axis=3).max() + 0.1)
    cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    state["batch"] = batch_structures([build_structure(frame, species, cell, pbc, r_edges) for frame in frames])
    energies = torch.tensor(request["energies"], dtype=torch.float64)
    state["labels"] = complete(energies, torch.tensor(np.concatenate(request["forces"]), dtype=torch.float64))
    loss_config = LossConfig()
    state["weights"] = loss_weights(loss_config, 0.0)
    state["model"] = model
    state["step"] = (CompiledStep if compiled else EagerStep)(model, loss_config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state["optimizer"] = torch.optim.Adam(parameters, lr=request["learning_rate"], amsgrad=True)
    n_parameters = sum(parameter.numel() for parameter in parameters)
    versions = {"eqff": eqff.__version__, "torch": torch.__version__}
    return {"n_parameters": n_parameters, "n_edges": len(state["batch"].senders), "versions": versions}


def loss() -> torch.Tensor:
    """Mean square of force components + mean square of energies per atom, eV and eV/Å."""
    return state["step"](state["batch"], state["labels"], state["weights"])


def gradient(request: dict[str, Any]) -> dict[str, Any]:
    """Loss of the batch, and its gradient by name as npz in `path`."""
    state["optimizer"].zero_grad()
    value = loss()
    value.backward()
    parameters = state["model"].named_parameters()
    np.savez(request["path"], **{name: p.grad.numpy() for name, p in parameters if p.grad is not None})
    return {"loss": float(value)}


def step(request: dict[str, Any]) -> dict[str, Any]:
    """Times of n_steps training steps, ms."""
    wall, cpu = [], []
    for _ in range(request["n_steps"]):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        state["optimizer"].zero_grad()
        loss().backward()
        state["optimizer"].step()
        cpu.append(1e3 * (time.process_time() - cpu_start))
        wall.append(1e3 * (time.perf_counter() - wall_start))
    return {"wall_ms": wall, "cpu_ms": cpu}


serve({"load": load, "gradient": gradient, "step": step, "memory": lambda request: {"peak_MB": peak_memory()}})
