"""The contract of names: every family is on the fast paths it is meant to be on, and a miss is said, not silent."""

from pathlib import Path

import pytest
import torch
from torch import nn

from eqff import registry
from eqff.config import from_mapping, read_toml
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.fused import SharedRadial, fuse, share_radial
from eqff.nn.fast.layers import FastPath, fast_paths, radial_layers, spline_obstacle
from eqff.nn.mlp import ScalarMLP
from eqff.nn.radial import BesselBasis
from eqff.o3.irreps import Block, Irrep

SMALLEST = Path(__file__).parents[2] / "conformance" / "smallest"
# family -> the paths of its layers, and what is said about the others
EXPECTED = {
    "nequip": ({"kernel", "spline", "shared"}, set()),
    "tfn": ({"kernel", "spline"}, {"its radial is a RadialFilters"}),
    "equiformer": (
        {"kernel", "shared"},
        {"degree.radial is not 0 at r_max", "its name is product, not convolution"},
    ),
    "se3_transformer": (
        {"kernel"},
        {"its name is values, not convolution", "layers.0.keys has no radial", "its layer has no radial"},
    ),
    "escn": (set(), {"it has no TensorProductConvolution"}),
}


def model_of(family: str) -> nn.Module:
    module = registry.load("models", family)
    return module.Model(from_mapping(module.Config, read_toml(SMALLEST / f"{family}.toml"), where=family))


@pytest.mark.parametrize("family", registry.names("models"))
def test_every_family(family: str) -> None:
    """A new family states here what it is on."""
    paths, reasons = EXPECTED[family]
    rows = fast_paths(model_of(family))
    assert {row.path for row in rows if row.reason == ""} == paths
    assert {row.reason for row in rows} - {""} == reasons
    hops = model_of(family).hops
    assert all(any(row.layer.startswith(hop) for row in rows) for hop in hops), "a hop nothing is said about"


@pytest.mark.parametrize("family", registry.names("models"))
def test_what_is_said_is_what_happens(family: str) -> None:
    """Splines exactly where no obstacle is named; shared networks in exactly the layers that are listed."""
    rows = fast_paths(model_of(family))
    assert any(row.path == "spline" and row.reason == "" for row in rows) == (spline_obstacle(model_of(family)) == "")
    try:
        model = share_radial(fuse(model_of(family)))
    except Exception as error:  # without a C++ compiler
        pytest.skip(str(error))
    shared = {f"{name}.convolution" for name, layer in model.named_modules() if isinstance(
        getattr(layer, "radial", None), SharedRadial)}  # fmt: skip
    assert {row.layer for row in rows if row.path == "shared" and row.reason == ""} == shared
    assert not any(isinstance(module, TensorProductConvolution) for module in model.modules())


class Layer(nn.Module):
    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            setattr(self, name, child)


def parts() -> tuple[TensorProductConvolution, ScalarMLP]:
    scalars = (Block(Irrep(0, 1), 2),)
    convolution = TensorProductConvolution(scalars, [Irrep(0, 1)], [Irrep(0, 1)])
    return convolution, ScalarMLP([4, convolution.weight_numel], True, torch.Generator().manual_seed(0))


def test_other_names_are_named() -> None:
    convolution, radial = parts()
    basis = BesselBasis(3.0, 4, 6, trainable=False)
    good = Layer(basis=basis, layer=Layer(convolution=convolution, radial=radial))
    assert [row.reason for row in fast_paths(good)] == ["", "", ""]
    renamed = Layer(basis=basis, layer=Layer(conv=convolution, radial=radial))
    assert {row.reason for row in fast_paths(renamed)} == {"", "its name is conv, not convolution"}
    assert radial_layers(renamed) == []
    assert spline_obstacle(renamed) == "the model has no layer with a convolution"
    other = Layer(basis=basis, layer=Layer(convolution=convolution, weights=radial))
    assert spline_obstacle(other) == "layer has no radial"
    assert spline_obstacle(Layer(rbf=basis, layer=good.layer)) == "the model has no basis with r_max"


def test_a_row_reads_as_a_sentence() -> None:
    assert str(FastPath("layers.0.convolution", "kernel", "")) == "layers.0.convolution: kernel"
    assert str(FastPath("layers.0", "kernel", "it is small")) == "layers.0: no kernel, it is small"
