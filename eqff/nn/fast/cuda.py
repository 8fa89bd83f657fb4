"""Models on Triton kernels for NVIDIA GPUs.  EXPERIMENTAL: not yet run on a GPU, see eqff.kernels.cuda."""

from typing import List

from torch import Tensor, nn

from eqff.kernels import cuda
from eqff.nn.convolution import TensorProductConvolution
from eqff.nn.fast.fused import layout, split_segments
from eqff.nn.features import join_blocks


class CudaConvolution(nn.Module):
    """Replaces a TensorProductConvolution. Eager only: it can be neither scripted nor exported.

    Args: convolution
    """

    def __init__(self, convolution: TensorProductConvolution) -> None:
        super().__init__()
        self.kernel = cuda.Convolution(layout(convolution))
        self.coupling = (
            convolution.coupling
        )  # part of the kernel's tables; kept so that the state dict has the same names
        self.shapes = [(block.irrep.dim, block.n_channels) for block in convolution.irreps_out]

    def forward(
        self, blocks: List[Tensor], edge_sh: Tensor, edge_weight: Tensor, senders: Tensor, receivers: Tensor
    ) -> List[Tensor]:
        """As TensorProductConvolution."""
        x = join_blocks(blocks)
        return split_segments(self.kernel(x, edge_sh, edge_weight, senders, receivers), x.shape[0], self.shapes)


def fuse(model: nn.Module) -> nn.Module:
    """Replace every TensorProductConvolution of a model, in place, with Triton kernels: same weights, same function.

    Raises: ResourceError EQ6120 without triton, EQ6121 without a CUDA GPU
    """
    cuda.require()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, TensorProductConvolution):
                setattr(parent, name, CudaConvolution(child))
    return model
