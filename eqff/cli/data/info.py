"""eqff data info: what is in a data file."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.cli.data import _reading
from eqff.data.reading.options import ReadOptions

if TYPE_CHECKING:
    from eqff.data.ranges import Ranges, Span


def _list_formats(asked: bool) -> None:
    if asked:
        from eqff.data.reading.format import table

        typer.echo(table())
        raise typer.Exit


@reads(*LABELLED, "skip_bad", "recover")
def command(
    file: Annotated[Path, typer.Argument(help="Data file, or FILE@INDEX for some of its frames.")],
    reading: ReadOptions = READING,
    r_max: Annotated[float, typer.Option(help="Cut-off in Å for neighbour counts.")] = 4.0,
    formats: Annotated[
        bool,
        typer.Option("--formats", is_eager=True, callback=_list_formats, help="List all formats."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Frames, labels, composition, ranges, units, level of theory and origin of a data file."""
    from eqff.data.ranges import Ranges
    from eqff.data.reading.read import Stream
    from eqff.data.statistics import statistics
    from eqff.data.store.store import Store
    from eqff.elements import SYMBOLS

    stream, ranges = Stream(file, reading), Ranges()
    for frame in _reading.with_progress(stream, f"read {file.name}", hidden=as_json):
        ranges.add(frame)
    found = statistics(ranges.sample, [SYMBOLS[z] for z in sorted(ranges.elements)], r_max)
    if as_json:
        spans = {name: span.plain() for name, (_, span) in _spans(ranges).items()}
        typer.echo(json.dumps({**_reading.plain_source(stream), **spans, "elements": list(found.species)}))
        return
    _reading.print_source(stream)
    if stream.format == "hdf5":
        with Store(stream.path) as store:
            typer.echo(f"digest   {store.digest} (verified)")
            for name, text in store.provenance.items():
                typer.echo(f"         {name}: {text}")
    for words, span in _spans(ranges).values():
        if span.n:
            mean = f"mean {span.mean:.9g}, standard deviation {span.deviation:.4g}"
            typer.echo(f"         {words}: {span.smallest:.9g} to {span.largest:.9g}, {mean}")
    if len(ranges.sample) < stream.census.n_frames:
        typer.echo(f"sample   {len(ranges.sample)} frames, evenly spaced, for what follows")
    typer.echo("\n".join(f"         {line}" for line in found.report.splitlines()))


def _spans(ranges: "Ranges") -> dict[str, tuple[str, "Span"]]:
    """Name for programs -> (words for people, span)."""
    return {
        "n_atoms_per_frame": ("atoms of a frame", ranges.n_atoms),
        "energy_eV": ("energy in eV", ranges.energy),
        "energy_eV_per_atom": ("energy in eV/atom", ranges.energy_per_atom),
        "largest_force_eV_A": ("largest force component of a frame in eV/Å", ranges.force),
        "net_force_eV_A": ("net force of a frame in eV/Å", ranges.net_force),
        "volume_A3_per_atom": ("volume in Å^3/atom", ranges.volume),
        "pressure_eV_A3": ("pressure in eV/Å^3", ranges.pressure),
    }
