"""C++ source of one convolution: loops over receivers, their edges and vectors of channels, couplings written out.

For an edge j -> i with harmonics Y and weights w, every row (path, m3) of the output adds w[path] * sum_m1 T[row, m1]
x_j[m1], where T[row, m1] = sum_m2 C[m2, row, m1] Y[m2] has few terms.  Sums over neighbours stay in registers; nothing
is stored per edge and channel but the gradient of w.
"""

import hashlib
from pathlib import Path
from string import Template
from typing import NamedTuple

HEADER = Path(__file__).with_name("kernel.h")
TEMPLATE = Path(__file__).with_name("convolution.cpp.in")


class Term(NamedTuple):
    """T[row, m1] = sum of value * Y[m2]."""

    m1: int
    couplings: tuple[tuple[int, float], ...]  # (m2, value)


class Row(NamedTuple):
    """One component of the output of one path."""

    weight: int  # first column of its weights
    segment: int  # output irrep
    column: int  # within the segment of one atom
    terms: tuple[Term, ...]


class InputBlock(NamedTuple):
    """One irrep of x: columns offset ... offset + dim * n_channels, (m1, channel) ordered."""

    dim: int
    n_channels: int
    offset: int
    rows: tuple[Row, ...]


class Layout(NamedTuple):
    """Everything that determines a kernel.

    x [n_atoms, width_in]; out is one buffer of segments, [n_atoms, segment width] each, one per output irrep.
    """

    blocks: tuple[InputBlock, ...]
    segments: tuple[int, ...]  # numbers per atom
    n_sh: int
    width_in: int
    n_weights: int


def name(layout: Layout) -> str:
    """The same for the same source: the key of the kernel in caches and operators."""
    content = source(layout) + HEADER.read_text()
    return "convolution_" + hashlib.sha256(content.encode()).hexdigest()[:20]


def source(layout: Layout) -> str:
    """C++ of the kernel; needs kernel.h and GCC's or clang's vector extensions."""
    entries = _entries(layout)
    table = [[0.0] * _padded(len(entries)) for _ in range(layout.n_sh)]
    for t, couplings in enumerate(entries):
        for m2, value in couplings:
            table[m2][t] = value
    numbers = ", ".join(repr(value) for line in table for value in line)
    return Template(TEMPLATE.read_text()).substitute(
        n_entries=_padded(len(entries)),
        n_sh=layout.n_sh,
        width_in=layout.width_in,
        width_out=sum(layout.segments),
        n_weights=layout.n_weights,
        couplings=numbers,
        sums="\n".join(f"    V Y{m2}{{}};" for m2 in range(layout.n_sh)),
        store_sums="\n".join(f"    if (HARMONICS) gradient_sh[{m2}] = total(Y{m2});" for m2 in range(layout.n_sh)),
        forward=_forward(layout),
        backward=_backward(layout),
        double_backward=_double_backward(layout),
    )


def _padded(n: int) -> int:
    """A multiple of 16, the widest vector of float32."""
    return max(16, -(-n // 16) * 16)


def _entries(layout: Layout) -> list[tuple[tuple[int, float], ...]]:
    """Couplings of every T[row, m1] in the order the code below uses them."""
    return [
        term.couplings for block in layout.blocks for _, rows in _paths(block) for row in rows for term in row.terms
    ]


class _Code:
    """Lines of C++ while walking over blocks, paths and rows, numbering the entries of T in that order."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.t = 0
        self.lines: list[str] = []
        self.starts = [sum(layout.segments[:k]) for k in range(len(layout.segments))]

    def add(self, line: str) -> None:
        self.lines.append(line)

    def numbered(self, row: Row) -> list[tuple[int, Term]]:
        """(index into T, term) for the terms of the next row."""
        first = self.t
        self.t += len(row.terms)
        return list(enumerate(row.terms, first))

    def address(self, row: Row) -> str:
        """Of the row in a buffer like out, for receiver i and channel c."""
        return f"n_atoms * {self.starts[row.segment]} + i * {self.layout.segments[row.segment]} + {row.column} + c"

    def open(self, b: int) -> None:
        """Begin the lambda of a block."""
        self.add(f"    auto block{b} = [&](auto lanes, int64_t c) __attribute__((always_inline)) {{")
        self.add("     constexpr int n = decltype(lanes)::n;")

    def open_edge(self, b: int, block: InputBlock, read: dict[str, str]) -> None:
        """Begin the lambda of a block for one edge; `read`: variables from arrays like x, beside g from grad_x."""
        self.open(b)
        self.add(f"     const int64_t at = senders[e] * WIDTH_IN + {block.offset} + c;")
        for m in range(block.dim):
            for variable, array in read.items():
                self.add(f"     const V {variable}{m} = load<n>({array} + at + {m * block.n_channels});")
            self.add(f"     V g{m} = load<n>(grad_x + at + {m * block.n_channels});")

    def sums(self, rows: list[Row], *names: str) -> list[int]:
        """Begin sums over the rows of a path, one for each m1 that has a term; these m1."""
        inputs = sorted({term.m1 for row in rows for term in row.terms})
        for name in names:
            self.add("      V " + ", ".join(f"{name}{m}{{}}" for m in inputs) + ";")
        return inputs

    def harmonics(self, row: Row, factor: str, vector: str) -> None:
        """Add couplings times factor * vector to the gradients of the harmonics, if they are computed."""
        self.add(f"       if (HARMONICS) {{ const V s = {factor};")
        for term in row.terms:
            added = " ".join(f"Y{m2} += S({value!r}) * z;" for m2, value in term.couplings)
            self.add(f"        {{ const V z = s * {vector}{term.m1}; {added} }}")
        self.add("       }")

    def close_edge(self, b: int, block: InputBlock) -> None:
        """Put g back, and run over the channels."""
        for m in range(block.dim):
            self.add(f"     store<n>(grad_x + at + {m * block.n_channels}, g{m});")
        self.chunks(block, f"block{b}")

    def chunks(self, block: InputBlock, call: str) -> None:
        """Close a lambda over (lanes, c) and run it over the channels of a block."""
        self.add("    };")
        self.add(f"    for (int64_t c = 0; c + W <= {block.n_channels}; c += W) {call}(Lanes<W>{{}}, c);")
        self.add(
            f"    if constexpr ({block.n_channels} % W) {call}(Lanes<{block.n_channels} % W>{{}}, "
            f"int64_t({block.n_channels} / W * W));"
        )


def _paths(block: InputBlock) -> list[tuple[int, list[Row]]]:
    """(weight column, rows) of the paths of a block, rows of a path together."""
    paths: dict[int, list[Row]] = {}
    for row in block.rows:
        paths.setdefault(row.weight, []).append(row)
    return list(paths.items())


def _product(terms: list[tuple[int, Term]], factor: str = "T", vector: str = "x") -> str:
    return " + ".join(f"{factor}[{t}] * {vector}{term.m1}" for t, term in terms)


def _forward(layout: Layout) -> str:
    code = _Code(layout)
    for b, block in enumerate(layout.blocks):
        if not block.rows:
            continue
        code.open(b)
        n_rows = len(block.rows)
        code.add("     V " + ", ".join(f"sum{r}{{}}" for r in range(n_rows)) + ";")
        code.add("     for (int64_t k = 0; k < degree; k++) {")
        code.add("      const int64_t e = edge[k], row = !SPLINE && rows ? rows[e] : e;")
        code.add("      const S *T = coupling + k * N_ENTRIES, *basis = bases + k * 12;")
        code.add(f"      const S *sender = x + senders[e] * WIDTH_IN + {block.offset} + c;")
        for m in range(block.dim):
            code.add(f"      const V x{m} = load<n>(sender + {m * block.n_channels});")
        r = 0
        for weight, rows in _paths(block):
            code.add(f"      {{ const V w = radial_value<SPLINE, n>(radial, table, basis, row, {weight} + c);")
            for row in rows:
                code.add(f"       sum{r} += w * ({_product(code.numbered(row))});")
                r += 1
            code.add("      }")
        code.add("     }")
        for r, row in enumerate(row for _, rows in _paths(block) for row in rows):
            code.add(f"     store<n>(out + {code.address(row)}, sum{r});")
        code.chunks(block, f"block{b}")
    return "\n".join(code.lines)


def _backward(layout: Layout) -> str:
    code = _Code(layout)
    for b, block in enumerate(layout.blocks):
        if not block.rows:
            continue
        code.open_edge(b, block, {"x": "x"})
        for weight, rows in _paths(block):
            code.add(f"     {{ const V w = radial_value<SPLINE, n>(radial, table, basis, row, {weight} + c);")
            inputs = code.sums(rows, "h")  # h = sum of T o, so that the gradient of x is w h, that of w is x . h
            for row in rows:
                code.add(f"      {{ const V o = load<n>(grad_out + {code.address(row)});")
                for t, term in code.numbered(row):
                    code.add(f"       h{term.m1} += T[{t}] * o;")
                code.harmonics(row, "w * o", "x")
                code.add("      }")
            for m in inputs:
                code.add(f"      g{m} += w * h{m};")
            code.add("      const V v = " + " + ".join(f"x{m} * h{m}" for m in inputs) + ";")
            code.add("      if constexpr (SPLINE)")
            code.add(f"       slope += v * radial_value<true, n>(radial, table, basis + 6, row, {weight} + c);")
            code.add(f"      else set_or_add<n>(rows, grad_radial + row * N_WEIGHTS + {weight} + c, v);")
            code.add("     }")
        code.close_edge(b, block)
    return "\n".join(code.lines)


def _double_backward(layout: Layout) -> str:
    code = _Code(layout)
    for b, block in enumerate(layout.blocks):
        if not block.rows:
            continue
        code.open_edge(b, block, {"x": "x", "a": "cot_x"})
        for weight, rows in _paths(block):
            column = f"row * N_WEIGHTS + {weight} + c"
            code.add(f"     {{ const V w = load<n>(weights + {column}), b = load<n>(cot_weight + {column});")
            inputs = code.sums(rows, "h", "k")  # sums of T o and D o
            for m in inputs:
                code.add(f"      const V p{m} = w * a{m} + b * x{m}, q{m} = w * x{m};")
            for row in rows:
                code.add(f"      {{ const int64_t r = {code.address(row)}; const V o = load<n>(grad_out + r);")
                terms = code.numbered(row)
                sums = f"{_product(terms, 'T', 'p')} + {_product(terms, 'D', 'q')}"
                code.add(f"       store<n>(grad_grad_out + r, load<n>(grad_grad_out + r) + {sums});")
                for t, term in terms:
                    code.add(f"       h{term.m1} += T[{t}] * o; k{term.m1} += D[{t}] * o;")
                code.harmonics(row, "o", "p")
                code.add("      }")
            for m in inputs:
                code.add(f"      g{m} += w * k{m} + b * h{m};")
            products = " + ".join(f"a{m} * h{m} + x{m} * k{m}" for m in inputs)
            code.add(f"      set_or_add<n>(rows, grad_weight + {column}, {products});")
            code.add("     }")
        code.close_edge(b, block)
    return "\n".join(code.lines)
