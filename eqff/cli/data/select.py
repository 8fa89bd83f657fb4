"""eqff data select: a few representative frames, or all without near-duplicates."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.cli.data._reading import Output, one_output, with_progress
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from eqff.data.descriptors import Descriptor
    from eqff.data.reading.read import Stream

METHODS = ("farthest", "dedup")


@reads(*LABELLED, "skip_bad")
def command(
    file: Annotated[Path, typer.Argument(help="Data file")],
    target: Annotated[
        Optional[Path], typer.Argument(help="File for the chosen frames (.h5, .extxyz, ...), or .csv for their rows.")
    ] = None,
    output: Output = None,
    n: Annotated[Optional[int], typer.Option("--number", "-n", help="farthest: number of frames.")] = None,
    method: Annotated[str, typer.Option(help="farthest (most different ones) or dedup (drop near-duplicates).")] = (
        "farthest"
    ),
    tolerance: Annotated[
        float,
        typer.Option(help="dedup: smallest distance; 0.005: atoms moved by 0.001 Å (molecules) to 0.01 (crystals)."),
    ] = 0.005,
    beside: Annotated[
        Optional[Path], typer.Option(help="farthest: frames you already have; frames unlike these are chosen.")
    ] = None,
    r_max: Annotated[float, typer.Option(help="Radius in Å of the environments that are compared.")] = 5.0,
    reading: ReadOptions = READING,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Choose frames by the environments of their atoms: rotated, shifted and renumbered frames count as the same.

    Example: eqff data select md.h5 train.h5 -n 1000
    """
    import numpy as np

    from eqff.data.descriptors import Descriptor
    from eqff.data.reading.read import Stream
    from eqff.data.selection import distinct, farthest_points
    from eqff.elements import SYMBOLS
    from eqff.report.terminal import FramesBar

    target = one_output(target, output)
    if method not in METHODS:
        raise ConfigError("EQ1953", f"method={method!r}; choose from {', '.join(METHODS)}")
    if (method == "farthest") != (n is not None) or not tolerance >= 0.0:
        raise ConfigError("EQ1954", "farthest needs --number; dedup takes --tolerance >= 0 instead")
    if target.exists() and not force:
        raise ConfigError("EQ1945", f"{target}: exists; choose another name, or --force to replace it")
    stream = Stream(file, reading)
    present: set[int] = set()
    for frame in with_progress(stream, f"look through {file.name}", hidden=as_json):
        present.update(np.unique(frame.atomic_numbers).tolist())
    near_stream = None if beside is None else Stream(beside, ReadOptions())
    for frame in near_stream or ():
        present.update(np.unique(frame.atomic_numbers).tolist())
    descriptor = Descriptor([SYMBOLS[z] for z in sorted(present)], r_max)
    vectors = _vectors(stream, descriptor, as_json)
    n_frames = len(vectors)
    near = None if near_stream is None else _vectors(near_stream, descriptor, as_json)
    summary: dict[str, Any] = {"method": method, "n_frames": n_frames}
    if n is not None:
        with FramesBar("choose", hidden=as_json) as bar:
            found = farthest_points(vectors, n, near, bar.advance)
        rows = found.indices
        summary |= {"distance_last": float(found.distance[-1]), "radius": found.radius}
        scale = float(np.sqrt(vectors.var(axis=0, dtype=np.float64).sum()))
        text = f"every frame is within {found.radius:.4g} of a chosen one (spread of all: {scale:.4g})"
    else:
        rows, _ = distinct(vectors, tolerance)
        text = f"{n_frames - len(rows)} frames are closer than {tolerance:g} to one before them"
    summary |= {"n_selected": len(rows), "indices": rows.tolist()}
    _write(stream, rows, target, force, {"selected_by": method, "selected_from": str(n_frames)})
    if as_json:
        typer.echo(json.dumps(summary | {"written": str(target)}))
        return
    typer.echo(f"selected {len(rows)} of {n_frames} frames of {file.name} ({method}); {text}")
    if n is not None and len(rows) < n:
        typer.echo(f"warning  asked for {n}: all other frames repeat a chosen one", err=True)
    typer.echo(f"wrote    {target}, {target.stat().st_size / 1e6:.2f} MB")


def _vectors(stream: "Stream", descriptor: "Descriptor", hidden: bool) -> "np.ndarray":
    """[n_frames, size] float32: 0.5 kB per frame."""
    import numpy as np

    blocks, rows = [], []
    for frame in with_progress(stream, f"describe {stream.path.name}", hidden=hidden):
        rows.append(descriptor(frame).astype(np.float32))
        if len(rows) == 4096:
            blocks.append(np.array(rows))
            rows = []
    return np.concatenate([*blocks, np.array(rows, dtype=np.float32).reshape(-1, descriptor.size)])


def _write(stream: "Stream", rows: "np.ndarray", output: Path, force: bool, provenance: dict[str, str]) -> None:
    """Chosen frames in the order of the file; their row numbers in the order of choice."""
    from eqff.data.reading.write import write_frames
    from eqff.files import new_file

    if output.suffix == ".csv":
        with new_file(output, force=force) as temporary:
            temporary.write_text("".join(f"{row}\n" for row in rows.tolist()), encoding="utf-8")
        return
    wanted = set(rows.tolist())
    frames = (frame for index, frame in enumerate(stream) if index in wanted)
    write_frames(output, frames, provenance=stream.provenance | provenance, force=force)
