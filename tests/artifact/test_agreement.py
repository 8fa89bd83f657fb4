"""A header that contradicts its own file, or that no JSON reader should have to bear, is refused by everybody."""

import contextlib
import io
import json
import zipfile

import pytest
import safetensors.torch
import torch
import toys
import typer
from typer.testing import CliRunner

from eqff import artifact, rebuild
from eqff.artifact import agreement, archive
from eqff.cli import doctor, inspect
from eqff.config import from_mapping
from eqff.errors import ConfigError, EqffError, PotentialError, printable
from eqff.models import nequip


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    for path in toys.tiny_file(tmp_path_factory, reference_energies=(-13.0, -1030.0, -2040.0)):
        yield archive.read(path)


def packed(contents, path, header=None, **extra):
    """The file with its own program and another header, all hashes right; a header as text goes in as it is."""
    program = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents.content)) as old, zipfile.ZipFile(program, "w") as new:
        for name in old.namelist():
            if "/extra/" not in name:
                new.writestr(name, old.read(name))
    members = {**contents.extra, **extra}
    path.write_bytes(archive.pack(program.getvalue(), {**contents.header, **(header or {})}, members))
    return path


def with_text(contents, path, change, monkeypatch):
    """The file whose header.json is change(text of the header)."""
    whole = archive.header_fields.to_json
    monkeypatch.setattr(archive.header_fields, "to_json", lambda header: change(whole(header)))
    return packed(contents, path)


def test_the_file_itself_is_good(contents, tmp_path):
    path = packed(contents, tmp_path / "x.eqff.pt")
    assert artifact.load(path).species == tuple(contents.header["species"])
    rebuild.rebuild(path)


@pytest.mark.parametrize("verb", [artifact.inspect, artifact.load, rebuild.rebuild])
def test_species_of_the_header_are_those_of_the_test_vectors(contents, tmp_path, verb):
    species = contents.header["species"][::-1]
    config = contents.header["config"] | {"species": species}
    path = packed(contents, tmp_path / "x.eqff.pt", {"species": species, "config": config})
    with pytest.raises(PotentialError, match="EQ4505"):
        verb(path)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("species", lambda value: value[::-1]),
        ("r_max", lambda value: value + 0.5),
        ("reference_energies", lambda value: [energy + 1.0 for energy in value]),
    ],
)
def test_header_and_config_agree(contents, tmp_path, field, change):
    path = packed(contents, tmp_path / "x.eqff.pt", {field: change(contents.header[field])})
    with pytest.raises(PotentialError, match="EQ4504") as caught:
        artifact.inspect(path)
    assert f"config.{field}=" in caught.value.message


def test_r_max_is_not_shorter_than_an_edge(contents, tmp_path):
    config = contents.header["config"] | {"r_max": 0.5}
    path = packed(contents, tmp_path / "x.eqff.pt", {"r_max": 0.5, "config": config})
    with pytest.raises(PotentialError, match="EQ4506"):
        artifact.inspect(path)


@pytest.mark.parametrize("field", ["n_hops", "r_max"])
def test_the_program_agrees(contents, tmp_path, field):
    value = contents.header[field] + 1
    config = contents.header["config"] | ({"r_max": value} if field == "r_max" else {})
    path = packed(contents, tmp_path / "x.eqff.pt", {field: value, "config": config})
    with pytest.raises(PotentialError, match=f"EQ4508.*{field}={value}"):
        artifact.load(path)


def test_weights_have_a_row_for_every_species(contents, tmp_path):
    weights = safetensors.torch.load(contents.extra[archive.WEIGHTS])
    weights["embedding"] = torch.cat([weights["embedding"], weights["embedding"]])
    path = packed(contents, tmp_path / "x.eqff.pt", **{archive.WEIGHTS: safetensors.torch.save(weights)})
    with pytest.raises(PotentialError, match="EQ4507"):
        artifact.inspect(path)


def invoke(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


TEXTS = {
    "duplicate": lambda text: text[:-1] + b', "r_max": 99.0}',
    "duplicate below": lambda text: text[:-1] + b', "metrics": {"a": 1, "a": 2}}',
    "deep": lambda text: text[:-1] + b', "more": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deeper": lambda text: text[:-1] + b', "more": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    "huge": lambda text: text[:-1] + b', "more": "' + b"x" * 2**25 + b'"}',
    "NaN": lambda text: text[:-1] + b', "more": NaN}',
    "overflow": lambda text: text[:-1] + b', "more": 1e999}',
    "large": lambda text: text[:-1] + b', "more": 1' + b"0" * 400 + b"}",
    "digits": lambda text: text[:-1] + b', "more": 1' + b"0" * 5000 + b"}",
    "no UTF-8": lambda text: text[:-1] + b', "more": "\xff\xfe"}',
    "surrogate": lambda text: text[:-1] + b', "more": "\\ud800"}',
    "a list": lambda text: b"[" + text + b"]",
    "nothing": lambda text: b"",
    "UTF-16": lambda text: text.decode().encode("utf-16"),
}


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "UTF-16"])
def test_text_that_is_refused(contents, tmp_path, monkeypatch, name):
    path = with_text(contents, tmp_path / "x.eqff.pt", TEXTS[name], monkeypatch)
    with pytest.raises(PotentialError, match=r"EQ4104|EQ4502|EQ4126"):
        artifact.inspect(path)


ODD = [
    None,
    True,
    -1,
    0,
    2**62,
    -0.5,
    1e300,
    "",
    "x",
    "[/red]",
    "\x1b[2J",
    [],
    [[]],
    [None],
    {},
    {"a": {}},
    ["H", "H"],
    ["Xx"],
]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_wrong_type_anywhere_gives_a_typed_error_or_is_harmless(contents, value):
    """Every field of the header and of config, then whatever shows or uses a header without its program."""
    header = contents.header
    changes = [{name: value} for name in header]
    changes += [{"config": header["config"] | {name: value}} for name in header["config"]]
    changes += [{"training_data": {name: value}} for name in ("compositions", "min_distance_A", "n_train", "source")]
    changes += [{"metrics": {"test": {name: value}}} for name in ("forces_mae_meV_A", "n_frames")]
    for change in changes:
        with contextlib.suppress(EqffError):
            text = archive.header_fields.to_json({**header, **change})
            found = archive.header_fields.from_json(text, "x")
            agreement.check(found, contents.extra[archive.VECTORS], contents.extra[archive.WEIGHTS], contents.path)
            shown = "\n".join(inspect.summary(contents._replace(header=found)))
            potential = toys.potential_of(torch.nn.Identity(), header=found, species=tuple(found["species"]))
            assert "\x1b" not in shown + repr(potential)
            potential.knows_composition([1] * len(found["species"]))
            if "config" in change:
                from_mapping(nequip.Config, found["config"])


def test_keys_are_shown_like_values(contents, tmp_path):
    path = packed(contents, tmp_path / "x.eqff.pt", {"metrics": {"a\x1b[31m\u202eb\n": {"\x9b2J": "\x07"}}})
    for options in ([], ["--json"]):
        result = invoke(inspect.command, str(path), *options)
        assert result.exit_code == 0
        assert all(letter.isprintable() or letter == "\n" for letter in result.output)
    assert json.loads(result.output)["metrics"] == {"a\x1b[31m\u202eb\n": {"\x9b2J": "\x07"}}


def test_doctor_shows_names_as_they_are(contents, tmp_path, monkeypatch):
    folder = tmp_path / "[red]\x1b[2J"
    folder.mkdir()
    packed(contents, folder / "[red]\x1b[2J.eqff.pt")
    monkeypatch.setenv("EQFF_POTENTIALS", str(tmp_path))
    result = invoke(doctor.command)
    assert result.exit_code == 0, result.exception
    assert "[red]" in result.output
    assert "\x1b[2J" not in result.output


def test_errors_do_not_steer_the_terminal():
    assert ConfigError("EQ1010", "a\x1b[31mb\nÅ").message == "a�[31mb\nÅ"
    assert printable("Å^3 – ok\n") == "Å^3 – ok\n"
