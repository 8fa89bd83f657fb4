"""Predicting files: what is kept, what is added, shards, resume, bad frames, errors against labels."""

import dataclasses

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from toys import Repulsion, potential_of

from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError, DataError, GraphError, RunError
from eqff.tasks import predict
from eqff.tasks.predict import PredictConfig, parse_shard, run_predict


@pytest.fixture
def potential():
    return potential_of(Repulsion())


def mixture(n=12):
    """Molecules and crystals in turn, with everything a frame may carry."""
    frames = []
    for number in range(n):
        atoms = [molecule("CH3CH2OH"), bulk("C", "diamond", a=3.5), molecule("H2O"), Atoms("O")][number % 4]
        atoms.rattle(0.1, seed=number)
        atoms.info = {"id": f"f{number}", "note": 'a "quoted" word', "weight": 0.1 * number}
        atoms.arrays["guess"] = np.arange(len(atoms)) * 0.25
        atoms.set_tags(np.arange(len(atoms)))
        frames.append(atoms)
    return frames


@pytest.fixture
def source(tmp_path):
    ase.io.write(tmp_path / "in.extxyz", mixture())
    return tmp_path / "in.extxyz"


def test_frames_come_back_in_order_with_all_they_had_and_results(tmp_path, source, potential):
    report = run_predict(PredictConfig(source=source, output=tmp_path / "out.extxyz"), potential)
    assert (report.n_frames, report.n_atoms, report.n_bad, report.errors, report.notes) == (12, 45, 0, {}, [])
    frames, results = ase.io.read(source, ":"), ase.io.read(tmp_path / "out.extxyz", ":")
    assert len(results) == len(frames)
    for one, other, exact in zip(frames, results, potential.predict(frames), strict=True):
        assert one == other  # positions, numbers, cell, pbc
        assert one.info == {key: other.info[key] for key in one.info}
        for name, values in one.arrays.items():
            np.testing.assert_array_equal(other.arrays[name], values)
        assert other.info["eqff_energy"] == pytest.approx(exact.energy, abs=1e-10)
        np.testing.assert_allclose(other.arrays["eqff_forces"].reshape(-1, 3), exact.forces, atol=1e-8)
        np.testing.assert_allclose(other.arrays["eqff_energies"], exact.energies, atol=1e-8)
        assert ("eqff_stress" in other.info) == other.pbc.all()
        if other.pbc.all():
            np.testing.assert_allclose(other.info["eqff_stress"], exact.stress, atol=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.extxyz", "out.extxyz"]


def test_constraints_are_kept_and_the_others_named(tmp_path, potential):
    one, two, three = molecule("H2O"), molecule("H2O"), molecule("H2O")
    one.set_constraint(FixAtoms([0, 2]))
    two.set_constraint(FixCartesian([1], mask=[True, False, True]))
    three.set_constraint(FixBondLength(0, 1))
    ase.io.write(tmp_path / "in.traj", [one, two, three])
    report = run_predict(PredictConfig(source=tmp_path / "in.traj", output=tmp_path / "out.xyz"), potential)
    first, second, _ = ase.io.read(tmp_path / "out.xyz", ":")
    assert first.constraints[0].index.tolist() == [0, 2]
    second.set_momenta(np.ones((3, 3)))  # ASE removes what is fixed
    np.testing.assert_array_equal(second.get_momenta(), [[1, 1, 1], [0, 1, 0], [1, 1, 1]])
    assert report.notes == ["constraints of kind FixBondLengths cannot be kept in extended XYZ"]


def labelled(atoms, energy_shift=0.0, force_shift=0.0, stress_shift=0.0):
    """The truth of `Repulsion`, shifted."""
    (exact,) = potential_of(Repulsion()).predict([atoms])
    results = {"energy": exact.energy + energy_shift, "forces": exact.forces + force_shift}
    if exact.stress is not None:
        results["stress"] = exact.stress + stress_shift
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_errors_against_labels_have_units(tmp_path, potential):
    water, crystal = molecule("H2O"), bulk("C", "diamond", a=3.5)
    crystal.rattle(0.1)
    plain = molecule("CH4")
    ase.io.write(
        tmp_path / "in.extxyz",
        [labelled(water, 0.003, [0.01, 0, 0]), plain, labelled(crystal, -0.001, 0.0, 0.5 * units.GPa)],
    )
    report = run_predict(PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz"), potential)
    close = {"rel": 1e-4}  # the file has 8 decimals
    assert report.errors["energy_mae_meV"] == pytest.approx(2.0, **close)
    assert report.errors["energy_rmse_meV"] == pytest.approx(np.sqrt(5.0), **close)
    assert report.errors["energy_max_meV"] == pytest.approx(3.0, **close)
    assert report.errors["energy_per_atom_mae_meV"] == pytest.approx((1.0 + 0.5) / 2, **close)
    assert report.errors["forces_mae_meV_A"] == pytest.approx(10.0 * 3 / 15, rel=1e-3)
    assert report.errors["forces_max_meV_A"] == pytest.approx(10.0, **close)
    assert report.errors["stress_mae_GPa"] == pytest.approx(0.5, **close)
    assert report.errors["energy_n"] == 2
    back = ase.io.read(tmp_path / "out.extxyz", 0)
    assert back.get_potential_energy() == pytest.approx(back.info["eqff_energy"] + 0.003)  # the label is still there


def test_labels_by_name_and_labels_that_contradict(tmp_path, source, potential):
    water = labelled(molecule("H2O"))
    water.info["REF_energy"] = water.get_potential_energy() + 1.0
    ase.io.write(tmp_path / "two.extxyz", water)
    config = PredictConfig(source=tmp_path / "two.extxyz", output=tmp_path / "out.extxyz")
    report = run_predict(config, potential)
    assert report.errors == {}
    assert "'energy' and 'REF_energy'" in report.notes[0]
    chosen = ReadOptions(energy_key="REF_energy")
    report = run_predict(
        PredictConfig(source=config.source, output=config.output, reading=chosen, force=True), potential
    )
    assert report.errors["energy_mae_meV"] == pytest.approx(1000.0)
    with pytest.raises(DataError, match="EQ3031"):
        run_predict(PredictConfig(source=source, output=tmp_path / "b.extxyz", reading=chosen), potential)


def test_as_calculator_writes_plain_names_and_loses_no_label(tmp_path, potential):
    water = labelled(molecule("H2O"), energy_shift=0.5)
    label = water.get_potential_energy()
    ase.io.write(tmp_path / "in.extxyz", [water, bulk("C", "diamond", a=3.5)])
    config = PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz", as_calculator=True)
    report = run_predict(config, potential)
    assert report.errors["energy_mae_meV"] == pytest.approx(500.0)
    one, two = ase.io.read(tmp_path / "out.extxyz", ":")
    assert one.get_potential_energy() == pytest.approx(label - 0.5)
    assert one.info["REF_energy"] == pytest.approx(label)
    assert one.arrays["REF_forces"].shape == (3, 3)
    exact = potential.predict([two])[0]
    np.testing.assert_allclose(two.get_stress(), exact.stress, atol=1e-12)
    assert not any(key.startswith("eqff_") for key in (*one.info, *one.arrays))
    water.info["REF_energy"] = 1.0
    ase.io.write(tmp_path / "taken.extxyz", water)
    config = PredictConfig(source=tmp_path / "taken.extxyz", output=tmp_path / "b.extxyz", as_calculator=True)
    with pytest.raises(DataError, match=r"EQ3104: .*taken.extxyz: frame 0 has 'energy'"):
        run_predict(config, potential)


def bad_frames():
    nan = Atoms("O", [[np.nan, 0, 0]])
    return {2: Atoms("Ar"), 3: nan, 6: Atoms("H2", [[0, 0, 0], [0, 0, 1e-3]])}


@pytest.mark.parametrize(("number", "words"), [(2, "atom 0 is Ar"), (3, "not finite"), (6, "0.001 Å apart")])
def test_a_bad_frame_stops_with_its_number(tmp_path, potential, number, words):
    frames = [molecule("H2O") for _ in range(9)]
    frames[number] = bad_frames()[number]
    ase.io.write(tmp_path / "in.extxyz", frames)
    config = PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz")
    with pytest.raises(GraphError, match=rf"in.extxyz: frame {number}: .*{words}.*--skip-bad"):
        run_predict(config, potential)
    assert not (tmp_path / "out.extxyz").exists()


def test_bad_frames_may_be_passed_on_without_results(tmp_path, potential):
    frames = [molecule("H2O") for _ in range(9)]
    for number, atoms in bad_frames().items():
        atoms.info["eqff_energy"] = 1.0  # of another potential
        frames[number] = atoms
    ase.io.write(tmp_path / "in.extxyz", frames)
    config = PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz", skip_bad=True)
    report = run_predict(config, potential)
    assert report.n_bad == 3
    assert list(report.bad) == [2, 3, 6]
    results = ase.io.read(tmp_path / "out.extxyz", ":")
    assert [number for number, atoms in enumerate(results) if "eqff_energy" not in atoms.info] == [2, 3, 6]
    assert len({atoms.info["eqff_energy"] for atoms in results if "eqff_energy" in atoms.info}) == 1


def test_results_that_are_not_finite_are_bad_frames(tmp_path):
    class Broken(Repulsion):
        def forward(self, species, senders, receivers, edge_vector):
            energy = super().forward(species, senders, receivers, edge_vector)
            return energy + (float("nan") * energy[species == 1]).sum()

    ase.io.write(tmp_path / "in.extxyz", [molecule("H2O"), molecule("CH4"), molecule("H2O")])
    options = {"source": tmp_path / "in.extxyz", "output": tmp_path / "out.extxyz"}
    with pytest.raises(RunError, match=r"EQ5301: .*frame 1"):
        run_predict(PredictConfig(**options), potential_of(Broken()))
    report = run_predict(PredictConfig(**options, skip_bad=True, resume=True), potential_of(Broken()))
    assert (report.n_frames, list(report.bad)) == (3, [1])


@pytest.mark.parametrize("n_parts", [1, 3, 5, 12, 17])
def test_shards_one_after_the_other_are_the_whole(tmp_path, source, potential, n_parts):
    run_predict(PredictConfig(source=source, output=tmp_path / "whole.extxyz"), potential)
    parts = []
    for part in range(1, n_parts + 1):
        config = PredictConfig(source=source, output=tmp_path / f"{part}.extxyz", shard=(part, n_parts))
        report = run_predict(config, potential)
        assert report.first == sum(len(one) for one in parts)
        text = config.output.read_text()
        parts.append(ase.io.read(config.output, ":") if text else [])
    whole = ase.io.read(tmp_path / "whole.extxyz", ":")
    joined = [atoms for part in parts for atoms in part]
    assert [atoms.info["id"] for atoms in joined] == [atoms.info["id"] for atoms in whole]
    for one, other in zip(joined, whole, strict=True):
        assert one.info["eqff_energy"] == pytest.approx(other.info["eqff_energy"], abs=1e-10)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


class StoppedError(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("after", [0, 1, 4, 9])
def test_stopped_and_resumed_is_the_same_file_and_report(tmp_path, potential, after):
    frames = [labelled(atoms, 0.01 * number) for number, atoms in enumerate(mixture(40))]
    ase.io.write(tmp_path / "in.extxyz", frames)
    options = {"source": tmp_path / "in.extxyz", "max_edges": 200}
    whole = run_predict(PredictConfig(**options, output=tmp_path / "whole.extxyz"), potential)
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) > after:
            raise StoppedError

    config = PredictConfig(**options, output=tmp_path / "out.extxyz", resume=True)
    with pytest.raises(StoppedError):
        run_predict(config, potential, progress=stop)
    partial = tmp_path / "out.extxyz.partial"
    with partial.open("a") as file:
        file.write("9\nProperties=species:S:1:pos:R:3\nH 0.0 0.")  # a torn frame
    with pytest.raises(ConfigError, match="EQ1223: as_calculator=True"):
        run_predict(PredictConfig(**options, output=config.output, resume=True, as_calculator=True), potential)
    with pytest.raises(ConfigError, match="EQ1223: program='compiled'"):
        run_predict(config, dataclasses.replace(potential, program="compiled"))
    resumed = run_predict(config, potential)
    assert resumed.n_resumed == calls[-1]
    assert config.output.read_bytes() == (tmp_path / "whole.extxyz").read_bytes()
    different = {"output", "n_resumed", "wall_seconds", "frames_per_second"}
    for name in set(whole._fields) - different:
        assert getattr(resumed, name) == getattr(whole, name)
    assert not partial.exists()
    assert run_predict(config, potential).already_there


def test_frames_are_streamed(tmp_path, source, potential, monkeypatch):
    """Never more frames in the air than one batch holds."""
    alive, most = [], []
    convert = predict.structures.to_atoms

    def counted(frame):
        atoms = convert(frame)
        alive.append(atoms)
        most.append(len(alive))
        return atoms

    def written(atoms):
        alive.remove(atoms)
        return "1\n\nH 0 0 0\n"

    monkeypatch.setattr(predict.structures, "to_atoms", counted)
    monkeypatch.setattr(predict.structures, "frame_text", written)
    run_predict(PredictConfig(source=source, output=tmp_path / "out.extxyz", max_edges=100), potential)
    assert len(most) == 12
    assert max(most) < 6


def test_unknown_compositions_are_collected_once(tmp_path, source):
    potential = potential_of(Repulsion(), header={"training_data": {"compositions": ["C2H6O"]}})
    report = run_predict(PredictConfig(source=source, output=tmp_path / "out.extxyz"), potential)
    assert report.unknown_compositions == ["C2", "H2O", "O"]


def test_charge_is_noticed_once(tmp_path, potential):
    frames = [molecule("H2O") for _ in range(4)]
    frames[2].info["charge"] = frames[3].info["charge"] = 1
    ase.io.write(tmp_path / "in.extxyz", frames)
    report = run_predict(PredictConfig(source=tmp_path / "in.extxyz", output=tmp_path / "out.extxyz"), potential)
    assert len(report.notes) == 1
    assert "frame 2 has info['charge']=" in report.notes[0]


def test_files_that_cannot_be_read(tmp_path, source, potential):
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "mice.xyz").write_text("three\nblind mice\n")
    (tmp_path / "word.dat").write_text("hello")
    (tmp_path / "torn.xyz").write_text(source.read_text()[:-20])
    for name, id in (
        ("empty.xyz", "EQ3925"),
        ("absent.xyz", "EQ3024"),
        (".", "EQ3041"),
        ("mice.xyz", "EQ3931"),
        ("word.dat", "EQ3219"),
    ):
        with pytest.raises(DataError, match=id):
            run_predict(PredictConfig(source=tmp_path / name, output=tmp_path / "out.xyz"), potential)
    np.savez(tmp_path / "labels.npz", R=np.zeros((1, 1, 3)))
    with pytest.raises(DataError, match=r"EQ3041.*its arrays are R"):
        run_predict(PredictConfig(source=tmp_path / "labels.npz", output=tmp_path / "out.xyz"), potential)
    with pytest.raises(DataError, match=r"torn.xyz: frame"):
        run_predict(PredictConfig(source=tmp_path / "torn.xyz", output=tmp_path / "out.xyz"), potential)
    assert not (tmp_path / "out.xyz").exists()


def test_options_that_cannot_be_used(tmp_path, source):
    with pytest.raises(ConfigError, match="EQ1224"):
        PredictConfig(source=source, output=tmp_path / "out.traj")
    with pytest.raises(ConfigError, match="EQ1226"):
        PredictConfig(source=source, output=source.parent / "." / source.name)
    for shard in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(ConfigError, match="EQ1225"):
            PredictConfig(source=source, output=tmp_path / "out.xyz", shard=shard)
    assert parse_shard("2/4") == (2, 4)
    for text in ("2", "a/b", "-1/4", "1/2/3"):
        with pytest.raises(ConfigError, match="EQ1225"):
            parse_shard(text)


@pytest.mark.parametrize("name", ["in.traj", "in.db", "in.json", "in.cif"])
def test_other_formats(tmp_path, potential, name):
    frames = [atoms for atoms in mixture(8) if atoms.pbc.all()]
    for atoms in frames:
        atoms.info = {}
    ase.io.write(tmp_path / name, frames)
    report = run_predict(PredictConfig(source=tmp_path / name, output=tmp_path / "out.extxyz", shard=(2, 2)), potential)
    (result,) = ase.io.read(tmp_path / "out.extxyz", ":")
    assert report.n_frames == 1
    assert result.info["eqff_energy"] == pytest.approx(potential.predict(frames)[1].energy, abs=1e-4)
