"""The page of a run: numbers of an evaluation of its own, pictures inside, nothing from elsewhere."""

import re
from pathlib import Path

import pytest
from toys import SAMPLE

from eqff import artifact
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.data.splits import load_split
from eqff.errors import ConfigError
from eqff.tasks.evaluate import evaluate
from eqff.tasks.training_report import training_report
from eqff.training.run import train


def test_page(tmp_path: Path, smallest_recipe: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe)
    folder = train(recipe, tmp_path / "run").folder
    text = training_report(folder).read_text(encoding="utf-8")
    frames = Source(SAMPLE, ReadOptions(energy_unit="kcal/mol")).frames
    chosen = load_split(folder / "split.json").validation
    found = evaluate(artifact.load(folder / "best.eqff.pt"), [frames[i] for i in chosen])
    assert f"{found.metrics['forces_mae_meV_A']:.6g}" in text
    assert f"{found.metrics['energy_mae_meV']:.6g}" in text
    first = found.worst_forces[0]
    place = (
        f'<td class="number">{chosen[first["frame"]]}</td><td>C2H6O</td><td>{first["atom"]} ({first["element"]})</td>'
    )
    assert place in text  # the row of the file, not of the validation frames
    assert text.count("data:image/png;base64,") == 3
    assert not re.search(r"https?://|<script|<link", text)
    assert 50 < int(re.search(r">(\d+) MB<", text)[1]) < 100_000
    for word in ("GFN2-xTB", "source_sha256", "torch", "learning_rate"):
        assert word in text


def test_a_run_without_a_potential_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EQ1411"):
        training_report(tmp_path)
