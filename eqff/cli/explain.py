"""eqff explain: what an error means and what to do about it; what a key of a recipe means."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from eqff import errors
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.reference.errors import Site
    from eqff.reference.recipe_keys import Key

THOUSANDS = {
    "1": "configuration and command line",
    "2": "structures and graphs",
    "3": "data files",
    "4": "potential files and models",
    "5": "training and simulation",
    "6": "resources: disk, memory, optional packages",
}


def command(
    topic: Annotated[
        str, typer.Argument(help="An error (EQ3070), a key (training.batch_size), `recipe`, or nothing for all errors.")
    ] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page of documentation.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Explain an error or a key of a training recipe: cause and remedy; type, default, unit and meaning."""
    from eqff.reference.errors import sites
    from eqff.reference.recipe_keys import recipe_keys

    if topic == "" or topic.upper().startswith("EQ"):
        found = sites(id=topic.upper())
        if not found:
            known = list(dict.fromkeys(site.id for site in sites()))
            raise ConfigError("EQ1901", f"topic={topic!r}: no error has this id; {_nearest(topic.upper(), known)}")
        lines = _error_page(found) if markdown else _error_list(found) if topic == "" else _error(found)
        plain = [{**site._asdict(), "cause": site.cause, "remedy": site.remedy} for site in found]
    else:
        every = recipe_keys()
        keys = [key for key in every if topic in ("recipe", key.path, key.family)]
        if not keys:
            known = list(dict.fromkeys(["recipe", *(key.path for key in every)]))
            raise ConfigError("EQ1902", f"topic={topic!r}: no key of a recipe has this name; {_nearest(topic, known)}")
        lines = _key_page(keys) if markdown else _keys(keys)
        plain = [key._asdict() for key in keys]
    typer.echo(json.dumps(plain, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))


def _error(sites: Sequence["Site"]) -> Iterator[str]:
    """Everything about one error."""
    kind = getattr(errors, sites[0].kind)
    yield f"{sites[0].id}  {kind.__name__}, exit code {kind.exit_code}"
    yield f"        {kind.__doc__}"
    for template, group in _by_template(sites):
        cause, _, remedy = template.partition(";")
        yield f"\ncause   {cause.strip()}"
        if remedy:
            yield f"remedy  {remedy.strip()}"
        for site in group:
            yield f"raised  by {site.where}: {site.summary}"


def _error_list(sites: Sequence["Site"]) -> Iterator[str]:
    """Ids and causes, grouped by thousands."""
    for thousand, group in groupby(sites, key=lambda site: site.id[2]):
        yield f"\nEQ{thousand}xxx  {THOUSANDS[thousand]}" if thousand > "1" else f"EQ1xxx  {THOUSANDS['1']}"
        for id, causes in groupby(group, key=lambda site: site.id):
            for number, cause in enumerate(dict.fromkeys(site.cause for site in causes)):
                yield f"{'' if number else id:<6}  {cause}"


def _error_page(sites: Sequence["Site"]) -> Iterator[str]:
    yield "# Errors\n"
    yield "`eqff explain EQ3070` prints an entry of this page. A word in `<>` stands for a value.\n"
    yield "| class | exit code | meaning |\n| --- | --- | --- |"
    for name in dict.fromkeys(site.kind for site in sites):
        kind = getattr(errors, name)
        yield f"| {name} | {kind.exit_code} | {kind.__doc__} |"
    for thousand, group in groupby(sites, key=lambda site: site.id[2]):
        yield f"\n## EQ{thousand}xxx: {THOUSANDS[thousand]}"
        for id, of_id in groupby(group, key=lambda site: site.id):
            same = list(of_id)
            yield f"\n### {id}\n\n{same[0].kind}"
            for template, raised in _by_template(same):
                cause, _, remedy = template.partition(";")
                yield f"\n- Cause: {_escaped(cause)}"
                if remedy:
                    yield f"- Remedy: {_escaped(remedy)}"
                yield "- Raised by " + ", ".join(dict.fromkeys(f"`{site.where}`" for site in raised))


def _by_template(sites: Iterable["Site"]) -> Iterator[tuple[str, Iterator["Site"]]]:
    yield from groupby(sorted(sites, key=lambda site: site.template), key=lambda site: site.template)


def _keys(keys: Sequence["Key"]) -> Iterator[str]:
    for key in keys:
        default = f" = {key.default}" if key.default else "  (must be given)"
        yield f"{key.path}: {key.type}{default}{f'  [{key.family}]' if key.family else ''}"
        if key.meaning:
            yield f"    {key.meaning}"


def _key_page(keys: Sequence["Key"]) -> Iterator[str]:
    yield "# Keys of a training recipe"
    for table, group in groupby(keys, key=lambda key: (key.path.rpartition(".")[0], key.family)):
        heading = f"`[{table[0]}]`" if table[0] else "At the top"
        yield f"\n## {heading}{f' of {table[1]}' if table[1] else ''}\n"
        yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
        for key in group:
            name = key.path.rpartition(".")[2]
            type, meaning = key.type.replace("|", "\\|"), _escaped(key.meaning).replace("|", "\\|")
            yield f"| `{name}` | `{type}` | {f'`{key.default}`' if key.default else 'must be given'} | {meaning} |"


def _escaped(text: str) -> str:
    return text.strip().replace("<", "&lt;").replace("*", "\\*")


def _nearest(name: str, known: Sequence[str]) -> str:
    guesses = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(guesses)}?" if guesses else "`eqff explain` and `eqff explain recipe` list all"
