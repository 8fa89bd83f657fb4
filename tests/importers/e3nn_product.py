"""The tensor product of a convolution as nequip and sevenn lay it out, on e3nn."""

from e3nn import o3


def tensor_product(irreps_in, irreps_edge, between):
    """Channel by channel, all paths into `between`, sorted by output; weights come from outside.

    Returns: (the product, its irreps out)
    """
    slots, instructions = [], []
    for i, (n, ir_in) in enumerate(irreps_in):
        for j, (_, ir_edge) in enumerate(irreps_edge):
            for ir_out in ir_in * ir_edge:
                if ir_out in between:
                    instructions.append((i, j, len(slots), "uvu", True))
                    slots.append((n, ir_out))
    middle, place, _ = o3.Irreps(slots).sort()
    instructions = [(i, j, place[k], mode, train) for i, j, k, mode, train in instructions]
    product = o3.TensorProduct(
        irreps_in, irreps_edge, middle, instructions, shared_weights=False, internal_weights=False
    )
    return product, middle
