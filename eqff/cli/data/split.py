"""eqff data split: which frames train, which validate, which test."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from eqff.cli._options import LABELLED, READING, AsJson, reads
from eqff.cli.data._reading import with_progress
from eqff.data.reading.options import ReadOptions
from eqff.errors import ConfigError

if TYPE_CHECKING:
    from eqff.data.splits import Split

METHODS = ("random", "blocked", "composition", "files")


@reads(*LABELLED, "skip_bad")
def command(
    file: Annotated[Path, typer.Argument(help="Data file")],
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--output",
            "-o",
            help=".json (what eqff train reads), .npz (as SchNetPack), or a folder for csv.",
            show_default="<name of FILE>.split.json",
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="random; blocked (in time, one after the other); composition (whole ones); files.")
    ] = "random",
    train: Annotated[float, typer.Option(help="Frames to train on: a number, or a share such as 0.8.")] = 0.8,
    validation: Annotated[float, typer.Option(help="Frames to validate on: a number or a share.")] = 0.1,
    test: Annotated[Optional[float], typer.Option(help="Frames to test on.", show_default="all that are left")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    gap: Annotated[int, typer.Option(help="blocked: frames left out between the parts.")] = 0,
    train_file: Annotated[
        Optional[Path],
        typer.Option(help="files: row numbers to train on, from 0, one per line (rMD17); or a split of .json or .npz."),
    ] = None,
    validation_file: Annotated[Optional[Path], typer.Option(help="files: row numbers to validate on.")] = None,
    test_file: Annotated[Optional[Path], typer.Option(help="files: row numbers to test on.")] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Leave frames out that repeat an earlier one exactly.")
    ] = False,
    reading: ReadOptions = READING,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Divide a data file into parts that share no frame; the rows are saved with a hash that identifies the split.

    Example: eqff data split ethanol.h5 --train 950 --validation 50 -o split.json
    """
    import numpy as np

    from eqff.data import splits
    from eqff.data.frame import hill_formula
    from eqff.data.identity import identity
    from eqff.data.isolated import is_isolated
    from eqff.data.reading.read import Stream

    if method not in METHODS:
        raise ConfigError("EQ1942", f"method={method!r}; choose from {', '.join(METHODS)}")
    if (method == "files") != (train_file is not None):
        raise ConfigError("EQ1943", "--method files and --train-file belong together; give both or none")
    target = output or file.with_name(f"{file.stem}.split.json")
    _refuse_existing(target, force)
    stream = Stream(file, reading)
    formulas: dict[str, int] = {}
    identities, compositions, isolated = [], [], []
    for frame in with_progress(stream, f"read {file.name}", hidden=as_json):
        identities.append(identity(frame))
        isolated.append(is_isolated(frame))
        compositions.append(formulas.setdefault(hill_formula(frame.atomic_numbers), len(formulas)))
    n_frames = len(identities)
    _, first = np.unique(np.array([np.frombuffer(i, dtype="<u8") for i in identities]), axis=0, return_index=True)
    repeated = np.delete(np.arange(n_frames), first)
    pool = np.sort(first) if drop_duplicates and method != "files" else np.arange(n_frames)
    always = pool[np.array(isolated)[pool]]  # isolated atoms train, whatever is drawn
    pool = np.setdiff1d(pool, always) if method != "files" else pool
    if train_file is not None:
        split = _from_files(n_frames, train_file, validation_file, test_file)
        if drop_duplicates:
            split = splits.without(split, repeated)
    else:
        n_shared = len(pool) - 2 * gap if method == "blocked" else len(pool)
        n_train, n_validation = _count(train, n_shared), _count(validation, n_shared)
        n_test = None if test is None else _count(test, n_shared)
        if method == "random":
            split = splits.random_split(len(pool), n_train, n_validation, n_test, seed=seed)
        elif method == "blocked":
            split = splits.blocked_split(len(pool), n_train, n_validation, n_test, gap=gap)
        else:
            split = splits.composition_split(np.array(compositions)[pool], n_train, n_validation, n_test, seed=seed)
    origin = {"method": method, "source": file.name, "source_sha256": stream.sha256}
    if method == "blocked":
        origin["gap"] = str(gap)
    parts = split.train, split.validation, split.test
    if method != "files":
        parts = pool[parts[0]], pool[parts[1]], pool[parts[2]]
    split = splits.always_training(splits.Split(*parts, n_frames, split.seed, origin), always)
    splits.check_leaks(split, identities)
    written = _write(split, target, force)
    sizes = {part: len(getattr(split, part)) for part in splits.PARTS}
    if as_json:
        summary = {"method": method, "n_frames": n_frames, "sizes": sizes, "seed": split.seed, "sha256": split.sha256}
        repeats = {"n_duplicates": len(repeated), "duplicates_dropped": drop_duplicates}
        typer.echo(json.dumps(summary | repeats | {"written": [str(path) for path in written]}))
        return
    left_out = n_frames - sum(sizes.values())
    typer.echo(f"frames   {n_frames} in {file.name}, of {len(formulas)} compositions")
    typer.echo(f"split    {', '.join(f'{n} {part}' for part, n in sizes.items())}; {left_out} in none ({method})")
    if len(always):
        shown = ", ".join(map(str, always[:6].tolist())) + (", ..." if len(always) > 6 else "")
        typer.echo(f"isolated frames {shown}: isolated atoms, which always train")
    if len(repeated):
        where = "left out" if drop_duplicates else f"in one part each, the first is frame {repeated[0]}"
        typer.echo(f"repeats  {len(repeated)} frames repeat an earlier one exactly: {where}")
    typer.echo(f"sha256   {split.sha256}")
    typer.echo(f"wrote    {', '.join(str(path) for path in written)}")
    if target.suffix:
        command = ["eqff", "train", str(file), "--split", str(target)]
        if reading.energy_unit is not None:
            command += ["--energy-unit", reading.energy_unit]
        typer.echo(f"train    {shlex.join(command)}")


def _from_files(n_frames: int, train: Path, validation: Optional[Path], test: Optional[Path]) -> "Split":
    """Index files, or a split file that says all three."""
    from eqff.data.splits import Split, load_split, split_from_files

    if train.suffix not in (".npz", ".json"):
        return split_from_files(n_frames, train=train, validation=validation, test=test)
    given = load_split(train)
    return Split(given.train, given.validation, given.test, n_frames, given.seed)


def _count(value: float, n_frames: int) -> int:
    """A number of frames; what is below 1 is a share of all."""
    if 0 < value < 1:
        return round(value * n_frames)
    if value != int(value):
        raise ConfigError("EQ1944", f"{value} is no size of a part; give a whole number of frames, or a share below 1")
    return int(value)


def _refuse_existing(target: Path, force: bool) -> None:
    if target.suffix not in (".json", ".npz", ""):
        raise ConfigError(
            "EQ1923", f"{target}: a split is written as .json or .npz, or as csv into a folder; choose such a name"
        )
    if target.exists() and not force:
        raise ConfigError("EQ1945", f"{target}: exists; choose another name, or --force to replace it")


def _write(split: "Split", target: Path, force: bool) -> list[Path]:
    from eqff.files import locked, new_file

    if target.suffix:
        with new_file(target, force=force) as temporary:
            split.save(temporary)
        return [target]
    target.mkdir(parents=True, exist_ok=True)
    with locked(target):
        return split.save_csv(target)
