"""Constants survive a change of the weights' dtype bit for bit."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from eqff.nn.constant import Constant

ENERGIES = torch.tensor([-4181.046524181234567, -13.605693122994, 0.1, -0.0, 3.0e30, 1e-20], dtype=torch.float64)


class Holder(nn.Module):
    """A constant beside a weight, as in a model."""

    def __init__(self):
        super().__init__()
        self.constant = Constant(ENERGIES)
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self):
        return self.constant()


def same_bits(one, other):
    return one.dtype == other.dtype and torch.equal(one, other)


def test_a_float64_buffer_would_not_survive():
    assert not torch.equal(ENERGIES.to(torch.float32).to(torch.float64), ENERGIES)


@pytest.mark.parametrize("dtypes", [[torch.float32], [torch.float64], [torch.float32, torch.float64, torch.float32]])
def test_survives_casts(dtypes):
    holder = Holder()
    for dtype in dtypes:
        holder = holder.to(dtype)
    assert holder.weight.dtype == dtypes[-1]
    assert same_bits(holder(), ENERGIES)


def test_survives_scripting_casting_and_saving():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Holder().to(torch.float32)), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    assert same_bits(loaded(), ENERGIES)
    assert same_bits(loaded.to(torch.float64)(), ENERGIES)


def test_survives_the_state_dict():
    other = Holder()
    other.constant = Constant(torch.zeros_like(ENERGIES))
    other.load_state_dict(Holder().to(torch.float32).state_dict())
    assert same_bits(other(), ENERGIES)


size = st.floats(min_value=1e-20, max_value=1e30)


@given(st.lists(st.one_of(size, size.map(lambda x: -x), st.just(0.0)), min_size=1, max_size=20))
def test_any_number_of_ordinary_size(values):
    numbers = torch.tensor(values, dtype=torch.float64)
    assert same_bits(Constant(numbers).to(torch.float32)(), numbers)
