import base64
import re
from io import BytesIO

import numpy as np
from matplotlib.image import imread

from eqff.report.data_check import PICTURES, data_check_page

FINDING = {
    "check": "net_force",
    "severity": "note",
    "message": "m",
    "remedy": "r",
    "frames": list(range(30)),
    "numbers": {"noise": 0.001, "odd": np.nan},
}


def page(curves) -> str:
    return data_check_page("T", "note", [("file", "a.npz")], [FINDING], curves, "end")


def test_findings_and_facts_are_on_the_page():
    text = page({})
    for part in ("What to do: r", "Frames: 0, 1, 2", "and 10 more", "a.npz", "0.001", "net force"):
        assert part in text
    assert "<img" not in text
    assert "nan" not in text


def test_every_curve_is_drawn():
    """All of them, as few as one value, constant, or with a spike."""
    names = {name for _, panels in PICTURES for _, needed, _ in panels for name in needed}
    random = np.random.default_rng(0)
    spike = np.append(random.normal(size=4000), 1e6)
    for make in (spike.copy, lambda: np.ones(1)):
        pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", page({name: make() for name in names}))
        assert len(pictures) == len(PICTURES)
        assert all(imread(BytesIO(base64.b64decode(one))).std() > 0.01 for one in pictures)
