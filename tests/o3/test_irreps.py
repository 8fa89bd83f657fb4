"""Book-keeping of irreps against e3nn and by hand."""

import pytest
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st

from eqff.errors import ConfigError
from eqff.o3.irreps import (
    Block,
    Irrep,
    Path,
    occurrences,
    only,
    parse,
    reachable,
    sorted_irreps,
    spherical_harmonics_irreps,
    tensor_product_paths,
    to_text,
    width,
)

irreps = st.builds(Irrep, st.integers(0, 5), st.sampled_from([1, -1]))
blocks = st.lists(st.builds(Block, irreps, st.integers(1, 9)), min_size=1, unique_by=lambda block: block.irrep)


def foreign(irrep):
    return o3.Irrep(irrep.l, irrep.p)


@given(blocks)
def test_text_is_e3nns_and_comes_back(some):
    text = to_text(tuple(some))
    assert parse(text) == tuple(some)
    assert [(mul, ir.l, ir.p) for mul, ir in o3.Irreps(text)] == [(b.n_channels, *b.irrep) for b in some]
    assert width(tuple(some)) == o3.Irreps(text).dim


def test_a_lone_irrep_is_one_channel():
    assert parse("1o+ 2e") == (Block(Irrep(1, -1), 1), Block(Irrep(2, 1), 1))


@pytest.mark.parametrize("text", ["", "8x1", "8x1x", "0x1o", "-1x0e", "8x0e +", "8 x 0e"])
def test_nonsense_is_refused(text):
    with pytest.raises(ConfigError, match="EQ1040"):
        parse(text)


def test_an_irrep_that_appears_twice_is_refused():
    with pytest.raises(ConfigError, match="EQ1928"):
        parse("2x0e + 3x0e")


@given(irreps, irreps)
def test_products_are_e3nns(first, second):
    expected = [(ir.l, ir.p) for ir in foreign(first) * foreign(second)]
    assert [tuple(irrep) for irrep in first.product(second)] == expected


@given(st.lists(irreps, unique=True))
def test_storage_order_is_e3nns(some):
    expected = sorted(foreign(irrep) for irrep in some)
    assert [foreign(irrep) for irrep in sorted_irreps(some)] == expected


def test_harmonics_alternate_in_parity_or_give_it_up():
    assert to_text(tuple(Block(i, 1) for i in spherical_harmonics_irreps(3))) == "1x0e + 1x1o + 1x2e + 1x3o"
    assert {irrep.p for irrep in spherical_harmonics_irreps(3, natural_parity=False)} == {1}


def test_paths_by_hand():
    inputs, scalar, vector = parse("4x1o + 2x0e"), Irrep(0, 1), Irrep(1, -1)
    paths = tensor_product_paths(inputs, [scalar, vector], [scalar, vector])
    # 1o x 0e -> 1o; 1o x 1o -> 0e (1e and 2e are not wanted); 0e x 0e -> 0e; 0e x 1o -> 1o
    assert paths == [Path(0, 0, vector), Path(0, 1, scalar), Path(1, 0, scalar), Path(1, 1, vector)]


def test_selections_by_hand():
    irreps = parse("4x0e + 3x1o + 2x2e")
    assert to_text(only(irreps, [Irrep(2, 1), Irrep(0, 1), Irrep(5, 1)])) == "4x0e + 2x2e"
    assert occurrences(parse("1x2e + 1x0o + 1x1o"), irreps + irreps) == [[2, 5], [], [1, 4]]
    edge = spherical_harmonics_irreps(1)
    assert to_text(reachable(parse("4x0e"), edge, parse("8x0e + 8x0o + 8x1o + 8x1e"))) == "8x0e + 8x1o"
    assert to_text(reachable(parse("4x1o"), edge, parse("8x0e + 8x0o + 8x1o + 8x1e"))) == "8x0e + 8x1o + 8x1e"
