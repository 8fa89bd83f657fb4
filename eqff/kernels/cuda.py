"""The convolution on NVIDIA GPUs through Triton: the loop of the C++ kernels.  EXPERIMENTAL: not yet run on a GPU.

Checked with Triton's interpreter on the CPU (values, first and second derivatives against the ATen reference) and by
compiling it for GPUs, which says nothing about speed. eqff never selects it automatically; splines are not supported.

T = edge_sh @ couplings is a matrix product of torch; the loops (cuda_loops.py) do the rest and store nothing per edge
and channel but the gradient of w. Forward sums belong to one receiver and gradients by x to one sender, whose edges are
found by a stable sort; so there are no atomics, and two runs give the same bits. Derivatives of every order exist.
"""

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eqff.errors import ResourceError
from eqff.kernels.source import Layout

REMEDY = "leave the model as it is (ATen runs anywhere), or use the compiled kernels of eqff.kernels.fused on the CPU"
OPTIONS = {"enable_fp_fusion": True}  # as in C++; newer versions of triton need this setting


def require(device: torch.device | None = None) -> ModuleType:
    """The Triton loops, if they can run here, on this device if one is given.

    Raises: ResourceError EQ6120 without triton, EQ6121 without a CUDA GPU, EQ6910 for tensors on another device
    """
    try:
        import triton  # type: ignore[import-not-found]
    except ImportError as error:
        message = f"triton is not installed; run `pip install triton` (Linux with a CUDA GPU), or {REMEDY}"
        raise ResourceError("EQ6120", message) from error
    from eqff.kernels import cuda_loops

    if not isinstance(cuda_loops.sum_receivers, triton.JITFunction):  # Triton's interpreter was chosen: runs anywhere
        return cuda_loops
    if not torch.cuda.is_available():
        message = f"torch sees no CUDA GPU for the Triton kernels; {REMEDY}; TRITON_INTERPRET=1 tries them, slowly"
        raise ResourceError("EQ6121", message)
    if device is not None and device.type != "cuda":
        message = (
            f"x.device={device}: Triton kernels take tensors on a CUDA GPU; move model and input there, or {REMEDY}"
        )
        raise ResourceError("EQ6910", message)
    return cuda_loops


class Tables(NamedTuple):
    """A Layout as the loops read it."""

    couplings: Tensor  # [n_sh, n_entries]: T of an edge from its harmonics, entries (path, m3, m1) ordered
    paths: Tensor  # [n_paths, 8] int64, see cuda_loops.path_of
    columns: Tensor  # [n_paths, M] int64: where row m3 begins in the output segment of an atom
    blocks: Tensor  # [n_blocks, 5] int64: first path, end of paths, first column in x, 2 l1 + 1, n_channels


def tables(layout: Layout) -> Tables:
    """On the CPU, couplings in float64."""
    firsts, paths, columns, entries = [0], [], [], []  # entries: (m2, column, value) of couplings
    n_entries = 0
    for block in layout.blocks:
        for weight in dict.fromkeys(row.weight for row in block.rows):
            rows = [row for row in block.rows if row.weight == weight]  # m3 ascending
            segment = rows[0].segment
            out = (len(rows), sum(layout.segments[:segment]), layout.segments[segment])
            paths.append([block.offset, block.dim, block.n_channels, weight, n_entries, *out])
            columns.append([row.column for row in rows])
            for row in rows:
                entries += [(m2, n_entries + term.m1, value) for term in row.terms for m2, value in term.couplings]
                n_entries += block.dim
        firsts.append(len(paths))
    couplings = torch.zeros(layout.n_sh, n_entries, dtype=torch.float64)
    for m2, entry, value in entries:
        couplings[m2, entry] = value
    size = _power_of_two(max([*map(len, columns), *(block.dim for block in layout.blocks)]))
    padded = [each + [0] * (size - len(each)) for each in columns]
    blocks = [[*firsts[b : b + 2], each.offset, each.dim, each.n_channels] for b, each in enumerate(layout.blocks)]
    return Tables(couplings, torch.tensor(paths), torch.tensor(padded), torch.tensor(blocks))


class Convolution:
    """One convolution as Triton kernels, for tensors on any one GPU.

    Args: layout: paths and coupling coefficients
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.n_channels = _power_of_two(max(block.n_channels for block in layout.blocks))  # of a tile
        self._made = tables(layout)
        self._moved: dict[tuple[torch.device, torch.dtype], Tables] = {}

    def tables_for(self, like: Tensor) -> Tables:
        """On the device and in the precision of a tensor; copied there once."""
        key = (like.device, like.dtype)
        if key not in self._moved:
            couplings, *others = self._made
            self._moved[key] = Tables(couplings.to(like), *(table.to(like.device) for table in others))
        return self._moved[key]

    def __call__(self, x: Tensor, edge_sh: Tensor, edge_weight: Tensor, senders: Tensor, receivers: Tensor) -> Tensor:
        """As the operator eqff::convolve: float32 or float64, differentiable any number of times in x, sh and weight.

        Args:
            x [n_atoms, width_in]; edge_sh [n_edges, n_sh]; edge_weight [n_edges, n_weights]
            senders, receivers [n_edges] int64, sorted by receiver
        Returns: the segments of the layout one after the other, [n_atoms, segment width] each
        Raises:  ResourceError where Triton cannot run; RuntimeError for shapes, dtypes or edges that do not fit
        """
        loops = require(x.device)
        self._check(x, edge_sh, edge_weight, senders, receivers)
        call = Call(self, loops, self.tables_for(x), _edges(x.shape[0], senders.contiguous(), receivers.contiguous()))
        coupling = edge_sh @ call.tables.couplings  # T [n_edges, n_entries]
        return _SumReceivers.apply(x, coupling, edge_weight, call)

    def _check(self, x: Tensor, sh: Tensor, weight: Tensor, senders: Tensor, receivers: Tensor) -> None:
        n_edges = senders.shape[0]
        _expect("x", x, [x.shape[0], self.layout.width_in])
        _expect("sh", sh, [n_edges, self.layout.n_sh])
        _expect("radial", weight, [n_edges, self.layout.n_weights])
        _expect("receivers", receivers, [n_edges])
        torch._check(sh.dtype == x.dtype == weight.dtype, lambda: "x, sh, radial functions: expected one dtype")
        torch._check(x.dtype in (torch.float32, torch.float64), lambda: f"expected float32 or float64, not {x.dtype}")
        torch._check(senders.dtype == receivers.dtype == torch.int64, lambda: "senders, receivers: expected int64")


def _expect(name: str, tensor: Tensor, shape: list[int]) -> None:
    torch._check(list(tensor.shape) == shape, lambda: f"{name}: expected {shape}, got {list(tensor.shape)}")


class Edges(NamedTuple):
    """Which edges belong to an atom, in both directions."""

    n_atoms: int
    senders: Tensor
    receivers: Tensor
    receiver_pointers: Tensor  # [n_atoms + 1] into the edges
    order: Tensor  # [n_edges], sorts the edges by sender
    sender_pointers: Tensor  # [n_atoms + 1] into order


def _edges(n_atoms: int, senders: Tensor, receivers: Tensor) -> Edges:
    """Check without waiting for the GPU."""
    sorted_senders, order = senders.sort(stable=True)
    if senders.shape[0] > 0:
        sound = (receivers.diff() >= 0).all() & (receivers[0] >= 0) & (receivers[-1] < n_atoms)
        sound = sound & (sorted_senders[0] >= 0) & (sorted_senders[-1] < n_atoms)
        torch._assert_async(sound, f"senders, receivers: expected indices of {n_atoms} atoms, sorted by receiver")
    atoms = torch.arange(n_atoms + 1, device=senders.device)
    pointers = torch.searchsorted(receivers, atoms), torch.searchsorted(sorted_senders, atoms)
    return Edges(n_atoms, senders, receivers, pointers[0], order, pointers[1])


class Call(NamedTuple):
    """What a convolution and its derivatives share."""

    convolution: Convolution
    loops: ModuleType
    tables: Tables
    edges: Edges


# Each function below is a gradient of the form F(o, x, T, w) of cuda_loops; their derivatives are each other.


class _SumReceivers(torch.autograd.Function):
    """dF / do from x, T, w: the convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, T: Tensor, w: Tensor, call: Call) -> Tensor:
        ctx.save_for_backward(x, T, w)
        ctx.call = call
        edges, tables = call.edges, call.tables
        out = x.new_empty(edges.n_atoms * sum(call.convolution.layout.segments))
        grid = (edges.n_atoms, tables.paths.shape[0])
        index = (edges.senders, edges.receiver_pointers, tables.paths, tables.columns)
        _launch(call, call.loops.sum_receivers, grid, [out], [x, T, w], index)
        return out

    @staticmethod
    def backward(ctx: Any, o: Tensor) -> tuple[Tensor | None, ...]:
        x, T, w = ctx.saved_tensors
        by_x = _SumSenders.apply(o, T, w, ctx.call) if ctx.needs_input_grad[0] else None
        by_T, by_w = _SumChannels.apply(o, x, T, w, ctx.call) if any(ctx.needs_input_grad[1:3]) else (None, None)
        return by_x, by_T, by_w, None


class _SumSenders(torch.autograd.Function):
    """dF / dx from o, T, w."""

    @staticmethod
    def forward(ctx: Any, o: Tensor, T: Tensor, w: Tensor, call: Call) -> Tensor:
        ctx.save_for_backward(o, T, w)
        ctx.call = call
        edges, tables = call.edges, call.tables
        grad_x = o.new_empty(edges.n_atoms, call.convolution.layout.width_in)
        grid = (edges.n_atoms, tables.blocks.shape[0])
        index = (edges.receivers, edges.order, edges.sender_pointers, tables.blocks, tables.paths, tables.columns)
        _launch(call, call.loops.sum_senders, grid, [grad_x], [o, T, w], index)
        return grad_x

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Tensor | None, ...]:
        o, T, w = ctx.saved_tensors
        by_o = _SumReceivers.apply(x, T, w, ctx.call) if ctx.needs_input_grad[0] else None
        by_T, by_w = _SumChannels.apply(o, x, T, w, ctx.call) if any(ctx.needs_input_grad[1:3]) else (None, None)
        return by_o, by_T, by_w, None


class _SumChannels(torch.autograd.Function):
    """dF / dT and dF / dw from o, x, T, w."""

    @staticmethod
    def forward(ctx: Any, o: Tensor, x: Tensor, T: Tensor, w: Tensor, call: Call) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(o, x, T, w)
        ctx.call = call
        edges, tables = call.edges, call.tables
        grad_T, grad_w = T.new_empty(T.shape), w.new_empty(w.shape)
        grid = (edges.senders.shape[0], tables.paths.shape[0])
        index = (edges.senders, edges.receivers, tables.paths, tables.columns)
        _launch(call, call.loops.sum_channels, grid, [grad_T, grad_w], [o, x, T, w], index)
        return grad_T, grad_w

    @staticmethod
    def backward(ctx: Any, D: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
        o, x, T, w = ctx.saved_tensors  # with cotangents D of dF / dT and b of dF / dw: F(o, x, D, w) + F(o, x, T, b)
        needs, call = ctx.needs_input_grad, ctx.call
        by_o = by_x = by_T = by_w = None
        if needs[0]:
            by_o = _SumReceivers.apply(x, D, w, call) + _SumReceivers.apply(x, T, b, call)
        if needs[1]:
            by_x = _SumSenders.apply(o, D, w, call) + _SumSenders.apply(o, T, b, call)
        if any(needs[2:4]):
            by_T, by_w = _SumChannels.apply(o, x, D, b, call)
        return by_o, by_x, by_T, by_w, None


def _launch(
    call: Call, loop: Any, grid: tuple[int, int], results: list[Tensor], inputs: list[Tensor], index: tuple[Tensor, ...]
) -> None:
    """Run a loop of cuda_loops.  Args: results, inputs, tables, sizes"""
    if 0 in grid:
        return
    layout, (couplings, _, columns, _) = call.convolution.layout, call.tables
    sizes = (call.edges.n_atoms, layout.width_in, couplings.shape[1], layout.n_weights)
    tile = (columns.shape[1], call.convolution.n_channels)
    with torch.cuda.device_of(results[0]):  # no effect on the CPU
        loop[grid](*results, *(each.contiguous() for each in inputs), *index, *sizes, *tile, **OPTIONS)


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()
