"""SevenNet's weights give SevenNet's numbers: golden files, an oracle made of e3nn, and everything refused."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch
from ase import Atoms
from toys import GOLDEN, SHARED, close

import eqff
from eqff import exporter
from eqff.artifact.header import from_json, to_json
from eqff.engines.ase import EqffCalculator
from eqff.errors import ConfigError, EqffError, PotentialError
from eqff.importers import _sevennet_files as files
from eqff.importers.sevennet import convert, locate, provenance
from eqff.tasks.import_model import ImportConfig, import_model

from .sevennet_oracle import SevenNet

FILES = sorted((GOLDEN / "sevennet").glob("*.npz"))
WHEEL = next(iter(sorted(SHARED.parent.glob("wheels/sevenn-0.13.0-*.whl"))), None)  # beside the checkout
NAMES = {"l3i5": "7net-l3i5"}  # in names of golden files -> of checkpoints
CASES = {  # xplor, normalized, modality, blanks in names
    "7net-0": (True, True, "", False),
    "7net-0 of May 2024": (True, False, "", True),
    "7net-mf-0": (True, True, "PBE", False),
    "7net-l3i5": (False, True, "", False),
}


@pytest.fixture
def make(float64_default):
    return SevenNet


def random_edges():
    generator = torch.Generator().manual_seed(0)
    species = torch.randint(0, 3, (6,), generator=generator)
    senders, receivers = torch.randint(0, 6, (2, 24), generator=generator)
    edge_vector = 1.5 * torch.randn(24, 3, dtype=torch.float64, generator=generator)  # some beyond r_max
    return species, senders, receivers, edge_vector.requires_grad_(True)


def assert_same(oracle):
    arguments = random_edges()
    model = convert(oracle.config, oracle.state()).model
    ours, theirs = model(*arguments), oracle(*arguments)
    close(ours, theirs, 1e-11)
    gradients = [torch.autograd.grad(energies.sum(), arguments[3])[0] for energies in (ours, theirs)]
    assert float(gradients[1].abs().max()) > 1e-3
    close(*gradients, 1e-11)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_oracle_of_e3nn(make, case):
    assert_same(make(*case))


def test_couplings_of_another_sign(make):
    """Every symmetry holds without it, and forces are wrong."""
    oracle = make(*CASES["7net-0"])
    before = oracle(*random_edges()).detach()
    oracle.flip(1, 2, 2)
    oracle.flip(2, 2, 1)
    assert float((oracle(*random_edges()).detach() - before).abs().max()) > 1e-8
    assert_same(oracle)


def test_modalities_differ(make):
    oracle = make(*CASES["7net-mf-0"])
    models = [convert(oracle.config | {"modality": modality}, oracle.state()).model for modality in ("PBE", "R2SCAN")]
    energies = [model(*random_edges()).detach() for model in models]
    assert float((energies[0] - energies[1]).abs().max()) > 0.1


W3J = "1_convolution.convolution._compiled_main_left_right._w3j_1_2_2"
DAMAGE = {
    "left over": ("EQ4304", lambda state: state | {"extra.weight": np.ones(3)}),
    "missing": ("EQ4303", lambda state: {k: v for k, v in state.items() if k != "1_self_interaction_1.linear.weight"}),
    "size": ("EQ4306", lambda state: state | {"1_self_interaction_2.linear.weight": np.ones(7)}),
    "radial": ("EQ4307", lambda state: state | {"1_convolution.weight_nn.layer2.weight": np.ones((5, 7))}),
    "couplings": ("EQ4861", lambda state: state | {W3J: 2.0 * state[W3J]}),
    "no couplings": ("EQ4864", lambda state: {k: v for k, v in state.items() if k != W3J}),
    "denominators": ("EQ4870", lambda state: state | {"1_convolution.denominator": np.array([9.0])}),
    "scale": ("EQ4869", lambda state: state | {"rescale_atomic_energy.scale": np.ones(2)}),
}


@pytest.mark.parametrize(("id", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_weights_that_do_not_fit(make, id, damage):
    oracle = make(*CASES["7net-0"])
    with pytest.raises(PotentialError, match=id):
        convert(oracle.config, damage(oracle.state()))


OPTIONS = {
    "EQ1756": [
        {"is_parity": True}, {"self_connection_type": "nequip"}, {"self_connection_type": ["linear", "nequip"]},
        {"act_radial": "relu"}, {"use_bias_in_linear": True}, {"readout_as_fcn": True}, {"interaction_type": "mace"},
        {"act_scalar": {"e": "ssp", "o": "tanh"}}, {"act_gate": {"e": "ssp", "o": "tanh"}}, {"lmax_edge": 1},
        {"radial_basis": {"radial_basis_name": "gauss"}}, {"cutoff_function": {"cutoff_function_name": "cos"}},
        {"use_modal_node_embedding": True},
    ],
    "EQ1755": [{"version": "0.11.0"}, {"version": None}, {"version": "0.8"}],
    "EQ1757": [
        {"irreps_manual": False}, {"irreps_manual": ["5x0e", "5x0e+3x1o", "5x0e+3x1o", "5x0e"]},
        {"irreps_manual": ["5x0e", "5x0e+3x1e", "5x0e+2x1e", "5x0e"]}, {"irreps_manual": ["5x0e", "5x0e"]},
        {"irreps_manual": ["5x0e", "3x1e+5x0e", "3x1e+5x0e", "5x0e"]},
    ],
    "EQ1752": [{"modality": "PBE"}],
    "EQ1753": [{"use_modality": True, "_modal_map": {"PBE": 0, "R2SCAN": 1}}],
    "EQ1758": [{"_type_map": {6: 0, 1: 2, 8: 3}}, {"_type_map": {6: 0, 1: 1, 999: 2}}],
    "EQ1750": [{"cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 4.0}}],
}  # fmt: skip


@pytest.mark.parametrize(("id", "option"), [(id, option) for id in OPTIONS for option in OPTIONS[id]], ids=str)
def test_options_without_counterpart(make, id, option):
    oracle = make(*CASES["7net-0"])
    with pytest.raises(ConfigError, match=id):
        convert(oracle.config | option, oracle.state())


def checkpoint(oracle):
    """A file as sevenn writes it: arrays of NumPy in its configuration, which torch alone refuses to read."""
    state = {name: torch.tensor(array) for name, array in oracle.state().items()}
    config = {k: v for k, v in oracle.config.items() if k != "modality"} | {"shift": np.ones(3, np.float32)}
    buffer = io.BytesIO()
    torch.save({"model_state_dict": state, "config": config, "epoch": 3}, buffer)
    return buffer.getvalue()


def wheel(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{files.FOLDER}/{files.CHECKPOINTS['7net-mf-0'].file}", content)
    return path


def test_from_a_wheel_to_a_calculator(make, tmp_path, monkeypatch):
    """Stored in float64, run in float32; provenance only for the published file."""
    oracle = make(*CASES["7net-mf-0"])
    content = checkpoint(oracle)
    path = wheel(tmp_path / "sevenn-0.13.0-py3-none-any.whl", content)
    source, output = f"{path}:7net-mf-0:PBE", tmp_path / "x.eqff.pt"
    with pytest.raises(PotentialError, match="EQ4877"):
        import_model(ImportConfig(code="sevennet", source=source, output=output))
    (tmp_path / "x.pth").write_bytes(content)
    plain = ImportConfig(code="sevennet", source=tmp_path / "x.pth", output=output, modality="PBE")
    assert import_model(plain).header["licence"] == "not stated"
    digest = hashlib.sha256(content).hexdigest()
    changed = files.CHECKPOINTS["7net-mf-0"]._replace(sha256=digest)
    monkeypatch.setitem(files.CHECKPOINTS, "7net-mf-0", changed)
    header = import_model(ImportConfig(code="sevennet", source=source, output=output, force=True)).header
    assert (header["dtype"], header["run_dtype"]) == ("float64", "float32")
    with pytest.raises(PotentialError, match="EQ4106"):
        from_json(to_json(header | {"run_dtype": "half"}), "x")
    assert header["licence"].startswith("MIT, Copyright (c) 2024")
    assert header["training_data"]["source"] == "sevenn-0.13.0-py3-none-any.whl:7net-mf-0"
    assert eqff.load(output).dtype == torch.float32
    atoms = Atoms("CHO", [[0, 0, 0], [1.1, 0, 0], [0, 1.2, 0.3]], calculator=EqffCalculator(output, dtype="float64"))
    positions = torch.tensor(atoms.positions)
    senders, receivers = torch.tensor([[a, b] for a in range(3) for b in range(3) if a != b]).t()
    expected = oracle(torch.tensor([0, 1, 2]), senders, receivers, positions[senders] - positions[receivers]).sum()
    assert atoms.get_potential_energy() == pytest.approx(float(expected.detach()), abs=1e-10)


def test_sources_that_are_refused(tmp_path):
    (tmp_path / "text.whl").write_text("no zip")
    empty = tmp_path / "empty.whl"
    zipfile.ZipFile(empty, "w").close()
    for source, id in {
        f"{tmp_path}/text.whl:7net-0": "EQ4874",
        f"{tmp_path}/missing.whl:7net-0": "EQ4874",
        f"{empty}:7net-0": "EQ4873",
        f"{empty}:7net-omni": "EQ4871",
    }.items():
        with pytest.raises(EqffError, match=id):
            locate(source)
    assert locate(str(tmp_path / "checkpoint.pth")) is None


def test_name_without_the_package(monkeypatch):
    def absent(name):
        raise files.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(files.metadata, "distribution", absent)
    with pytest.raises(PotentialError, match="EQ4875"):
        locate("7net-mf-0:PBE")


def test_modality_of_other_codes_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **{"config": '{"r_max": 4.0}', "w/a": np.ones(1)})
    config = ImportConfig(code="nequip", source=tmp_path / "x.npz", output=tmp_path / "x.eqff.pt", modality="PBE")
    with pytest.raises(ConfigError, match="EQ1768"):
        import_model(config)


def test_card_of_xplor_states_the_jump(make):
    """The envelope's second derivative behind r_on, by finite differences of its closed form."""
    foreign = make(*CASES["7net-0"]).config | {"cutoff": 5.0, "cutoff_function": {
        "cutoff_function_name": "XPLOR", "cutoff_on": 4.5}}  # fmt: skip
    card = provenance(foreign, files.CHECKPOINTS["7net-0"].sha256).card
    a, b, h = 4.5**2, 5.0**2, 1e-4
    u = [(b - r**2) ** 2 * (b + 2 * r**2 - 3 * a) / (b - a) ** 3 for r in (4.5, 4.5 + h, 4.5 + 2 * h)]
    assert (u[0] - 2 * u[1] + u[2]) / h**2 == pytest.approx(-21.5, abs=0.1)
    assert "-21.5 Å^-2 at 4.5 Å" in card
    assert "Permission is hereby granted" in card
    assert "XPLOR" not in provenance(make(*CASES["7net-l3i5"]).config, files.CHECKPOINTS["7net-l3i5"].sha256).card


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Potential files by name, each imported once."""
    folder, made = tmp_path_factory.mktemp("sevennet"), {}

    def get(name):
        if name not in made:
            path = folder / f"{name}.eqff.pt"
            with pytest.MonkeyPatch.context() as patch:  # one test proves a file in a fresh process; these compare more
                patch.setattr(exporter, "prove_in_fresh_process", lambda path: None)
                import_model(ImportConfig(code="sevennet", source=f"{WHEEL}:{name}", output=path))
            made[name] = EqffCalculator(path, dtype="float64")
        return made[name]

    return get


@pytest.mark.skipif(not FILES, reason=f"golden files of SevenNet are not at {GOLDEN / 'sevennet'}")
@pytest.mark.skipif(WHEEL is None, reason=f"no {SHARED.parent}/wheels/sevenn-0.13.0-*.whl; get it with `{files.PIP}`")
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_golden(path, imported):
    file, model = np.load(path), path.stem.split("_")[0]
    atoms = Atoms(file["in/numbers"], file["in/pos"], cell=file["in/cell"], pbc=file["in/pbc"])
    atoms.calc = imported(NAMES.get(model, model))
    close(atoms.get_potential_energies(), file["out/energies"], 1e-10)
    close(atoms.get_forces(), file["out/forces"], 1e-10)
    if atoms.pbc.all():
        close(atoms.get_stress(), file["out/stress"], 1e-10)
