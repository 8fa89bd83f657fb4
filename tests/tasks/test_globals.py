"""No task changes what belongs to the whole process: neither when it succeeds nor when it fails.

A task without a case here fails the first test.  Cases are run twice, so that what is made on first use is there.
"""

import json
import os
import random
import shutil
import signal
import warnings
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from torch import nn
from toys import SAMPLE, potential_of

from eqff import exporter as export
from eqff import registry
from eqff.artifact import program
from eqff.data.frame import Frame
from eqff.engines.ase import EqffCalculator
from eqff.errors import EqffError

NO_TASKS = {
    "crystal",
    "get",
    "metrics",
    "results_folder",
    "resumable",
    "thermochemistry",
}  # what tasks share; get is import_model
TESTS = Path(__file__).parents[1]
GOLDEN = TESTS.parents[1] / "shared" / "golden" / "nequip_mol_l1.npz"
RECIPE = f"""
[data]
train = "{SAMPLE}"
energy_unit = "kcal/mol"
n_train = 16
n_validation = 4
[model]
family = "nequip"
l_max = 1
n_layers = 1
n_channels = 4
[training]
epochs = 1
threads = 1
"""


class Morse(nn.Module):
    """Every pair of atoms, 4 eV deep, 1 Å long, zero with its derivatives at 5 Å."""

    def forward(
        self, species: torch.Tensor, senders: torch.Tensor, receivers: torch.Tensor, edge_vector: torch.Tensor
    ) -> torch.Tensor:
        length = edge_vector.square().sum(1).sqrt()
        envelope = (1.0 - (length / 5.0).square()).clamp(min=0.0).pow(3)
        pair = 2.0 * ((1.0 - torch.exp(-2.0 * (length - 1.0))).square() - 1.0) * envelope
        energy = torch.zeros(species.shape[0], dtype=pair.dtype, device=pair.device)
        return energy.index_add(0, receivers, pair)


def potential():
    return potential_of(Morse(), species=("H", "O"), r_max=5.0)


def water(symbols="OH2"):
    return Atoms(symbols, positions=[[0, 0, 0], [0.97, 0, 0], [-0.3, 0.95, 0]])


def md(folder, symbols="OH2"):
    from eqff.tasks.md import Limits, MDConfig, run_md, run_replicas

    for ensemble, thermostat in (("nve", "langevin"), ("nvt", "langevin"), ("nvt", "nose-hoover")):
        config = MDConfig(ensemble=ensemble, thermostat=thermostat, steps=3, trajectory=folder / "a.h5", force=True)
        run_md(config, water(symbols), EqffCalculator(potential()))
    run_replicas(MDConfig(steps=2, trajectory=folder / "b.traj", force=True), water(), EqffCalculator(potential()), 2)
    strict = MDConfig(trajectory=folder / "c.xyz", guard=Limits(max_force=1e-9))
    with pytest.raises(EqffError, match="step 0"):
        run_md(strict, water(), EqffCalculator(potential()))


def relax(folder, symbols="OH2"):
    from eqff.tasks.relax import RelaxConfig, run_relax

    config = RelaxConfig(fmax=0.05, output=folder / "relaxed.xyz", force=True)
    run_relax(config, [water(symbols)], EqffCalculator(potential()))


def predict(folder, symbols="OH2"):
    from eqff.tasks.predict import PredictConfig, run_predict

    ase.io.write(folder / "in.xyz", [water(), water(symbols)])
    config = PredictConfig(source=folder / "in.xyz", output=folder / "out.xyz", force=True)
    run_predict(config, potential())


def evaluate(folder, symbols="OH2"):
    from eqff.tasks.evaluate import evaluate as run_evaluate

    atoms = water(symbols)
    nothing = np.zeros_like(atoms.positions)
    frame = Frame(atomic_numbers=atoms.numbers, positions=atoms.positions, energy=0.0, forces=nothing)
    run_evaluate(potential(), [frame, frame])


def vibrations(folder, symbols="OH2"):
    from eqff.tasks.vibrations import VibrationsConfig, run_vibrations

    config = VibrationsConfig(output=folder / "vib", force=True, fmax=1e-3)
    run_vibrations(config, water(symbols), EqffCalculator(potential()))


def crystal(symbols="OH2"):
    """A crystal and a calculator that knows it; by default copper."""
    if symbols == "OH2":
        return bulk("Cu"), EMT()
    return bulk("Ar", "fcc", a=5.0), EqffCalculator(potential())


def eos(folder, symbols="OH2"):
    from eqff.tasks.eos import EosConfig, run_eos

    run_eos(EosConfig(output=folder / "eos", force=True), *crystal(symbols))


def binding(folder, symbols="OH2"):
    from eqff.tasks.binding import elemental_energies

    atoms, calculator = crystal(symbols)
    elemental_energies([atoms], calculator)


def elastic(folder, symbols="OH2"):
    from eqff.tasks.elastic import ElasticConfig, run_elastic

    run_elastic(ElasticConfig(output=folder / "elastic", force=True), *crystal(symbols))


def phonons(folder, symbols="OH2"):
    from eqff.tasks.phonons import PhononsConfig, run_phonons

    config = PhononsConfig(output=folder / "phonons", force=True, supercell=(2, 2, 2), mesh=10.0)
    run_phonons(config, *crystal(symbols))


def neb(folder, symbols="OH2"):
    from eqff.tasks.neb import NebConfig, run_neb

    first, last = water(symbols), water(symbols)
    last.positions[2] = [-0.3, -0.95, 0.1]
    config = NebConfig(images=3, steps=2, relax=False, output=folder / "neb", force=True)
    run_neb(config, first, last, EqffCalculator(potential()))


def wrap(folder, symbols="OH2"):
    from eqff.tasks.wrap import WrapConfig
    from eqff.tasks.wrap import wrap as run_wrap

    torch.jit.script(Morse()).save(folder / "model.pt")
    species = ("H", "O") if symbols == "OH2" else ("H", "Qq")
    options = {"model": folder / "model.pt", "output": folder / "w.eqff.pt", "species": species, "r_max": 5.0}
    run_wrap(WrapConfig(**options, trust=True, force=True))


def sample(folder, symbols="OH2"):
    from eqff.engines.ase.calculators import Maker
    from eqff.tasks.sample import SampleConfig, run_sample

    maker = Maker("morse", "Morse", lambda: EqffCalculator(potential()))
    config = SampleConfig(
        output=folder / "s.h5", temperature=3000.0, n_frames=2, n_seeds=1, interval=2, equilibration=2, force=True
    )
    run_sample(config, water(symbols), maker)


def import_model(folder, symbols="OH2"):
    from eqff.tasks.import_model import ImportConfig
    from eqff.tasks.import_model import import_model as run_import

    if not GOLDEN.is_file():
        pytest.skip(f"needs {GOLDEN}")
    species = () if symbols == "OH2" else ("H", "Qq")
    run_import(ImportConfig(code="nequip", source=GOLDEN, output=folder / "i.eqff.pt", species=species, force=True))


def trained(folder):
    """A run folder that ends in .../small/run, its potential and its errors beside it, made once."""
    from eqff.digest import file_sha256
    from eqff.training.run import train

    place = folder / "small"
    if not place.exists():
        place.mkdir()
        (place / "recipe.toml").write_text(RECIPE)
        train(place / "recipe.toml", place / "run")
        shutil.copyfile(place / "run" / "best.eqff.pt", place / "small.eqff.pt")
        test = {"data": SAMPLE.name, "data_sha256": file_sha256(SAMPLE), "forces_mae_meV_A": 1.0, "energy_mae_meV": 1.0}
        (place / "metrics.json").write_text(json.dumps({"test": test}))
    return place


def training_report(folder, symbols="OH2"):
    from eqff.tasks.training_report import training_report as write_report

    write_report(trained(folder) / ("run" if symbols == "OH2" else "nothing"))


def reproduce(folder, symbols="OH2"):
    from eqff.tasks.reproduce import reproduce as run_reproduce

    place = trained(folder)
    shutil.rmtree(place / "again", ignore_errors=True)
    data = SAMPLE.parent if symbols == "OH2" else folder
    run_reproduce(str(place / "small.eqff.pt"), data, place / "again")


ALL = (
    *(md, relax, predict, evaluate, vibrations, binding, eos, elastic, phonons, neb, wrap, sample),
    *(import_model, training_report, reproduce),
)
CASES = {case.__name__: case for case in ALL}
# e3nn, spglib and Lightning change the process when imported
IMPORTS = ("import_model", "elastic", "phonons", "training_report", "reproduce")


def global_state():
    profiling = torch._C._jit_set_profiling_mode(True)  # the only way to read it
    torch._C._jit_set_profiling_mode(profiling)
    kind, keys, *place = np.random.get_state()
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "matmul precision": torch.get_float32_matmul_precision(),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "torchscript executor": (profiling, torch._C._get_graph_executor_optimize()),
        "torch random numbers": torch.random.get_rng_state().numpy().tobytes(),
        "numpy random numbers": (kind, keys.tobytes(), *place),
        "python random numbers": random.getstate(),
        "numpy errors": np.geterr(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """The proof of a written potential in this process, and its cache in the folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "FOREIGN", ())
    monkeypatch.setattr(export, "prove_in_fresh_process", program.prove)


def test_every_task_has_a_case():
    assert set(registry.names("tasks")) == set(CASES) | NO_TASKS


def test_the_state_shows_a_change():
    before = global_state()
    torch.rand(1)
    np.random.rand()
    random.random()
    changed = {name for name, value in global_state().items() if value != before[name]}
    assert changed == {"torch random numbers", "numpy random numbers", "python random numbers"}


@pytest.mark.parametrize("name", CASES)
def test_a_task_leaves_the_process_as_it_was(tmp_path, name):
    if name in IMPORTS:
        CASES[name](tmp_path)
    before = global_state()
    for _ in range(2):
        CASES[name](tmp_path)
    after = global_state()
    assert {key: after[key] for key in after if after[key] != before[key]} == {}


@pytest.mark.parametrize("name", CASES)
def test_so_does_a_task_that_fails(tmp_path, name):
    if name in IMPORTS:
        CASES[name](tmp_path)
    before = global_state()
    with pytest.raises(EqffError):
        CASES[name](tmp_path, symbols="OHC")  # an element that nobody knows
    after = global_state()
    assert {key: after[key] for key in after if after[key] != before[key]} == {}
