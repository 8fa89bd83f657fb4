"""eqff wrap: a TorchScript energy model of another code -> potential file."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from eqff.validation.finding import Finding


class Adapter(StrEnum):
    """How the foreign program is called."""

    auto = "auto"
    flat = "flat"
    dictionary = "dictionary"
    nequip = "nequip"


def command(
    model: Annotated[Path, typer.Argument(help="TorchScript file, e.g. of torch.jit.save or nequip-deploy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Potential file to write, <name>.eqff.pt.")],
    species: Annotated[
        str,
        typer.Option(
            help="Elements in the order of the program's type index, e.g. C,H,O.", show_default="nequip: in the file"
        ),
    ] = "",
    r_max: Annotated[
        Optional[float], typer.Option(help="Cut-off of the neighbour list, Å.", show_default="nequip: in the file")
    ] = None,
    n_hops: Annotated[
        Optional[int],
        typer.Option(help="Interaction layers; refused if more are measured.", show_default="measured"),
    ] = None,
    units: Annotated[str, typer.Option(help="Energy and length unit of the program, e.g. kcal/mol,Bohr.")] = "eV,Å",
    adapter: Annotated[
        Adapter, typer.Option(help="How the program is called; auto looks at its signature.")
    ] = Adapter.auto,
    accept: Annotated[
        Optional[list[str]], typer.Option(help="A decisive check that may fail; may be repeated.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Execute the program; without this it is only inspected.")
    ] = False,
    level_of_theory: Annotated[str, typer.Option(help="What the model was trained on.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Licence of the model, e.g. MIT.")] = "not stated",
    citation: Annotated[str, typer.Option(help="What users should cite.")] = "not stated",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random structures it is examined on.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the header as JSON for machines.")] = False,
) -> None:
    """Turn your own TorchScript energy model into a potential file, and measure where it can be trusted.

    The program maps (species, senders, receivers, edge_vector) to energies
    per atom, or one dictionary of tensors (pos, cell, edge_index,
    edge_cell_shift, atom_types, atomic_numbers, batch) to energies; files of
    nequip 0.5 and 0.6 work, too.
    """
    from eqff.tasks.wrap import WrapConfig, wrap

    energy_unit, _, length_unit = units.partition(",")
    config = WrapConfig(
        model=model,
        output=output,
        species=tuple(symbol.strip() for symbol in species.split(",") if symbol.strip()),
        r_max=r_max,
        n_hops=n_hops,
        energy_unit=energy_unit.strip() or "eV",
        length_unit=length_unit.strip() or "Å",
        adapter=adapter.value,
        accept=tuple(accept or ()),
        trust=trust,
        metadata={"level_of_theory": level_of_theory, "licence": licence, "citation": citation},
        seed=seed,
        force=force,
    )
    report = wrap(config, None if as_json else _table)
    if as_json:
        typer.echo(json.dumps(report.header, ensure_ascii=False))
        return
    header = report.header
    dtypes = " or ".join(header["dtypes"])
    typer.echo(
        f"{report.path}: {' '.join(header['species'])}, {header['r_max']:g} Å x {header['n_hops']} hops, "
        f"{report.adapter} model, runs in {dtypes}"
    )
    typer.echo("proved in a fresh process; it cannot be rebuilt, retrained or compiled, and is as safe as its author")
    failed = [check["check"] for check in header["verdict"] if not check["passed"]]
    if failed:
        typer.echo(f"warning: it failed {', '.join(failed)} (see above); every use will say so", err=True)


def _table(checks: Sequence["Finding"]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{'check':<13}{'verdict':<9}{'measured':<28}limit", style="bold", soft_wrap=True)
    for check in checks:
        verdict = "[green]passed[/]" if check.passed else "[bold red]failed[/]"
        line = f"{check.check:<13}{verdict}   {_numbers(check.measured):<28}{_numbers(check.limit)}"
        console.print(line, soft_wrap=True)
        if not check.passed:
            console.print(f"{'':<13}{check.note}", markup=False, soft_wrap=True)


def _numbers(values: dict[str, float | None]) -> str:
    """e.g. 2.1e-13 eV, 3e-12 eV/Å"""
    texts = ((name.split()[-1], value) for name, value in values.items())
    return ", ".join(f"not finite ({unit})" if value is None else f"{value:.2g} {unit}" for unit, value in texts)
