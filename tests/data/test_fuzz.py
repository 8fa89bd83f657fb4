"""Files cut, flipped, stirred or made up: every reader gives frames or a typed error, soon, in little memory."""

import io
import random
import resource
import sqlite3
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eqff.data.formats import ase_db, ase_files, deepmd
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Stream, read_frames
from eqff.errors import EqffError

FILES = Path(__file__).parent / "files"
TOO_LONG = 5.0  # seconds
TOO_MUCH = 2**30  # bytes
VOCABULARY = "R z E F Z N U0 nuclear_charges coords energies forces e_unit r_unit lattice theory id".split()
HDF5_NAMES = (
    "types atomic_numbers pos energy forces coordinates species energies wb97x_dz.energy wb97x_dz.forces conformations "
    "dft_total_energy dft_total_gradient subset smiles".split()
)
WORDS = (
    "nan inf -inf 1e400 -1 0 1e-320 999999999999 99999999999999999999999999 x T F O Qq H energy= stress= "
    "pbc= =1 \" { [ ' "
    'pbc="T T T" Lattice="0 0 0 0 0 0 0 0 0" Lattice="1 0 0" stress="1 2 3" virial="nan 0 0 0 0 0 0 0 0" energy=low '
    "Properties=species:S:1 Properties=pos:R:3:pos:R:3 Properties=species:S:99999999 REF_energy=7 Å \x00 \t _JSON"
).split(" ")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> dict[str, bytes]:
    """A small good file of every kind, by name."""
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def make_seeds(folder: Path) -> dict[str, bytes]:
    ethanol = FILES / "ethanol_gfn2_20frames.npz"
    water = read_frames(FILES / "water16_gfn1_5frames.extxyz")
    with np.load(ethanol) as arrays:
        z, r, e, f = arrays["z"], arrays["R"][:4], arrays["E"][:4, 0], arrays["F"][:4]
    np.savez(folder / "rmd17.npz", nuclear_charges=z, coords=r, energies=e, forces=f)
    np.savez(folder / "qm9.npz", R=r.reshape(-1, 3), Z=np.tile(z, 4), N=[9] * 4, U0=e)
    lines = []
    for k in range(4):
        lines += ["9", repr(float(e[k]))]
        atoms = zip(z, np.hstack([r[k], f[k]]).tolist(), strict=True)
        lines += [f"{ {1: 'H', 6: 'C', 8: 'O'}[int(n)] } {' '.join(map(repr, row))}" for n, row in atoms]
    (folder / "sgdml.xyz").write_text("\n".join(lines) + "\n")
    atoms = "\n".join(f"H\t{k}.5\t1.2*^-3\t0.\t0.1" for k in range(3))
    (folder / "gdb.xyz").write_text(f"3\ngdb 1\t{' '.join(['1.5'] * 15)}\n{atoms}\n1.0\nC\tC\nInChI=1\tInChI=1\n" * 2)
    with h5py.File(folder / "torchmdnet.h5", "w") as file:
        for name, value in {"types": np.tile(z, (4, 1)), "pos": r, "energy": e, "forces": f}.items():
            file[f"9/{name}"] = value
    with h5py.File(folder / "spice.h5", "w") as file:
        names = ("atomic_numbers", "conformations", "dft_total_energy", "dft_total_gradient")
        for name, value in zip(names, (z, r, e, f), strict=True):
            file[f"ethanol/{name}"] = value
        file["ethanol/smiles"] = [b"CCO"]
    with h5py.File(folder / "ani.h5", "w") as file:
        names = ("atomic_numbers", "coordinates", "wb97x_dz.energy", "wb97x_dz.forces")
        for name, value in zip(names, (z, r, e, f), strict=True):
            file.create_dataset(f"C2H6O/{name}", data=value, chunks=value.shape, compression="gzip")
    ase_db.write(folder / "plain.db", water[:3])
    ase_files.write(folder / "a.traj", water[:3])
    seeds = {path.name: path.read_bytes() for path in folder.iterdir()}
    deepmd.write(folder / "deepmd", water[:3])
    seeds |= {f"deepmd/{p.relative_to(folder / 'deepmd')}": p.read_bytes() for p in (folder / "deepmd").rglob("*.*")
              if p.is_file()}  # fmt: skip
    seeds["md17.npz"] = ethanol.read_bytes()
    seeds["water.extxyz"] = b"".join((FILES / "water16_gfn1_5frames.extxyz").read_bytes().splitlines(True)[:100])
    return seeds


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut, doubled, inserted, or words of a text replaced."""
    found = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3, 10])):
        if not found:
            break
        place, length = chance.randrange(len(found)), chance.choice([1, 2, 8, 64, 1024])
        kind = chance.randrange(7)
        if kind == 0:
            found[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del found[place:]
        elif kind == 2:
            del found[place : place + length]
        elif kind == 3:
            found[place:place] = found[place : place + length]
        elif kind == 4:
            found[place : place + length] = chance.randbytes(min(length, 64))
        elif kind == 5:
            found[place : place + 8] = chance.choice([b"\xff" * 8, bytes(8), b"\x00\x00\x00\x00\x00\x00\x00\x7f"])
        else:
            words = bytes(found).split(b" ")
            words[chance.randrange(len(words))] = chance.choice(WORDS).encode()
            found = bytearray(b" ".join(words))
    return bytes(found)


def any_array(chance: random.Random) -> np.ndarray:
    """An array of any dtype and small shape."""
    shape = tuple(chance.choice([0, 1, 2, 3, 4, 9]) for _ in range(chance.randrange(4)))
    kind = chance.choice(["f8", "f4", "f2", ">f8", "i8", "u1", "i2", "c16", "?", "S3", "U3", "M8[s]", "i4,f8"])
    values = np.frombuffer(chance.randbytes(int(np.prod(shape)) * np.dtype(kind).itemsize), dtype=kind).reshape(shape)
    if values.dtype.kind == "U":
        values = np.full(shape, chance.choice(["eV", "kcal/mol", "Å", ""]))
    if values.dtype.kind == "f" and chance.random() < 0.7:
        values = np.full(shape, chance.choice([0.0, 1.0, -3.5, np.finfo(kind).max, np.nan, np.inf]), dtype=kind)
    if values.dtype.kind in "iu" and chance.random() < 0.7:
        values = np.full(shape, chance.choice([0, 1, 6, 8, 200, -1])).astype("i8")
    return np.asfortranarray(values) if chance.random() < 0.3 else values


def made_up_npz(chance: random.Random) -> bytes:
    """An npz with names of the layouts and arrays of any kind."""
    names = chance.sample(VOCABULARY, chance.randrange(1, 7))
    if chance.random() < 0.8:
        names += chance.choice([["R", "z"], ["coords", "nuclear_charges"], ["R", "Z", "N"]])
    out = io.BytesIO()
    np.savez(out, **{name: any_array(chance) for name in names})
    return out.getvalue()


def made_up_hdf5(path: Path, chance: random.Random) -> None:
    """A file of groups with names of the layouts and arrays of any kind."""
    with h5py.File(path, "w") as file:
        for k in range(chance.randrange(3)):
            group = file.create_group(chance.choice(["a", "b", "_metadata", "a/b"]) + str(k))
            for name in chance.sample(HDF5_NAMES, chance.randrange(1, 6)):
                if chance.random() < 0.05:
                    group[name] = h5py.SoftLink(chance.choice(["/nowhere", "/", f"/{name}"]))
                elif chance.random() < 0.05:
                    group.create_group(name)
                else:
                    values = any_array(chance)
                    group[name] = np.full(values.shape, b"H") if values.dtype.kind in "UM" else values


def stirred_database(path: Path, chance: random.Random) -> None:
    """Cells of a good database replaced."""
    connection = sqlite3.connect(path)
    with connection:
        columns = [row[1] for row in connection.execute("pragma table_info(systems)")]
        for _ in range(chance.randrange(1, 4)):
            array = '{"energy": {"__ndarray__": [[1], "float64", [1]]}}'
            value = chance.choice(
                [None, 0, -1, 2**62, "nan", "{}", array, chance.randbytes(24), b"", chance.randbytes(72)]
            )
            connection.execute(f"update or ignore systems set {chance.choice(columns[1:])} = ?", (value,))
        if chance.random() < 0.3:
            connection.execute(
                "update information set value = ?", (chance.choice(["[]", "{", '{"atomrefs": {"a": 1}}']),)
            )
    connection.close()


def make_input(chance: random.Random, seeds: dict[str, bytes], folder: Path) -> Path:
    """One input on the disk."""
    kind = chance.choice(["mutated"] * 7 + ["random", "npz", "npz", "hdf5", "hdf5", "database"])
    name = chance.choice(sorted(seeds))
    if kind == "mutated" and name.startswith("deepmd/"):
        for other, content in seeds.items():
            if other.startswith("deepmd/"):
                (folder / other).parent.mkdir(parents=True, exist_ok=True)
                (folder / other).write_bytes(mutated(content, chance) if other == name else content)
        return folder / "deepmd"
    if kind == "random":
        path = folder / ("x" + chance.choice([".npz", ".xyz", ".extxyz", ".h5", ".db", ".traj", ".bz2"]))
        start = chance.choice([b"", seeds[name][:16]])
        path.write_bytes(start + chance.randbytes(chance.choice([1, 10, 1000])))
    elif kind == "npz":
        path = folder / "x.npz"
        path.write_bytes(made_up_npz(chance))
    elif kind == "hdf5":
        path = folder / "x.h5"
        path.unlink(missing_ok=True)
        made_up_hdf5(path, chance)
    elif kind == "database":
        path = folder / "x.db"
        path.write_bytes(seeds["plain.db"])
        stirred_database(path, chance)
    else:
        path = folder / f"x{Path(name).suffix}"
        path.write_bytes(mutated(seeds[name], chance))
    return path


def outcome(path: Path, chance: random.Random) -> str:
    """What reading gives: "frames", or the id of a typed error; any other exception is raised."""
    options = ReadOptions(
        energy_unit=chance.choice([None, "kcal/mol", "eV"]),
        length_unit=chance.choice([None, None, "Å"]),
        skip_bad=chance.random() < 0.5,
        recover=chance.random() < 0.5,
    )
    try:
        for _ in Stream(path, options):
            pass
    except EqffError as error:
        return error.id
    return "frames"


def address_space() -> int:
    """Largest so far, bytes: also memory that was asked for and never touched."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmPeak"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check(number: int, seeds: dict[str, bytes], folder: Path) -> str:
    """One input, made from its number: a typed error or frames, in time, in little memory."""
    chance = random.Random(number)
    path = make_input(chance, seeds, folder)
    memory, start = address_space(), time.monotonic()
    found = outcome(path, chance)
    assert time.monotonic() - start < TOO_LONG
    assert address_space() - memory < TOO_MUCH
    return found


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**40))
def test_any_input_gives_frames_or_a_typed_error(number, seeds, tmp_path_factory):
    check(number, seeds, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 2**40))
def test_many_inputs_give_frames_or_a_typed_error(number, seeds, tmp_path_factory):
    check(number, seeds, tmp_path_factory.getbasetemp())


def test_the_fuzz_reaches_the_readers(seeds, tmp_path):
    """Not all inputs fail at the front door: some are read, and many different errors are met."""
    found = [check(number, seeds, tmp_path) for number in range(150)]
    assert found.count("frames") >= 10
    assert len(set(found)) >= 10
