"""Small systems and short cuts that many tests share: `from toys import close` anywhere under tests/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from torch import Tensor, nn

from eqff.artifact.potential import Potential
from eqff.config import to_mapping
from eqff.exporter import export
from eqff.models import nequip
from eqff.potential import GradientEvaluator


def close(got: Any, expected: Any, tolerance: float, what: str = "numbers") -> None:
    """Raises: AssertionError with the largest difference of two arrays, also for NaN."""
    got, expected = torch.as_tensor(got).detach(), torch.as_tensor(expected).detach()
    assert got.shape == expected.shape, f"{what}: shapes {list(got.shape)} and {list(expected.shape)}"
    difference = float((got - expected).abs().max()) if got.numel() else 0.0
    assert difference <= tolerance, f"{what} differ by {difference:.1e}, allowed {tolerance:.0e}"


class Hops(nn.Module):
    """Pair sums passed on n_hops times: just enough to be a model."""

    def __init__(self, n_hops: int = 1, declared: int | None = None) -> None:
        super().__init__()
        self.n_hops = n_hops if declared is None else declared
        self.n_layers = n_hops
        self.weight = nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, species, senders, receivers, edge_vector):
        r = edge_vector.square().sum(1).sqrt()
        u = (1.0 - r / 3.0).clamp(min=0.0).pow(3).to(self.weight.dtype)
        h = self.weight.index_select(0, species)
        for _ in range(self.n_layers):
            h = h + 0.1 * torch.zeros_like(h).index_add(0, receivers, u * h.index_select(0, senders))
        return h.to(torch.float64)


class Counted(GradientEvaluator):
    """An evaluator that remembers the sizes of what it was called with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.n_calls = 0
        self.n_atoms: list[int] = []
        self.n_edges: list[int] = []

    def __call__(self, species: Tensor, senders: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        self.n_calls += 1
        self.n_atoms.append(len(species))
        self.n_edges.append(len(senders))
        return super().__call__(species, senders, *others)


def potential_of(module: nn.Module, **changes: Any) -> Potential:
    """A potential in memory for H, C and O, 4 Å and one hop; its evaluator is `Counted`."""
    facts = {"species": ("H", "C", "O"), "r_max": 4.0, "n_hops": 1, "dtype": torch.float64, "header": {}}
    return Potential(evaluator=Counted(module), module=module, device=torch.device("cpu"), **(facts | changes))


def tiny_file(factory: pytest.TempPathFactory, **fields: Any) -> Iterator[Path]:
    """The potential file of an untrained NequIP for H, C and O, with a cache of its own while it is in use.

    Args: factory: the fixture tmp_path_factory; fields: of nequip.Config, where they are to differ
    """
    path = factory.mktemp("potential") / "tiny.eqff.pt"
    smallest = {"species": ("H", "C", "O"), "r_max": 4.0, "l_max": 1, "n_layers": 1, "n_channels": 4}
    config = nequip.Config(**(smallest | fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path.parent / "cache"))
        export(nequip.Model(config), "nequip", to_mapping(config), path)
        yield path


def ethanol(size: float = 0.05, seed: int = 0) -> Atoms:
    """A molecule, its atoms displaced by about `size` Å."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(size, seed=seed)
    return atoms


def diamond(a: float = 3.2, size: float = 0.05, seed: int = 1) -> Atoms:
    """Two atoms of carbon in a cell smaller than most cut-offs, displaced by about `size` Å."""
    atoms = bulk("C", "diamond", a=a)
    atoms.rattle(size, seed=seed)
    return atoms
