"""Rebuilding: header and weights give the model again, whatever is installed, without running the stored program."""

import io
import json
import zipfile

import pytest
import safetensors.torch
import torch

from eqff import artifact
from eqff.artifact import archive, vectors
from eqff.config import to_mapping
from eqff.errors import ConfigError, PotentialError
from eqff.exporter import export
from eqff.models import nequip
from eqff.nn import convolution
from eqff.potential import GradientEvaluator, energy_forces_stress
from eqff.rebuild import rebuild

CONFIG = nequip.Config(
    species=("H", "O"),
    r_max=3.5,
    l_max=2,
    n_layers=2,
    n_channels=4,
    reference_energies=(-13.7, -2041.9876543210123),
    seed=3,
)


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rebuild") / "small.eqff.pt"
    export(nequip.Model(CONFIG), "nequip", to_mapping(CONFIG), path)
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def other_file(source, path, extra=None, **changes):
    """The file with another header or members, all hashes right, and with a program that is no program."""
    contents = archive.read(source)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("archive/data.pkl", b"not a program")
    path.write_bytes(
        archive.pack(buffer.getvalue(), {**contents.header, **changes}, {**contents.extra, **(extra or {})})
    )
    return path


def test_rebuilt_model_is_the_exported_one(potential_file):
    original, rebuilt = nequip.Model(CONFIG), rebuild(potential_file)
    assert not rebuilt.training
    for parameter, trained in zip(rebuilt.parameters(), original.parameters(), strict=True):
        assert parameter.requires_grad == trained.requires_grad  # can be trained on
    expected = original.state_dict()
    assert list(rebuilt.state_dict()) == list(expected)
    for name, tensor in rebuilt.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    contents = archive.read(potential_file)
    potential = artifact.load(potential_file)
    for vector in vectors.unpack(contents):
        result = energy_forces_stress(GradientEvaluator(rebuilt), vector.structure)
        torch.testing.assert_close(result.energy, potential(vector.structure).energy, rtol=0, atol=1e-6)
        torch.testing.assert_close(result.forces, potential(vector.structure).forces, rtol=0, atol=1e-6)


def test_weights_in_double_precision_stay_so(potential_file, tmp_path):
    weights = nequip.Model(CONFIG).to(torch.float64).state_dict()
    extra = {"weights.safetensors": safetensors.torch.save(weights)}
    rebuilt = rebuild(other_file(potential_file, tmp_path / "x.eqff.pt", extra=extra, dtype="float64"))
    assert {parameter.dtype for parameter in rebuilt.parameters()} == {torch.float64}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in rebuilt.state_dict().items())


def test_stored_coupling_coefficients_win_over_installed_ones(potential_file, monkeypatch):
    installed = convolution.coupling_matrix
    monkeypatch.setattr(convolution, "coupling_matrix", lambda *arguments: installed(*arguments) * 1.01)
    other, stored = nequip.Model(CONFIG), nequip.Model(CONFIG).state_dict()
    name = next(name for name in stored if "coupling" in name)
    assert torch.equal(other.state_dict()[name], stored[name])
    rebuilt = rebuild(potential_file)  # passes the test vectors of the file
    monkeypatch.undo()
    truth = nequip.Model(CONFIG).state_dict()[name]
    assert not torch.equal(stored[name], truth)
    assert torch.equal(rebuilt.state_dict()[name], truth)


def test_stored_program_is_not_executed(potential_file, tmp_path):
    path = other_file(potential_file, tmp_path / "x.eqff.pt")
    assert rebuild(path).n_hops == 2
    with pytest.raises(PotentialError, match="EQ4132"):
        artifact.load(path)


def test_what_does_not_fit_is_refused(potential_file, tmp_path):
    path = tmp_path / "x.eqff.pt"
    config = to_mapping(CONFIG)
    with pytest.raises(PotentialError, match="EQ4106"):
        rebuild(other_file(potential_file, path, family="../nequip"))
    with pytest.raises(PotentialError, match="EQ4150"):
        rebuild(other_file(potential_file, path, family="not-installed"))
    with pytest.raises(PotentialError, match="EQ4151"):
        rebuild(other_file(potential_file, path, config={**config, "n_channels": 5}))
    with pytest.raises(ConfigError, match="n_chanels"):
        rebuild(other_file(potential_file, path, config={**config, "n_chanels": 5}))
    with pytest.raises(PotentialError, match="EQ4504"):
        rebuild(other_file(potential_file, path, config={**config, "r_max": 3.6}))
    with pytest.raises(PotentialError, match="EQ4131"):
        rebuild(other_file(potential_file, path, config={**config, "envelope_power": 7}))
    with pytest.raises(PotentialError, match="EQ4510"):
        rebuild(other_file(potential_file, path, n_hops=3))
    with pytest.raises(ConfigError, match="EQ1502"):
        rebuild(other_file(potential_file, path, config={**config, "n_layers": 10**9}))
    with pytest.raises(PotentialError, match="EQ4151"):
        rebuild(other_file(potential_file, path, extra={"weights.safetensors": b"\x08" + b"\0" * 20}))


@pytest.mark.parametrize("change", ["missing", "unexpected", "perturbed"])
def test_weights_must_be_exactly_those_of_the_model(potential_file, tmp_path, change):
    weights = safetensors.torch.load(archive.read(potential_file).extra["weights.safetensors"])
    if change == "missing":
        del weights["embedding"]
    elif change == "unexpected":
        weights["more"] = torch.zeros(1)
    else:
        weights["embedding"][0, 0] += 1e-3
    extra = {"weights.safetensors": safetensors.torch.save(weights)}
    with pytest.raises(PotentialError, match="EQ4131" if change == "perturbed" else "EQ4151"):
        rebuild(other_file(potential_file, tmp_path / "x.eqff.pt", extra=extra))


def test_header_is_plain_json(potential_file):
    header = artifact.inspect(potential_file)
    assert json.loads(json.dumps(header, allow_nan=False)) == header
    assert header["config"] == to_mapping(CONFIG)
