"""Reading of foreign files: what is found in them, and that nothing in them is run."""

import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from eqff.errors import EqffError
from eqff.importers._source import read

CONFIG = {"r_max": 4.0, "type_names": ["H"]}
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


class Evil:
    """Pickled, it would run a command when it is loaded."""

    def __reduce__(self):
        return print, ("loaded",)


def as_npz(path, **arrays):
    np.savez(path, **{f"w/{name}": value.numpy() for name, value in STATE.items()}, **arrays)
    return path


def equal(state):
    return state.keys() == STATE.keys() and all(np.array_equal(state[name], STATE[name].numpy()) for name in STATE)


def test_npz(tmp_path):
    versions = json.dumps({"nequip": "0.19.1"})
    source = read(as_npz(tmp_path / "model.npz", config=json.dumps(CONFIG), versions=versions))
    assert (source.config, source.versions, source.species) == (CONFIG, {"nequip": "0.19.1"}, [])
    assert equal(source.state)
    assert len(source.sha256) == 64


@pytest.mark.parametrize(
    ("types", "numbers", "species"),
    [
        ([1, 0, 2, 0], [6, 1, 8, 1], ["H", "C", "O"]),
        ([[1], [0], [2]], [6, 1, 8], ["H", "C", "O"]),
        ([2, 0], [8, 1], []),  # nothing shows what type 1 is
        ([0, 1, 2], [8, 1], []),
    ],
)
def test_species_that_an_example_shows(tmp_path, types, numbers, species):
    example = {"in/atom_types": np.array(types), "in/numbers": np.array(numbers)}
    assert read(as_npz(tmp_path / "model.npz", config=json.dumps(CONFIG), **example)).species == species


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "best.pth.tar"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_checkpoints(tmp_path, name, wrapped):
    table = {"epoch": 3, "state_dict": STATE, "config": CONFIG, "optimizer": {"x": torch.zeros(2)}}
    torch.save(table if wrapped else dict(STATE), tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    source = read(tmp_path / name, None if wrapped else tmp_path / "config.json")
    assert source.config == CONFIG
    assert equal(source.state)


def test_numbers_beside_the_weights_belong_to_them(tmp_path):
    beside = {"normalizers": {"energy": {"mean": torch.tensor(2.0), "rmsd": 3.0}}}
    torch.save({"state_dict": STATE, "config": CONFIG, **beside}, tmp_path / "model.pt")
    state = read(tmp_path / "model.pt").state
    assert (float(state["normalizers.energy.mean"]), float(state["normalizers.energy.rmsd"])) == (2.0, 3.0)


def test_safetensors_with_toml(tmp_path):
    safetensors.torch.save_file(STATE, tmp_path / "model.safetensors")
    (tmp_path / "config.toml").write_text('r_max = 4.0\ntype_names = ["H"]\n')
    source = read(tmp_path / "model.safetensors", tmp_path / "config.toml")
    assert source.config == CONFIG
    assert equal(source.state)


def test_half_precision_becomes_float32(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2, dtype=torch.bfloat16)}, "config": CONFIG}, tmp_path / "model.pt")
    assert read(tmp_path / "model.pt").state["a"].dtype == np.float32


def test_a_configuration_given_replaces_the_one_in_the_file(tmp_path):
    (tmp_path / "config.json").write_text('{"r_max": 5.0}')
    path = as_npz(tmp_path / "model.npz", config=json.dumps(CONFIG))
    assert read(path, tmp_path / "config.json").config == {"r_max": 5.0}


def write_program(path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)


def write_evil(path):
    path.write_bytes(pickle.dumps({"state_dict": Evil()}))


WRONG = {
    "EQ4350": ("missing.pt", None, None),
    "EQ4351": ("empty.pt", lambda path: torch.save({"config": CONFIG}, path), None),
    "EQ4301": ("bare.npz", as_npz, None),
    "EQ4352": ("text.npz", lambda path: path.write_text("no zip"), None),
    "EQ4352b": ("broken.npz", lambda path: as_npz(path, config="{"), None),
    "EQ4911": ("list.npz", lambda path: as_npz(path, config="[1]"), None),
    "EQ4353": ("model.safetensors", lambda path: path.write_text("x"), None),
    "EQ4354": ("program.pt", write_program, None),
    "EQ4355": ("evil.pt", lambda path: torch.save({"state_dict": Evil()}, path), None),
    "EQ4355b": ("old.pt", write_evil, None),
    "EQ4356": ("text.pt", lambda path: path.write_bytes(b""), None),
    "EQ4357": ("list.pt", lambda path: torch.save([1.0], path), None),
    "EQ4358": ("model.npz", as_npz, ("config.yaml", "r_max: 4.0")),
    "EQ4359": ("model.npz", as_npz, ("config.json", "{")),
    "EQ4912": ("model.npz", as_npz, ("config.json", "[]")),
    "EQ1015": ("model.npz", as_npz, ("config.toml", "r_max = ")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read(tmp_path, capsys, case):
    name, write, config = WRONG[case]
    path = tmp_path / name
    if write is not None:
        write(path)
    if config is not None:
        (tmp_path / config[0]).write_text(config[1])
    with pytest.raises(EqffError) as error:
        read(path, None if config is None else tmp_path / config[0])
    assert error.value.id == case[:6]
    assert capsys.readouterr().out == ""  # nothing was run
