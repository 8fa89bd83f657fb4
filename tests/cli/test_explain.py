"""eqff explain: errors and keys of recipes, for people, machines and the documentation."""

import json
import re

import pytest
import typer
from typer.testing import CliRunner, Result

from eqff.cli import explain

app = typer.Typer()
app.command()(explain.command)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_an_error_has_a_class_a_cause_a_remedy_and_a_place() -> None:
    output = run("eq3078").output
    assert output.startswith("EQ3078  DataError, exit code 3\n        A ")
    assert "cause   <path>: exists, and folders are never replaced\n" in output
    assert "remedy  choose another name, or remove it\n" in output
    assert "raised  by eqff.files.new_folder: Yield a temporary folder" in output


def test_without_a_topic_all_errors_are_listed_by_thousands() -> None:
    lines = run().output.splitlines()
    assert [line for line in lines if "xxx" in line] == [
        f"EQ{n}xxx  {text}" for n, text in sorted(explain.THOUSANDS.items())
    ]
    assert any(line.startswith("EQ3078  <path>: exists") for line in lines)


def test_keys_of_recipes() -> None:
    assert run("training.batch_size").output.startswith("training.batch_size: int = 5\n    frames in a batch")
    assert run("model.l_max").output.count("model.l_max: int = ") >= 4
    assert set(run("nequip").output.split()) < set(run("recipe").output.split())


@pytest.mark.parametrize("topic", ["", "EQ3078", "recipe"])
def test_json_and_markdown_hold_the_same(topic: str) -> None:
    entries = json.loads(run(topic, "--json").output)
    page = run(topic, "--markdown").output
    for entry in entries:
        name = entry["id"] if "id" in entry else entry["path"].rpartition(".")[2]
        assert f"### {name}" in page or f"| `{name}` |" in page
    assert page.startswith("# ")


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("EQ9999", r"EQ1901: topic='EQ9999': .*; did you mean EQ"),
        ("training.batchsize", r"EQ1902: .*did you mean training\.batch_size"),
        ("zzz", "EQ1902: .*; `eqff explain` and `eqff explain recipe` list all"),
    ],
)
def test_unknown_topics(topic: str, message: str) -> None:
    result = run(topic)
    assert result.exception is not None
    assert result.exception.exit_code == 2  # type: ignore[attr-defined]
    assert re.search(message, str(result.exception))
