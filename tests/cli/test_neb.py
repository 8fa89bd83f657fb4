"""eqff neb from end to end: the hydroxyl group of ethanol turns."""

import json

import ase.io
from ase.build import molecule
from typer.testing import CliRunner

from eqff import cli


def test_a_group_turns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = molecule("CH3CH2OH")
    last = first.copy()
    hydrogen = min((k for k in range(9) if first.numbers[k] == 1), key=lambda k: first.get_distance(k, 2))
    last.set_dihedral(1, 0, 2, hydrogen, last.get_dihedral(1, 0, 2, hydrogen) + 120.0, indices=[hydrogen])
    ase.io.write("trans.xyz", first)
    ase.io.write("gauche.xyz", last)
    runner, app = CliRunner(), cli.build()
    command = ["neb", "ethanol-nequip", "trans.xyz", "gauche.xyz", "--images", "5", "--dtype", "float32"]
    result = runner.invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert 0.02 < found["barrier_eV"] < 0.10
    assert abs(found["reaction_energy_eV"]) < 0.03
    assert (tmp_path / "neb" / "neb.png").stat().st_size > 5000
    assert runner.invoke(app, command).exit_code != 0  # the folder has results
    result = runner.invoke(app, [*command, "--force", "--steps", "1", "--no-relax"])
    assert result.exit_code == 1
    assert "allow more --steps" in result.stderr
    assert "barrier " in result.stdout
