"""A plan is made once: neighbour lists, configuration and sentences; what the user said stays as it was."""

import json
import logging
from collections import Counter
from pathlib import Path

import pytest
from toys import SAMPLE

from eqff.data import loader
from eqff.training.committee import train_members
from eqff.training.prepare import recipe as recipes
from eqff.training.prepare.preparation import prepare
from eqff.training.prepare.recipe import read_config
from eqff.training.run import train

SMALL = ["model.l_max=1", "model.n_layers=1", "model.n_channels=2", "model.radial_hidden=[4]", "model.r_max=2.5"]
QUICK = ["training.kernels=reference", "training.export_best=false", "data.energy_unit=kcal/mol"]


@pytest.mark.parametrize("compiles", [False, True])
def test_neighbours_of_a_frame_are_looked_for_once(monkeypatch: pytest.MonkeyPatch, compiles: bool) -> None:
    searched: Counter[str] = Counter()
    original = loader.neighbor_list

    def counting(*arguments: object, where: str) -> object:
        searched[where] += 1
        return original(*arguments, where=where)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "neighbor_list", counting)
    config = read_config(SAMPLE, [*SMALL, *QUICK, f"training.compile={str(compiles).lower()}", "training.batch_size=5"])
    prepared = prepare(config)
    within_r_max = dict(searched)
    counts = prepared.dataset.n_edges([*prepared.plan.split.train, *prepared.plan.split.validation])
    if compiles:  # frames with fewer edges than the others get their next ones, once
        assert len(within_r_max) == 20
        assert set(counts.tolist()) == {prepared.plan.n_edges}
        assert 0 < max(searched.values()) <= 2
        assert min(searched.values()) == 1  # the frame with most edges
    else:
        assert len(within_r_max) == len(prepared.plan.split.train)
        assert set(searched.values()) == {1}


def test_what_the_user_said_is_left_alone_and_every_decision_has_its_sentence(caplog: pytest.LogCaptureFixture) -> None:
    config = read_config(SAMPLE, [*SMALL, *QUICK, "training.steps=9", "training.compile=auto"])
    with caplog.at_level(logging.INFO, "eqff.training"):
        prepared = prepare(config)
        assert "frames train" not in caplog.text
        prepared.plan.log()
    assert prepared.config is config
    assert (config.data.n_train, config.training.steps) == (None, 9)
    for text in ("preset nequip-fast", "training step: ", "15 frames train in 3 epochs, 5 validate", "mean degree"):
        assert sum(text in sentence for sentence in prepared.plan.sentences) == 1
        assert caplog.text.count(text) == 1
    assert "15 frames are few" in prepared.plan.warnings[0]
    assert json.loads(json.dumps(prepared.plan.record()))["decided"] == prepared.plan.decided()


def test_members_read_the_recipe_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[type] = []
    original = recipes.config_io.from_mapping
    monkeypatch.setattr(
        recipes.config_io,
        "from_mapping",
        lambda cls, *more, **named: built.append(cls) or original(cls, *more, **named),
    )
    runs = train_members(SAMPLE, tmp_path, 2, overrides=[*SMALL, *QUICK, "training.epochs=1", "training.compile=false"])
    assert [cls.__name__ for cls in built].count("RunConfig") == 1
    assert [cls.__name__ for cls in built].count("Config") == 2
    assert [run.folder.name for run in runs] == ["member-0", "member-1"]


def test_training_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config(SAMPLE, [*SMALL, *QUICK, "training.epochs=2", "training.compile=false"])
    run = train(config)
    assert run.folder == Path("runs") / SAMPLE.stem
    assert run.best["forces_mae_meV_A"] > 0.0
    assert run.potential is None
