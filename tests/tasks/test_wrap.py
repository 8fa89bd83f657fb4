"""Wrapping: what is written computes what the foreign program computes, in eV and Å; what is wrong is refused."""

import json
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor, nn

from eqff import EqffCalculator, artifact, exporter
from eqff.artifact import program
from eqff.errors import ConfigError, PotentialError
from eqff.rebuild import rebuild
from eqff.tasks.wrap import WrapConfig, wrap


class Pairs(nn.Module):
    """Species C, H, O; cut-off 4 in its own length unit."""

    def __init__(self, fault: str = "", dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.fault = fault
        self.charge = nn.Parameter(torch.tensor([0.8, 0.5, 1.1], dtype=dtype))

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        r = edge_vector.square().sum(1).sqrt()
        envelope = (1.0 - (r / 4.0).pow(2)).clamp(min=0.0).pow(3)
        if self.fault == "jump":
            envelope = torch.ones_like(r)
        if self.fault == "gradient":
            envelope = envelope.detach()
        if self.fault == "stops" and species.shape[0] == 2:
            raise RuntimeError("no more")
        if self.fault == "isolated" and senders.shape[0] == 0:
            raise RuntimeError("no edges")
        pair = self.charge[species[receivers]] * self.charge[species[senders]] * torch.exp(-r) * envelope
        energy = torch.zeros(species.shape[0], dtype=pair.dtype, device=pair.device)
        return energy.index_add(0, receivers, pair)


class Single(nn.Module):
    """Runs in float32 only."""

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        r2 = edge_vector.to(torch.float32).square().sum(1)
        energy = torch.zeros(species.shape[0], dtype=torch.float32)
        return energy.index_add(0, receivers, (1.0 - r2 / 16.0).clamp(min=0.0).pow(3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def quick(monkeypatch):
    """The proof in this process; one test below starts the fresh one."""
    monkeypatch.setattr(program, "FOREIGN", ())
    monkeypatch.setattr(exporter, "prove_in_fresh_process", program.prove)


def saved(folder, model, **notes):
    path = folder / "model.pt"
    torch.jit.save(torch.jit.script(model), path, _extra_files={k: v.encode() for k, v in notes.items()})
    return path


def wrapped(folder, model, notes=None, **options):
    path = saved(folder, model, **(notes or {}))
    options = {"species": ("C", "H", "O"), "r_max": 4.0, "trust": True, **options}
    return wrap(WrapConfig(model=path, output=folder / "mine.eqff.pt", **options))


def test_wrapped_file_is_the_program(tmp_path):
    report = wrapped(tmp_path, Pairs(), metadata={"licence": "MIT"})
    assert all(check.passed for check in report.checks)
    header = artifact.inspect(report.path)
    assert header == report.header
    expected = {"family": "wrapped", "format": 2, "species": ["C", "H", "O"], "r_max": 4.0, "n_hops": 1}
    expected |= {"dtype": "float64", "dtypes": ["float64", "float32"], "symmetry": "O(3)", "licence": "MIT"}
    assert {key: header[key] for key in expected} == expected
    assert [check["check"] for check in header["verdict"]] == [check.check for check in report.checks]
    assert header["source"]["file"] == "model.pt"
    assert "extra/weights.safetensors" not in header["members"]

    atoms = molecule("CH3CH2OH")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        atoms.calc = EqffCalculator(report.path)
        forces = atoms.get_forces()
    positions = torch.tensor(atoms.positions).requires_grad_(True)
    species = torch.tensor([["C", "H", "O"].index(symbol) for symbol in atoms.symbols])
    i, j = torch.nonzero(~torch.eye(len(atoms), dtype=torch.bool), as_tuple=True)
    energy = Pairs()(species, j, i, positions[j] - positions[i]).sum()
    energy.backward()
    assert atoms.get_potential_energy() == pytest.approx(float(energy.detach()), abs=1e-12)
    np.testing.assert_allclose(forces, -positions.grad.numpy(), rtol=0, atol=1e-12)
    with pytest.raises(PotentialError, match="EQ4329"):
        rebuild(report.path)


def test_units_are_converted_in_the_file(tmp_path, quick):
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder in (plain, other):
        folder.mkdir()
    first = wrapped(plain, Pairs())
    second = wrapped(other, Pairs(), r_max=40.0, energy_unit="meV", length_unit="nm")
    atoms = molecule("CH3CH2OH")
    atoms.calc = EqffCalculator(first.path)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.positions *= 10.0
    atoms.calc = EqffCalculator(second.path)
    assert atoms.get_potential_energy() == pytest.approx(1e-3 * energy, abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), 1e-4 * forces, rtol=0, atol=1e-12)


def test_without_trust_nothing_is_executed(tmp_path, monkeypatch):
    path = saved(tmp_path, Pairs())
    monkeypatch.setattr(torch.jit, "load", None)
    with pytest.raises(ConfigError, match=r"EQ1290.*sha256 [0-9a-f]{64}; nothing was executed.*--trust"):
        wrap(WrapConfig(model=path, output=tmp_path / "mine.eqff.pt", species=("C", "H", "O"), r_max=4.0))
    assert not list(tmp_path.glob("*eqff*"))


def test_wrong_gradient_is_refused_unless_accepted(tmp_path, quick):
    seen = []
    path = saved(tmp_path, Pairs("gradient"))
    config = {"model": path, "output": tmp_path / "mine.eqff.pt", "species": ("C", "H", "O"), "r_max": 4.0}
    with pytest.raises(PotentialError, match=r"EQ4333.*--accept gradient"):
        wrap(WrapConfig(**config, trust=True), seen.append)
    assert [check.check for check in seen[0] if not check.passed] == ["gradient"]
    assert not list(tmp_path.glob("*eqff*"))
    with pytest.warns(UserWarning, match="failed its checks of gradient"):
        report = wrap(WrapConfig(**config, trust=True, accept=("gradient", "batch")))
    assert report.header["accepted"] == ["gradient"]


def test_discontinuous_cutoff_is_written_and_warned_of(tmp_path, quick):
    with pytest.warns(UserWarning, match="failed its checks of cutoff"):
        report = wrapped(tmp_path, Pairs("jump"))
    verdict = {check["check"]: check for check in report.header["verdict"]}
    assert not verdict["cutoff"]["passed"]
    jump = verdict["cutoff"]["measured"]["energy eV"]
    assert 2 * 0.25 * np.exp(-4.0) * 0.9 < jump < 2 * 1.21 * np.exp(-4.0) * 1.1  # both atoms of a pair at 4 Å
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]], calculator=EqffCalculator(report.path))
    with pytest.warns(UserWarning, match=r"failed its checks of cutoff; see `eqff inspect`"):
        atoms.get_potential_energy()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        atoms.rattle(0.01)
        atoms.get_potential_energy()


def test_receptive_field_is_measured_against_what_is_stated(tmp_path, quick):
    with pytest.raises(PotentialError, match=r"EQ4333.*n_hops"):
        wrapped(tmp_path, Pairs(), n_hops=0)
    assert wrapped(tmp_path, Pairs(), n_hops=3).header["n_hops"] == 3


def test_program_that_stops_without_edges_can_be_accepted(tmp_path, quick):
    with pytest.raises(PotentialError, match=r"EQ4333.*isolated"):
        wrapped(tmp_path, Pairs("isolated"))
    with pytest.warns(UserWarning, match="isolated"):
        report = wrapped(tmp_path, Pairs("isolated"), accept=("isolated",))
    with pytest.warns(UserWarning, match="isolated"):
        artifact.load(report.path)


def test_program_that_stops_is_refused(tmp_path):
    with pytest.raises(PotentialError, match=r"EQ4332.*no more"):
        wrapped(tmp_path, Pairs("stops"))
    assert not list(tmp_path.glob("*eqff*"))


def test_program_of_one_dtype(tmp_path, quick):
    report = wrapped(tmp_path, Single())
    assert (report.header["dtype"], report.header["dtypes"]) == ("float32", ["float32"])
    potential = artifact.load(report.path)
    assert potential.dtype == torch.float32
    with pytest.raises(ConfigError, match="EQ1299"):
        artifact.load(report.path, dtype="float64")


@pytest.mark.parametrize(
    ("options", "id"),
    [
        ({"adapter": "mace"}, "EQ1291"),
        ({"accept": ("cutoff",)}, "EQ1292"),
        ({"n_hops": -1}, "EQ1293"),
        ({"r_max": -4.0}, "EQ1294"),
        ({"r_max": float("nan")}, "EQ1294"),
        ({"species": ("C", "H", "H")}, "EQ1295"),
        ({"species": ("C", "Qq")}, "EQ1003"),
        ({"species": ()}, "EQ1298"),
        ({"r_max": None}, "EQ1298"),
        ({"energy_unit": "cal"}, "EQ1001"),
        ({"notes": {"type_names": "H C O", "r_max": "4.0"}}, "EQ1296"),
        ({"notes": {"type_names": "C H O", "r_max": "4.5"}}, "EQ1297"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, id):
    with pytest.raises(ConfigError, match=id):
        wrapped(tmp_path, Pairs(), **options)


def test_output_is_never_overwritten_silently(tmp_path):
    (tmp_path / "mine.eqff.pt").write_text("precious")
    with pytest.raises(PotentialError, match="EQ4116"):
        wrapped(tmp_path, Pairs())
    assert (tmp_path / "mine.eqff.pt").read_text() == "precious"
    with pytest.raises(PotentialError, match="EQ4140"):
        wrap(WrapConfig(model=saved(tmp_path, Pairs()), output=tmp_path / "mine.pt"))


def test_file_that_states_species_and_cutoff_needs_no_options(tmp_path, quick):
    notes = {"type_names": "C H O", "r_max": "4.0"}
    header = wrapped(tmp_path, Pairs(), species=(), r_max=None, notes=notes).header
    assert (header["species"], header["r_max"]) == (["C", "H", "O"], 4.0)
    assert json.dumps(header)
