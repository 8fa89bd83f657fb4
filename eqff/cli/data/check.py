"""eqff data check: is a data set what it says it is?"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.data.forensics.examination import Finding, Report
    from eqff.data.reading.unchecked import Reading

COLOURS = {"fail": "red", "warning": "yellow", "pass": "green"}
N_SHOWN = 8  # frames that are named in the text


@reads(*LABELLED)
def command(
    file: Annotated[Path, typer.Argument(help="Data file, or folder of DeePMD")],
    against: Annotated[
        Optional[Path],
        typer.Option(
            help="Another file, e.g. the training set: look for frames of FILE in it. Read with the same units."
        ),
    ] = None,
    split: Annotated[
        Optional[Path], typer.Option(help="Split file of FILE: look for frames of validation and test in training.")
    ] = None,
    reading: ReadOptions = READING,
    page: Annotated[Optional[Path], typer.Option("--html", help="Write the report with pictures as one file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --html if it exists.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Units and signs tested by physics, duplicates, leakage, overlaps, noise, outliers; exit code 1 if anything fails.

    Example: eqff data check water.extxyz --against training.extxyz --html report.html
    """
    if page is not None and page.exists() and not force:
        raise ConfigError("EQ1955", f"{page} exists; choose another name or overwrite it with --force")
    from eqff.data.forensics.examination import check_frames, check_split
    from eqff.data.reading.unchecked import read_unchecked
    from eqff.data.splits import load_split
    from eqff.report.terminal import StatusLine

    with StatusLine(hidden=as_json) as line:
        line.show(f"reading {file.name}")
        found = read_unchecked(file, reading)
        other = None if against is None else read_unchecked(against, dataclasses.replace(reading, index=None))
        report = check_frames(
            found.frames,
            None if other is None else other.frames,
            name=file.name,
            against_name="" if against is None else against.name,
            damage=found.damage,
            progress=lambda name: line.show(f"checking {name.replace('_', ' ')}"),
        )
        if split is not None:
            line.show("checking the split")
            report = check_split(report, found.frames, load_split(split))
    failed = report.verdict == "fail" or (strict and report.verdict == "warning")
    if page is not None:
        _write_page(page, file, found, report, force)
    if as_json:
        typer.echo(json.dumps(_plain(file, found, report, failed), ensure_ascii=False))
    else:
        _show(found, report, page)
    if failed:
        raise typer.Exit(1)


def _show(reading: "Reading", report: "Report", page: Path | None) -> None:
    typer.echo(f"read     {reading.stream.path} ({reading.stream.format})")
    typer.echo(f"frames   {report.census}")
    typer.echo(f"units    {reading.stream.units}")
    for finding in report.findings:
        typer.echo(_line(finding))
    n_wrong = len(report.faults)
    end = "nothing is wrong" if not n_wrong else f"{n_wrong} kinds of faults: {', '.join(report.faults)}"
    typer.echo(f"\n{_coloured(report.verdict)}: {end}" + (f"; see {page}" if page is not None else ""))


def _line(finding: "Finding") -> str:
    lines = [f"{_coloured(finding.severity)}{' ' * (13 - len(finding.severity))}{finding.check:<12} {finding.message}"]
    indent = " " * 26
    if finding.frames:
        shown = ", ".join(str(number) for number in finding.frames[:N_SHOWN])
        more = f" and {len(finding.frames) - N_SHOWN} more" if len(finding.frames) > N_SHOWN else ""
        lines.append(f"{indent}frames {shown}{more}")
    if finding.remedy:
        lines.append(f"{indent}-> {finding.remedy}")
    return "\n".join(lines)


def _coloured(severity: str) -> str:
    return typer.style(severity, fg=COLOURS.get(severity), bold=severity in COLOURS)


def _plain_finding(finding: "Finding") -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "fault": finding.fault,
        "message": finding.message,
        "remedy": finding.remedy,
        "numbers": {name: float(value) for name, value in finding.numbers.items() if abs(value) < float("inf")},
        "frames": list(finding.frames),
    }


def _plain(file: Path, reading: "Reading", report: "Report", failed: bool) -> dict[str, Any]:
    census = report.census
    return {
        "file": str(file),
        "format": reading.stream.format,
        "sha256": reading.stream.sha256,
        "units": str(reading.stream.units),
        "n_frames": len(reading.frames),
        "labels": census.labels,
        "compositions": census.compositions,
        "verdict": report.verdict,
        "passed": not failed,
        "faults": report.faults,
        "findings": [_plain_finding(finding) for finding in report.findings],
    }


def _write_page(page: Path, file: Path, reading: "Reading", report: "Report", force: bool) -> None:
    from eqff import __version__
    from eqff.files import new_file
    from eqff.report.data_check import data_check_page

    curves = {name: values for finding in report.findings for name, values in finding.curves.items()}
    facts = [
        ("file", f"{file} ({reading.stream.format})"),
        ("SHA-256", reading.stream.sha256),
        ("frames", str(report.census)),
        ("units", str(reading.stream.units)),
    ]
    text = data_check_page(
        f"Data check: {file.name}",
        report.verdict,
        facts,
        [_plain_finding(finding) for finding in report.findings],
        curves,
        footer=f"eqff {__version__}, eqff data check",
    )
    with new_file(page, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")
