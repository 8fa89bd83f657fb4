"""What a convolution costs as l_max grows: full tensor product, or rotation to the edge and SO(2) maps there.

python examples/benchmarks/bench_so2.py -o bench/so2 [--l-max 2 3 4 6] [--edges 500] [--channels 32] [--rounds 15]

The same product on both sides, one weight for every path and channel; forward, float32, one thread, in turns;
process CPU time, median of the rounds. Beside it the layer eSCN uses, which mixes channels as well.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.edge_rotation import EdgeRotation
from eqff.nn.harmonics import SphericalHarmonics
from eqff.nn.so2 import SO2Linear, join_orders, split_orders
from eqff.o3.coupling import wigner_3j
from eqff.o3.edge_frames import helper_axis_frame
from eqff.o3.irreps import Block, Irrep, spherical_harmonics_irreps
from eqff.o3.wigner import order_rows

NAMES = {
    "product": "full tensor product",
    "rotated": "the same product in the edge's frame",
    "layer": "eSCN layer, m_max = l_max",
    "truncated": "eSCN layer, m_max = 2",
    "wigner": "Wigner matrices, once per geometry",
}
COLOURS = {"product": "#D55E00", "rotated": "#0072B2", "layer": "#009E73", "truncated": "#56B4E9", "wigner": "#555555"}


class Case:
    """Both ways of one convolution, for random features on random edges.

    Args: l_max; n_edges; n_channels; n_atoms
    """

    def __init__(self, l_max: int, n_edges: int, n_channels: int, n_atoms: int = 20) -> None:
        generator = torch.Generator().manual_seed(0)
        irreps = tuple(Block(Irrep(l, (-1) ** l), n_channels) for l in range(l_max + 1))
        self.l_max, self.n_channels = l_max, n_channels
        self.product = TensorProductConvolution(irreps, spherical_harmonics_irreps(l_max), [b.irrep for b in irreps])
        self.n_paths = len(self.product.paths)
        self.x = torch.randn(n_atoms, (l_max + 1) ** 2, n_channels, generator=generator)
        self.senders = torch.randint(0, n_atoms, (n_edges,), generator=generator)
        self.receivers = torch.sort(torch.randint(0, n_atoms, (n_edges,), generator=generator)).values
        direction = torch.randn(n_edges, 3, generator=generator, dtype=torch.float64)
        self.direction = direction / direction.norm(dim=1, keepdim=True)
        self.harmonics = SphericalHarmonics(l_max)(self.direction).to(torch.float32)
        self.weight = torch.randn(n_edges, self.product.weight_numel, generator=generator)
        self.rotation = EdgeRotation(l_max, l_max)
        self.turn = self.rotation(self.direction).to(torch.float32)
        self.couplings = self.in_the_frame()
        self.layer = SO2Linear(n_channels, n_channels, l_max, l_max, 0, True, generator)
        self.cut = SO2Linear(n_channels, n_channels, l_max, min(2, l_max), 0, True, generator)
        self.cut_turn = self.turn[:, : len(order_rows(l_max, min(2, l_max)))]

    def in_the_frame(self) -> list[Tensor]:
        """Weights [n_edges, l_out, l_in, n_channels] of every order: sum over paths of w C_(l1 m)(l2 0)^(l3 m)."""
        weights = self.weight.view(-1, self.n_paths, self.n_channels)
        found = []
        for m in range(self.l_max + 1):
            n = self.l_max + 1 - m
            v = torch.zeros(len(weights), n, n, self.n_channels)
            for k, (block, l2, irrep) in enumerate(self.product.paths):
                l1, l3 = block, irrep.l
                if m <= min(l1, l3):
                    factor = np.sqrt((2 * l3 + 1) * (2 * l2 + 1)) * float(wigner_3j(l1, l2, l3)[l1 + m, l2, l3 + m])
                    v[:, l3 - m, l1 - m] += factor * weights[:, k]
            found.append(v)
        return found

    def sum(self, message: Tensor) -> Tensor:
        return torch.zeros_like(self.x).index_add(0, self.receivers, message)

    def run_product(self) -> Tensor:
        """Paths of one output degree summed, so that both sides give the same."""
        blocks = [self.x[:, l * l : (l + 1) ** 2] for l in range(self.l_max + 1)]
        outputs = self.product(blocks, self.harmonics, self.weight, self.senders, self.receivers)
        return torch.cat([y.unflatten(2, (-1, self.n_channels)).sum(2) for y in outputs], 1)

    def run_rotated(self) -> Tensor:
        blocks = split_orders(torch.bmm(self.turn, self.x[self.senders]), self.l_max, self.l_max)
        outputs = []
        for block, v in zip(blocks, self.couplings, strict=True):
            x = block.view(len(block), -1, 1, v.shape[2], self.n_channels)  # [n_edges, 1 or 2, 1, l_in, n_channels]
            outputs.append((x * v.unsqueeze(1)).sum(3).flatten(1))
        message = join_orders(outputs, self.n_channels)
        return self.sum(torch.bmm(self.turn.transpose(1, 2), message))

    def run_layer(self, layer: SO2Linear | None = None, turn: Tensor | None = None, m_max: int = -1) -> Tensor:
        layer, turn = layer or self.layer, self.turn if turn is None else turn
        m_max = self.l_max if m_max < 0 else m_max
        blocks = layer(split_orders(torch.bmm(turn, self.x[self.senders]), self.l_max, m_max))
        return self.sum(torch.bmm(turn.transpose(1, 2), join_orders(blocks, self.n_channels)))

    def run_truncated(self) -> Tensor:
        return self.run_layer(self.cut, self.cut_turn, min(2, self.l_max))

    def run_wigner(self) -> Tensor:
        return self.rotation.rows(helper_axis_frame(self.direction))

    def multiplications(self) -> dict[str, int]:
        """For each edge and channel: of all (m1, m2, m3) of all paths; of rotations as blocks, and SO(2) maps."""
        dims = [(2 * p.block + 1) * (2 * p.l_edge + 1) * p.irrep_out.dim for p in self.product.paths]
        turns = 2 * sum((2 * l + 1) ** 2 for l in range(self.l_max + 1))
        maps = sum((1 if m == 0 else 2) * (self.l_max + 1 - m) ** 2 for m in range(self.l_max + 1))
        return {"product": sum(dims), "rotated": turns + maps}


def measure(parts: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Median CPU time of a call in ms, part after part in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(rounds + 2):
        for name, part in parts.items():
            start = time.process_time()
            part()
            if turn >= 2:
                seconds[name].append(time.process_time() - start)
    return {name: 1e3 * float(np.median(values)) for name, values in seconds.items()}


def power(rows: list[dict[str, Any]], key: str, name: str) -> float:
    """Slope of the logarithm against that of l_max."""
    degrees, values = np.log([row["l_max"] for row in rows]), np.log([row[key][name] for row in rows])
    return float(np.polyfit(degrees, values, 1)[0])


def plot(path: Path, rows: list[dict[str, Any]], title: str) -> None:
    """Time and multiplications against l_max, with lines of the third and of the sixth power."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    degrees = np.array([row["l_max"] for row in rows])
    for axes, key, label in zip(figure.subplots(1, 2), ("ms", "counts"), ("ms", "multiplications"), strict=True):
        for name, colour in COLOURS.items():
            if name in rows[0][key]:
                values = [row[key][name] for row in rows]
                style = ":" if name == "wigner" else "-"
                axes.plot(degrees, values, style, marker="o", color=colour, label=NAMES[name])
        for power, name in ((6, "product"), (3, "rotated")):  # through the last point
            line = rows[-1][key][name] * (degrees / degrees[-1]) ** float(power)
            axes.plot(degrees, line, "--", color="#999999", linewidth=1.0)
            axes.annotate(f"$O(L^{power})$", (degrees[0], line[0]), color="#555555", va="top")
        axes.set(xscale="log", yscale="log", xlabel="l_max", ylabel=label)
        axes.set_xticks(degrees, [str(degree) for degree in degrees])
        axes.xaxis.minorticks_off()
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.axes[1].set_title("for each edge and channel", fontsize=10)
    figure.axes[0].set_title(title, fontsize=10)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--l-max", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--edges", type=int, default=500)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    lines = [
        f"{arguments.edges} edges, {arguments.channels} channels, forward, float32, 1 thread, median of "
        f"{arguments.rounds}; torch {torch.__version__}, {platform.processor() or platform.machine()}; CPU ms",
        "",
        "| l_max | paths | " + " | ".join(NAMES.values()) + " | factor | multiplications | difference |",
        "| --- " * (len(NAMES) + 5) + "|",
    ]
    for l_max in sorted(arguments.l_max):
        case = Case(l_max, arguments.edges, arguments.channels)
        with torch.no_grad():
            one, other = case.run_product(), case.run_rotated()
            ms = measure({name: getattr(case, f"run_{name}") for name in NAMES}, arguments.rounds)
        counts = case.multiplications()
        difference = float((one - other).abs().max() / one.abs().max())
        rows.append({"l_max": l_max, "paths": case.n_paths, "ms": ms, "counts": counts, "difference": difference})
        cells = [str(l_max), str(case.n_paths), *(f"{ms[name]:.2f}" for name in NAMES)]
        cells += [f"{ms['product'] / ms['rotated']:.1f}", f"{counts['product']} : {counts['rotated']}"]
        lines.append(f"| {' | '.join([*cells, f'{difference:.0e}'])} |")
        print(lines[-1] if len(rows) > 1 else "\n".join(lines), flush=True)
    if len(rows) > 1:
        for key, what in (("ms", "time grows"), ("counts", "multiplications grow")):
            growth = ", ".join(f"{NAMES[name]} {power(rows, key, name):.1f}" for name in rows[0][key])
            lines += ["", f"{what} as a power of l_max: {growth}"]
        print("\n".join(lines[-4:]))
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (arguments.output / "results.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    plot(
        arguments.output / "so2.png", rows, f"{arguments.edges} edges, {arguments.channels} channels, forward, float32"
    )


if __name__ == "__main__":
    main()
