"""A small potential in a folder of its own is trained anew: the same numbers; other data and worse runs are seen."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import SAMPLE
from typer.testing import CliRunner

from eqff import artifact, cli
from eqff.data.published import official_split
from eqff.data.reading.npz import npz_names, read_npz
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.digest import file_sha256
from eqff.errors import ConfigError, DataError, RunError
from eqff.tasks.evaluate import evaluate
from eqff.tasks.reproduce import pinned, reproduce
from eqff.training.folder.trained import export_run
from eqff.training.run import train


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, smallest_recipe: str) -> Path:
    """potentials/small, made the way shipped potentials are made."""
    folder = tmp_path_factory.mktemp("potentials") / "small"
    folder.mkdir()
    recipe = folder / "recipe.toml"
    recipe.write_text(smallest_recipe.replace(str(SAMPLE), SAMPLE.name))
    shutil.copyfile(SAMPLE, folder / SAMPLE.name)
    run = train(recipe, folder / "run").folder
    export_run(run, folder / "small.eqff.pt")
    frames = Source(SAMPLE, ReadOptions(energy_unit="kcal/mol")).frames
    metrics = evaluate(artifact.load(folder / "small.eqff.pt"), frames).metrics
    test = {"data": SAMPLE.name, "data_sha256": file_sha256(SAMPLE)} | metrics
    (folder / "metrics.json").write_text(json.dumps({"test": test}))
    return folder


@pytest.fixture(autouse=True)
def found(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQFF_POTENTIALS", str(shipped.parent))


def test_the_same_recipe_gives_the_same_potential(shipped: Path, tmp_path: Path) -> None:
    result = reproduce("small", SAMPLE.parent, tmp_path / "run")
    assert result.reproduced
    assert result.found["forces_mae_meV_A"] == pytest.approx(result.expected["forces_mae_meV_A"], rel=1e-6)
    header = artifact.inspect(tmp_path / "run" / "small.eqff.pt")
    assert header["metrics"]["test"]["forces_mae_meV_A"] == result.found["forces_mae_meV_A"]
    assert "; reproduced." in (tmp_path / "run" / "card.md").read_text()


def test_a_worse_run_is_said_to_be_worse(shipped: Path, tmp_path: Path) -> None:
    arguments = ["reproduce", "small", "--data", str(SAMPLE.parent), "-o", str(tmp_path / "run"), "--band", "0"]
    result = CliRunner().invoke(cli.build(), [*arguments, "--set", "training.learning_rate=1e-9"])
    assert isinstance(result.exception, RunError)
    assert result.exception.id == "EQ5210"
    assert "; not reproduced." in (tmp_path / "run" / "card.md").read_text()


def test_other_data_are_refused(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="EQ3955"):
        reproduce("small", tmp_path, tmp_path / "run")
    (tmp_path / SAMPLE.name).write_bytes(SAMPLE.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="EQ3502"):
        reproduce("small", tmp_path, tmp_path / "run")
    (shipped / "recipe.toml").rename(shipped / "hidden")
    try:
        with pytest.raises(ConfigError, match="EQ1410"):
            reproduce("small", SAMPLE.parent, tmp_path / "run")
    finally:
        (shipped / "hidden").rename(shipped / "recipe.toml")
    assert not (tmp_path / "run").exists()


def test_frames_of_the_official_split_come_out_of_the_published_file(
    rmd17_ethanol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name = rmd17_ethanol.parent.parent, "rmd17_ethanol_train_01.npz"
    with pytest.raises(DataError, match=r"EQ3501.*nor rmd17_ethanol.npz; get it with `eqff data get rmd17-ethanol -o"):
        pinned(folder / name, "not known", folder / "cuts")
    (folder / "rmd17").mkdir()
    rmd17_ethanol.parent.rename(folder / "rmd17" / "npz_data")
    monkeypatch.setattr(official_split, "FINGERPRINTS", folder / "rmd17" / "npz_data" / "known.npz")
    for _ in range(2):
        path = pinned(folder / name, "not known", folder / "cuts")
    assert path == folder / "cuts" / name
    assert read_npz(path, ["old_indices"])["old_indices"].tolist() == [7, 2, 11]
    assert pinned(path, file_sha256(path), folder) == pinned(path, "another file of the same frames", folder) == path
    arrays: dict[str, Any] = read_npz(path, npz_names(path))
    arrays["coords"] = arrays["coords"] + np.float64(1e-12)
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="EQ3502"):
        pinned(path, "not known", folder)
