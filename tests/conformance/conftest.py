"""The exam of every family of models: a family is a file in eqff/models and a smallest configuration here.

exam.py      the model that is examined: a subject of eqff.validation, whose checks are run on it;
learning.py, programs.py   what takes training, and what takes files and TorchScript;
faults/      models broken on purpose: test_faults.py shows which check goes red;
smallest/    <family>.toml; <family>-<variant>.toml states only what differs, where a switch deserves a short exam.
"""

import pytest

from .exam import Exam, names, prepared


@pytest.fixture(params=names())
def exam(request: pytest.FixtureRequest) -> Exam:
    """One family after the other."""
    return prepared(request.param)
