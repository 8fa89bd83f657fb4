import pickle

import pytest

from eqff import errors


def test_message_carries_type_and_id_and_survives_pickling():
    error = errors.GraphError("EQ2103", "positions: atom 7 is NaN")
    assert str(error) == "GraphError EQ2103: positions: atom 7 is NaN"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ConfigError", 2),
        ("GraphError", 3),
        ("DataError", 3),
        ("PotentialError", 4),
        ("ResourceError", 5),
        ("RunError", 1),
    ],
)
def test_exit_codes(kind, code):
    error = getattr(errors, kind)
    assert issubclass(error, errors.EqffError)
    assert error.exit_code == code
