"""The entry point: verbs, exit codes, errors as one line, and no heavy import before a verb runs."""

import inspect
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

import eqff
from eqff import cli, errors, registry
from eqff.cli import _options


def test_help_lists_every_verb_with_its_first_line():
    result = CliRunner().invoke(cli.build(), ["--help"])
    assert result.exit_code == 0
    for verb in registry.names("cli"):
        assert f" {verb} " in result.output
    assert "Run molecular dynamics" in result.output


@pytest.mark.parametrize("verb", registry.names("cli"))
def test_every_verb_explains_itself(verb):
    result = CliRunner().invoke(cli.build(), [verb, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_help_and_version_import_nothing_heavy():
    program = (
        "import sys\n"
        "from eqff.cli import main\n"
        "sys.argv = ['eqff', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'ase', 'e3nn', 'torch_geometric', 'h5py', 'lightning', 'matplotlib', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_python_dash_m_prints_the_version():
    result = subprocess.run([sys.executable, "-m", "eqff", "--version"], check=True, capture_output=True, text=True)
    assert result.stdout == f"eqff {eqff.__version__}\n"


def run_main(monkeypatch, action, arguments=("verb",)):
    """Exit code of `eqff verb` when the verb does `action`."""

    def command() -> None:
        """A verb."""
        action()

    other = SimpleNamespace(command=lambda: None)
    monkeypatch.setattr(registry, "names", lambda family: ["other", "verb"])
    monkeypatch.setattr(
        registry, "load", lambda family, name: SimpleNamespace(command=command) if name == "verb" else other
    )
    monkeypatch.setattr(sys, "argv", ["eqff", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.RunError, 1),
        (errors.ConfigError, 2),
        (errors.GraphError, 3),
        (errors.DataError, 3),
        (errors.PotentialError, 4),
        (errors.ResourceError, 5),
    ],
)
def test_errors_are_one_line_on_stderr_and_an_exit_code(monkeypatch, capsys, error, exit_code):
    def action():
        raise error("EQ9999", "atom 7 of [red]water.xyz[/red] is " + "very " * 40 + "wrong; remove it")

    assert run_main(monkeypatch, action) == exit_code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"{error.__name__} EQ9999: atom 7 of [red]water.xyz[/red] is very")


def test_unexpected_errors_keep_their_traceback(monkeypatch):
    def action():
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_main(monkeypatch, action)


def test_what_the_system_refuses_is_one_line(monkeypatch, capsys):
    assert run_main(monkeypatch, lambda: Path("x" * 5000).read_text()) == 5
    shown = capsys.readouterr().err
    assert shown.startswith("ResourceError EQ6201: xxx")
    assert "File name too long" in shown
    assert shown.count("\n") == 1


def test_sigterm_unwinds_and_its_handler_is_put_back(monkeypatch):
    before, unwound = signal.getsignal(signal.SIGTERM), []

    def action():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            unwound.append(True)

    assert run_main(monkeypatch, action) == 143
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_interrupt_success_and_usage(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert run_main(monkeypatch, interrupted) == 130
    assert run_main(monkeypatch, lambda: None) == 0
    assert run_main(monkeypatch, lambda: None, ["verb", "--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err


def test_a_group_of_verbs_is_added_under_its_file_name(monkeypatch):

    group = typer.Typer()

    @group.command("one")
    def one() -> None:
        """First."""
        typer.echo("one ran")

    @group.command("two")
    def two() -> None:
        """Second."""

    monkeypatch.setattr(registry, "names", lambda family: ["things"])
    monkeypatch.setattr(registry, "load", lambda family, name: SimpleNamespace(app=group))
    assert "one ran" in CliRunner().invoke(cli.build(), ["things", "one"]).output


def options_of(command):
    return [option for option in command.params if getattr(option, "help", None)]


def test_help_shows_every_word_of_every_option():
    """Words in square brackets would be taken for markup, and vanish."""
    verbs = typer.main.get_command(cli.build()).commands
    leaves = [leaf for verb in verbs.values() for leaf in getattr(verb, "commands", {"": verb}).values()]
    assert len(leaves) > len(verbs) - 1
    texts = [option.help for leaf in leaves for option in options_of(leaf)]
    assert len(texts) > 100
    assert not [text for text in texts if "[" in text]


def test_what_verbs_share_reads_the_same():
    verbs = typer.main.get_command(cli.build()).commands
    for name in ("potential", "device", "dtype", "max_edges"):
        texts = {
            option.help for verb in verbs.values() for option in getattr(verb, "params", ()) if option.name == name
        }
        assert len(texts) == 1, texts


def test_warnings_are_one_line_without_a_python_file(monkeypatch, capsys):
    before = warnings.showwarning

    def action():
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("trained on [C2H6O] only", UserWarning, stacklevel=1)

    assert run_main(monkeypatch, action) == 0
    assert capsys.readouterr().err == "warning: trained on [C2H6O] only\n"
    assert warnings.showwarning is before


def test_the_choice_of_a_program_is_defined_once():
    """Of the verbs that evaluate; md has a third choice, to compile meanwhile."""
    verbs = {name: registry.load("cli", name).command for name in ("evaluate", "predict", "relax")}
    chosen = {inspect.signature(verb).parameters["accelerate"].annotation for verb in verbs.values()}
    assert chosen == {_options.ACCELERATE[_options.Program]}


@pytest.mark.parametrize("name", ["eqff", "torch", "typer", "json", "multiprocessing"])
def test_no_file_of_the_working_directory_is_run(tmp_path, name):
    """Neither by the command, nor by Python processes that it starts."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit('the working directory was run')")
    script = Path(sys.executable).with_name("eqff")
    for command in ([str(script)], [sys.executable, "-P", "-m", "eqff"]):
        done = subprocess.run([*command, "--version"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    if name in ("torch", "typer"):  # without -P, Python itself runs eqff.py and json.py before eqff can prevent it
        command = [sys.executable, "-m", "eqff", "--version"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_children_of_the_command_do_not_import_from_the_working_directory(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(cli, "build", lambda: lambda: seen.append(os.environ.get("PYTHONSAFEPATH")))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    cli.main()
    assert seen == ["1"]
    assert "PYTHONSAFEPATH" not in os.environ
