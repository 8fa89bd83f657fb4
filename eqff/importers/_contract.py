"""What an importer is: one file per foreign code, which turns its configuration and weights into a model of eqff."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from eqff.errors import PotentialError


class Imported(NamedTuple):
    """A foreign model as a model of eqff."""

    config: Any  # the Config of the family
    model: nn.Module  # float64


class Located(NamedTuple):
    """A foreign file inside something else, such as a package."""

    content: bytes
    label: str  # where it came from, without machine paths
    sha256: str  # that it must have
    options: dict[str, Any]  # of the configuration, stated in the name


class Provenance(NamedTuple):
    """What is known about published weights."""

    metadata: dict[str, str]  # level_of_theory, licence, citation
    training_data: str
    card: str  # Markdown


class Importer(Protocol):
    """The names of an importer's module, eqff/importers/<code>.py.

    FAMILY         family of the resulting model
    convert        raises KeyError, TypeError, ValueError or AttributeError for an invalid configuration (the task
                   makes it a typed error), ConfigError for an option without counterpart, PotentialError for weights

    Optional, at most one of the two (the first wins):
    SPECIES_KEYS   keys of the foreign configuration that name the elements of its types, the one to fill first
    SUBSET_KEY     key that says which of all elements to keep
    An importer with neither has fixed elements.

    Optional, for weights that are published in packages:
    locate         text of the user -> Located, None for the path of a file
    provenance     (configuration, SHA-256 of the file) -> Provenance, None for unknown weights
    MODALITY_KEY   key that says which level of theory to keep
    RUN_DTYPE      dtype in which the potential runs unless the user names another; else float64
    """

    FAMILY: str

    def convert(self, foreign: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> Imported: ...


class StateDict:
    """Named arrays that are taken out one by one; none may be missing or left over.

    Args: arrays: names as the importer wants to read them
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)

    def has(self, name: str) -> bool:
        """Whether an array of this name has not been taken yet."""
        return name in self.arrays

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array that is taken later.  Raises: PotentialError EQ4303 if there is none."""
        if name not in self.arrays:
            raise PotentialError(
                "EQ4303", f"weights: {name} is missing; give the whole state dict and its configuration"
            )
        return self.arrays[name].shape

    def take(self, name: str) -> Tensor:
        """The array of this name, float64.  Raises: PotentialError EQ4303 if there is none."""
        self.shape(name)
        return torch.tensor(self.arrays.pop(name), dtype=torch.float64)

    def finish(self) -> None:
        """Raises: PotentialError EQ4304 if an array was not taken."""
        if self.arrays:
            names = ", ".join(sorted(self.arrays)[:5])
            raise PotentialError(
                "EQ4304", f"weights: {len(self.arrays)} not understood: {names}; give a model without them"
            )
