"""eqff wrap: the table of verdicts, refusals, and the file that inspect shows."""

import json

import pytest
import torch
import typer
from torch import Tensor, nn
from typer.testing import CliRunner

from eqff import artifact
from eqff import exporter as export
from eqff.cli import inspect, wrap
from eqff.errors import ConfigError, PotentialError


class Pairs(nn.Module):
    def __init__(self, smooth: bool) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, species: Tensor, senders: Tensor, receivers: Tensor, edge_vector: Tensor) -> Tensor:
        x = edge_vector.square().sum(1) / 9.0
        pair = (1.0 - x).pow(3) if self.smooth else 1.5 - x
        return torch.zeros(species.shape[0], dtype=pair.dtype).index_add(0, receivers, pair)


@pytest.fixture(autouse=True)
def setting(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(export, "prove_in_fresh_process", lambda path: None)


def run(verb, *arguments):
    app = typer.Typer()
    app.command()(verb.command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def options(tmp_path, smooth):
    path = tmp_path / "pairs.pt"
    torch.jit.script(Pairs(smooth)).save(path)
    return [path, "--species", "H, O", "--r-max", "3", "--units", "kcal/mol", "-o", tmp_path / "pairs.eqff.pt"]


def test_verdicts_are_printed_and_shown_by_inspect(tmp_path):
    result = run(wrap, *options(tmp_path, False), "--trust", "--licence", "MIT")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1] for line in result.output.splitlines() if line[:1].isalpha()}
    assert rows["gradient"] == "passed"
    assert rows["cutoff"] == "failed"
    assert "H O, 3 Å x 1 hops, flat model" in result.output
    assert "cannot be rebuilt" in result.output
    shown = run(inspect, tmp_path / "pairs.eqff.pt").output
    assert "cannot be rebuilt, retrained or compiled" in shown
    assert "FAILED: energy eV" in shown
    assert "kcal/mol" in shown


def test_json(tmp_path):
    result = run(wrap, *options(tmp_path, True), "--trust", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == artifact.inspect(tmp_path / "pairs.eqff.pt")


def test_refusals(tmp_path):
    arguments = options(tmp_path, True)
    assert run(wrap, *arguments).exception.id == "EQ1290"
    stated = run(wrap, *arguments, "--trust", "--n-hops", "0")
    assert isinstance(stated.exception, PotentialError)
    assert "n_hops       failed" in stated.output
    assert isinstance(run(wrap, *arguments, "--units", "eV,ly", "--trust").exception, ConfigError)
    assert not (tmp_path / "pairs.eqff.pt").exists()
