"""eqff import: weights of another code -> a potential file."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from eqff import registry

N_SHOWN = 12
CODES = registry.names("importers")


def command(
    code: Annotated[str, typer.Argument(help=f"Code the weights come from: {', '.join(CODES)}.")],
    source: Annotated[
        str,
        typer.Argument(
            help="npz with config and w/<name>, or a checkpoint (.pt, .pth, .ckpt, .safetensors); sevennet: also "
            "WHEEL:NAME, which is read without installing it, or the NAME of a checkpoint in an installed sevenn: "
            "7net-0, 7net-0_22May2024, 7net-mf-0:PBE, 7net-mf-0:R2SCAN, 7net-l3i5."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Potential file to write, <name>.eqff.pt.")],
    config: Annotated[
        Optional[Path], typer.Option("--config", help="Its configuration as JSON or TOML, where SOURCE has none.")
    ] = None,
    species: Annotated[
        str,
        typer.Option(
            help="Elements, e.g. H,C,O: of its types in their order where SOURCE does not name them (nequip); those to "
            "keep (equiformer)."
        ),
    ] = "",
    modality: Annotated[
        str, typer.Option(help="Level of theory to keep where the weights hold several: PBE or R2SCAN (sevennet).")
    ] = "",
    card: Annotated[Optional[Path], typer.Option("--card", help="Markdown card to store in the file.")] = None,
    level_of_theory: Annotated[str, typer.Option(help="What the model was trained on.")] = "not stated",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights, e.g. MIT.")] = "not stated",
    citation: Annotated[str, typer.Option("--citation", help="What users should cite.")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Turn weights that another code trained into a potential file, by rule; nothing in SOURCE is run.

    What the other code can do and eqff cannot is refused with a reason.

    Example: eqff import nequip model.npz -o model.eqff.pt --licence MIT
    """
    from eqff.artifact.header import run_dtype
    from eqff.errors import PotentialError
    from eqff.tasks.import_model import ImportConfig, import_model

    text = ""
    if card is not None:
        try:
            text = card.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise PotentialError(
                "EQ4923", f"{card}: cannot be read as text ({error}); save the card as UTF-8"
            ) from error
    report = import_model(
        ImportConfig(
            code=code,
            source=source,
            output=output,
            config=config,
            modality=modality,
            species=tuple(symbol.strip() for symbol in species.split(",") if symbol.strip()),
            card=text,
            metadata={"level_of_theory": level_of_theory, "licence": licence, "citation": citation},
            force=force,
        )
    )
    elements = _short(report.config["species"])
    typer.echo(f"{report.path}: {report.family}, {report.n_parameters} parameters, {elements}")
    if report.guessed_species:
        typer.echo(f"warning: nothing names the elements of its types, taken for {elements}; see --species", err=True)
    reach = f"{report.header['r_max']:g} Å x {report.header['n_hops']} hops"
    dtype, of_run = report.header["dtype"], run_dtype(report.header)
    precision = dtype if of_run == dtype else f"stored in {dtype}, runs in {of_run}"
    typer.echo(f"{reach}, {precision}; proved in a fresh process against the imported model")
    energies = zip(report.header["species"], report.header["reference_energies"], strict=True)
    texts = [f"{symbol} {energy:.6f} eV" for symbol, energy in energies if energy != 0.0]
    shown = texts if len(texts) <= N_SHOWN else [*texts[:2], "...", texts[-1]]
    typer.echo(f"reference energies: {', '.join(shown) or 'none in SOURCE, 0 for every element'}")


def _short(species: list[str]) -> str:
    """All of few elements, the ends of many."""
    if len(species) <= N_SHOWN:
        return " ".join(species)
    return f"{species[0]} {species[1]} ... {species[-1]} ({len(species)} elements)"
