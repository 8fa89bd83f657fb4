"""Importing eqff is free, inference needs torch and no training stack, and nothing global is ever changed."""

import importlib.metadata
import importlib.util
import json
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from toys import tiny_file

import eqff
from eqff.engines.ase import EqffCalculator
from eqff.errors import EqffError, GraphError

FOREIGN = ("e3nn", "torch_geometric", "h5py", "lightning", "pytorch_lightning", "matplotlib")
UPSTAIRS = (
    "models",
    "nn",
    "o3",
    "data",
    "training",
    "importers",
    "exporter",
    "compiler",
    "rebuild",
    "validation",
    "tasks",
    "cli",
    "report",
)


def modules_after(program, cwd):
    """Names in sys.modules after running `program` in a fresh interpreter, which must print nothing."""
    code = f"import sys\nsys.path[:0] = {sys.path!r}\n{program}\nimport json\nprint(json.dumps(sorted(sys.modules)))"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(cwd), "XDG_CACHE_HOME": str(cwd)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    return set(json.loads(run.stdout))


def unwanted(modules):
    packages = {name.split(".")[0] for name in modules}
    inside = {name.split(".")[1] for name in modules if name.startswith("eqff.")}
    return sorted((packages & set(FOREIGN)) | (inside & set(UPSTAIRS)))


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    yield from tiny_file(tmp_path_factory, n_layers=2)


def test_importing_eqff_loads_nothing_heavy(tmp_path):
    modules = modules_after("import eqff; assert eqff.__version__; assert 'load' in dir(eqff)", tmp_path)
    heavy = {"torch", "numpy", "ase", "vesin", "typer", "rich", "pydantic"} & {name.split(".")[0] for name in modules}
    assert not heavy
    assert [name for name in modules if name.startswith("eqff")] == ["eqff"]


def test_a_checkout_that_is_not_installed_knows_its_version(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    installed = importlib.metadata.version("eqff")
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert eqff._version() == installed


def test_errors_come_without_torch(tmp_path):
    modules = modules_after("import eqff; raise_later = eqff.GraphError('EQ2103', 'message')", tmp_path)
    assert "torch" not in modules


def test_the_check_sees_what_it_looks_for(tmp_path):
    modules = modules_after("import eqff.data, matplotlib", tmp_path)
    assert unwanted(modules) == ["data", "matplotlib"]


def test_inference_modules_are_light(tmp_path):
    names = ["graph", "neighbors", "potential", "artifact", "kernels", "engines.ase", "uncertainty"]
    program = "\n".join(f"import eqff.{name}" for name in names if importlib.util.find_spec(f"eqff.{name}"))
    assert unwanted(modules_after(program, tmp_path)) == []


def test_evaluating_a_potential_is_light(potential_file, tmp_path):
    program = f"""
from ase.build import bulk
import eqff
potential = eqff.load({str(potential_file)!r})
atoms = bulk("C", "diamond", a=3.6)
atoms.calc = eqff.EqffCalculator(potential)
atoms.get_stress()
eqff.artifact.inspect({str(potential_file)!r})
"""
    assert unwanted(modules_after(program, tmp_path)) == []


def global_state():
    profiling = torch._C._jit_set_profiling_mode(True)  # the only way to read it
    torch._C._jit_set_profiling_mode(profiling)
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "torchscript executor": (profiling, torch._C._get_graph_executor_optimize()),
        "torch seed": torch.random.get_rng_state().numpy().tobytes(),
        "numpy seed": np.random.get_state()[1].tobytes(),
        "python seed": random.getstate(),
        "numpy errors": np.geterr(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
    }


def test_type_checkers_see_the_package():
    assert (Path(eqff.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_calculation_changes_no_global_state(potential_file, dtype):
    before = global_state()
    atoms = molecule("CH3CH2OH")
    atoms.calc = EqffCalculator(potential_file, dtype=dtype)
    for _ in range(3):
        atoms.rattle(0.01, rng=np.random.RandomState(0))
        atoms.get_forces()
    assert global_state() == before
    atoms.positions[0] = np.nan
    with pytest.raises(GraphError):
        atoms.get_forces()
    with pytest.raises(EqffError):
        eqff.load(potential_file, dtype="float16")
    assert global_state() == before


def test_public_names():
    assert sorted(dir(eqff)) == sorted(eqff.__all__)
    fetched: dict[str, object] = {}
    exec("from eqff import *", fetched)  # noqa: S102
    assert set(eqff.__all__) <= set(fetched)
    for name in eqff.__all__:
        assert getattr(eqff, name) is not None
        if callable(fetched[name]) and not isinstance(fetched[name], type):
            text = fetched[name].__doc__ or ""
            assert all(part in text for part in ("Args:", "Returns:", "Raises:")), name
    assert eqff.EqffCalculator is EqffCalculator
    assert eqff.GraphError is GraphError
    with pytest.raises(AttributeError, match="'eqff' has no attribute 'lode'"):
        eqff.lode
