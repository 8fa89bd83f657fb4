"""Header + weights -> model, with eqff's own code: the program in the file is never executed."""

import copy
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from eqff import registry
from eqff.artifact import archive, vectors
from eqff.artifact.header import is_wrapped
from eqff.artifact.lookup import find
from eqff.config import from_mapping
from eqff.errors import EqffError, PotentialError
from eqff.potential import GradientEvaluator


def rebuild(name_or_path: str | Path) -> nn.Module:
    """Model of a potential file, able to train, checked against all test vectors of the file.

    Everything in the file's state, coupling coefficients too, replaces what the installed packages compute: no
    upgrade changes a potential.

    Args:    name_or_path: as eqff.load takes it
    Returns: model in evaluation mode, on the CPU, in the stored dtype
    Raises:  PotentialError for a damaged file, unknown family, weights that do not fit, or missed test vectors;
             ConfigError for a configuration this eqff does not know
    """
    with torch.device("cpu"), torch.inference_mode(False):  # whatever the caller's default device and mode are
        return _rebuild(archive.read(find(name_or_path)))


def _rebuild(contents: archive.Contents) -> nn.Module:
    header, path = contents.header, contents.path
    if is_wrapped(header):
        raise PotentialError(
            "EQ4329", f"{path}: a wrapped foreign program has no weights to rebuild or compile from; use eqff.load"
        )
    if header["family"] not in registry.names("models"):
        raise PotentialError(
            "EQ4150", f"{path}: family={header['family']!r} is not installed; eqff.load runs the stored program instead"
        )
    family = registry.load("models", header["family"])
    config = from_mapping(family.Config, header["config"], where=f"{path}: config")
    try:
        model: nn.Module = family.Model(config)
    except EqffError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:400] or repr(error)
        raise PotentialError(
            "EQ4509", f"{path}: {header['family']} cannot be built from the config ({reason}); get the file again"
        ) from error
    if getattr(model, "n_hops", header["n_hops"]) != header["n_hops"]:
        raise PotentialError(
            "EQ4510",
            f"{path}: header n_hops={header['n_hops']}, but its config makes {model.n_hops}; do not use this file",
        )
    model.to(getattr(torch, header["dtype"]))
    try:
        model.load_state_dict(safetensors.torch.load(contents.extra[archive.WEIGHTS]), strict=True, assign=True)
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:400]
        raise PotentialError(
            "EQ4151",
            f"{path}: weights do not fit {header['family']}: {reason}; "
            "the file is damaged or from another version, so get it again",
        ) from error
    model.eval()
    exact = GradientEvaluator(copy.deepcopy(model).to(torch.float64).requires_grad_(False))
    for vector in vectors.unpack(contents):
        vectors.check(exact, vector, torch.float64, header, f"{path}, rebuilt")
    return model
