"""eqff inspect: the header for people and machines, verified, never executed."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from eqff.artifact import archive, header, vectors
from eqff.cli import inspect
from eqff.errors import PotentialError
from eqff.graph import Structure

FIELDS = {
    "format": header.FORMAT,
    "family": "toy",
    "config": {"r_max": 3.0, "layers": {"n_channels": 8}},
    "species": ["H", "C"],
    "r_max": 3.0,
    "n_hops": 2,
    "dtype": "float32",
    "units": header.UNITS,
    "reference_energies": [-13.6, -1030.5],
    "licence": "MIT",
    "level_of_theory": "PBE\x1b[2J\u202e",
    "metrics": {"force MAE meV/Å": 4.2},
    "versions": {"eqff": "0.1.0"},
}


@pytest.fixture
def path(tmp_path):
    """A potential file whose program is not even one: inspect must not care."""
    program = tmp_path / "program.zip"
    torch.save({}, program)
    none, atoms = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    structure = Structure(
        positions=torch.zeros(1, 3, dtype=torch.float64),
        species=atoms,
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        batch=atoms,
        n_graphs=1,
        senders=none,
        receivers=none,
        edge_shift=torch.zeros(0, 3, dtype=torch.int64),
    )
    edges = torch.zeros(0, 3, dtype=torch.float64)
    expected = vectors.Expected(structure, edges, torch.zeros(1, dtype=torch.float64), edges)
    extra = {archive.WEIGHTS: b"", archive.VECTORS: vectors.pack([expected], ["H"]), archive.CARD: b""}
    path = tmp_path / "toy.eqff.pt"
    path.write_bytes(archive.pack(program.read_bytes(), FIELDS, extra))
    return path


def run(*arguments):
    app = typer.Typer()
    app.command()(inspect.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_summary_tells_what_matters(path):
    result = run(path)
    assert result.exit_code == 0, result.output
    for text in (
        "H C",
        "3 Å x 2 hops",
        "toy",
        "float32",
        "-1030.500000 eV",
        "MIT",
        "force MAE meV/Å",
        "4.2",
        "SHA-256",
    ):
        assert text in result.output
    assert "\x1b" not in result.output  # a file must not steer the terminal
    assert "\u202e" not in result.output


def test_json_is_the_header(path):
    shown = json.loads(run(path, "--json").output)
    assert {key: shown[key] for key in FIELDS} == FIELDS
    assert len(shown["members"]["extra/card.md"]["sha256"]) == 64


def test_damage_is_reported(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    result = run(path)
    assert isinstance(result.exception, PotentialError)
    assert result.exception.id == "EQ4114"
