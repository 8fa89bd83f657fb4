"""Options that several verbs share: how to read a file, how to evaluate a potential.

    @reads()
    @evaluates()
    def command(potential: Potential, ..., reading: ReadOptions = READING, evaluation: Evaluation = EVALUATION) -> None:

The decorators put the options in the place of these two parameters, and hand the verb one object for each.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff import registry
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.artifact.potential import Potential as LoadedPotential
    from eqff.engines.ase import EqffCalculator

FEW_ATOMS = 50  # up to here several threads would only wait for each other, for seconds on a busy machine
Verb = Callable[..., None]


class Program(StrEnum):
    """The program that evaluates a potential: the one in the file, or a compiled one from `eqff compile`."""

    off = "off"
    ready = "ready"


class ProgramOfLongRuns(StrEnum):
    """As Program, or the compiled one as soon as it exists."""

    off = "off"
    ready = "ready"
    auto = "auto"


_PROGRAMS = "off: the file's program; ready: the compiled one if `eqff compile` was run"
_MEANWHILE = "auto: compile in the background and change over (not bit-reproducible)"
ACCELERATE: dict[type[StrEnum], Any] = {
    Program: Annotated[Program, typer.Option(help=f"{_PROGRAMS}.", case_sensitive=False)],
    ProgramOfLongRuns: Annotated[
        ProgramOfLongRuns, typer.Option(help=f"{_PROGRAMS}; {_MEANWHILE}.", case_sensitive=False)
    ],
}
Potential = Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")]
MaxEdges = Annotated[
    Optional[int], typer.Option(min=1, help="Edges of a batch.", show_default="2000 on a CPU, 50000 on a GPU")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
FolderForce = Annotated[bool, typer.Option("--force", help="Overwrite results in an existing folder.")]
Crystal = Annotated[
    Optional[str],
    typer.Argument(
        metavar="IN",
        help="A crystal in any format that `eqff data` reads, e.g. CIF; the last of its frames, or FILE@N.",
        show_default="the potential's own structure",
    ),
]
RelaxFirst = Annotated[bool, typer.Option("--relax/--no-relax", help="Relax positions and cell first.")]
ElementsFrom = Annotated[
    Optional[str],
    typer.Option(
        metavar="FILE",
        help="Phases of the elements (e.g. crystals, an O2 molecule), which are relaxed: adds formation energies.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON for machines.")]

_READING: dict[str, tuple[Any, Any]] = {
    "index": (
        Annotated[Optional[str], typer.Option(help="Frames to read, as in FILE@INDEX: 0, -1, 2:5 or ::10.")],
        None,
    ),
    "energy_unit": (
        Annotated[Optional[str], typer.Option(help="eV, meV, kcal/mol, kJ/mol or Hartree; needed if not stated.")],
        None,
    ),
    "length_unit": (
        Annotated[Optional[str], typer.Option(help="Å, nm or Bohr; needed if not stated and not plausibly Å.")],
        None,
    ),
    "energy_key": (
        Annotated[Optional[str], typer.Option(help="Name of the energy in the file; 'none' leaves it out.")],
        None,
    ),
    "forces_key": (
        Annotated[Optional[str], typer.Option(help="Name of the forces in the file; 'none' leaves them out.")],
        None,
    ),
    "stress_key": (
        Annotated[Optional[str], typer.Option(help="Name of the stress (or virial); 'none' leaves it out.")],
        None,
    ),
    "force_unit": (
        Annotated[Optional[str], typer.Option(help="E.g. Hartree/Bohr, if not energy over length.")],
        None,
    ),
    "stress_unit": (
        Annotated[Optional[str], typer.Option(help="E.g. GPa, kbar or eV/Å^3, if not energy over length^3.")],
        None,
    ),
    "stress_order": (
        Annotated[
            Optional[str],
            typer.Option(help="voigt: xx yy zz yz xz xy; vasp: xx yy zz xy yz zx, positive under compression."),
        ],
        None,
    ),
    "types": (
        Annotated[Optional[str], typer.Option(help="Elements of LAMMPS types, e.g. Si,O or 1=Si,3=O.")],
        None,
    ),
    "format": (
        Annotated[
            Optional[str],
            typer.Option(
                "--from",
                "--format",
                help=f"Format of the file, if its name misleads: {', '.join(registry.names('data.formats'))}.",
            ),
        ],
        None,
    ),
    "skip_bad": (
        Annotated[bool, typer.Option("--skip-bad", help="Leave out frames that cannot be used, and count them.")],
        False,
    ),
    "recover": (
        Annotated[bool, typer.Option("--recover", help="Keep the frames before the damaged part of a file.")],
        False,
    ),
}
STRUCTURE = ("index", "length_unit", "types", "format")  # options of verbs that read structures only
LABELLED = (
    *("index", "energy_unit", "length_unit", "force_unit", "stress_unit", "stress_order"),
    *("energy_key", "forces_key", "stress_key", "types", "format"),
)
READING = ReadOptions()


def reads(*names: str) -> Callable[[Verb], Verb]:
    """Replace the parameter `reading` of a verb by these options of ReadOptions."""
    options = {name: _READING[name] for name in names}
    return lambda verb: _with_options(verb, "reading", options, lambda values: ReadOptions(**values))


@dataclass(frozen=True)
class Evaluation:
    """How a potential is evaluated."""

    device: str = "cpu"
    dtype: str = "auto"
    accelerate: str = "ready"
    exact: bool = False  # of compiled programs, only those without splines
    threads: int | None = None
    add: str | None = None  # dispersion

    def load(self, potential: str) -> "LoadedPotential":
        """The potential, for batches of structures; sets the threads of this process."""
        from eqff import artifact

        self._use_threads(None)
        return artifact.load(potential, self.device, self.dtype, self.accelerate)

    def calculator(self, potential: str, n_atoms: int) -> "EqffCalculator":
        """An ASE calculator for structures of up to n_atoms; sets the threads of this process."""
        from eqff.engines.ase import EqffCalculator

        self._use_threads(1 if n_atoms <= FEW_ATOMS else None)
        return EqffCalculator(
            potential, device=self.device, dtype=self.dtype, accelerate=self.accelerate, exact=self.exact, add=self.add
        )

    def _use_threads(self, default: int | None) -> None:
        import torch

        threads = self.threads or default
        if threads is not None:
            torch.set_num_threads(threads)  # no one else uses this process


EVALUATION = Evaluation()


def evaluates(
    *, dtype: str = "auto", programs: type[StrEnum] | None = Program, exact: bool = False, few_atoms: bool = False
) -> Callable[[Verb], Verb]:
    """Replace the parameter `evaluation` of a verb by the options of Evaluation.

    Args: dtype: its default; programs: choices of --accelerate, None: the file's program, without the option;
          exact: whether to offer --exact; few_atoms: whether structures go through `Evaluation.calculator`
    """
    threads = f"1 for up to {FEW_ATOMS} atoms, else torch's choice" if few_atoms else "torch's choice"
    options: dict[str, tuple[Any, Any]] = {
        "device": (Annotated[str, typer.Option(help="cpu, cuda or cuda:N")], "cpu"),
        "dtype": (
            Annotated[str, typer.Option(help="Of the weights: float32, float64 or auto (as stored).")],
            dtype,
        ),
    }
    if programs is not None:
        options["accelerate"] = (ACCELERATE[programs], programs("ready"))
    if exact:
        help_exact = "Of compiled programs, use only those without splines."
        options["exact"] = (Annotated[bool, typer.Option("--exact", help=help_exact)], False)
    options["add"] = (
        Annotated[
            Optional[str],
            typer.Option(metavar="d3:PBE", help="Add DFT-D3 dispersion for this functional; d3zero:PBE: zero damping."),
        ],
        None,
    )
    options["threads"] = (
        Annotated[Optional[int], typer.Option(min=1, help="CPU threads.", show_default=threads)],
        None,
    )

    def make(values: dict[str, Any]) -> Evaluation:
        program = values.pop("accelerate", None)
        return Evaluation(**values, accelerate="off" if program is None else program.value)

    return lambda verb: _with_options(verb, "evaluation", options, make)


def starting_file(potential: str, given: str | Path | None, how: str = "name a file after it") -> str | Path:
    """The file of structures that the user named, or the potential's example.

    Raises: ConfigError EQ1211 without both
    """
    from eqff import artifact

    source = given or artifact.default_structure(potential)
    if source is None:
        raise ConfigError("EQ1211", f"{potential} brings no structure along; {how}")
    return source


def _with_options(
    verb: Verb, parameter: str, options: Mapping[str, tuple[Any, Any]], make: Callable[[dict[str, Any]], Any]
) -> Verb:
    """The verb with options instead of one parameter."""
    parameters: list[inspect.Parameter] = []
    for one in inspect.signature(verb).parameters.values():
        if one.name != parameter:
            parameters.append(one)
            continue
        parameters += [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
            for name, (annotation, default) in options.items()
        ]

    @functools.wraps(verb)
    def command(**values: Any) -> None:
        chosen = {name: values.pop(name) for name in options if name in values}
        verb(**values, **{parameter: make(chosen)})

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
