"""Potential files: damage and forgery are refused, names are found, programs are checked and start quickly."""

import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from eqff import artifact
from eqff.artifact import archive, header, program, vectors
from eqff.config import to_mapping
from eqff.errors import ConfigError, PotentialError, ResourceError
from eqff.exporter import export
from eqff.models import nequip
from eqff.potential import GradientEvaluator, energy_forces_stress

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = nequip.Config(
    species=("H", "C", "O"),
    r_max=4.0,
    l_max=1,
    n_layers=2,
    n_channels=4,
    reference_energies=(-13.7, -1034.1234567891, -2041.9876543210123),
)


@pytest.fixture(scope="module")
def model():
    return nequip.Model(CONFIG)


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("potentials") / "small" / "small.eqff.pt"
    export(model, "nequip", to_mapping(CONFIG), path, card="# small\n", metadata={"licence": "MIT"})
    return path


@pytest.fixture(scope="module")
def content(potential_file):
    return potential_file.read_bytes()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "eqff" / "verified"


def members(content):
    """(name, bytes) of every member, in order."""
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        return [(info.filename, zipped.read(info)) for info in zipped.infolist()]


def forge(entries, compression=zipfile.ZIP_STORED):
    """A zip file of any members, with a correct digest: what somebody who knows the format can make."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as zipped:
        warnings.simplefilter("ignore")  # zipfile warns about the duplicate names wanted here
        for name, text in entries:
            zipped.writestr(zipfile.ZipInfo(name), text, compression)
        zipped.comment = archive.TAG + b"0" * 64
    return archive.seal(buffer.getvalue())


def with_header(content, **changes):
    """The file with other header fields, everything else and all hashes right."""
    entries = members(content)
    changed = {**json.loads(entries[-1][1]), **changes}
    return forge([*entries[:-1], (entries[-1][0], json.dumps(changed).encode())])


def refused(content, id):
    with pytest.raises(PotentialError) as caught:
        archive.verify(content, Path("x.eqff.pt"))
    assert caught.value.id == id, caught.value
    assert "x.eqff.pt" in caught.value.message
    assert ";" in caught.value.message  # says what to do


def test_intact_file_is_read_and_repacking_it_changes_no_member(content, potential_file):
    contents = archive.verify(content, potential_file)
    assert contents.header["species"] == ["H", "C", "O"]
    assert contents.extra["card.md"] == b"# small\n"
    assert archive.verify(forge(members(content)), potential_file).header == contents.header
    assert members(content)[-1][0].endswith("extra/header.json")
    assert content[-77:-64] == b"eqff1 sha256:"


def test_2000_bit_flips_are_refused(content):
    generator = torch.Generator().manual_seed(1)
    anywhere = torch.randint(len(content) * 8, (2000,), generator=generator).tolist()
    the_end = range((len(content) - 77 - 22) * 8, len(content) * 8)  # directory end, tag and digits: every bit
    for bit in [*anywhere, *the_end]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PotentialError):
            archive.verify(bytes(flipped), Path("x.eqff.pt"))


def test_bit_flips_with_a_corrected_digest_are_refused(content):
    """The second line: somebody changed a member and computed the digest of the whole file again."""
    generator = torch.Generator().manual_seed(2)
    end = content.index(b"archive/extra/header.json") - archive.LOCAL.size
    first_header = range(archive.LOCAL.size * 8)
    for bit in [*first_header, *torch.randint(end * 8, (300,), generator=generator).tolist()]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PotentialError):
            archive.verify(archive.seal(bytes(flipped)), Path("x.eqff.pt"))


@pytest.mark.parametrize("length", [0, 1, 3, 4, 99, 100, 1000])
def test_truncated_at_the_front_is_refused(content, length):
    refused(content[:length], "EQ4112" if length < 4 else "EQ4113")


@pytest.mark.parametrize("lost", [1, 2, 64, 77, 78, 99, 1000])
def test_truncated_at_the_end_is_refused(content, lost):
    refused(content[:-lost], "EQ4113")


def test_foreign_bytes_are_refused(content):
    refused(b"", "EQ4112")
    refused(b"\x00" * 500, "EQ4112")
    refused(b"#!/bin/sh\necho\n" * 40, "EQ4112")
    refused(b"PK\x03\x04" + b"\xff" * 500, "EQ4113")
    refused(b"PK\x03\x04" + archive.TAG + b"0" * 64, "EQ4114")
    refused(archive.seal(b"PK\x03\x04" + archive.TAG + b"0" * 64), "EQ4117")
    refused(archive.seal(b"PK\x03\x04" + b"\x01" * 500 + archive.TAG + b"0" * 64), "EQ4117")


def test_plain_torchscript_is_refused(content):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    refused(buffer.getvalue(), "EQ4113")
    plain = [entry for entry in members(content) if "/extra/" not in entry[0]]
    refused(forge(plain), "EQ4115")  # the digest alone does not make a potential


def test_bytes_around_the_archive_are_refused(content):
    refused(content + b"\n", "EQ4113")
    refused(content + content[-77:], "EQ4114")
    refused(b"#!/bin/sh\n" + content, "EQ4112")
    refused(archive.seal(b"PK\x03\x04" + content), "EQ4117")  # zipfile alone would accept this one
    refused(archive.seal(content[: content.index(b"PK\x01\x02")] + content), "EQ4117")


def test_hidden_bytes_between_members_are_refused(content):
    start = content.index(b"PK\x01\x02")  # the directory moves back, its end says so: legal zip, hidden bytes
    end = len(content) - 77 - 22
    record = bytearray(content[end:])
    struct.pack_into("<L", record, 16, struct.unpack_from("<L", record, 16)[0] + 4)
    moved = content[:start] + b"evil" + content[start:end] + bytes(record)
    assert len(zipfile.ZipFile(io.BytesIO(moved)).namelist()) == len(members(content))
    refused(archive.seal(moved), "EQ4117")


def test_equal_names_are_refused(content):
    entries = members(content)
    refused(forge([*entries, (entries[0][0], b"another")]), "EQ4119")
    refused(forge([*entries, (entries[0][0].upper().replace("ARCHIVE", "archive"), b"another")]), "EQ4119")


OUTSIDE = ("archive/../evil", "../evil", "/evil", "archive//evil", "archive/", "evil", "other/evil", "archive\\evil")


@pytest.mark.parametrize("name", [*OUTSIDE, "archive/é", "archive/a\nb", "archive/./evil"])
def test_names_outside_the_prefix_are_refused(content, name):
    refused(forge([*members(content), (name, b"")]), "EQ4118")


def test_unlisted_and_missing_members_are_refused(content):
    entries = members(content)
    refused(forge([*entries[:-1], ("archive/extra/more", b"x"), entries[-1]]), "EQ4122")
    refused(forge(entries[1:]), "EQ4122")
    refused(forge(entries[:-1]), "EQ4115")


def test_exchanged_member_is_refused(content):
    entries = members(content)
    name, text = entries[0]
    refused(forge([(name, text[:-1] + bytes([text[-1] ^ 1])), *entries[1:]]), "EQ4123")
    refused(forge([(name, text + b"\0"), *entries[1:]]), "EQ4123")


def test_zip_bomb_is_refused_before_it_is_unpacked(content):
    bomb = forge([("archive/zeros", b"\0" * 10_000_000), *members(content)], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    refused(bomb, "EQ4120")
    lie = bytearray(forge([("archive/zeros", b"\0" * 10), *members(content)]))  # stored, but 2 GB are announced
    struct.pack_into("<L", lie, lie.index(b"PK\x01\x02") + 24, 2**31)
    refused(archive.seal(bytes(lie)), "EQ4120")


def test_too_many_members_and_too_many_bytes_are_refused(content, potential_file, monkeypatch):
    refused(forge((f"archive/{k}", b"") for k in range(archive.MAX_MEMBERS + 1)), "EQ4117")
    monkeypatch.setattr(archive, "MAX_BYTES", len(content) - 1)
    refused(content, "EQ4112")
    with pytest.raises(PotentialError, match="EQ4110"):
        archive.read(potential_file)


def test_zip64_and_encrypted_members_are_refused(content):
    start, end = content.index(b"PK\x01\x02"), len(content) - 99
    locator = content[: end - 20] + b"PK\x06\x07" + content[end - 16 :]
    refused(archive.seal(locator), "EQ4117")
    flagged = bytearray(content)
    flagged[start + 8] |= 1
    refused(archive.seal(bytes(flagged)), "EQ4117")


ATOM = {"atomic_numbers": [1], "positions": [[0.0] * 3], "cell": [[0.0] * 3] * 3, "pbc": [False] * 3}
BASELINE = {
    "name": "emt",
    "level_of_theory": "EMT",
    "sha256": None,
    "check": ATOM | {"energy": 0.5, "forces": [[0.0] * 3]},
}


def test_a_header_with_a_baseline_is_read(content, tmp_path):
    path = tmp_path / "difference.eqff.pt"
    path.write_bytes(with_header(content, format=3, baseline=BASELINE))
    assert archive.read(path).header["baseline"] == BASELINE


@pytest.mark.parametrize(
    ("change", "id"),
    [
        ({"format": 4}, "EQ4105"),
        ({"format": [1]}, "EQ4105"),
        ({"format": 3}, "EQ4106"),
        ({"format": 3, "baseline": None}, "EQ4106"),
        ({"format": 3, "baseline": BASELINE | {"sha256": "12"}}, "EQ4106"),
        ({"format": 3, "baseline": BASELINE | {"check": {}}}, "EQ4106"),
        ({"format": 3, "baseline": BASELINE | {"check": BASELINE["check"] | {"forces": [[0.0, 0.0]]}}}, "EQ4106"),
        ({"format": 3, "baseline": BASELINE | {"check": BASELINE["check"] | {"pbc": [0, 0, 0]}}}, "EQ4106"),
        ({"baseline": {}}, "EQ4106"),
        ({"format": True}, "EQ4105"),
        ({"format": 2}, "EQ4106"),
        ({"format": 2, "family": "wrapped"}, "EQ4106"),
        ({"format": None}, "EQ4105"),
        ({"species": ["H", "H", "O"]}, "EQ4106"),
        ({"species": ["H", "Xx", "O"]}, "EQ4106"),
        ({"species": "HCO"}, "EQ4106"),
        ({"r_max": -1.0}, "EQ4106"),
        ({"r_max": float("nan")}, "EQ4104"),
        ({"r_max": True}, "EQ4106"),
        ({"n_hops": 2.5}, "EQ4106"),
        ({"dtype": "float16"}, "EQ4106"),
        ({"units": {"energy": "kcal/mol"}}, "EQ4106"),
        ({"reference_energies": [0.0, "1", 2.0]}, "EQ4106"),
        ({"reference_energies": [0.0]}, "EQ4107"),
        ({"members": {"data/0": "sha"}}, "EQ4106"),
        ({"config": []}, "EQ4106"),
    ],
)
def test_impossible_headers_are_refused(content, change, id):
    refused(with_header(content, **change), id)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"format": NaN}'])
def test_header_that_is_not_json_is_refused(content, text):
    entries = members(content)
    refused(forge([*entries[:-1], (entries[-1][0], text)]), "EQ4126" if text == b"[]" else "EQ4104")


def test_header_cannot_be_written_with_nan():
    with pytest.raises(PotentialError, match="EQ4103"):
        header.to_json({"metrics": {"forces": float("nan")}})


def test_inspect_executes_nothing(potential_file):
    code = (
        "import sys; from eqff import artifact; header = artifact.inspect(sys.argv[1]);"
        "print(header['family'], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(potential_file)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["nequip", "False"]


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(PotentialError, match="EQ4111"):
        archive.read(tmp_path / "absent.eqff.pt")
    with pytest.raises(PotentialError, match="EQ4111"):
        archive.read(tmp_path)


def test_write_is_complete_or_absent(tmp_path, content):
    path = tmp_path / "new" / "a.eqff.pt"
    seen = []
    archive.write(path, content, lambda written: seen.append(written.read_bytes() == content and written != path))
    assert seen == [True]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.eqff.pt"]

    def refuse(written):
        raise PotentialError("EQ4144", "no")

    with pytest.raises(PotentialError, match="EQ4116"):
        archive.write(path, b"", lambda written: None)
    with pytest.raises(PotentialError, match="EQ4144"):
        archive.write(path, b"", refuse, force=True)
    assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["a.eqff.pt"]
    with pytest.raises(ResourceError, match="EQ6101"):
        archive.write(path / "below-a-file.eqff.pt", content, lambda written: None)


def test_find_by_path_and_by_name(potential_file, tmp_path, monkeypatch):
    assert artifact.find(potential_file) == potential_file
    assert artifact.find(str(potential_file)) == potential_file
    monkeypatch.setenv("EQFF_POTENTIALS", os.pathsep.join([str(tmp_path), "", str(potential_file.parents[1])]))
    assert artifact.find("small") == potential_file
    assert "small" in artifact.available()
    first = tmp_path / "small" / "small.eqff.pt"
    first.parent.mkdir()
    first.write_bytes(b"first directory wins")
    assert artifact.find("small") == first


@pytest.mark.parametrize(
    ("name", "id"),
    [("smal", "EQ4102"), ("absent.pt", "EQ4101"), ("../small", "EQ4101"), ("a/b", "EQ4101"), ("", "EQ4101")],
)
def test_unknown_names_list_what_there_is(potential_file, monkeypatch, name, id):
    monkeypatch.setenv("EQFF_POTENTIALS", str(potential_file.parents[1]))
    with pytest.raises(PotentialError, match=id) as caught:
        artifact.find(name)
    assert "small" in caught.value.message
    if name == "smal":
        assert "did you mean 'small'?" in caught.value.message


def test_the_beginning_of_a_name_suggests_all_that_begin_so(potential_file, tmp_path, monkeypatch):
    for name in ("small-escn", "small-nequip", "large"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.eqff.pt").write_bytes(b"")
    monkeypatch.setenv("EQFF_POTENTIALS", str(tmp_path))
    with pytest.raises(PotentialError, match=r"did you mean 'small-escn' or 'small-nequip'\?"):
        artifact.find("small")


def test_default_structure_belongs_to_a_named_potential(potential_file, tmp_path, monkeypatch, content):
    assert artifact.default_structure(potential_file) is None
    structure = potential_file.with_name("structure.xyz")
    structure.write_text("1\n\nH 0 0 0\n")
    monkeypatch.setenv("EQFF_POTENTIALS", str(potential_file.parents[1]))
    try:
        assert artifact.default_structure("small") == structure
    finally:
        structure.unlink()
    lone = tmp_path / "lone.eqff.pt"
    lone.write_bytes(content)
    (tmp_path / "structure.xyz").write_text("1\n\nH 0 0 0\n")
    assert artifact.default_structure(lone) is None
    best = lone.rename(tmp_path / "best.eqff.pt")
    assert artifact.default_structure(best) is None
    (tmp_path / "model.json").write_text("{}")  # a run folder
    assert artifact.default_structure(best) == tmp_path / "structure.xyz"


@pytest.mark.parametrize("dtype", ["auto", "float32", "float64"])
def test_loaded_potential_is_the_model(potential_file, model, dtype):
    potential = artifact.load(potential_file, dtype=dtype)
    run_dtype = torch.float64 if dtype == "float64" else torch.float32
    assert potential.dtype == run_dtype
    assert potential.species == CONFIG.species
    assert (potential.r_max, potential.n_hops, potential.path) == (4.0, 2, potential_file)
    assert potential.header["licence"] == "MIT"
    assert not any(parameter.requires_grad for parameter in potential.module.parameters())
    eager = GradientEvaluator(nequip.Model(CONFIG).to(run_dtype))
    contents = archive.read(potential_file)
    tolerance = 1e-12 if run_dtype == torch.float64 else 1e-6
    for vector in vectors.unpack(contents):
        got, target = potential(vector.structure), energy_forces_stress(eager, vector.structure)
        torch.testing.assert_close(got.energies, target.energies, rtol=0, atol=tolerance)
        torch.testing.assert_close(got.forces, target.forces, rtol=0, atol=tolerance)


def test_bad_device_and_dtype_are_refused(potential_file):
    with pytest.raises(ConfigError, match="EQ1101"):
        artifact.load(potential_file, dtype="float16")
    for device in ("gpu", "meta", "mps"):
        with pytest.raises(ConfigError, match="EQ1102"):
            artifact.load(potential_file, device=device)
    with pytest.raises(ResourceError, match="EQ6102"):
        artifact.load(potential_file, device=f"cuda:{torch.cuda.device_count()}")


def autograd_names(tensor):
    seen, stack = set(), [tensor.grad_fn]
    while stack:
        function = stack.pop()
        if function is not None and function not in seen:
            seen.add(function)
            stack += [following for following, _ in function.next_functions]
    return {function.name() for function in seen}


def test_first_calls_are_not_profiled_and_no_global_state_changes(potential_file):
    contents = archive.read(potential_file)
    vector = max(
        vectors.unpack(contents),
        key=lambda vector: vector.structure.senders.shape[0],
    )

    def uses_profiled_code(module):
        for _ in range(3):
            edge_vector = vector.edge_vector.clone().requires_grad_(True)
            energy = module(vector.structure.species, vector.structure.senders, vector.structure.receivers, edge_vector)
            torch.autograd.grad(energy.sum(), edge_vector)
        edge_vector = vector.edge_vector.clone().requires_grad_(True)
        energy = module(vector.structure.species, vector.structure.senders, vector.structure.receivers, edge_vector)
        return any("DifferentiableGraph" in name for name in autograd_names(energy))

    before = torch._C._jit_set_profiling_mode(True)
    torch._C._jit_set_profiling_mode(before)
    module = artifact.load(potential_file).module
    after = torch._C._jit_set_profiling_mode(before)
    assert (before, after) == (True, True)
    assert not uses_profiled_code(module)
    plain = program.load_module(contents, torch.device("cpu"), torch.float32)
    assert uses_profiled_code(plain)  # others keep torch's default


def test_passed_check_is_remembered_only_in_a_private_cache(potential_file, own_cache, monkeypatch):
    calls = []
    monkeypatch.setattr(vectors, "check", lambda *arguments: calls.append(arguments[2]) or (0.0, 0.0))
    artifact.load(potential_file)
    assert calls == [torch.float64, torch.float32]
    artifact.load(potential_file)
    assert len(calls) == 2
    artifact.load(potential_file, dtype="float64")
    assert len(calls) == 3
    assert own_cache.stat().st_mode & 0o777 == 0o700
    own_cache.chmod(0o755)
    artifact.load(potential_file)
    assert own_cache.stat().st_mode & 0o777 == 0o700
    for unusable in ("/dev/null", str(own_cache.parent / "link")):
        (own_cache.parent / "link").unlink(missing_ok=True)
        own_cache.mkdir(exist_ok=True)
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        if unusable != "/dev/null":
            (own_cache.parent / "link").mkdir()
            (own_cache.parent / "link" / "eqff").symlink_to(own_cache.parent)
        n_calls = len(calls)
        artifact.load(potential_file)
        artifact.load(potential_file)
        assert len(calls) == n_calls + 4


def repacked(content, change):
    """The file with some members changed by change(members by name) and all hashes right."""
    entries = dict(members(content))
    change(entries)
    fields = json.loads(entries.pop("archive/extra/header.json"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for entry, text in entries.items():
            if "/extra/" not in entry:
                zipped.writestr(entry, text)
    extra = {entry.split("/")[-1]: text for entry, text in entries.items() if "/extra/" in entry}
    return archive.pack(buffer.getvalue(), fields, extra)


def with_vectors(content, change):
    """The file with other test vectors: a program that does not do what it should."""

    def exchange(entries):
        name = "archive/extra/test_vectors.safetensors"
        tensors = safetensors.torch.load(entries[name])
        change(tensors)
        entries[name] = safetensors.torch.save(tensors)

    return repacked(content, exchange)


@pytest.mark.parametrize(
    ("tensor", "error"),
    [("1.node_energy", 2e-6), ("1.edge_gradient", 3e-8), ("1.edge_gradient", float("nan")), ("1.edge_vector", 1e-4)],
)
def test_program_that_misses_its_test_vector_is_refused(content, tmp_path, tensor, error):
    def change(tensors):
        tensors[tensor][0] += error

    path = tmp_path / "wrong.eqff.pt"
    path.write_bytes(with_vectors(content, change))
    artifact.inspect(path)  # not damaged
    with pytest.raises(PotentialError, match="EQ4131"):
        artifact.load(path)
    with pytest.raises(PotentialError, match="EQ4131"):
        artifact.load(path)  # a failure is not remembered as a pass


def test_file_without_usable_test_vectors_is_refused(content, tmp_path):
    path = tmp_path / "wrong.eqff.pt"
    changes = (
        lambda tensors: tensors.clear(),
        lambda tensors: tensors.pop("0.species"),
        lambda tensors: tensors["1.senders"].fill_(10**6),
        lambda tensors: tensors["1.species"].fill_(-1),
        lambda tensors: tensors.update({"1.edge_vector": tensors["1.edge_vector"][1:]}),
        lambda tensors: tensors.update({"1.node_energy": tensors["1.node_energy"].float()}),
    )
    for change in changes:
        path.write_bytes(with_vectors(content, change))
        with pytest.raises(PotentialError, match=r"EQ413[05]"):
            artifact.load(path)


def test_program_torch_cannot_load_is_refused(content, tmp_path):
    path = tmp_path / "wrong.eqff.pt"
    path.write_bytes(repacked(content, lambda entries: entries.update({"archive/data.pkl": b"not a pickle"})))
    with pytest.raises(PotentialError, match="EQ4132"):
        artifact.load(path)


def test_program_with_another_signature_is_refused(content, tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    contents = archive.verify(content, tmp_path)
    path = tmp_path / "wrong.eqff.pt"
    path.write_bytes(archive.pack(buffer.getvalue(), contents.header, contents.extra))
    with pytest.raises(PotentialError, match="EQ4134"):
        artifact.load(path)


def test_test_vectors_survive_packing(potential_file):
    contents = archive.read(potential_file)
    stored = contents.extra["test_vectors.safetensors"]
    unpacked = vectors.unpack(contents)
    assert vectors.pack(unpacked, CONFIG.species) == stored
    assert [vector.structure.senders.shape[0] > 0 for vector in unpacked] == [False, True, True]
    assert safetensors.torch.load(stored)["1.atomic_numbers"].tolist()[:4] == [1, 6, 8, 1]
