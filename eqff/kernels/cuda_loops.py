"""Triton loops of one convolution; needs triton, so only eqff.kernels.cuda imports this file, when first used.

One path (x block, harmonic, output irrep) of one edge adds to the form

    o[i, m3, c] w[e, c] T[e, m3, m1] x[j, m1, c]            e: j -> i, c a channel

which is linear in all four. Three loops make its gradients by each: by o (`sum_receivers`, the convolution itself), by
x (`sum_senders`), by w and T (`sum_channels`). Derivatives of any order are the same three loops with other arguments.

Tiles are [M, C]: components of an irrep by channels, both padded to powers of two; `M`, `C` are compile-time constants,
everything about the paths comes from tables (eqff.kernels.cuda.Tables), so one compilation serves all convolutions of
a model.
"""
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator,misc"

import triton
import triton.language as tl

PATH_COLUMNS = tl.constexpr(8)
BLOCK_COLUMNS = tl.constexpr(5)


@triton.jit
def path_of(paths, p):
    """Row p of Tables.paths."""
    row = paths + p * PATH_COLUMNS
    return (
        tl.load(row),  # first column of the block in x
        tl.load(row + 1),  # 2 l1 + 1
        tl.load(row + 2),  # n_channels
        tl.load(row + 3),  # first column in w
        tl.load(row + 4),  # first entry of T
        tl.load(row + 5),  # 2 l3 + 1
        tl.load(row + 6),  # numbers per atom in all output segments before its own
        tl.load(row + 7),  # numbers per atom in its own
    )


@triton.jit
def sum_receivers(
    out, x, T, w, senders, pointers, paths, columns, n_atoms, width_in, n_entries, n_weights,
    M: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """out[i, m3, c] = sum_e w[e, c] sum_m1 T[e, m3, m1] x[j, m1, c]; one program: receiver i, path p, all c."""
    i = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1)
    x_column, dim_in, n_channels, w_column, entry, dim_out, start, width = path_of(paths, p)
    m, c = tl.arange(0, M), tl.arange(0, C)
    rows, channels = m < dim_out, c < n_channels
    total = tl.zeros([M, C], dtype=out.dtype.element_ty)
    for e in range(tl.load(pointers + i), tl.load(pointers + i + 1)):
        x_at = x + tl.load(senders + e) * width_in + x_column + c
        T_at = T + e * n_entries + entry + m * dim_in
        weight = tl.load(w + e * n_weights + w_column + c, mask=channels, other=0.0)
        for m1 in range(dim_in):
            value = weight * tl.load(x_at + m1 * n_channels, mask=channels, other=0.0)
            total += tl.load(T_at + m1, mask=rows, other=0.0)[:, None] * value[None, :]
    at = n_atoms * start + i * width + tl.load(columns + p * M + m)
    tl.store(out + at[:, None] + c[None, :], total, mask=rows[:, None] & channels[None, :])


@triton.jit
def sum_senders(
    grad_x, out, T, w, receivers, order, pointers, blocks, paths, columns, n_atoms, width_in, n_entries, n_weights,
    M: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """grad_x[j, m1, c] = sum_(e, p, m3) T[e, m3, m1] w[e, c] out[i, m3, c]; one program: sender j, block b of x, all c.

    Edges of a sender are found through order [n_edges], which sorts them by sender: no atomics, the same sum every run.
    """
    j = tl.program_id(0).to(tl.int64)
    block = blocks + tl.program_id(1) * BLOCK_COLUMNS
    first, last = tl.load(block), tl.load(block + 1)  # its paths
    x_column, dim, n_channels = tl.load(block + 2), tl.load(block + 3), tl.load(block + 4)
    m, c = tl.arange(0, M), tl.arange(0, C)
    rows, channels = m < dim, c < n_channels
    total = tl.zeros([M, C], dtype=grad_x.dtype.element_ty)
    for k in range(tl.load(pointers + j), tl.load(pointers + j + 1)):
        e = tl.load(order + k)
        i = tl.load(receivers + e)
        for p in range(first, last):
            _, dim_in, _, w_column, entry, dim_out, start, width = path_of(paths, p)
            weight = tl.load(w + e * n_weights + w_column + c, mask=channels, other=0.0)
            o_at = out + n_atoms * start + i * width + c
            T_at = T + e * n_entries + entry + m
            for m3 in range(dim_out):
                value = weight * tl.load(o_at + tl.load(columns + p * M + m3), mask=channels, other=0.0)
                total += tl.load(T_at + m3 * dim_in, mask=rows, other=0.0)[:, None] * value[None, :]
    at = j * width_in + x_column + m * n_channels
    tl.store(grad_x + at[:, None] + c[None, :], total, mask=rows[:, None] & channels[None, :])


@triton.jit
def sum_channels(
    grad_T, grad_w, out, x, T, w, senders, receivers, paths, columns, n_atoms, width_in, n_entries, n_weights,
    M: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """Gradients by w and T of one edge; one program: edge e, path p, all c.

    grad_T[e, m3, m1] = sum_c out[i, m3, c] w[e, c] x[j, m1, c],  grad_w[e, c] = sum_(m3, m1) out T x
    """
    e = tl.program_id(0).to(tl.int64)
    p = tl.program_id(1)
    x_column, dim_in, n_channels, w_column, entry, dim_out, start, width = path_of(paths, p)
    m, c = tl.arange(0, M), tl.arange(0, C)
    rows, channels = m < dim_out, c < n_channels
    at = n_atoms * start + tl.load(receivers + e) * width + tl.load(columns + p * M + m)
    o = tl.load(out + at[:, None] + c[None, :], mask=rows[:, None] & channels[None, :], other=0.0)
    x_at = x + tl.load(senders + e) * width_in + x_column + c
    T_at = e * n_entries + entry + m * dim_in
    w_at = e * n_weights + w_column + c
    weight = tl.load(w + w_at, mask=channels, other=0.0)
    total = tl.zeros([C], dtype=grad_w.dtype.element_ty)
    for m1 in range(dim_in):
        value = tl.load(x_at + m1 * n_channels, mask=channels, other=0.0)
        coupling = tl.load(T + T_at + m1, mask=rows, other=0.0)
        total += tl.sum(coupling[:, None] * o, 0) * value
        tl.store(grad_T + T_at + m1, tl.sum(o * (weight * value)[None, :], 1), mask=rows)
    tl.store(grad_w + w_at, total, mask=channels)
