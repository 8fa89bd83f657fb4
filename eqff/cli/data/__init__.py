"""eqff data: look into data files, check, convert and make them.  One sub-verb per file, each with a `command`."""

import typer

from eqff import registry

app = typer.Typer(help="Look into data files, check, convert and make them.", no_args_is_help=True)
for name in registry.names("cli.data"):
    app.command(name.replace("_", "-"))(registry.load("cli.data", name).command)
