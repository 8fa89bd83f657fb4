"""eqff inspect: the header of a potential file, after checking every digest; the file is never executed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqff.errors import printable

if TYPE_CHECKING:
    from eqff.artifact.archive import Contents


def command(
    potential: Annotated[str, typer.Argument(help="A potential file, or the name of a shipped potential.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole header as JSON for machines.")] = False,
) -> None:
    """Show what a potential file contains: species, cut-off, origin, licence, test errors. Never executes the file."""
    from eqff.artifact import find, read

    contents = read(find(potential))
    if as_json:
        text = json.dumps(contents.header, indent=1, ensure_ascii=False)
        typer.echo(re.sub(r"[^\n -~]", lambda found: _escaped(found[0]), text))
        return
    for line in summary(contents):
        typer.echo(line)


def summary(contents: "Contents") -> Iterator[str]:
    """Lines for people."""
    from eqff.artifact.header import is_wrapped, run_dtype

    header = contents.header
    rows = {
        "file": f"{contents.path} ({len(contents.content) / 1e6:.2f} MB)",
        "name": header.get("name", "not stated"),
        "integrity": f"all {len(header['members']) + 1} members and the whole file match their SHA-256",
        "digest": contents.digest,
        "species": " ".join(header["species"]),
        "cut-off": f"{header['r_max']:g} Å x {header['n_hops']} hops",
        "family": header["family"],
        "weights": f"{header.get('n_parameters', '?')} parameters, {header['dtype']}"
        + (f", runs in {run_dtype(header)}" if run_dtype(header) != header["dtype"] else ""),
        "units": ", ".join(f"{quantity} {unit}" for quantity, unit in header["units"].items()),
        "reference energies": ", ".join(
            f"{symbol} {energy:.6f} eV"
            for symbol, energy in zip(header["species"], header["reference_energies"], strict=True)
        )
        + _rank_note(header),
    }
    if "baseline" in header:
        rows["energies"] = "differences from the baseline, which must be added (EqffCalculator and the verbs do)"
        baseline = header["baseline"]
        rows["baseline"] = {name: baseline[name] for name in ("name", "level_of_theory", "sha256") if baseline[name]}
    if is_wrapped(header):
        rows["origin"] = "a foreign program, wrapped; it cannot be rebuilt, retrained or compiled"
        rows["source"] = header["source"]
        rows["verdict"] = {check["check"]: _verdict(check) for check in header["verdict"]}
    for name in ("level_of_theory", "licence", "citation", "training_data", "metrics", "config", "versions"):
        rows[name.replace("_", " ")] = header.get(name, "not stated")
    for name, value in _flat(rows):
        yield f"{_line(name):<21} {_line(value)}"


def _flat(table: Mapping[str, Any], indent: str = "") -> Iterator[tuple[str, Any]]:
    """Rows of a nested table, inner names indented."""
    for name, value in table.items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = dict(enumerate(value, start=1))
        if isinstance(value, Mapping):
            yield indent + str(name), ""
            yield from _flat(value, indent + "  ")
        else:
            yield indent + str(name), value


def _line(value: Any) -> str:
    """Text of a name or value from the file, on one line, that cannot steer the terminal."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return printable(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def _escaped(letter: str) -> str:
    """A letter inside JSON text that cannot steer the terminal."""
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]


def _verdict(check: Mapping[str, Any]) -> str:
    """One check of a wrapped program, e.g. "passed: force eV/Å 2.1e-09"."""
    measured = check["measured"].items()
    figures = ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}" for name, value in measured
    )
    note = f" ({check['note']})" if check.get("note") else ""
    return f"{'passed' if check['passed'] else 'FAILED'}: {figures}{note}"


def _rank_note(header: dict[str, Any]) -> str:
    """A warning where the training data did not fix every reference energy."""
    data = header.get("training_data")
    rank = data.get("reference_rank") if isinstance(data, dict) else None
    if not isinstance(rank, int) or rank >= len(header["species"]):
        return ""
    return f" (the training data fix only {rank} sum{'s' * (rank != 1)} of them)"
