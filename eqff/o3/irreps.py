"""Irreducible representations of O(3): the one place that records which blocks a feature has.

Notation of the field: "64x0e + 32x1o" is 64 scalars and 32 vectors; e and o are the parities +1 and -1.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from eqff.errors import ConfigError

L_MOST = 10  # highest degree of a model: couplings grow with its fifth power


class Irrep(NamedTuple):
    """One irreducible representation: degree l >= 0 and parity p = +1 (e) or -1 (o)."""

    l: int
    p: int

    @property
    def dim(self) -> int:
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p > 0 else 'o'}"

    def product(self, other: "Irrep") -> list["Irrep"]:
        """Irreps in the tensor product with `other`: l from |l1 - l2| to l1 + l2, parity p1 p2."""
        return [Irrep(l, self.p * other.p) for l in range(abs(self.l - other.l), self.l + other.l + 1)]


class Block(NamedTuple):
    """n_channels copies of an irrep, stored as [n_atoms, 2l+1, n_channels]."""

    irrep: Irrep
    n_channels: int

    @property
    def width(self) -> int:
        return self.irrep.dim * self.n_channels

    def __str__(self) -> str:
        return f"{self.n_channels}x{self.irrep}"


Irreps = tuple[Block, ...]


def parse(text: str) -> Irreps:
    """ "8x0e + 4x1o" -> blocks, in the order written.

    Raises: ConfigError for a term that is not <n>x<l><e|o>, a degree above L_MOST, or an irrep written twice
    """
    blocks = []
    for term in text.split("+"):
        match = re.fullmatch(r"(?:(\d{1,9})x)?(\d{1,9})([eo])", term.strip())
        if match is None or int(match[1] or 1) < 1:
            raise ConfigError(
                "EQ1040",
                f"irreps={text!r}: {term.strip()!r} is not of the form 8x1o; "
                "write it as channels, degree and parity (e or o)",
            )
        if int(match[2]) > L_MOST:
            raise ConfigError("EQ1503", f"irreps={text!r}: degree {match[2]} is above {L_MOST}; leave the term out")
        blocks.append(Block(Irrep(int(match[2]), 1 if match[3] == "e" else -1), int(match[1] or 1)))
    if len({block.irrep for block in blocks}) < len(blocks):
        raise ConfigError("EQ1928", f"irreps={text!r}: an irrep appears twice; write it once with the sum of channels")
    return tuple(blocks)


def to_text(irreps: Irreps) -> str:
    """Blocks -> "8x0e + 4x1o"."""
    return " + ".join(str(block) for block in irreps)


def sorted_irreps(irreps: Iterable[Irrep]) -> list[Irrep]:
    """By degree, odd before even: the storage order of e3nn, needed where foreign weights are read."""
    return sorted(irreps)


def width(irreps: Irreps) -> int:
    """Numbers per atom: sum of (2l+1) n_channels."""
    return sum(block.width for block in irreps)


def only(irreps: Irreps, selected: Iterable[Irrep]) -> Irreps:
    """The blocks whose irrep is in `selected`."""
    kept = set(selected)
    return tuple(block for block in irreps if block.irrep in kept)


def spherical_harmonics_irreps(l_max: int, natural_parity: bool = True) -> list[Irrep]:
    """Irreps of Y_0 ... Y_l_max: parity (-1)^l, or all even if a model ignores parity."""
    return [Irrep(l, (-1) ** l if natural_parity else 1) for l in range(l_max + 1)]


class Path(NamedTuple):
    """One term of a tensor product: (block of the input) x Y_l -> irrep of the output."""

    block: int  # index into irreps_in
    l_edge: int
    irrep_out: Irrep


def tensor_product_paths(irreps_in: Irreps, irreps_edge: Iterable[Irrep], targets: Iterable[Irrep]) -> list[Path]:
    """All paths irreps_in x irreps_edge -> targets; input block outer, edge degree middle, output degree inner."""
    allowed, edges = set(targets), list(irreps_edge)
    return [
        Path(i, edge.l, out)
        for i, block in enumerate(irreps_in)
        for edge in edges
        for out in block.irrep.product(edge)
        if out in allowed
    ]


def reachable(irreps_in: Irreps, irreps_edge: Iterable[Irrep], targets: Irreps) -> Irreps:
    """The targets that a path of the tensor product leads to."""
    paths = tensor_product_paths(irreps_in, irreps_edge, [block.irrep for block in targets])
    reached = {path.irrep_out for path in paths}
    return tuple(block for block in targets if block.irrep in reached)


def occurrences(targets: Irreps, irreps: Irreps) -> list[list[int]]:
    """For every irrep of `targets`, the places of its blocks in `irreps`, first to last."""
    return [[k for k, block in enumerate(irreps) if block.irrep == target.irrep] for target in targets]
