import json
from pathlib import Path

import numpy as np
import pytest
from toys import SAMPLE
from typer.testing import CliRunner

from eqff.cli.data import app
from eqff.data.reading.read import read_frames
from eqff.data.reading.write import write_frames
from eqff.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def run(*arguments):
    return CliRunner().invoke(app, ["check", *(str(a) for a in arguments)])


def changed(path: Path, **arrays) -> Path:
    with np.load(SAMPLE) as file:
        contents = {name: file[name] for name in ("z", "R", "E", "F")} | {
            name: change(file[name].copy()) for name, change in arrays.items()
        }
    np.savez(path, **contents)
    return path


def test_good_data_pass():
    result = run(SAMPLE)
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.output
    assert "not testable" in result.output  # frames are 10 fs apart


def test_a_fault_fails_and_is_named(tmp_path):
    def spoil(forces):
        forces[7, 3, 1] = np.nan
        return forces

    file = changed(tmp_path / "nan.npz", F=spoil)
    result = run(file, "--energy-unit", "kcal/mol", "--json", "--html", tmp_path / "report.html")
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["faults"] == ["not finite"]
    assert not report["passed"]
    assert report["findings"][0]["frames"] == [7]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "atom 3" in text
    assert text.count("data:image/png") >= 3
    again = run(file, "--energy-unit", "kcal/mol", "--html", tmp_path / "report.html")
    assert isinstance(again.exception, ConfigError)
    assert again.exception.id == "EQ1955"


def test_against_and_split(tmp_path):
    frames = read_frames(SAMPLE)
    write_frames(tmp_path / "train.h5", frames[:12])
    write_frames(tmp_path / "test.h5", frames[10:])
    result = run(tmp_path / "test.h5", "--against", tmp_path / "train.h5", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["faults"] == ["leakage"]
    write_frames(tmp_path / "twice.h5", [*frames, frames[0]])
    from eqff.data.splits import split_from_indices

    split_from_indices(21, train=range(10), test=range(10, 21)).save(tmp_path / "split.json")
    found = json.loads(run(tmp_path / "twice.h5", "--split", tmp_path / "split.json", "--json").output)
    assert "leakage" in found["faults"]
    split_from_indices(20, train=range(10), test=range(10, 20)).save(tmp_path / "short.json")
    wrong = run(tmp_path / "twice.h5", "--split", tmp_path / "short.json")
    assert isinstance(wrong.exception, DataError)
    assert wrong.exception.id == "EQ3402"


def test_strict_makes_warnings_fail(tmp_path):
    frames = read_frames(SAMPLE)
    from dataclasses import replace

    write_frames(tmp_path / "partial.h5", [*frames[:15], *(replace(f, forces=None) for f in frames[15:])])
    assert run(tmp_path / "partial.h5").exit_code == 0
    assert run(tmp_path / "partial.h5", "--strict").exit_code == 1


def test_a_file_that_breaks_off_is_examined_as_far_as_it_goes(tmp_path):
    frames = read_frames(SAMPLE)
    write_frames(tmp_path / "whole.extxyz", frames)
    text = (tmp_path / "whole.extxyz").read_text(encoding="utf-8")
    (tmp_path / "cut.extxyz").write_text(text[: int(len(text) * 0.93)], encoding="utf-8")
    result = run(tmp_path / "cut.extxyz", "--json")
    if result.exception is not None and isinstance(result.exception, DataError):
        assert "frame" in result.exception.message  # the format refuses it before the first frame
    else:
        assert "damaged file" in json.loads(result.output)["faults"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "unit", "faults"),
    [
        ("md17_original/ethanol_first2000.npz", "kcal/mol", []),
        ("rmd17/rmd17_ethanol_train_01.npz", "kcal/mol", []),
        ("3bpa/train_300K.xyz", None, []),
        ("mlearn/Si_train.extxyz", None, []),
        ("mlearn/Mo_train.extxyz", None, []),
    ],
)
def test_published_data(file, unit, faults):
    if not SHARED.is_dir():
        pytest.skip(f"published data sets are not at {SHARED}")
    result = run(SHARED / file, "--json", *(["--energy-unit", unit] if unit else []))
    report = json.loads(result.output)
    assert report["faults"] == faults
    if "md17_original" in file:
        along = next(f for f in report["findings"] if "along the file" in f["message"] and f["check"] == "units")
        assert along["numbers"]["slope"] == pytest.approx(1.0, abs=2e-3)
        assert along["numbers"]["correlation"] > 0.999
        assert any(f["check"] == "net_force" and f["severity"] == "note" for f in report["findings"])
    if "rmd17" in file:
        first = next(f for f in report["findings"] if f["check"] == "units")
        assert first["severity"] == "not testable"
