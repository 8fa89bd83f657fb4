import sys
from pathlib import Path
from types import ModuleType

from typer.testing import CliRunner

from eqff import cli


def test_arguments_reach_the_task(monkeypatch):
    calls = []
    run = ModuleType("eqff.training.run")
    run.train = lambda *positional, **named: calls.append((positional, named))
    monkeypatch.setitem(sys.modules, "eqff.training.run", run)
    app, runner = cli.build(), CliRunner()
    assert runner.invoke(app, ["train", "water.toml"]).exit_code == 0
    arguments = ["train", "a.toml", "-o", "here", "--resume", "--set", "model.l_max=2", "--set", "seed=1"]
    assert runner.invoke(app, arguments).exit_code == 0
    assert calls == [
        ((Path("water.toml"), Path("runs/water")), {"resume": False, "overrides": ()}),
        ((Path("a.toml"), Path("here")), {"resume": True, "overrides": ("model.l_max=2", "seed=1")}),
    ]
