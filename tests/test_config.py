import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqff.config import blaming, from_mapping, from_toml, overridden, read_toml, to_mapping, to_toml
from eqff.errors import ConfigError


class Colour(StrEnum):
    red = "red"
    blue = "blue"


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    rate: float = 1e-3
    steps: int = 100
    kind: Literal["adam", "adamw"] = "adam"
    clip: Optional[float] = None


@dataclass(frozen=True, kw_only=True)
class Nested:
    run: "Run"
    table: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    species: tuple[str, ...] = ("H", "C")
    device: float | Literal["auto"] = "auto"
    shuffle: bool = True
    path: Path = Path("runs")
    colour: Colour = Colour.red
    optimizer: Optimizer = Optimizer()
    extra: Optional[Optimizer] = None
    stages: tuple[Optimizer, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    nested: Optional[Nested] = None

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("name is forbidden")


def test_nested_values_become_dataclasses_and_tuples():
    run = from_mapping(
        Run,
        {
            "name": "a",
            "species": ["O"],
            "device": 2,
            "path": "x/y",
            "colour": "blue",
            "optimizer": {"rate": 1},
            "stages": [{"steps": 5}, {"clip": 1.5}],
            "weights": {"energy": 2},
        },
    )
    assert run == Run(
        name="a",
        species=("O",),
        device=2.0,
        path=Path("x/y"),
        colour=Colour.blue,
        optimizer=Optimizer(rate=1.0),
        stages=(Optimizer(steps=5), Optimizer(clip=1.5)),
        weights={"energy": 2.0},
    )
    assert type(run.optimizer.rate) is float
    assert type(run.species) is tuple
    assert type(run.stages) is tuple


@pytest.mark.parametrize(
    ("mapping", "fragments"),
    [
        ({"name": "a", "specie": ["H"]}, ["config.specie", "unknown key", "'species'"]),
        ({"name": "a", "optimizer": {"lr": 1}}, ["config.optimizer.lr", "unknown key", "rate, steps"]),
        ({"name": "a", "rate": 1}, ["config.rate", "'optimizer.rate'"]),
        ({}, ["config.name: missing; give it as str"]),
        ({"name": "a", "nested": {}}, ["config.nested.run: missing; give it as a table with name"]),
        ({"name": "a", "nested": {"run": {"name": "b"}}}, ["config.nested.table: missing; give it as a table"]),
        ({"name": 3}, ["config.name=3", "string"]),
        ({"name": "a", "optimizer": {"rate": "1e-3"}}, ["config.optimizer.rate='1e-3'", "number"]),
        ({"name": "a", "optimizer": {"rate": True}}, ["config.optimizer.rate=True", "number"]),
        ({"name": "a", "optimizer": {"steps": True}}, ["config.optimizer.steps=True", "integer"]),
        ({"name": "a", "optimizer": {"steps": 1.0}}, ["config.optimizer.steps=1.0", "integer"]),
        ({"name": "a", "optimizer": {"steps": "1"}}, ["config.optimizer.steps='1'", "integer"]),
        (
            {"name": "a", "optimizer": {"kind": "adamm"}},
            ["config.optimizer.kind='adamm'", "'adam' or 'adamw'", "did you"],
        ),
        ({"name": "a", "optimizer": 3}, ["config.optimizer=3: expected a table"]),
        ({"name": "a", "shuffle": 1}, ["config.shuffle=1", "boolean"]),
        ({"name": "a", "shuffle": "no"}, ["config.shuffle='no'", "boolean"]),
        ({"name": "a", "species": "HC"}, ["config.species='HC'", "array"]),
        ({"name": "a", "species": ["H", 6]}, ["config.species[1]=6", "string"]),
        ({"name": "a", "device": "aut"}, ["config.device='aut'", "number or 'auto'"]),
        ({"name": "a", "colour": "bleu"}, ["config.colour='bleu'", "did you mean 'blue'"]),
        ({"name": "a", "stages": [{}, {"steps": "x"}]}, ["config.stages[1].steps='x'", "integer"]),
        ({"name": "a", "weights": {"energy": "x"}}, ["config.weights.energy='x'", "number"]),
        ({"name": "a", "path": object()}, ["EQ1016", "<object object at", "type object"]),
        ({"name": "forbidden"}, ["config: name is forbidden"]),
        ([], ["config=[]: expected a table with name"]),
    ],
)
def test_errors_name_key_value_and_expectation(mapping, fragments):
    with pytest.raises(ConfigError) as caught:
        from_mapping(Run, mapping)
    for fragment in fragments:
        assert fragment in str(caught.value)


optimizers = st.builds(
    Optimizer,
    rate=st.floats(allow_nan=False),
    steps=st.integers(-(2**62), 2**62),
    kind=st.sampled_from(["adam", "adamw"]),
    clip=st.none() | st.floats(allow_nan=False),
)
text = st.text(st.characters(exclude_categories=["Cs"]))
runs = st.builds(
    Run,
    name=text.filter(lambda name: name != "forbidden"),
    species=st.lists(st.sampled_from(["H", "C", "O"])).map(tuple),
    device=st.just("auto") | st.floats(allow_nan=False),
    shuffle=st.booleans(),
    colour=st.sampled_from(Colour),
    optimizer=optimizers,
    extra=st.none() | optimizers,
    stages=st.lists(optimizers, max_size=2).map(tuple),
    weights=st.dictionaries(text, st.floats(allow_nan=False), max_size=2),
)


@given(runs)
def test_toml_and_mapping_give_back_an_equal_object(run):
    assert from_mapping(Run, tomllib.loads(to_toml(run))) == run
    assert from_mapping(Run, to_mapping(run)) == run


def test_mapping_is_plain():
    mapping = to_mapping(Run(name="a", stages=(Optimizer(),)))
    assert mapping["species"] == ["H", "C"]
    assert mapping["path"] == "runs"
    assert type(mapping["colour"]) is str
    assert mapping["extra"] is None
    assert mapping["stages"] == [{"rate": 1e-3, "steps": 100, "kind": "adam", "clip": None}]


def test_none_that_toml_cannot_say_is_refused():
    @dataclass(frozen=True)
    class Clipped:
        clip: Optional[float] = 10.0

    with pytest.raises(ConfigError, match=r"clip=None"):
        to_toml(Clipped(clip=None))


def test_files(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('name = "a"\n[optimizer]\nrate = 1e-3\nkind = "adamw"\n', encoding="utf-8")
    assert from_toml(Run, path) == Run(name="a", optimizer=Optimizer(kind="adamw"))
    path.write_text('name = "a"\nspeces = ["H"]\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.toml\.speces: unknown key; did you mean 'species'"):
        from_toml(Run, path)
    path.write_text("name = a\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.toml: not valid TOML.*line 1"):
        read_toml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "absent.toml")


def test_overrides_read_toml_values_and_bare_words():
    mapping = {"name": "a", "optimizer": {"rate": 1.0}}
    changed = overridden(mapping, ["optimizer.rate=0.01", "optimizer.kind=adamw", 'species=["O"]', "extra.steps = 3"])
    assert changed == {
        "name": "a",
        "optimizer": {"rate": 0.01, "kind": "adamw"},
        "species": ["O"],
        "extra": {"steps": 3},
    }
    assert mapping == {"name": "a", "optimizer": {"rate": 1.0}}
    for wrong in ("optimizer.rate", "=1", "name.x=1", "a..b=1"):
        with pytest.raises(ConfigError, match=r"--set .*(is not KEY=VALUE|is a value)"):
            overridden(mapping, [wrong])


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["optimizer.steps=many"], "--set optimizer.steps=many: optimizer.steps='many': expected a valid integer"),
        (["colour=red", " optimizer . step=3"], "--set  optimizer . step=3: optimizer.step: unknown key; did you mean"),
        (["optimizer=3"], "--set optimizer=3: optimizer=3: expected a table"),
        (["optimizer={steps='x'}"], "--set optimizer={steps='x'}: optimizer.steps='x': expected"),
        (["optimizer.ste=1", "optimizer.step=3"], "--set optimizer.ste=1: optimizer.ste: unknown key"),
        (["optimizer.rate=1"], "run.toml.speces: unknown key"),  # not its fault
        (["spec=1"], "run.toml.speces: unknown key"),  # not the same key
    ],
)
def test_errors_of_overrides_name_the_override(assignments, message):
    own = {"name": "a"} if "run.toml" not in message else {"name": "a", "speces": ["H"]}
    with pytest.raises(ConfigError) as caught, blaming(assignments, "run.toml"):
        from_mapping(Run, overridden(own, assignments), where="run.toml")
    assert caught.value.message.startswith(message)
