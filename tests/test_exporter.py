"""Export: what cannot be stored is refused, what is written has proved itself, and the file obeys physics."""

import copy
import zipfile

import numpy as np
import pytest
import torch
from torch import nn
from toys import Hops

from eqff import artifact
from eqff.artifact import archive, program, vectors
from eqff.config import to_mapping
from eqff.errors import PotentialError
from eqff.exporter import export
from eqff.models import nequip
from eqff.neighbors import build_structure
from eqff.validation.examination import examine
from eqff.validation.subject import Program

CONFIG = {"species": ["H", "C"], "r_max": 3.0, "reference_energies": [-13.6, -1030.0]}


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


def test_file_passes_the_exam_of_programs(nequip_file):
    potential = artifact.load(nequip_file)
    assert potential.dtype == torch.float64
    subject = Program.of(potential.evaluator, potential.species, potential.r_max, stated_hops=potential.n_hops)
    assert [finding.note for finding in examine(subject) if not finding.passed] == []
