"""Keys of recipes as the source has them: none is missing, and none has another default than the dataclass."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from eqff import registry
from eqff.reference.recipe_keys import recipe_keys
from eqff.training.config import DataConfig, LossConfig, RunConfig, TrainingConfig


def names(config: Any, prefix: str) -> dict[str, Any]:
    return {prefix + field.name: field.default for field in dataclasses.fields(config)}


def test_all_keys_of_a_run_with_their_defaults() -> None:
    expected = names(RunConfig, "") | names(DataConfig, "data.") | names(TrainingConfig, "training.")
    expected |= names(LossConfig, "training.loss.")
    for table in ("data", "training", "training.loss", "model"):
        del expected[table]
    keys = {key.path: key for key in recipe_keys() if not key.family}
    assert keys.pop("model.family").type.startswith("Literal['")
    assert keys.keys() == expected.keys()
    for name, key in keys.items():
        if key.default:
            assert eval(key.default) == expected[name]  # noqa: S307
        else:
            assert expected[name] is dataclasses.MISSING
    assert keys["training.batch_size"].meaning.startswith("frames in a batch")
    assert keys["data.baseline"].meaning.startswith("calculator to subtract")  # above the field
    assert "auto: if it pays" in keys["training.compile"].meaning


@pytest.mark.parametrize("family", registry.names("models"))
def test_all_keys_of_a_model(family: str) -> None:
    fields = names(registry.load("models", family).Config, "model.")
    assert [key.path for key in recipe_keys() if key.family == family] == list(fields)


SOURCE = """
class RunConfig:
    # Å,
    # of all
    r_max: float = (
        5.0  # here
    )
    # of nothing

    name: str
"""


def test_comments_on_several_lines(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "config.py").write_text(SOURCE, encoding="utf-8")
    assert [tuple(key) for key in recipe_keys(tmp_path)] == [
        ("r_max", "", "float", "5.0", "Å, of all here"),
        ("name", "", "str", "", ""),
    ]
