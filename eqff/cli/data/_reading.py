"""What the verbs of `eqff data` share: the output file, and the report of what was read."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.data.frame import Frame
    from eqff.data.reading.read import Stream

Output = Annotated[Optional[Path], typer.Option("--output", "-o", help="The file to write; or the second argument.")]


def one_output(argument: Path | None, option: Path | None) -> Path:
    """The file to write, given after the file to read or with -o.  Raises: ConfigError EQ1460"""
    if (argument is None) == (option is None):
        said = "none is given" if option is None else f"{argument} and -o {option} are two"
        raise ConfigError("EQ1460", f"the file to write: {said}; write `INPUT OUTPUT` or `INPUT -o OUTPUT`")
    return argument or option  # type: ignore[return-value]


def print_source(read: "Stream") -> None:
    """What was read, how many frames with which labels, and how units were decided; doubts go to stderr."""
    typer.echo(f"read     {read.path} ({read.format}), sha256 {read.sha256[:16]}")
    typer.echo(f"frames   {read.census}")
    other_names = [f"{label} from {name!r} ({n})" for (label, name), n in read.log.names.items() if name != label]
    if other_names:
        typer.echo(f"labels   {', '.join(other_names)}")
    for text, n in read.log.notes.items():
        typer.echo(f"         {text} ({n} frames)")
    typer.echo(f"units    {read.units}")
    for name, text in read.origin.items():
        if not name.startswith(("store_", "origin_source", "origin_unit", "origin_atomrefs")):
            typer.echo(f"         {name.replace('_', ' ')}: {text}")
    for text in warnings_of(read):
        typer.echo(f"warning  {text}", err=True)


def warnings_of(read: "Stream") -> list[str]:
    """Doubts about units, frames that were left out, and where the file broke off."""
    found = [read.units.doubt] if read.units.doubt else []
    if read.log.n_skipped:
        first = f", the first: {read.log.skipped[0]}"
        found.append(f"{read.log.n_skipped} frames were left out because they cannot be used{first}")
    stresses = [name for label, name in read.log.candidates if label == "stress"]
    if stresses and not read.census.labels["stress"]:
        found.append(f"no stress is read, but {', '.join(map(repr, stresses[:3]))} looks like one: --stress-key")
    if read.log.lost:
        found.append(f"the file is damaged, frames behind this are lost: {read.log.lost}")
    return found


def plain_source(read: "Stream") -> dict[str, Any]:
    """The same as JSON values."""
    census = read.census
    return {
        "path": str(read.path),
        "format": read.format,
        "sha256": read.sha256,
        "n_frames": census.n_frames,
        "n_atoms": census.n_atoms,
        "labels": census.labels,
        "label_notes": dict(read.log.notes),
        "label_names": {f"{label} {name}": n for (label, name), n in read.log.names.items()},
        "periodic": census.periodic,
        "compositions": census.compositions,
        "energy_unit": read.units.energy,
        "energy_unit_source": read.units.energy_source,
        "length_unit": read.units.length,
        "length_unit_source": read.units.length_source,
        "force_unit": read.units.force,
        "stress_unit": read.units.stress,
        "provenance": read.provenance,
        "n_skipped": read.log.n_skipped,
        "skipped": read.log.skipped,
        "lost": read.log.lost,
        "warnings": warnings_of(read),
    }


def with_progress(stream: "Stream", title: str, hidden: bool) -> "Iterator[Frame]":
    """The frames of a stream, counted on a terminal."""
    from eqff.report.terminal import FramesBar

    with FramesBar(title, hidden=hidden) as bar:
        for n_frames, frame in enumerate(stream, start=1):
            if n_frames % 100 == 0:
                bar.progress.update(bar.task, completed=n_frames)
            yield frame
