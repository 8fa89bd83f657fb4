"""Export: what cannot be stored is refused, what is written has proved itself, and the file obeys physics."""

import copy
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from eqff import artifact
from eqff.artifact import archive, program, vectors
from eqff.config import to_mapping
from eqff.errors import PotentialError
from eqff.exporter import check_operators, example_structures, export, measure_n_hops
from eqff.graph import edge_vectors
from eqff.models import nequip
from eqff.neighbors import build_structure
from eqff.potential import voigt_stress

CONFIG = {"species": ["H", "C"], "r_max": 3.0, "reference_energies": [-13.6, -1030.0]}


class Hops(nn.Module):
    """Pair sums passed on n_hops times: just enough to be a model."""

    def __init__(self, n_hops: int = 1, declared: int | None = None) -> None:
        super().__init__()
        self.n_hops = n_hops if declared is None else declared
        self.n_layers = n_hops
        self.weight = nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.square().sum(1).sqrt()
        u = (1.0 - r / 3.0).clamp(min=0.0).pow(3).to(self.weight.dtype)
        h = self.weight.index_select(0, species)
        for _ in range(self.n_layers):
            h = h + 0.1 * torch.zeros_like(h).index_add(0, receivers, u * h.index_select(0, senders))
        return h.to(torch.float64)


class Stateful(Hops):
    """Returns something else from the third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.int64))

    def forward(self, species, senders, receivers, edge_vector):
        self.n_calls.add_(1)
        h = self.weight.index_select(0, species) * (edge_vector.sum() * 0.0 + 1.0).to(self.weight.dtype)
        u = (edge_vector.square().sum(1) / 9.0).to(self.weight.dtype)
        h = h.index_add(0, receivers, u)
        return h.to(torch.float64) * (1.0 + 1e-3 * (self.n_calls > 6).to(torch.float64))


class OtherWhenScripted(Hops):
    """A branch for scripting that is not the same formula."""

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.square().sum(1).sqrt()
        if torch.jit.is_scripting():
            r = r * (1.0 + 1e-7)
        u = (1.0 - r / 3.0).clamp(min=0.0).pow(3).to(self.weight.dtype)
        return self.weight.index_select(0, species).index_add(0, receivers, u).to(torch.float64)


class Transient(Hops):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coupling", torch.ones(1), persistent=False)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def nequip_file(tmp_path_factory):
    """A NequIP with float64 weights."""
    config = nequip.Config(species=("H", "O"), r_max=3.5, l_max=2, n_layers=2, n_channels=4, energy_scale=5.0)
    path = tmp_path_factory.mktemp("export") / "exact.eqff.pt"
    export(nequip.Model(config).to(torch.float64), "nequip", to_mapping(config), path)
    return path


def test_export_describes_the_model_and_does_not_change_it(tmp_path):
    model = Hops(2).train()
    before = copy.deepcopy(model.state_dict())
    metadata = {"licence": "CC-BY-4.0", "metrics": {"forces_mae_meV_per_A": 4.2}}
    positions = np.array([[0.0, 0.0, 0.0], [1.1, 0.2, 0.0], [1.9, 1.4, 0.3]])
    own = build_structure(positions, np.array([0, 1, 0]), np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.0)
    path = tmp_path / "toy.eqff.pt"
    header = export(model, "toy", CONFIG, path, metadata=metadata, card="# Toy", structures=[own])
    assert header == artifact.inspect(path)
    expected = {"family": "toy", "n_hops": 2, "dtype": "float32", "n_parameters": 2, "name": "toy", "format": 1}
    assert {key: header[key] for key in expected} == expected
    assert (header["species"], header["r_max"], header["reference_energies"]) == (["H", "C"], 3.0, [-13.6, -1030.0])
    assert (header["licence"], header["metrics"], header["citation"]) == (*metadata.values(), "not stated")
    assert header["versions"]["torch"] == torch.__version__
    assert {"aten::index_add", "aten::index_select", "prim::Loop"} <= set(header["operators"])
    assert model.training
    assert model.weight.requires_grad
    assert model.weight.dtype == torch.float32
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [entry.name for entry in tmp_path.glob("*.eqff.pt*")] == ["toy.eqff.pt"]
    stored = vectors.unpack(archive.read(path))
    assert len(stored) == 4
    assert torch.equal(stored[3].structure.positions, own.positions)
    with pytest.raises(PotentialError, match="EQ4116"):
        export(model, "toy", CONFIG, path)


def test_file_does_not_tell_where_it_was_made(nequip_file):
    with zipfile.ZipFile(nequip_file) as zipped:
        everything = b"".join(zipped.read(name) for name in zipped.namelist())
        assert not [name for name in zipped.namelist() if "debug" in name]
        assert {info.date_time[0] for info in zipped.infolist()} == {1980}
    folder = nequip.__file__.rsplit("/eqff/", 1)[0].encode()
    assert folder not in everything
    assert torch.__file__.rsplit("/", 2)[0].encode() not in everything


@pytest.mark.parametrize("model", [Stateful(), OtherWhenScripted()])
def test_program_that_differs_from_the_model_is_not_written(tmp_path, model):
    with pytest.raises(PotentialError, match=r"EQ4144.*EQ4131"):
        export(model, "toy", CONFIG, tmp_path / "toy.eqff.pt")
    assert not list(tmp_path.glob("*eqff*"))


def test_proof_notices_a_loader_that_needs_more_than_torch(nequip_file):
    with pytest.raises(PotentialError, match=r"EQ4133.*eqff\.models"):
        program.prove(nequip_file)  # here, eqff.models is imported


def broken(value):
    model = Hops()
    with torch.no_grad():
        model.weight[0] = value
    return model


def mixed():
    model = Hops()
    model.extra = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    return model


@pytest.mark.parametrize(
    ("model", "id"),
    [
        (broken(float("nan")), "EQ4146"),
        (broken(float("inf")), "EQ4146"),
        (Transient(), "EQ4145"),
        (mixed(), "EQ4147"),
        (Hops().to(torch.float16), "EQ4147"),
        (Hops(2, declared=1), "EQ4148"),
        (Hops(1, declared=2), "EQ4148"),
        (Hops(3, declared=0), "EQ4148"),
    ],
)
def test_models_that_cannot_be_stored_are_refused(tmp_path, model, id):
    with pytest.raises(PotentialError, match=id):
        export(model, "toy", CONFIG, tmp_path / "toy.eqff.pt")
    assert not list(tmp_path.glob("*eqff*"))


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        ({"path": "toy.pt"}, "EQ4140"),
        ({"path": ".eqff.pt"}, "EQ4140"),
        ({"metadata": {"license": "MIT"}}, "EQ4141"),
        ({"metadata": {"metrics": {"forces": float("nan")}}}, "EQ4103"),
        ({"config": {"species": ["H", "C"]}}, "EQ4149"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, arguments, id):
    arguments = {"config": CONFIG, "path": "toy.eqff.pt", "metadata": {}, **arguments}
    with pytest.raises(PotentialError, match=id):
        export(Hops(), "toy", arguments["config"], tmp_path / arguments["path"], metadata=arguments["metadata"])


def test_foreign_operations_are_refused():
    class Quantized(nn.Module):
        def forward(self, x):
            return torch.ops.quantized.relu6(x)

    class FileReader(nn.Module):
        def forward(self, x):
            return x

        @torch.jit.export
        def never_called(self, name: str):
            return torch.from_file(name, False, 1)

    for module, name in ((Quantized(), "quantized::relu6"), (FileReader(), "aten::from_file")):
        with pytest.raises(PotentialError, match=f"EQ4142.*{name}"):
            check_operators(torch.jit.script(module))


@pytest.mark.parametrize("n_hops", [1, 2, 4])
def test_receptive_field_is_measured(n_hops):
    assert measure_n_hops(Hops(n_hops).to(torch.float64), n_hops + 2, 3.0, 2) == n_hops


@pytest.mark.parametrize(("n_layers", "parity"), [(1, "natural"), (2, "both"), (3, "natural")])
def test_receptive_field_of_nequip_is_its_number_of_layers(n_layers, parity):
    config = nequip.Config(species=("H", "O"), l_max=1, n_layers=n_layers, n_channels=4, parity=parity)
    model = nequip.Model(config).to(torch.float64)
    assert measure_n_hops(model, n_layers + 2, config.r_max, 2) == n_layers


def test_example_structures_are_the_three_shapes():
    atom, molecule, crystal = example_structures(3, 5.0)
    assert (atom.positions.shape[0], atom.senders.shape[0]) == (1, 0)
    assert set(molecule.species.tolist()) == {0, 1, 2}
    assert not molecule.pbc.any()
    assert float(edge_vectors(molecule).norm(dim=1).min()) > 0.5
    assert bool(crystal.pbc.all())
    assert bool((crystal.senders == crystal.receivers).any())


def energy(potential, positions, cell, periodic):
    structure = build_structure(positions, np.arange(len(positions)) % 2, cell, np.full(3, periodic), potential.r_max)
    return potential(structure)


@pytest.mark.parametrize("periodic", [False, True])
def test_exported_forces_and_stress_are_finite_differences_of_the_energy(nequip_file, periodic):
    potential = artifact.load(nequip_file)
    assert potential.dtype == torch.float64
    generator = np.random.default_rng(5)
    cell = np.array([[3.1, 0.0, 0.0], [0.4, 2.9, 0.0], [-0.3, 0.5, 3.3]]) if periodic else np.zeros((3, 3))
    positions = np.array([[0.1, 0.0, 0.2], [1.2, 0.4, -0.1], [0.3, 1.5, 0.9]]) + 0.05 * generator.normal(size=(3, 3))
    result = energy(potential, positions, cell, periodic)

    def fourth_order(energy_at, step):
        values = [energy_at(k * step) for k in (-2, -1, 1, 2)]
        return (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)

    def displaced(atom, axis, distance):
        moved = positions.copy()
        moved[atom, axis] += distance
        return float(energy(potential, moved, cell, periodic).energy)

    numeric = -np.array(
        [[fourth_order(lambda d, a=a, k=k: displaced(a, k, d), 2e-3) for k in range(3)] for a in range(3)]
    )
    scale = float(result.forces.abs().max())
    np.testing.assert_allclose(result.forces.numpy(), numeric, rtol=0, atol=1e-6 * scale)
    if periodic:

        def strained(i, j, amount):
            deformation = np.eye(3)
            deformation[i, j] += amount / 2
            deformation[j, i] += amount / 2
            return float(energy(potential, positions @ deformation, cell @ deformation, True).energy)

        volume = abs(np.linalg.det(cell))
        pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
        numeric = [fourth_order(lambda x, i=i, j=j: strained(i, j, x), 1e-3) / volume for i, j in pairs]
        stress = voigt_stress(result.strain_gradient[0], torch.tensor(cell)).numpy()
        np.testing.assert_allclose(stress, numeric, rtol=0, atol=1e-6 * np.abs(stress).max())
