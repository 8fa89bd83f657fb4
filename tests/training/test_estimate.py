"""--dry-run: numbers that can be counted by hand, and nothing written."""

from pathlib import Path

from eqff.training.estimate import estimate
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config


def test_what_can_be_counted(tmp_path: Path, smallest_recipe: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(smallest_recipe)
    config = read_config(recipe)
    found = estimate(config)
    prepared = prepare(config)
    assert found.n_parameters == 824 == sum(p.numel() for p in prepared.model.parameters())  # 8 of them are fixed
    assert (found.n_train, found.n_validation) == (len(prepared.plan.split.train), len(prepared.plan.split.validation))
    assert found.n_batches == -(-found.n_train // config.training.batch_size)
    assert found.largest_batch[0] == 9 * config.training.batch_size
    assert found.step_cpu_s > 0.0
    assert 0.0 < found.step_s <= found.epoch_s < found.total_s
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]
    assert "parameters" in found.report()
    assert (found.n_epochs, found.compiled) == (1, False)
