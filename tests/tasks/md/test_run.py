"""Molecular dynamics against closed forms and conservation laws, with calculators of ASE and a harmonic crystal."""

import csv
import gc
import math
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength

from eqff.data.h5md import read_h5md
from eqff.errors import ConfigError, GraphError, ResourceError, RunError
from eqff.tasks.md import LOG_HEADER, Limits, MDConfig, drift, run_md
from eqff.tasks.md.velocities import n_degrees_of_freedom, set_momenta


class Harmonic(Calculator):
    """Every atom bound to its site by a spring: the one system whose dynamics and statistics are known exactly."""

    implemented_properties = ("energy", "forces")

    def __init__(self, sites, spring=5.0, fails_at=None, failure=math.nan):
        super().__init__()
        self.sites, self.spring, self.fails_at, self.failure, self.n_calls = sites, spring, fails_at, failure, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        displacement = atoms.positions - self.sites
        forces = -self.spring * displacement
        self.n_calls += 1
        if self.fails_at is not None and self.n_calls > self.fails_at:
            if isinstance(self.failure, Exception):
                raise self.failure
            forces[1, 0] = self.failure
        self.results = {"energy": 0.5 * self.spring * float((displacement**2).sum()), "forces": forces}


@pytest.fixture
def copper():
    return bulk("Cu", cubic=True) * (2, 2, 2)


def config(tmp_path, **options):
    return MDConfig(trajectory=tmp_path / "traj.extxyz", **options)


def test_nve_conserves_energy_and_its_fluctuation_is_second_order(tmp_path, copper):
    coarse = run_md(config(tmp_path, timestep=8.0, steps=125, temperature=600.0), copper, EMT())
    fine = run_md(config(tmp_path, timestep=4.0, steps=250, temperature=600.0, force=True), copper, EMT())
    assert abs(coarse.drift) < 0.5  # meV/atom/ps
    assert coarse.fluctuation > 1e-3
    assert coarse.drift_resolution == pytest.approx(math.sqrt(12) * coarse.fluctuation)  # the run lasts 1 ps
    assert 3.0 < coarse.fluctuation / fine.fluctuation < 5.0
    assert coarse.conserved == "total energy"
    assert coarse.time_ps == 1.0


def test_nve_oscillator_follows_its_closed_form(tmp_path):
    sites = np.array([[0.0, 0, 0], [9, 0, 0]])
    atoms = Atoms("Ar2", positions=sites, pbc=False)
    atoms.set_momenta([[0.3, 0, 0], [0, -0.2, 0.1]])
    report = run_md(config(tmp_path, timestep=0.2, steps=500, keep_momenta=True), atoms, Harmonic(sites))
    frames = ase.io.read(report.trajectory, ":")
    omega = math.sqrt(5.0 / atoms.get_masses()[0])
    for frame in frames:
        phase = omega * frame.info["time_fs"] * units.fs
        expected = sites + atoms.get_velocities() * math.sin(phase) / omega
        np.testing.assert_allclose(frame.positions, expected, atol=1e-5)
        np.testing.assert_allclose(frame.get_momenta(), atoms.get_momenta() * math.cos(phase), atol=1e-4)


def test_nvt_mean_temperature_and_equipartition(tmp_path):
    sites = np.random.default_rng(0).uniform(0, 20, (60, 3))
    atoms = Atoms("C60", positions=sites)
    options = {"timestep": 2.0, "steps": 1500, "thermostat_time": 50.0, "temperature": 350.0}
    report = run_md(config(tmp_path, ensemble="nvt", **options), atoms, Harmonic(sites))
    second_half = report.samples[len(report.samples) // 2 :]
    # 180 oscillators, each with energy kT; about 15 independent samples: standard error about 2.5 %
    assert report.mean_temperature == pytest.approx(350.0, rel=0.1)
    assert second_half["potential"].mean() == pytest.approx(0.5 * 180 * units.kB * 350.0, rel=0.12)
    assert report.drift is None
    assert report.conserved == ""


def test_npt_conserves_its_extended_energy_and_changes_volume(tmp_path, copper):
    options = {"timestep": 4.0, "steps": 100, "thermostat_time": 100.0, "barostat_time": 200.0}
    report = run_md(config(tmp_path, ensemble="npt", pressure_gpa=-8.0, interval=50, **options), copper, EMT())
    assert report.conserved == "extended-system energy"
    assert abs(report.drift) < 5.0
    assert report.fluctuation < 1.0
    assert np.ptp(report.samples["total"]) * 1e3 / 32 > 20 * report.fluctuation  # what is conserved is not the total
    assert report.samples["volume"][-1] > 1.01 * report.samples["volume"][0]  # tension expands
    frames = ase.io.read(report.trajectory, ":")
    assert frames[-1].get_volume() == pytest.approx(report.samples["volume"][-1], rel=1e-6)
    assert "stress" in frames[-1].calc.results


def test_seed_decides_everything(tmp_path, copper):
    def positions(seed, name):
        options = {"ensemble": "nvt", "timestep": 2.0, "steps": 10, "seed": seed}
        report = run_md(MDConfig(trajectory=tmp_path / name, **options), copper, EMT())
        return report.trajectory.read_text()

    assert positions(1, "a.xyz") == positions(1, "b.xyz")
    assert positions(1, "c.xyz") != positions(2, "d.xyz")


class Free(Calculator):
    """No forces: an ideal gas."""

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "free_energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def test_npt_of_an_ideal_gas_reports_its_pressure_and_density(tmp_path):
    gas = bulk("Si", "diamond", a=5.431, cubic=True) * (2, 2, 2)
    options = {"ensemble": "npt", "temperature": 500.0, "steps": 20, "guard": None}
    report = run_md(config(tmp_path, **options), gas, Free())
    samples = report.samples
    boltzmann, angstrom = 1.380649e-23, 1e-10  # J/K, m
    pressure = (len(gas) - 1) * boltzmann * samples["temperature"] / (samples["volume"] * angstrom**3) * 1e-9
    np.testing.assert_allclose(samples["pressure"], pressure, rtol=1e-5)  # p V = N k T, without the centre of mass
    cell = report.cell
    second = samples[len(samples) // 2 :]
    assert cell.pressure == pytest.approx(second["pressure"].mean())
    assert cell.volume == pytest.approx(second["volume"].mean())
    assert cell.density == pytest.approx(2.329 * 10.862**3 / cell.volume, rel=1e-3)  # silicon: 2.329 g/cm^3
    np.testing.assert_allclose(cell.start, [10.862, 10.862, 10.862, 90, 90, 90])
    assert np.prod(cell.mean[:3]) == pytest.approx(cell.volume)
    assert cell.volume_deviation > 0


def test_density_is_known_for_crystals_only_and_constant_volume_has_no_pressure(tmp_path, copper):
    cell = run_md(config(tmp_path, steps=1), copper, EMT()).cell
    assert cell.density == pytest.approx(8.96, rel=3e-3)  # copper
    assert cell.pressure is None
    assert run_md(config(tmp_path, steps=1, force=True), molecule("N2"), EMT()).cell is None


def test_half_of_the_temperature_is_explained_where_a_run_begins_at_a_minimum(tmp_path, copper):
    sites = copper.positions.copy()
    options = {"timestep": 4.0, "steps": 100, "temperature": 300.0}
    report = run_md(config(tmp_path, **options), copper, Harmonic(sites))
    assert report.mean_temperature == pytest.approx(150.0, rel=0.15)  # equipartition
    (note,) = report.notes
    assert "--temperature 600" in note
    assert "--keep-momenta" in note
    warm = ase.io.read(report.trajectory)
    for other in ({"keep_momenta": True}, {"ensemble": "nvt"}, {"steps": 5}):
        assert not run_md(config(tmp_path, force=True, **(options | other)), warm, Harmonic(sites)).notes


def test_files_hold_what_was_computed_and_atoms_stay(tmp_path, copper):
    copper.rattle(0.05, seed=1)
    before, seen = copper.copy(), []
    report = run_md(config(tmp_path, timestep=4.0, steps=25, interval=10), copper, EMT(), seen.append)
    assert copper == before
    assert not copper.has("momenta")
    assert [sample.step for sample in seen] == list(range(26))
    frames = ase.io.read(report.trajectory, ":")
    assert [frame.info["step"] for frame in frames] == [0, 10, 20, 25]
    assert [frame.info["time_fs"] for frame in frames] == [0.0, 40.0, 80.0, 100.0]
    with report.log.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == LOG_HEADER
    assert len(rows) == 26
    for frame in frames:
        row = [float(value) for value in rows[frame.info["step"]]]
        stored = frame.get_potential_energy(), frame.get_forces()
        assert row[2] == pytest.approx(stored[0], abs=1e-6)
        assert row[3] == pytest.approx(frame.get_kinetic_energy(), rel=1e-4)
        frame.calc = EMT()
        np.testing.assert_allclose(frame.get_forces(), stored[1], atol=1e-6)
        assert frame.get_potential_energy() == pytest.approx(stored[0], abs=1e-6)
    assert report.max_force > 0.1
    assert report.ns_per_day > 0


def test_existing_files_are_kept_without_force(tmp_path, copper):
    for name in ("traj.extxyz", "traj.csv"):
        (tmp_path / name).write_text("precious")
        with pytest.raises(ConfigError, match=f"{name} exists"):
            run_md(config(tmp_path, steps=1), copper, EMT())
        assert (tmp_path / name).read_text() == "precious"
        (tmp_path / name).unlink()
    (tmp_path / "traj.extxyz").write_text("old")
    report = run_md(config(tmp_path, steps=1, force=True), copper, EMT())
    assert len(ase.io.read(report.trajectory, ":")) == 2


@pytest.mark.parametrize(
    ("failure", "id", "words"),
    [
        (math.nan, "EQ5102", "force of atom 1 (Ar) is"),
        (1e5, "EQ5104", "force on atom 1 (Ar) is 1e+05 eV/Å"),
        (GraphError("EQ2199", "atoms 0 and 1 coincide"), "EQ5101", "atoms 0 and 1 coincide"),
    ],
)
def test_blow_up_names_step_and_atom_and_keeps_the_last_good_frame(tmp_path, failure, id, words):
    sites = np.array([[0.0, 0, 0], [5, 0, 0]])
    calculator = Harmonic(sites, fails_at=14, failure=failure)  # call 1 is step 0
    with pytest.raises(RunError) as caught:
        run_md(config(tmp_path, steps=100), Atoms("Ar2", positions=sites), calculator)
    assert caught.value.id == id
    assert "step 14 of 100" in caught.value.message
    assert words in caught.value.message
    frames = ase.io.read(tmp_path / "traj.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 10, 13]
    assert np.isfinite(frames[-1].get_forces()).all()


def test_a_timestep_that_is_far_too_long_stops_the_run(tmp_path):
    """0.5 fs is stable for this spring, 60 fs is beyond the limit 2 / omega of velocity Verlet: energy explodes."""
    sites = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])
    options = {"steps": 60, "interval": 100, "temperature": 300.0}
    atoms = Atoms("H3", positions=sites)
    run_md(config(tmp_path, timestep=0.5, **options), atoms, Harmonic(sites, spring=1.0))
    harmonic = Harmonic(sites, spring=1.0)
    with pytest.raises(RunError, match=r"EQ5111.*the total energy jumped by"):
        run_md(config(tmp_path, timestep=60.0, force=True, **options), atoms, harmonic)
    loose = Limits(max_jump=1e9, max_force=1e9, min_distance=1e-3)
    with pytest.raises(RunError, match=r"EQ5105.*total energy has changed by") as caught:
        run_md(config(tmp_path, timestep=60.0, force=True, guard=loose, **options), atoms, harmonic)
    frames = ase.io.read(tmp_path / "traj.extxyz", ":")
    assert f"step {frames[-1].info['step'] + 1} of 60" in caught.value.message
    energies = [frame.get_total_energy() for frame in frames]
    assert abs(energies[-1] - energies[0]) / 3 <= 1.0  # eV/atom: the last frame is a good one
    with pytest.raises(RunError, match=r"EQ5106.*temperature is"):
        run_md(config(tmp_path, timestep=60.0, ensemble="nvt", force=True, guard=loose, **options), atoms, harmonic)


@pytest.mark.parametrize("ensemble", [{"ensemble": "nvt", "thermostat": "nose-hoover"}, {"ensemble": "npt"}])
def test_chains_hold_the_temperature_and_conserve_their_energy(tmp_path, copper, ensemble):
    options = {"timestep": 5.0, "steps": 150, "thermostat_time": 50.0, "temperature": 400.0, "interval": 50}
    report = run_md(config(tmp_path, **ensemble, **options), copper, EMT())
    assert report.conserved == "extended-system energy"
    assert abs(report.drift) < 5.0  # meV/atom/ps
    assert report.fluctuation < 1.0
    assert np.ptp(report.samples["total"]) * 1e3 / 32 > 10 * report.fluctuation  # the thermostat does something
    assert report.samples["temperature"][100:].mean() == pytest.approx(400.0, rel=0.35)  # from half of it, after 0.1 ps


@pytest.mark.parametrize("suffix", [".traj", ".h5"])
def test_binary_trajectories_hold_the_same_frames(tmp_path, copper, suffix):
    options = {"steps": 7, "interval": 3, "timestep": 4.0}
    text = run_md(MDConfig(trajectory=tmp_path / "a.extxyz", **options), copper, EMT())
    binary = run_md(MDConfig(trajectory=tmp_path / f"b{suffix}", **options), copper, EMT())
    expected = ase.io.read(text.trajectory, ":")
    if suffix == ".traj":
        found = [(f.info["step"], f.positions, f.get_momenta(), f.get_forces(), f.get_potential_energy())
                 for f in ase.io.read(binary.trajectory, ":")]  # fmt: skip
    else:
        found = [(f.step, f.positions, f.velocities * f.masses[:, None] / units.fs, f.forces, f.energy)
                 for f in read_h5md(binary.trajectory)]  # fmt: skip
    assert [step for step, *_ in found] == [0, 3, 6, 7]
    for frame, (_, positions, momenta, forces, energy) in zip(expected, found, strict=True):
        np.testing.assert_allclose(positions, frame.positions, atol=1e-7)
        np.testing.assert_allclose(momenta, frame.get_momenta(), atol=1e-7)
        np.testing.assert_allclose(forces, frame.get_forces(), atol=1e-7)
        assert energy == pytest.approx(frame.get_potential_energy(), abs=1e-7)


@pytest.mark.slow
def test_ten_thousand_steps_take_no_more_memory(tmp_path):
    """Linux: resident memory after 2,000 and after 12,000 steps."""
    resident = []

    def watch(sample):
        if sample.step in (2_000, 12_000):
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    sites = np.array([[0.0, 0, 0], [5, 0, 0]])
    options = {"steps": 12_000, "interval": 100, "ensemble": "nvt", "checkpoint_interval": 500}
    run_md(config(tmp_path, **options), Atoms("Ar2", positions=sites), Harmonic(sites), watch)
    assert resident[1] - resident[0] < 20.0


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_keeps_its_last_good_frame(tmp_path, interrupt):
    sites = np.array([[0.0, 0, 0], [5, 0, 0]])

    def stop(sample):
        if sample.step == 13:
            raise interrupt

    with pytest.raises(interrupt):
        run_md(config(tmp_path, steps=100), Atoms("Ar2", positions=sites), Harmonic(sites), stop)
    assert [frame.info["step"] for frame in ase.io.read(tmp_path / "traj.extxyz", ":")] == [0, 10, 13]


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder.xyz").mkdir()
    (tmp_path / "link.xyz").symlink_to("elsewhere")
    for name in ("file/traj.xyz", "folder.xyz"):
        with pytest.raises(ResourceError, match=r"EQ6202: .*cannot be written"):
            run_md(MDConfig(trajectory=tmp_path / name, steps=1, force=True), Atoms("Ar"), Harmonic(np.zeros((1, 3))))
    with pytest.raises(ConfigError, match="EQ1204"):  # a link that leads nowhere is not followed without --force
        run_md(MDConfig(trajectory=tmp_path / "link.xyz", steps=1), Atoms("Ar"), Harmonic(np.zeros((1, 3))))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_is_no_traceback(tmp_path):
    (tmp_path / "traj.xyz").symlink_to("/dev/full")
    with pytest.raises(ResourceError, match=r"EQ6202: .*No space left"):
        run_md(MDConfig(trajectory=tmp_path / "traj.xyz", force=True), Atoms("Ar"), Harmonic(np.zeros((1, 3))))


def test_a_structure_with_nan_is_refused_by_name(tmp_path):
    with pytest.raises(GraphError, match="EQ2103: structure: positions: atom 1 is not finite"):
        run_md(config(tmp_path), Atoms("Ar2", positions=[[0, 0, 0], [0, 0, math.nan]]), EMT())


def test_bad_start_touches_no_file(tmp_path):
    sites = np.array([[0.0, 0, 0], [5, 0, 0]])
    with pytest.raises(RunError, match=r"step 0: force of atom 1 \(Ar\)"):
        run_md(config(tmp_path), Atoms("Ar2", positions=sites), Harmonic(sites, fails_at=0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ensemble": "nph"}, "choose nve, nvt or npt"),
        ({"timestep": 0.0}, "timestep=0.0"),
        ({"timestep": math.inf}, "timestep=inf"),
        ({"steps": -1}, "steps=-1"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": 0.0, "ensemble": "npt"}, "temperature=0.0"),
        ({"interval": 0}, "interval=0"),
        ({"log_interval": 0}, "log_interval=0"),
        ({"trajectory": "a.csv"}, "ends in .extxyz"),
    ],
)
def test_options_out_of_range_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        MDConfig(**options)


def test_options_that_do_not_fit_the_structure(tmp_path):
    ethanol = molecule("CH3CH2OH")
    with pytest.raises(ConfigError, match=r"ensemble=npt: pbc=\[False, False, False\]"):
        run_md(config(tmp_path, ensemble="npt"), ethanol, EMT())
    with pytest.raises(ConfigError, match="carries no momenta"):
        run_md(config(tmp_path, keep_momenta=True), ethanol, EMT())
    with pytest.raises(GraphError, match="EQ2108"):
        run_md(config(tmp_path), Atoms(), EMT())
    with pytest.raises(ConfigError, match="atom 0 has mass 0"):
        run_md(config(tmp_path), Atoms("H", masses=[0.0]), EMT())
    ethanol.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ConfigError, match="FixBondLength"):
        run_md(config(tmp_path, ensemble="nvt"), ethanol, EMT())


def test_fixed_atoms_stay(tmp_path, copper):
    copper.set_constraint(FixAtoms([0, 1]))
    for ensemble in ("nve", "nvt"):
        report = run_md(config(tmp_path, ensemble=ensemble, timestep=4.0, steps=5, force=True), copper, EMT())
        last = ase.io.read(report.trajectory)
        np.testing.assert_allclose(last.positions[:2], copper.positions[:2], atol=1e-7)
        assert np.abs(last.positions[2:] - copper.positions[2:]).max() > 1e-3


@pytest.mark.parametrize(
    ("atoms", "n_free"),
    [
        (Atoms("Ar"), 0),
        (molecule("N2"), 1),
        (molecule("CO2"), 4),
        (molecule("CH3CH2OH"), 21),
        (bulk("Cu", cubic=True), 9),
    ],
)
def test_momenta_have_no_drift_no_spin_and_the_temperature(atoms, n_free):
    assert n_degrees_of_freedom(atoms) == n_free
    set_momenta(atoms, 250.0, np.random.default_rng(3), n_free)
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0.0, atol=1e-12)
    if not atoms.pbc.any():
        np.testing.assert_allclose(atoms.get_angular_momentum(), 0.0, atol=1e-10)
    assert atoms.get_kinetic_energy() == pytest.approx(0.5 * n_free * units.kB * 250.0)


def test_thermostats_start_at_their_temperature(tmp_path):
    """Noise drives all 3 n_atoms degrees of freedom, a barostat all but those of the whole."""
    atoms = Atoms("Ar4", positions=[[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], cell=[20] * 3, pbc=True)
    report = run_md(config(tmp_path, ensemble="nvt", temperature=60.0, steps=0), atoms, Harmonic(atoms.positions))
    assert report.samples["temperature"][0] == pytest.approx(60.0)
    assert report.samples["kinetic"][0] == pytest.approx(0.5 * 12 * units.kB * 60.0)


def test_momenta_follow_maxwell_and_boltzmann():
    atoms = Atoms("H2000Xe2000", positions=np.random.default_rng(0).uniform(0, 90, (4000, 3)), cell=[90] * 3, pbc=True)
    set_momenta(atoms, 300.0, np.random.default_rng(0), n_degrees_of_freedom(atoms))
    for symbol, mass in (("H", 1.008), ("Xe", 131.293)):
        velocity = atoms.get_velocities()[atoms.symbols == symbol]
        assert velocity.var() * mass == pytest.approx(units.kB * 300.0, rel=0.06)
        assert (velocity**4).mean() / velocity.var() ** 2 == pytest.approx(3.0, rel=0.1)  # Gaussian


def test_no_fluctuation_mimics_more_drift_than_the_resolution():
    time_ps = np.linspace(0.0, 0.3, 2000)
    for period in (0.05, 0.3, 0.6, 3.0):
        for phase in np.linspace(0.0, 6.0, 13):
            energy = 0.2 * np.sin(2 * np.pi * time_ps / period + phase)
            slope, _ = drift(time_ps, energy)
            assert abs(slope) <= math.sqrt(12) * energy.std() / 0.3 * 1.001


def test_drift_of_a_known_line():
    time_ps = np.linspace(3.0, 13.0, 10_001)
    slope, deviation = drift(time_ps, -4000.0 + 0.25 * time_ps + 0.1 * np.sin(2 * np.pi * 20 * time_ps))
    assert slope == pytest.approx(0.25, abs=2e-3)
    assert deviation == pytest.approx(0.1 / math.sqrt(2), rel=1e-2)


def test_a_second_run_on_the_same_files_is_refused(tmp_path, copper):
    def start_another(sample):
        if sample.step == 3:
            for name, options in (
                ("traj.extxyz", {"force": True}),
                ("traj.traj", {}),
                ("traj.extxyz", {"resume": True}),
            ):
                with ThreadPoolExecutor(1) as pool:
                    other = MDConfig(trajectory=tmp_path / name, steps=5, **options)
                    refusals.append(pool.submit(run_md, other, copper, EMT()).exception())

    refusals = []
    alone = run_md(MDConfig(trajectory=tmp_path / "alone.extxyz", steps=20), copper, EMT())
    report = run_md(config(tmp_path, steps=20), copper, EMT(), start_another)
    assert [str(error)[:20] for error in refusals] == [
        "ResourceError EQ6131",  # --force
        "ConfigError EQ1204: ",  # the same checkpoint and log, which exist
        "ResourceError EQ6131",  # --resume
    ]
    assert report.log.read_bytes() == alone.log.read_bytes()
    assert (tmp_path / "traj.extxyz").read_bytes() == (tmp_path / "alone.extxyz").read_bytes()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_of_the_step(tmp_path, number):
    def stop(sample):
        if sample.step == 13:
            signal.raise_signal(number)

    sites = np.array([[0.0, 0, 0], [5, 0, 0]])
    atoms = Atoms("Ar2", positions=sites)
    before = signal.getsignal(number)
    alone = run_md(MDConfig(trajectory=tmp_path / "alone.extxyz", steps=30), atoms, Harmonic(sites))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as stopped:
        run_md(config(tmp_path, steps=30), atoms, Harmonic(sites), stop)
    assert signal.getsignal(number) == before
    assert number == signal.SIGINT or stopped.value.code == 143  # 128 + SIGTERM, as shells say it
    assert [frame.info["step"] for frame in ase.io.read(tmp_path / "traj.extxyz", ":")] == [0, 10, 14]
    report = run_md(config(tmp_path, steps=30, resume=True), atoms, Harmonic(sites))
    assert report.resumed_at == 14
    assert report.log.read_bytes() == alone.log.read_bytes()
    assert (tmp_path / "traj.extxyz").read_bytes() == (tmp_path / "alone.extxyz").read_bytes()
