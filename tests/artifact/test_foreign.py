"""Foreign TorchScript files: told apart without executing them."""

import hashlib
import io
import zipfile

import pytest
import torch

from eqff.artifact import foreign
from eqff.artifact.archive import TAG
from eqff.errors import PotentialError


class Twice(torch.nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "twice.pt"
    torch.jit.save(torch.jit.script(Twice()), path, _extra_files={"author": b"me", "long": b"x" * 100_000})
    return path


def test_description_and_loading(path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)  # describing executes nothing
    described = foreign.describe(path)
    assert described.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert any(name.endswith(".py") for name in described.sources)
    assert described.notes == {"author": "me"}
    monkeypatch.undo()
    path.unlink()  # what was described is what is loaded
    module = foreign.load(described)
    assert float(module(torch.tensor(3.0))) == 6.0
    assert not module.training


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, b"1")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "id"),
    [
        (b"", "EQ4321"),
        (b"not a zip", "EQ4321"),
        (zipped("weights/data.pkl"), "EQ4392"),
        (zipped("x/code/a.py") + TAG + b"0" * 64, "EQ4322"),
    ],
)
def test_other_files_are_refused(tmp_path, content, id):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(PotentialError, match=id):
        foreign.describe(path)


def test_missing_file_and_weights_alone(tmp_path):
    with pytest.raises(PotentialError, match="EQ4320"):
        foreign.describe(tmp_path / "absent.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    with pytest.raises(PotentialError, match="EQ4392"):
        foreign.describe(tmp_path / "weights.pt")


def test_what_torch_cannot_load_is_refused(tmp_path):
    path = tmp_path / "half.pt"
    path.write_bytes(zipped("x/code/a.py"))
    described = foreign.describe(path)
    with pytest.raises(PotentialError, match="EQ4323"):
        foreign.load(described)


def test_names_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "evil.pt"
    path.write_bytes(zipped("x/code/\x1b[2J.py"))
    assert "\x1b" not in foreign.describe(path).sources[0]
