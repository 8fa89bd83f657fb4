"""Compiled potentials: the same numbers, found again, refused when damaged, changed over to while a run goes on."""

import copy
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from typer.testing import CliRunner

import eqff
from eqff import artifact, cli
from eqff.artifact import archive, background, compiled
from eqff.compiler import compile_potential
from eqff.config import to_mapping
from eqff.errors import ConfigError, GraphError, PotentialError, ResourceError
from eqff.exporter import export
from eqff.graph import edge_vectors
from eqff.kernels import build
from eqff.models import nequip
from eqff.neighbors import build_structure

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture(scope="module")
def potential_file(tmp_path_factory):
    config = nequip.Config(species=("H", "C"), r_max=4.0, l_max=1, n_layers=2, n_channels=4, radial_hidden=(8,))
    path = tmp_path_factory.mktemp("potential") / "tiny.eqff.pt"
    structures = [
        build_structure(
            atoms.positions, np.array([0, 1])[(atoms.numbers == 6).astype(int)], atoms.cell.array, atoms.pbc, 4.0
        )
        for atoms in (molecule("C2H6"), bulk("C", cubic=True))
    ]
    export(
        nequip.Model(config),
        "nequip",
        to_mapping(config),
        path,
        metadata={"training_data": {"min_distance_A": 1.0}},
        structures=structures,
    )
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs of these tests alone; kernels stay where they are."""
    folder = tmp_path_factory.mktemp("compiled")
    patch = pytest.MonkeyPatch()
    patch.setattr(compiled, "private_cache", lambda name: folder)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def made(potential_file, cache):
    steps = []
    result = compile_potential(potential_file, progress=steps.append)
    assert steps[0] == "rebuilding the model"
    return result


def structures():
    rng = np.random.default_rng(0)
    ethane, diamond = molecule("C2H6"), bulk("C", cubic=True).repeat(2)
    for atoms in (ethane, diamond):
        atoms.rattle(0.1, rng=rng)
    return [ethane, diamond, Atoms("CH", positions=[[0, 0, 0], [0, 0, 1.1]])]


def compare(one, other, tolerance):
    for atoms in structures():
        results = []
        for potential in (one, other):
            calculator = eqff.EqffCalculator(potential)
            results.append((calculator.get_property("energy", atoms), calculator.get_forces(atoms)))
        assert results[0][0] == pytest.approx(results[1][0], abs=tolerance * len(atoms))
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=0, atol=tolerance)


@needs_compiler
def test_compiled_program_gives_the_same_numbers(potential_file, made):
    assert made.seconds > 0
    assert made.n_knots >= 48
    assert made.r_min == pytest.approx(0.6)
    assert made.spline_force_error <= 1e-5
    fast = artifact.load(potential_file, accelerate="ready")
    assert fast.program.startswith("compiled for")
    assert fast.program.endswith("knots")
    compare(fast, artifact.load(potential_file, accelerate="off"), 3e-5)


@needs_compiler
def test_splines_and_pairs_of_edges_for_xplor(tmp_path, cache):
    """Splines with a knot where the curvature jumps; radial networks evaluated once for an edge and its reverse."""
    config = nequip.Config(
        species=("H", "C"), r_max=4.0, r_on=3.3, l_max=1, n_layers=2, n_channels=4, radial_hidden=(8,)
    )
    path = tmp_path / "xplor.eqff.pt"
    training = {"training_data": {"min_distance_A": 1.0}}
    export(nequip.Model(config).double(), "nequip", to_mapping(config), path, metadata=training)
    result = compile_potential(path, dtype="float64")
    assert result.n_knots >= 48
    assert result.spline_force_error <= 1e-5
    exact = artifact.load(path, dtype="float64", accelerate="off")
    compare(artifact.load(path, dtype="float64", accelerate="ready"), exact, 3e-5)


@needs_compiler
def test_networks_are_evaluated_once_for_a_pair_and_cut_lists_stay_right(potential_file, cache):
    compile_potential(potential_file, dtype="float64", exact=True)
    fast = artifact.load(potential_file, dtype="float64", accelerate="ready", exact=True)
    assert fast.evaluator.shared
    slow = artifact.load(potential_file, dtype="float64", accelerate="off")
    atoms = bulk("C", cubic=True)
    atoms.rattle(0.1, seed=3)
    whole = build_structure(atoms.positions, np.ones(8, np.int64), atoms.cell.array, atoms.pbc, 4.0)
    cut = whole._replace(**{name: getattr(whole, name)[:-3] for name in ("senders", "receivers", "edge_shift")})
    for structure in (whole, cut):
        for one, other in zip(fast(structure)[:3], slow(structure)[:3], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@needs_compiler
def test_exact_float64_agrees_to_rounding(potential_file, cache):
    result = compile_potential(potential_file, dtype="float64", exact=True)
    assert (result.n_knots, result.r_min) == (0, 0.0)
    fast = artifact.load(potential_file, dtype="float64", accelerate="ready", exact=True)
    assert fast.program.endswith("exact radial functions")
    compare(fast, artifact.load(potential_file, dtype="float64", accelerate="off"), 1e-12)


@needs_compiler
def test_what_it_was_not_made_for_goes_to_the_exact_program(potential_file, made):
    fast, exact = artifact.load(potential_file, accelerate="ready"), artifact.load(potential_file, accelerate="off")
    close = Atoms("CH", positions=[[0, 0, 0], [0, 0, 0.4]])  # below r_min
    far = Atoms("CH", positions=[[0, 0, 0], [0, 0, 40.0]])
    for atoms in (close, far, Atoms("C"), molecule("CH4")[[0]]):
        results = [eqff.EqffCalculator(potential).get_forces(atoms.copy()) for potential in (fast, exact)]
        assert np.array_equal(results[0], results[1])


@needs_compiler
def test_second_compilation_is_found(potential_file, made):
    again = compile_potential(potential_file)
    assert again.seconds == 0
    assert again.folder == made.folder
    assert again.force_error == made.force_error


@needs_compiler
def test_calculator_says_which_program_runs(potential_file, made):
    for mode, text in (("off", "TorchScript"), ("ready", "compiled for")):
        calculator = eqff.EqffCalculator(potential_file, accelerate=mode)
        assert calculator.program == "nothing yet"
        calculator.get_property("energy", molecule("CH4"))
        assert calculator.program.startswith(text)
        assert f"runs {text}" in repr(calculator)
        assert copy.deepcopy(calculator).program == calculator.program
    assert "compiled for" in compiled.find(archive.read(potential_file))


@needs_compiler
def test_hessian_uses_the_program_that_can_be_differentiated_twice(potential_file, made):
    ethane = structures()[0]
    results = [eqff.EqffCalculator(potential_file, accelerate=mode).get_hessian(ethane) for mode in ("off", "ready")]
    assert np.array_equal(*results)


@needs_compiler
def test_damage_is_seen_and_torchscript_runs_instead(potential_file, made, cache, tmp_path, monkeypatch, caplog):
    copied = tmp_path / "compiled"
    shutil.copytree(cache, copied)
    monkeypatch.setattr(compiled, "private_cache", lambda name: copied)
    place = copied / made.folder.name
    program, report = (place / compiled.PROGRAM).read_bytes(), json.loads((place / compiled.REPORT).read_text())
    gone = report | {"kernels": dict.fromkeys(report["kernels"], "gone.so")}
    other = report | {"sha256": hashlib.sha256(b"no program").hexdigest()}
    faults = [
        (program[:-1] + b"x", report, "EQ4910: .*has changed; compile again"),
        (program, {}, "EQ4170: .*damaged"),
        (b"no program", other, "EQ4173: .*cannot be loaded here"),
        (program, gone, None),  # kernels left the cache: nothing to complain of
    ]
    for content, saved, message in faults:
        caplog.clear()
        (place / compiled.PROGRAM).write_bytes(content)
        (place / compiled.REPORT).write_text(json.dumps(saved))
        assert artifact.load(potential_file, accelerate="ready").program == "TorchScript"
        assert bool(caplog.text) == (message is not None)
        assert message is None or re.search(message, caplog.text)


@needs_compiler
def test_ghosts_are_weighted_and_wrong_inputs_refused(potential_file, made):
    fast, exact = artifact.load(potential_file, accelerate="ready"), artifact.load(potential_file, accelerate="off")
    ethane = structures()[0]
    structure = build_structure(ethane.positions, (ethane.numbers == 6).astype(int), np.zeros((3, 3)), [False] * 3, 4.0)
    inputs = [structure.species, structure.senders, structure.receivers, edge_vectors(structure)]
    weight = torch.tensor([1.0, 0.0] * 4, dtype=torch.float64)
    results = [potential.evaluator(*inputs, weight) for potential in (fast, exact)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=3e-5)
    for wrong in (inputs[3].float(), inputs[3].bfloat16(), inputs[3][:, :2], inputs[3].reshape(-1)):
        with pytest.raises(GraphError, match="EQ2130"):
            fast.evaluator(*inputs[:3], wrong, weight)
    with pytest.raises(GraphError, match="EQ2910"):
        fast.evaluator(*inputs, weight[:-1])


@needs_compiler
def test_a_program_that_misses_the_test_vectors_is_refused(potential_file, made):
    contents = archive.read(potential_file)
    exact = artifact.load(potential_file, accelerate="off").evaluator
    evaluator = compiled.load(contents, torch.float32, False, exact)

    def wrong(*inputs):
        node_energy, gradient = evaluator(*inputs)
        return node_energy, gradient * 1.01

    with pytest.raises(PotentialError, match="EQ4131"):
        compiled.verify(wrong, contents, torch.float32)


@needs_compiler
def test_a_model_torch_cannot_compile_stays_torchscript(potential_file, tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "private_cache", lambda name: tmp_path)
    monkeypatch.setattr("eqff.compiler.trace", lambda model: torch.zeros(2).view(3))
    with pytest.raises(ResourceError, match=r"EQ6122: .*tiny\.eqff\.pt: torch cannot compile this model \(shape"):
        compile_potential(potential_file, exact=True)
    assert not list(tmp_path.glob("*/"))  # nothing half-made
    assert artifact.load(potential_file, accelerate="ready").program == "TorchScript"


def test_wrong_options(potential_file):
    with pytest.raises(ConfigError, match="EQ1103: accelerate='fast' is no mode of loading; choose off or ready"):
        artifact.load(potential_file, accelerate="fast")
    with pytest.raises(ConfigError, match="EQ1310"):
        eqff.EqffCalculator(potential_file, accelerate="fast")
    with pytest.raises(ConfigError, match="EQ1101"):
        compile_potential(potential_file, dtype="float16")


def test_without_a_compiler(potential_file, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "compiler", lambda: None)
    monkeypatch.setattr(compiled, "private_cache", lambda name: tmp_path)
    with pytest.raises(ResourceError, match="EQ6110: no C\\+\\+ compiler found"):
        compile_potential(potential_file)
    assert artifact.load(potential_file, accelerate="ready").program == "TorchScript"


@needs_compiler
def test_command_line(potential_file, made):
    result = CliRunner().invoke(cli.build(), ["compile", str(potential_file)])
    assert result.exit_code == 0, result.output
    assert "was compiled before: radial splines" in result.output
    found = CliRunner().invoke(cli.build(), ["compile", str(potential_file), "--json"])
    assert json.loads(found.stdout)["n_knots"] == made.n_knots


class FakeProcess:
    """A compilation that is done when it is told so."""

    def __init__(self, *arguments, **options):
        self.returncode = None
        FakeProcess.command = arguments[0]
        FakeProcess.last = self

    def poll(self):
        return self.returncode


def evaluate(acceleration, n):
    return [found for found in (acceleration.step(1.0) for _ in range(n)) if found is not None]


@pytest.fixture
def fake_process(monkeypatch):
    monkeypatch.setattr(background.subprocess, "Popen", FakeProcess)
    monkeypatch.setattr(background, "ASK_EVERY", 0.0)
    monkeypatch.setattr(background, "lower_priority", lambda process: None)  # there is none
    return FakeProcess


@needs_compiler
def test_background_compilation_changes_over_when_it_is_done(potential_file, made, fake_process, caplog):
    caplog.set_level("INFO", logger="eqff.accelerate")
    acceleration = background.Acceleration(
        artifact.load(potential_file, accelerate="off"), exact=False, start_after=3.0
    )
    assert evaluate(acceleration, 2) == []
    assert acceleration.process is None  # a short run starts nothing
    assert evaluate(acceleration, 5) == []
    assert "compile" in fake_process.command
    fake_process.last.returncode = 0
    (faster,) = evaluate(acceleration, 5)  # once, not again
    assert faster.program.startswith("compiled for")
    assert "evaluation 3: compiling" in caplog.text
    assert "evaluation 8: from here on compiled for" in caplog.text


def test_background_compilation_that_fails_leaves_torchscript(
    potential_file, tmp_path, monkeypatch, fake_process, caplog
):
    monkeypatch.setattr(compiled, "private_cache", lambda name: tmp_path)
    acceleration = background.Acceleration(
        artifact.load(potential_file, accelerate="off"), exact=False, start_after=0.0
    )
    evaluate(acceleration, 1)
    acceleration.messages.write(b"ResourceError EQ6110: no C++ compiler found")
    fake_process.last.returncode = 5
    assert evaluate(acceleration, 3) == []
    assert caplog.text.count("going on with TorchScript: ResourceError EQ6110") == 1


def test_background_compilation_ends_with_its_process(potential_file, fake_process, monkeypatch):
    acceleration = background.Acceleration(
        artifact.load(potential_file, accelerate="off"), exact=False, start_after=0.0
    )
    evaluate(acceleration, 1)
    ended = []
    monkeypatch.setattr(background, "_end", ended.append)
    acceleration.stop()
    assert ended == [fake_process.last]


def test_ending_a_process_ends_what_it_started():
    command = [
        sys.executable,
        "-c",
        "import subprocess; print(1, flush=True); subprocess.Popen(['sleep', '30']).wait()",
    ]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n"
    started = time.monotonic()
    background._end(process)
    with process.stdout:
        assert process.stdout.read() == b""  # the end of the file comes when the last holder is gone
    assert time.monotonic() - started < 25.0


@needs_compiler
def test_calculator_changes_over(potential_file, made, fake_process, monkeypatch):
    monkeypatch.setattr(background.Acceleration.__init__, "__defaults__", (0.0,))
    real = artifact.load
    monkeypatch.setattr(artifact, "load", lambda *arguments: real(*arguments[:3], "off"))  # nothing ready at the start
    calculator = eqff.EqffCalculator(potential_file, accelerate="auto")
    atoms = molecule("CH4")
    programs = []
    for step in range(4):
        atoms.rattle(0.01, seed=step)
        calculator.get_property("energy", atoms)
        programs.append(calculator.program.split(" ")[0])
        fake_process.last.returncode = 0
    assert programs == ["TorchScript", "compiled", "compiled", "compiled"]
