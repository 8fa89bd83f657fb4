"""Published potentials by name: refusals without a network, and once for real where a registry answers."""

import subprocess
import sys

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from eqff import artifact, cli
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, DataError, ResourceError
from eqff.tasks import get as task
from eqff.tasks.get import OFFERS, get


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "eqff" / "potentials"


def test_names_that_are_not_offered(home):
    with pytest.raises(ConfigError, match=r"EQ1036.*7net-0"):
        get("8net")
    assert not home.exists()


def test_another_file_than_the_stated_one(home, tmp_path):
    (tmp_path / "sevenn.whl").write_bytes(b"PK")
    with pytest.raises(DataError, match="EQ3343"):
        get("7net-0", from_file=tmp_path / "sevenn.whl")
    with pytest.raises(DataError, match="EQ3344"):
        get("7net-0", from_file=tmp_path / "nothing.whl")


def test_pip_without_a_network(home, monkeypatch):
    for name in ("PIP_NO_INDEX", "PIP_DISABLE_PIP_VERSION_CHECK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ResourceError, match=r"EQ6192.*--from-file"):
        get("7net-0")


def test_a_listing(monkeypatch):
    result = CliRunner().invoke(cli.build(), ["get"])
    assert result.exit_code == 0
    assert all(name in result.output for name in OFFERS)


def test_names_of_potentials_lead_to_get():
    with pytest.raises(Exception, match=r"EQ4102.*eqff get"):
        artifact.find("7net-0-of-mine")


@pytest.mark.slow
def test_from_the_registry_to_a_crystal(home, tmp_path):
    """Rock salt by SevenNet-0: PBE's lattice constant is 5.70 Å (from memory)."""
    package = task.SEVENN
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            f"{package.name}=={package.version}",
            "-d",
            tmp_path,
        ],
        capture_output=True,
    )
    if found.returncode != 0:
        pytest.skip("no package registry with sevenn 0.13.0 can be reached")
    (wheel,) = tmp_path.glob("sevenn*.whl")
    report = get("7net-mf-0:PBE", from_file=wheel)
    assert report.path == home / "7net-mf-0-pbe" / "7net-mf-0-pbe.eqff.pt"
    atoms = bulk("NaCl", "rocksalt", a=5.70)
    atoms.calc = EqffCalculator("7net-mf-0-pbe")
    assert abs(atoms.get_stress()).max() < 0.01
    with pytest.raises(Exception, match="exists"):
        get("7net-mf-0-pbe", from_file=wheel)
