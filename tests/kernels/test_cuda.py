"""Triton kernels against the ATen reference: on a GPU, or slowly on the CPU with Triton's interpreter.

TRITON_INTERPRET=1 python -m pytest tests/kernels/test_cuda.py
"""

import copy
import importlib.util
import os
import sys

import pytest
import torch

from eqff.errors import ResourceError
from eqff.kernels import cuda
from eqff.models.nequip import Config, Model
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.cuda import CudaConvolution, fuse
from eqff.nn.harmonics import SphericalHarmonics
from eqff.o3.irreps import parse, spherical_harmonics_irreps

INSTALLED = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # read by triton when it is first imported
DEVICE = "cpu" if INTERPRETED else "cuda"
needs_triton = pytest.mark.skipif(not INSTALLED, reason="triton is not installed")
runs = pytest.mark.skipif(
    not INSTALLED or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs triton, and a CUDA GPU or TRITON_INTERPRET=1 from the start",
)
CASES = [  # inputs, wanted outputs, l_max
    ("4x0e", "0e + 1o", 1),
    ("3x0e + 9x1o + 1x2e", "0e + 1o + 2e", 2),
    ("2x1e + 3x0o + 2x1o", "1o + 0e + 0o", 2),
    ("4x0e + 2x1o + 1x3o", "1o + 3o", 3),
    ("2x0e + 1x4e", "0e + 4e", 4),
    ("2x0o + 2x0e", "0o", 0),  # the second block leads nowhere
]
N_ATOMS = 4


def convolutions(inputs, targets, l_max, dtype=torch.float64):
    irreps = parse(inputs)
    reference = TensorProductConvolution(irreps, spherical_harmonics_irreps(l_max), [b.irrep for b in parse(targets)])
    reference = reference.to(DEVICE, dtype)
    return irreps, reference, CudaConvolution(reference)


def arguments(irreps, l_max, weight_numel, n_edges=5, n_atoms=N_ATOMS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n_edges)

    def numbers(*shape):
        values = torch.randn(*shape, dtype=torch.float64, generator=generator)
        return values.to(DEVICE, dtype).requires_grad_(True)

    senders = torch.randint(0, n_atoms, (n_edges,), generator=generator)
    receivers = torch.randint(0, max(n_atoms - 1, 1), (n_edges,), generator=generator).sort().values
    blocks = [numbers(n_atoms, block.irrep.dim, block.n_channels) for block in irreps]
    direction = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64, generator=generator))
    edge_sh = SphericalHarmonics(l_max)(direction).to(DEVICE, dtype).requires_grad_(True)
    return blocks, edge_sh, numbers(n_edges, weight_numel), senders.to(DEVICE), receivers.to(DEVICE)


def relative(one, other):
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-300))


@runs
@pytest.mark.parametrize(("inputs", "targets", "l_max"), CASES)
def test_values_and_two_derivatives_are_those_of_the_reference(inputs, targets, l_max):
    irreps, reference, fused = convolutions(inputs, targets, l_max)
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, l_max, reference.weight_numel)
    variables = [*blocks, edge_sh, edge_weight]
    results = []
    for convolution in (reference, fused):
        outputs = convolution(blocks, edge_sh, edge_weight, senders, receivers)
        value = sum((k + 1) * output.pow(3).sum() for k, output in enumerate(outputs))
        first = torch.autograd.grad(value, variables, create_graph=True, materialize_grads=True)
        product = sum((g * torch.cos(variable.detach())).sum() for g, variable in zip(first, variables, strict=True))
        second = torch.autograd.grad(product, variables, materialize_grads=True)
        results.append([*outputs, *first, *second])
    for computed, expected in zip(results[1], results[0], strict=True):
        assert computed.shape == expected.shape
        assert relative(computed, expected) < 1e-12


@runs
def test_gradgradcheck_with_inputs_that_are_not_contiguous():
    irreps, reference, fused = convolutions("2x1o", "0e + 1o", 1)
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 1, reference.weight_numel, 2, n_atoms=2)
    x = torch.cat([block.flatten(1) for block in blocks], 1)
    transposed = [each.detach().t().contiguous().requires_grad_(True) for each in (x, edge_sh, edge_weight)]

    def scalar(x, sh, weight):
        return fused.kernel(x.t(), sh.t(), weight.t(), senders, receivers).pow(2).sum()

    assert torch.autograd.gradcheck(scalar, transposed, fast_mode=True)
    assert torch.autograd.gradgradcheck(scalar, transposed, fast_mode=True)


@runs
@pytest.mark.parametrize(("n_atoms", "n_edges"), [(1, 0), (1, 3), (4, 0), (2, 1)])
def test_few_atoms_and_edges(n_atoms, n_edges):
    irreps, reference, fused = convolutions(*CASES[1])
    inputs = arguments(irreps, 2, reference.weight_numel, n_edges, n_atoms)
    gradients = []
    for convolution in (reference, fused):
        outputs = convolution(*inputs)
        value = sum(output.pow(2).sum() for output in outputs)
        gradients.append([*outputs, *torch.autograd.grad(value, [*inputs[0], inputs[1], inputs[2]])])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@runs
def test_single_precision():
    irreps, reference, fused = convolutions(*CASES[3], dtype=torch.float32)
    inputs = arguments(irreps, 3, reference.weight_numel, dtype=torch.float32)
    for one, other in zip(fused(*inputs), reference(*inputs), strict=True):
        assert one.dtype == torch.float32
        assert relative(one, other) < 3e-6


@runs
def test_wrong_input_is_refused():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    with pytest.raises(RuntimeError, match="radial: expected"):
        fused(blocks, edge_sh, edge_weight[:, 1:], senders, receivers)
    with pytest.raises(RuntimeError, match="one dtype"):
        fused(blocks, edge_sh.float(), edge_weight, senders, receivers)
    with pytest.raises(RuntimeError, match="int64"):
        fused(blocks, edge_sh, edge_weight, senders.int(), receivers)


@runs
@pytest.mark.skipif(not INTERPRETED, reason="a failed check on a GPU ends the process")
def test_wrong_edges_are_refused():
    irreps, reference, fused = convolutions(*CASES[1])
    blocks, edge_sh, edge_weight, senders, receivers = arguments(irreps, 2, reference.weight_numel)
    for from_, to in ((senders, receivers.flip(0)), (senders + N_ATOMS, receivers), (senders - N_ATOMS, receivers)):
        with pytest.raises(RuntimeError, match="indices of 4 atoms, sorted by receiver"):
            fused(blocks, edge_sh, edge_weight, from_, to)


@runs
def test_fused_model_has_the_same_state_and_function():
    config = Config(species=("H", "O"), r_max=4.0, l_max=1, n_layers=2, n_channels=2, radial_hidden=(4,))
    model = Model(config).to(DEVICE, torch.float64)
    fused = fuse(copy.deepcopy(model))
    assert fused.state_dict().keys() == model.state_dict().keys()
    assert not any(isinstance(module, TensorProductConvolution) for module in fused.modules())
    generator = torch.Generator().manual_seed(0)
    edge_vector = torch.randn(4, 3, dtype=torch.float64, generator=generator).to(DEVICE).requires_grad_(True)
    species, senders, receivers = torch.tensor([[0, 1, 1, 0], [1, 2, 0, 0], [0, 0, 1, 2]], device=DEVICE)
    results = []
    for each in (model, fused):
        energy = each(species[:3], senders, receivers, edge_vector)
        (gradient,) = torch.autograd.grad(energy.sum(), edge_vector, create_graph=True)
        loss = energy.pow(2).sum() + gradient.pow(2).sum()  # as in training
        weights = [parameter for parameter in each.parameters() if parameter.requires_grad]
        by_weight = torch.autograd.grad(loss, weights, materialize_grads=True)
        results.append([energy, gradient, torch.cat([one.flatten() for one in by_weight])])
    for computed, expected in zip(results[1], results[0], strict=True):
        assert relative(computed, expected) < 1e-12


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("number", ["fp32", "fp64"])
@pytest.mark.parametrize("loop", ["sum_receivers", "sum_senders", "sum_channels"])
def test_loops_compile_for_gpus(loop, number, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from eqff.kernels import cuda_loops

    function = getattr(cuda_loops, loop)
    numbers = ("out", "x", "T", "w", "grad_x", "grad_T", "grad_w")
    sizes = ("n_atoms", "width_in", "n_entries", "n_weights")
    kinds = dict.fromkeys(numbers, f"*{number}") | dict.fromkeys(sizes, "i32")
    kinds |= {"M": "constexpr", "C": "constexpr"}
    signature = {name: kinds.get(name, "*i64") for name in function.arg_names}
    source = ASTSource(fn=function, signature=signature, constexprs={"M": 8, "C": 64})
    program = compile(source, target=GPUTarget("cuda", 80, 32), options=cuda.OPTIONS)
    assert f".entry {loop}(" in program.asm["ptx"]
    assert "atom." not in program.asm["ptx"]


def test_without_triton_an_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(
        ResourceError, match=r"EQ6120: triton is not installed; run `pip install triton`.*leave the model"
    ):
        fuse(torch.nn.Linear(1, 1))


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter needs no GPU")
def test_without_a_gpu_an_error_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"EQ6121: torch sees no CUDA GPU.*leave the model"):
        fuse(torch.nn.Linear(1, 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ResourceError, match=r"EQ6910: x\.device=cpu"):
        cuda.require(torch.device("cpu"))
