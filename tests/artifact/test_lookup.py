"""Names of potentials."""

from eqff.artifact.lookup import potential_name


def test_the_best_potential_of_a_run_is_called_like_the_run(tmp_path, monkeypatch):
    run = tmp_path / "ethanol-small"
    run.mkdir()
    assert potential_name(run / "best.eqff.pt") == "best"  # a lone file
    (run / "model.json").touch()
    assert potential_name(run / "best.eqff.pt") == "ethanol-small"
    monkeypatch.chdir(run)
    assert potential_name("best.eqff.pt") == "ethanol-small"
    assert potential_name("other.eqff.pt") == "other"
    assert potential_name("si-nequip") == "si-nequip"
