import io
import tarfile

import numpy as np
import pytest

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source, find_format, read_frames
from eqff.errors import ConfigError, DataError

# the layout of the published files, tabs and `*^` as there; methane with rounded numbers
METHANE = (
    "5\n"
    "gdb 1\t157.7118\t157.70997\t157.70699\t0.\t13.21\t-0.3877\t0.1171\t0.5048\t35.3641\t0.044749\t-40.47893\t"
    "-40.476062\t-40.475117\t-40.498597\t6.469\t\n"
    "C\t-0.0126981359\t 1.0858041578\t 8.0009958*^-3\t-0.535689\n"
    "H\t 2.150416*^-3\t-6.0313176*^-3\t 1.9761204*^-3\t 0.133921\n"
    "H\t 1.0117308433\t 1.4637511618\t 2.765748*^-4\t 0.133922\n"
    "H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923\n"
    "H\t-0.5238136345\t 1.4379326443\t 0.9063972942\t 0.133923\n"
    "1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078\n"
    "C\tC\t\n"
    "InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4\n"
)
HARTREE = 27.211386245988


@pytest.fixture
def file(tmp_path):
    (tmp_path / "dsgdb9nsd_000001.xyz").write_text(METHANE)
    return tmp_path / "dsgdb9nsd_000001.xyz"


def test_a_molecule(file):
    source = Source(file)
    (frame,) = source.frames
    assert source.format == "qm9_xyz"
    assert source.units.energy == "Hartree"
    assert frame.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert frame.positions[0].tolist() == [-0.0126981359, 1.0858041578, 8.0009958e-3]
    assert frame.energy == pytest.approx(-40.47893 * HARTREE, rel=1e-15)
    assert frame.forces is None
    assert frame.info["gap"] == 0.5048
    assert frame.info["index"] == 1
    assert source.log.names == {("energy", "U0"): 1}
    bonds = np.linalg.norm(frame.positions[1:] - frame.positions[0], axis=1)
    np.testing.assert_allclose(bonds, 1.0919, atol=2e-4)  # C-H of methane at B3LYP


def test_other_energies(file):
    assert read_frames(file, energy_key="G")[0].energy == pytest.approx(-40.498597 * HARTREE)
    assert read_frames(file, energy_key="none")[0].energy is None
    with pytest.raises(ConfigError, match="EQ1921"):
        read_frames(file, energy_key="mp2")


def test_several_in_a_file_a_folder_an_archive(file, tmp_path):
    second = METHANE.replace("gdb 1", "gdb 2")
    (tmp_path / "all.xyz").write_text(METHANE + second)
    folder = tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(tmp_path / "dsgdb9nsd.xyz.tar.bz2", "w:bz2") as archive:
        for index, text in ((1, METHANE), (2, second)):
            (folder / f"dsgdb9nsd_{index:06d}.xyz").write_text(text)
            member = tarfile.TarInfo(f"dsgdb9nsd_{index:06d}.xyz")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        archive.addfile(tarfile.TarInfo("../escape.txt"))
    for path in (tmp_path / "all.xyz", folder, tmp_path / "dsgdb9nsd.xyz.tar.bz2"):
        assert find_format(path) == "qm9_xyz"
        assert [frame.info["index"] for frame in read_frames(path)] == [1, 2]
    content = (tmp_path / "dsgdb9nsd.xyz.tar.bz2").read_bytes()
    (tmp_path / "cut.tar.bz2").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError):
        read_frames(tmp_path / "cut.tar.bz2")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("8.0009958*^-3", "8.0*^*^-3"),
        ("\nC\t-0", "\nQq\t-0"),
        ("\t6.469", ""),
        ("5\ngdb", "900\ngdb"),
        ("gdb 1", "gdb x"),
    ],
)
def test_damage(file, old, new):
    file.write_text(METHANE.replace(old, new, 1) + METHANE)
    with pytest.raises(DataError, match="EQ3211"):
        read_frames(file)
    if "900" not in new:
        source = Source(file, ReadOptions(skip_bad=True))
        assert (len(source.frames), source.log.n_skipped) == (1, 1)


def test_an_archive_that_unpacks_to_nothing_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar.bz2", "w:bz2") as archive:
        member = tarfile.TarInfo("zeros")
        member.size = 10_000_000
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="EQ3938"):
        read_frames(tmp_path / "bomb.tar.bz2", format="qm9_xyz")
