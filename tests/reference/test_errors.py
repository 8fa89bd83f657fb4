"""The list of errors is complete; an id has one cause, a thousand of ids one class, and every message a remedy."""

import re
from collections import defaultdict
from pathlib import Path

import pytest

from eqff import errors
from eqff.reference.errors import PACKAGE, Site, sites

TESTS = Path(__file__).parents[1]
CLASSES = {"1": "ConfigError", "2": "GraphError", "3": "DataError", "4": "PotentialError", "5": "RunError"}
CLASSES |= {"6": "ResourceError"}
INVENTED = {"EQ2103", "EQ2199", "EQ3999", "EQ9999"}  # stand for any error, in tests and in an example


@pytest.fixture(scope="module")
def all_sites() -> list[Site]:
    return sites()


def ids(folder: Path, pattern: str) -> set[str]:
    files = [path for path in folder.rglob("*.py") if "reference" not in path.parts and path.name != "explain.py"]
    return {id for path in files for id in re.findall(pattern, path.read_text(encoding="utf-8"))}


def test_every_id_of_the_source_is_listed_and_no_other_is_mentioned(all_sites: list[Site]) -> None:
    listed = {site.id for site in all_sites}
    assert ids(PACKAGE, r"\"(EQ\d{4})\"") <= listed | INVENTED
    assert ids(PACKAGE, r"EQ\d{4}") - listed <= INVENTED, "docstrings promise errors that nothing raises"
    assert ids(TESTS, r"EQ\d{4}") - listed <= INVENTED, "tests mention errors that nothing raises"


def test_every_error_has_a_class_of_its_thousand(all_sites: list[Site]) -> None:
    assert {site.kind for site in all_sites} <= {name for name in vars(errors) if name.endswith("Error")}
    foreign = {f"{site.id} {site.kind} {site.where}" for site in all_sites if CLASSES[site.id[2]] != site.kind}
    assert not foreign, "\n".join(sorted(foreign))


def test_an_id_stands_for_one_cause(all_sites: list[Site]) -> None:
    shapes = defaultdict(set)
    for site in all_sites:
        shapes[site.id].add(site.shape)
    shared = {id: of_id for id, of_id in shapes.items() if len(of_id) > 1}
    assert not shared


def test_every_message_says_what_to_do(all_sites: list[Site]) -> None:
    """After a semicolon, and by more than what it expected instead of a value."""
    silent = {f"{site.id} {site.template}" for site in all_sites if re.match("$|expected", site.remedy)}
    assert not silent, "\n".join(sorted(silent))


SOURCE = '''
"""A file."""
from eqff.errors import DataError, RunError

REMEDY = "read it again"

class Reader:
    """Reads.

    More."""

    def read(self, names):
        if names is None:
            message = "no"
            raise DataError("EQ3000", message)
        message = f"{self.path}: no {', '.join(names)} among {len(names)}; {REMEDY}"
        raise DataError("EQ3001", message)

    def run(self, error):
        """Runs."""
        return RunError(error.id if error else "EQ5001", _why(error) + "; stop")

def _why(error):
    return f"{type(error).__name__} of {str(error)!r}"
'''


def test_messages_become_templates(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "reader.py").write_text(SOURCE, encoding="utf-8")
    zeroth, first, second = sites(tmp_path)
    assert zeroth.template == "no"
    assert first[:4] == ("EQ3001", "DataError", "<path>: no <names> among <number of names>; read it again",
                         "eqff.below.reader.Reader.read")  # fmt: skip
    assert (first.cause, first.remedy) == ("<path>: no <names> among <number of names>", "read it again")
    assert first.summary == "Reads."
    assert second.template == "<type of error> of <error>; stop"
    assert second.summary == "Runs."
    assert sites(tmp_path, "EQ5001") == [second]
    assert sites(tmp_path, "EQ5002") == []
