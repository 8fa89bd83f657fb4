"""eqff data stats: the numbers of a data set that a model and its training need."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.cli.data._reading import plain_source, print_source, with_progress
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError, DataError


@reads(*LABELLED, "skip_bad", "recover")
def command(
    file: Annotated[Path, typer.Argument(help="Data file")],
    r_max: Annotated[float, typer.Option(help="Cut-off in Å for neighbours.")] = 4.0,
    split: Annotated[Optional[Path], typer.Option(help="Split file: count frames of one part only.")] = None,
    part: Annotated[str, typer.Option(help="With --split: train, validation or test.")] = "train",
    reading: ReadOptions = READING,
    as_json: AsJson = False,
) -> None:
    """Neighbours, force RMS, and reference energies by regression, with what these frames leave undetermined.

    Example: eqff data stats ethanol.h5 --r-max 5 --split split.json
    """
    from eqff.data.reading.read import Stream
    from eqff.data.splits import PARTS, load_split
    from eqff.data.statistics import statistics

    if part not in PARTS:
        raise ConfigError("EQ1946", f"part={part!r}; choose from {', '.join(PARTS)}")
    stream = Stream(file, reading)
    frames = with_progress(stream, f"read {file.name}", hidden=as_json)
    if split is not None:
        divided = load_split(split)
        wanted = set(getattr(divided, part).tolist())
        frames = (frame for index, frame in enumerate(frames) if index in wanted)
    found = statistics(frames, None, r_max)
    if split is not None and divided.n_frames != stream.census.n_frames:
        n_there = stream.census.n_frames
        raise DataError(
            "EQ3335",
            f"{split}: divides {divided.n_frames} frames, but {file} has {n_there}; give the file that was divided",
        )
    if as_json:
        content = {"source": plain_source(stream), "part": part if split is not None else "all"}
        typer.echo(json.dumps(content | {"statistics": _plain(dataclasses.asdict(found))}))
        return
    print_source(stream)
    if split is not None:
        typer.echo(f"part     {found.n_frames} frames of {split.name}: {part}")
    for line in found.report.splitlines():
        typer.echo(f"         {line}")
    rows = zip(found.species, found.avg_num_neighbors_per_species, found.force_rms_per_species, strict=True)
    for symbol, degree, rms in rows:
        force = "" if math.isnan(rms) else f", force RMS {rms:.4f} eV/Å"
        typer.echo(f"         {symbol:2s} mean degree {degree:.3f}{force}")


def _plain(value: Any) -> Any:
    """JSON has no NaN (species without forces): null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
