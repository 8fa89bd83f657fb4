"""eqff data convert: a data file in another format, in eV and Å."""

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.cli.data import _reading
from eqff.cli.data._reading import Output
from eqff.data.reading.options import ReadOptions


@reads(*LABELLED, "skip_bad", "recover")
def command(
    source: Annotated[
        Path,
        typer.Argument(
            help="To read: .npz (MD17, rMD17, QM9), .xyz, .extxyz, .h5 (eqff, TorchMD-Net, SPICE, ANI), .db, a DeePMD "
            "folder, or any file ASE reads."
        ),
    ],
    target: Annotated[Optional[Path], typer.Argument(help="To write: .h5, .extxyz, .xyz, .npz, .db or .traj")] = None,
    output: Output = None,
    reading: ReadOptions = READING,
    target_format: Annotated[
        Optional[str], typer.Option("--to", help="Format to write, if the name is misleading; deepmd makes a folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Convert a data file; energies, lengths and forces become eV and Å, and the decisions about units are printed.

    Frames pass one after the other, so the file may be larger than the memory.

    Example: eqff data convert rmd17_ethanol.npz ethanol.h5 --energy-unit kcal/mol
    """
    from eqff.data.reading.read import Stream
    from eqff.data.reading.write import write_frames
    from eqff.data.store.store import Store

    target = _reading.one_output(target, output)
    stream = Stream(source, reading)
    frames = _reading.with_progress(stream, f"convert {source.name}", hidden=as_json)
    write_frames(target, frames, format=target_format, provenance=stream.provenance, force=force)
    n_bytes = sum(p.stat().st_size for p in ([target] if target.is_file() else target.rglob("*")))
    digest = None
    if target.suffix.lower() in (".h5", ".hdf5"):
        with Store(target) as store:
            digest = store.digest
    if as_json:
        written = {"target": str(target), "target_bytes": n_bytes, "target_digest": digest}
        typer.echo(json.dumps({**_reading.plain_source(stream), **written}))
        return
    _reading.print_source(stream)
    typer.echo(f"wrote    {target}, {n_bytes / 1e6:.2f} MB")
    if digest:
        typer.echo(f"digest   {digest}")
