"""eqff data get: published data sets from the network, or from a file on machines without one."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff.cli._options import AsJson
from eqff.errors import ConfigError


def command(
    name: Annotated[Optional[str], typer.Argument(help="Name of a data set; without a name, all are listed.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder the files go to.")] = Path(),
    from_file: Annotated[
        Optional[list[Path]],
        typer.Option(help="A file downloaded elsewhere, instead of the network; once for each file of the set."),
    ] = None,
    unpack: Annotated[bool, typer.Option(help="Take the data files out of an archive.")] = True,
    official_split: Annotated[
        bool,
        typer.Option("--official-split", help="rMD17: also write the frames of its split 01 to separate files."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download a published data set, checked and with its licence and citation; an interrupted download is continued.

    Example: eqff data get rmd17-ethanol -o data
    """
    from eqff.data.published.catalogue import DATA_SETS
    from eqff.data.published.download import fetch
    from eqff.data.published.download import unpack as unpack_archive
    from eqff.data.published.official_split import parts_of

    if name is None:
        _list(as_json)
        return
    if name not in DATA_SETS:
        import difflib

        close = difflib.get_close_matches(name, DATA_SETS, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else "`eqff data get` lists them"
        raise ConfigError("EQ1947", f"there is no data set {name!r}; {hint}")
    chosen = DATA_SETS[name]
    given = {path.name: path for path in from_file or []}
    if len(chosen.files) == 1 and len(given) == 1:
        given = {chosen.files[0].name: next(iter(given.values()))}  # whatever it is called
    unknown = sorted(set(given) - {file.name for file in chosen.files})
    if unknown:
        expected = ", ".join(file.name for file in chosen.files)
        raise ConfigError("EQ1948", f"--from-file {', '.join(unknown)} is no file of {name}; choose from {expected}")
    about = {"data_set": name, "theory": chosen.theory, "licence": chosen.licence, "citation": chosen.citation}
    if official_split and name == "rmd17" and not unpack:
        raise ConfigError("EQ1950", "--official-split needs the files of the archive; leave --no-unpack away")
    if official_split and name != "rmd17" and not parts_of(chosen.files[0].name):
        raise ConfigError("EQ1949", f"--official-split: not known of {name}; divide with `eqff data split`")
    files, data = [], []
    for remote in chosen.files:
        if given and remote.name not in given:
            continue
        with _bar(remote.name, hidden=as_json) as progress:
            found = fetch(
                remote, output, about=about, from_file=given.get(remote.name), force=force, progress=progress
            )  # fmt: skip
        files.append(found)
        unpacked = unpack_archive(found.path, remote.members, output, force) if remote.members and unpack else []
        data += unpacked or [found.path]
        if official_split:
            data += [_part(path, part, output, force) for path in data for part in parts_of(path.name)]
        if not as_json:
            known = "as known" if found.known else "not known before; recorded for the next time"
            come = f"from {found.source}" if found.new else "was there"
            typer.echo(f"file     {found.path}, {found.path.stat().st_size / 1e6:.1f} MB, {come}")
            typer.echo(f"sha256   {found.sha256} ({known})")
    if as_json:
        rows = [{"path": str(f.path), "sha256": f.sha256, "known": f.known, "new": f.new} for f in files]
        typer.echo(json.dumps({**about, "units": chosen.units, "files": rows, "data": [str(p) for p in data]}))
        return
    for path in data[:12] if data != [f.path for f in files] else []:
        typer.echo(f"data     {path}")
    typer.echo(f"what     {chosen.title}; {chosen.theory}; {chosen.units}")
    typer.echo(f"licence  {chosen.licence}")
    typer.echo(f"cite     {chosen.citation}")
    if chosen.note:
        typer.echo(f"note     {chosen.note}")
    unit = " --energy-unit kcal/mol" if "--energy-unit" in chosen.units else ""
    typer.echo(f"next     eqff data check {data[0]}{unit}")


def _part(whole: Path, part: str, folder: Path, force: bool) -> Path:
    """A part of rMD17's split, cut out unless it is there."""
    from eqff.data.published.official_split import cut, is_part

    path = folder / part
    return path if not force and path.is_file() and is_part(path) else cut(whole, part, folder, force)


def _list(as_json: bool) -> None:
    from eqff.data.published.catalogue import DATA_SETS

    if as_json:
        rows = {
            name: {"title": one.title, "theory": one.theory, "licence": one.licence, "citation": one.citation,
                   "page": one.page, "files": [file.name for file in one.files]}
            for name, one in DATA_SETS.items()
        }  # fmt: skip
        typer.echo(json.dumps(rows))
        return
    width = max(map(len, DATA_SETS))
    for name, one in DATA_SETS.items():
        typer.echo(f"{name.ljust(width)}  {one.title}; {one.theory}; licence: {one.licence.split(';')[0]}")


@contextmanager
def _bar(name: str, hidden: bool) -> Iterator[Callable[[int, Optional[int]], None]]:
    """Bytes so far, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    hide = hidden or not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=hide, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
