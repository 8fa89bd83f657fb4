"""Classes of errors.  Each error has a stable id and a message: what is wrong, a semicolon, and what to do next.

    GraphError EQ2103: positions: atom 7 is not finite (nan, 0.1, 0.2); remove the frame or repair the coordinate

    id      class           exit code   about
    EQ1xxx  ConfigError     2           configuration, command line, arguments of functions
    EQ2xxx  GraphError      3           structures and graphs
    EQ3xxx  DataError       3           data files
    EQ4xxx  PotentialError  4           potential files and models
    EQ5xxx  RunError        1           training and simulation; also the exit code of a check that failed
    EQ6xxx  ResourceError   5           disk, memory, devices, optional packages, other processes

An id stands for one cause.  `eqff explain EQ2103` prints cause and remedy, read from the source (reference/errors.py).
"""


def last_line(error: BaseException) -> str:
    """The last line of an error of another library, where TorchScript puts the reason, for a message of our own."""
    return (str(error).strip().splitlines() or [repr(error)])[-1]


def printable(text: str) -> str:
    """Text that cannot steer a terminal: letters of a file that are not printable are replaced, line breaks kept."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


class EqffError(Exception):
    """Base of all errors that eqff raises on purpose; the command line prints them as one line.

    Args: id: stable, e.g. "EQ2103"; message: `name=value`, what was expected; what to do next
    """

    exit_code = 1

    def __init__(self, id: str, message: str) -> None:
        message = printable(message)  # it may quote a file
        super().__init__(id, message)  # an error that is pickled is made again from these arguments
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
    """A file of data that cannot be read or written, or labels that cannot be trusted."""

    exit_code = 3


class PotentialError(EqffError):
    """A potential file or model that is damaged, foreign, or does not reproduce its own test vectors."""

    exit_code = 4


class RunError(EqffError):
    """A training or simulation that went wrong while running."""

    exit_code = 1


class ResourceError(EqffError):
    """Something outside eqff is missing or taken: disk space, a device, an optional package, a file in use."""

    exit_code = 5
