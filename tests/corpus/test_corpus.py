"""Potential files that earlier versions wrote: every later version reads them and gives the same numbers.

files/          written at commit 7b964df: one small file per family with uneven weights, one wrapped program (format
                2), one of energy differences (format 3), and the potential of silicon as shipped
expected.json   energies and forces which the code of that commit computed from them in float64, as hex floats

Files are added when a format or a family changes; none is ever written again.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from eqff import artifact, registry
from eqff.neighbors import build_structure
from eqff.potential import Evaluator, GradientEvaluator, energy_forces_stress
from eqff.rebuild import rebuild

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
REBUILT = sorted(EXPECTED.keys() - {"wrapped"})
TOLERANCE = (
    1e-12  # of the largest number: other processors round differently; on the one that computed them all bits agree
)


def path_of(name: str) -> Path:
    return HERE / "files" / f"{name}.eqff.pt"


def numbers(texts: list[str]) -> torch.Tensor:
    return torch.tensor([float.fromhex(text) for text in texts], dtype=torch.float64)


def check(name: str, evaluator: Evaluator, r_max: float) -> None:
    """Every stored structure of a file."""
    for case in EXPECTED[name]:
        cell = np.zeros((3, 3)) if case["cell_A"] is None else np.array(case["cell_A"])
        periodic = np.full(3, case["cell_A"] is not None)
        positions, species = np.array(case["positions_A"]), np.array(case["species"])
        result = energy_forces_stress(evaluator, build_structure(positions, species, cell, periodic, r_max))
        for found, texts in ((result.energies, case["energies_eV"]), (result.forces.flatten(), case["forces_eV_A"])):
            expected = numbers(texts)
            allowed = TOLERANCE * max(float(expected.abs().max()), 1.0)
            torch.testing.assert_close(found, expected, rtol=0.0, atol=allowed, msg=f"{name}, {case['kind']}")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_stored_program_gives_the_same_numbers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a wrapped program may have failed a check, and says so
        potential = artifact.load(path_of(name), dtype="float64")
    check(name, potential.evaluator, potential.r_max)


@pytest.mark.parametrize("name", REBUILT)
def test_the_rebuilt_model_gives_the_same_numbers(name: str) -> None:
    model = rebuild(path_of(name)).to(torch.float64).requires_grad_(False)
    check(name, GradientEvaluator(model), float(model.r_max))  # type: ignore[arg-type]


def test_every_family_and_every_format_is_kept() -> None:
    headers = [artifact.inspect(path_of(name)) for name in EXPECTED]
    assert {header["family"] for header in headers} >= set(registry.names("models"))
    assert {header["format"] for header in headers} == {1, 2, 3}
    assert {path.name.removesuffix(".eqff.pt") for path in (HERE / "files").iterdir()} == set(EXPECTED)
