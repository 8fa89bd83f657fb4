import json
from importlib import metadata

import torch
from typer.testing import CliRunner

from eqff import cli


def test_json_tells_what_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("EQFF_POTENTIALS", str(tmp_path))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.eqff.pt").write_bytes(b"no potential")
    result = CliRunner().invoke(cli.build(), ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["packages"]["torch"] == metadata.version("torch")
    assert found["packages"]["ase"] == metadata.version("ase")
    assert found["cpu"]["torch threads"] == torch.get_num_threads()
    assert set(found["devices"]) >= {"cpu"}
    assert "EQ4" in found["potentials"]["broken"]  # reported, not fatal


def test_table_names_every_section():
    result = CliRunner().invoke(cli.build(), ["doctor"])
    assert result.exit_code == 0
    for section in ("packages", "extras", "cpu", "devices", "compiler", "fast paths", "potentials"):
        assert section in result.output
