"""TorchScript programs: making one of a module, and which operations it can run."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from eqff.errors import PotentialError

# Operations of torch that read or write files: a potential has no use for them.
FORBIDDEN = frozenset({"aten::from_file", "aten::save", "prim::PythonOp"})


def script(model: nn.Module) -> torch.jit.ScriptModule:
    """The TorchScript program of a module.

    Raises: PotentialError with torch's reason when it cannot be scripted
    """
    try:
        return torch.jit.script(model)
    except (RuntimeError, torch.jit.frontend.FrontendError) as error:
        reason = " ".join(str(error).split())[:400]
        raise PotentialError(
            "EQ4330", f"the model cannot be scripted: {reason}; write the model in what TorchScript can compile"
        ) from error


def operators(program: torch.jit.ScriptModule) -> list[str]:
    """Names of all operations that any part of the scripted program can run, e.g. "aten::mul"."""
    found = {name.split(".")[0] for name in torch.jit.export_opnames(program)}  # methods forward never calls, too
    for name in program._c._method_names():
        found |= {node.kind() for node in _nodes(program._c._get_method(name).inlined_graph)}
    return sorted(found)


def check_operators(program: torch.jit.ScriptModule) -> list[str]:
    """The operations of the program, all of torch itself.

    Raises: PotentialError naming operations that another machine may not have, or that touch files
    """
    used = operators(program)
    foreign = [name for name in used if not name.startswith(("aten::", "prim::")) or name in FORBIDDEN]
    if foreign:
        raise PotentialError("EQ4142", f"program uses {', '.join(foreign)}; write the exact model in plain torch")
    return used


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes of a TorchScript graph or block, those in inner blocks too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
