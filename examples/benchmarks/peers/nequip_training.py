"""One training step of nequip behind a pipe; runs in nequip's environment."""

import time
from pathlib import Path
from typing import Any

import nequip
import numpy as np
import torch
from ase import Atoms
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.model.saved_models.load_utils import load_saved_model
from nequip.utils.global_state import set_global_state
from worker import peak_memory, serve

state: dict[str, Any] = {}


def load(request: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint in `folder`, `mode` "eager" or "compile"; one batch, kept."""
    set_global_state()
    model = load_saved_model(str(Path(request["folder"]) / "model.ckpt"), compile_mode=request["mode"])
    model.train()
    mapper = ChemicalSpeciesToAtomTypeMapper(model_type_names=model.type_names)
    neighbors = NeighborListTransform(r_max=float(model.metadata["r_max"]))
    graphs = [neighbors(mapper(from_ase(Atoms(request["numbers"], frame)))) for frame in request["frames"]]
    state["batch"] = AtomicDataDict.batched_from_list(graphs)
    state["energy"] = torch.tensor(request["energies"], dtype=torch.float64).reshape(-1, 1)
    state["forces"] = torch.tensor(np.concatenate(request["forces"]), dtype=torch.float64)
    state["n_atoms"] = len(request["numbers"])
    state["model"] = model
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    state["optimizer"] = torch.optim.Adam(parameters, lr=request["learning_rate"], amsgrad=True)
    n_parameters = sum(parameter.numel() for parameter in parameters)
    n_edges = state["batch"]["edge_index"].shape[1]
    versions = {"nequip": nequip.__version__, "torch": torch.__version__}
    return {"n_parameters": n_parameters, "n_edges": n_edges, "versions": versions}


def loss() -> torch.Tensor:
    """Mean square of force components + mean square of energies per atom, eV and eV/Å."""
    out = state["model"](state["batch"])
    forces = (out["forces"] - state["forces"]).square().mean()
    return forces + ((out["total_energy"] - state["energy"]) / state["n_atoms"]).square().mean()


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
