"""What a file calls its labels, and how stress and virial are brought together."""

import numpy as np
import pytest

from eqff.data.reading.file_units import Units
from eqff.data.reading.labels import FORCES_KEYS, Contents, to_frame
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.stress import STRESS_KEYS, VIRIAL_KEYS, voigt
from eqff.errors import DataError

CELL = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0.5, 0.2, 6.0]])  # volume 120
STRESS = np.array([0.01, 0.02, -0.03, 0.004, -0.005, 0.006])  # xx yy zz yz xz xy
FULL = np.array([[0.01, 0.006, -0.005], [0.006, 0.02, 0.004], [-0.005, 0.004, -0.03]])
EV = Units("eV", "Å", "option", "option")


def frame(*, info=None, arrays=None, results=None, pbc=True, units=EV, **options):
    contents = Contents(
        np.array([8, 1]), np.zeros((2, 3)), CELL, np.full(3, pbc), info or {}, arrays or {}, results or {}
    )
    return to_frame(contents, ReadOptions(**options), units, "a.xyz: frame 0")


@pytest.mark.parametrize("name", FORCES_KEYS)
def test_forces_by_every_usual_name(name):
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(frame(arrays={name: values}).forces, values)


@pytest.mark.parametrize("value", [STRESS, FULL, FULL.ravel(), FULL.tolist()])
@pytest.mark.parametrize("name", STRESS_KEYS)
def test_stress_as_6_or_9_numbers(name, value):
    np.testing.assert_array_equal(frame(info={name: value}).stress, STRESS)


@pytest.mark.parametrize("name", VIRIAL_KEYS)
def test_a_virial_is_minus_stress_times_volume(name):
    np.testing.assert_allclose(frame(info={name: -FULL * 120.0}).stress, STRESS, rtol=1e-14)
    assert name not in frame(info={name: -FULL * 120.0}).info


def test_a_virial_by_another_name_that_is_told():
    np.testing.assert_allclose(frame(info={"my_virial": -FULL * 120.0}, stress_key="my_virial").stress, STRESS)


def test_stress_and_virial_that_agree_and_that_do_not():
    both = {"stress": STRESS, "virial": -FULL * 120.0}
    np.testing.assert_array_equal(frame(info=both).stress, STRESS)
    for factor, shown in ((-1.0, "-1 times"), (160.2176634, "160.2 times"), (-1602.176634, "-1602 times")):
        wrong = both | {"stress": STRESS * factor}
        with pytest.raises(DataError, match=f"EQ3202.*{shown}"):
            frame(info=wrong)
        np.testing.assert_array_equal(frame(info=wrong, stress_key="stress").stress, STRESS * factor)


def test_there_is_no_stress_without_period():
    assert frame(info={"stress": STRESS, "virial": FULL}, pbc=False).stress is None
    assert not frame(pbc=False).cell.any()


def test_a_label_that_is_not_wanted():
    assert frame(info={"energy": -1.0}, energy_key="none").energy is None


def test_names_that_look_like_labels_are_noted_not_taken():
    options = ReadOptions()
    contents = Contents(
        np.array([8, 1]), np.zeros((2, 3)), CELL, np.zeros(3, dtype=bool),
        {"mp2_energy": -3.0, "eqff_energy": -4.0, "atomization_energy": 5.0, "energy_levels": np.zeros(9)},
        {"mp2_force": np.ones((2, 3)), "force_constants": np.ones((2, 9)), "eqff_forces": np.zeros((2, 3))},
    )  # fmt: skip
    found = to_frame(contents, options, EV, "a")
    assert (found.energy, found.forces) == (None, None)
    assert set(options.log.candidates) == {("energy", "mp2_energy"), ("forces", "mp2_force")}


@pytest.mark.parametrize(
    ("info", "id"),
    [
        ({"energy": "low"}, "EQ3032"),
        ({"energy": [1.0, 2.0]}, "EQ3032"),
        ({"energy": True}, "EQ3032"),
        ({"stress": [1.0, 2.0]}, "EQ3608"),
        ({"stress": [[1.0, 2.0, 3.0], [9.0, 4.0, 5.0], [3.0, 5.0, 6.0]]}, "EQ3608"),
        ({"virial": {"xx": 1.0}}, "EQ3608"),
        ({"energy": 1.0, "REF_energy": 2.0}, "EQ3033"),
    ],
)
def test_labels_that_are_none(info, id):
    with pytest.raises(DataError, match=r"a\.xyz: frame 0") as caught:
        frame(info=info)
    assert caught.value.id == id


def test_a_virial_in_a_flat_cell():
    contents = Contents(
        np.array([8]), np.zeros((1, 3)), CELL * [[1], [1], [0]], np.ones(3, dtype=bool), {"virial": FULL}
    )
    with pytest.raises(DataError, match="EQ3034"):
        to_frame(contents, ReadOptions(), EV, "a")


def test_voigt_order():
    np.testing.assert_array_equal(voigt(FULL), STRESS)
    np.testing.assert_array_equal(voigt(STRESS), STRESS)
    with pytest.raises(ValueError, match="6 or 9 numbers"):
        voigt(np.zeros(7))
