"""Every error eqff raises on purpose: typed, with a stable id, a message that names the culprit and the remedy.

    GraphError EQ2103: positions: atom 7 is not finite (nan, 0.1, 0.2); remove the frame or repair the coordinate

Ids: EQ1xxx configuration and command line, EQ2xxx structures and graphs, EQ3xxx data files, EQ4xxx potential files and
models, EQ5xxx training and simulation results, EQ6xxx resources (disk, memory, optional packages).
Exit codes of the command line: 0 fine, 1 a result failed a check, 2 usage, 3 bad input, 4 bad model, 5 resource.
"""


class EqffError(Exception):
    """Base of all errors of this package.

    Args: id: stable, e.g. "EQ2103"; message: what is wrong, where, and what to do next
    """

    exit_code = 1

    def __init__(self, id: str, message: str) -> None:
        super().__init__(id, message)  # both kept in args, so that the error survives pickling
        self.id = id
        self.message = message

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.id}: {self.message}"


class ConfigError(EqffError):
    """A configuration value, command-line option or function argument that cannot be used."""

    exit_code = 2


class GraphError(EqffError):
    """A structure that must not reach a model: not finite, wrong shape, unknown species, impossible cell."""

    exit_code = 3


class DataError(EqffError):
    """A data file that cannot be read, or labels that cannot be trusted."""

    exit_code = 3


class PotentialError(EqffError):
    """A potential file or model that is damaged, foreign, or does not reproduce its own test vectors."""

    exit_code = 4


class RunError(EqffError):
    """A training or simulation that went wrong while running."""

    exit_code = 1


class ResourceError(EqffError):
    """Something outside eqff is missing: disk space, an optional package, a device."""

    exit_code = 5
