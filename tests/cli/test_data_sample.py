import json

from ase.build import bulk
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.reading.read import read_frames
from eqff.errors import ConfigError


def run(*arguments):
    return CliRunner().invoke(app, ["sample", *(str(a) for a in arguments)])


def test_sample_writes_labelled_frames(tmp_path):
    bulk("Cu", cubic=True).write(tmp_path / "cu.extxyz")
    options = ["--frames", 3, "--seeds", 2, "--interval", 2, "--equilibration", 4, "--volume", 0.1]
    result = run(tmp_path / "cu.extxyz", "emt", "-o", tmp_path / "cu.h5", *options, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["n_frames"] == 6
    assert len(read_frames(tmp_path / "cu.h5")) == 6
    again = run(tmp_path / "cu.extxyz", "emt", "-o", tmp_path / "cu.h5", *options)
    assert isinstance(again.exception, ConfigError)
    spoken = run(tmp_path / "cu.extxyz", "emt", "-o", tmp_path / "cu.extxyz.out.xyz", *options)
    assert "6 frames" in spoken.output
    assert "EMT" in spoken.output
