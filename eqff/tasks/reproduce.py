"""Train a shipped potential again from its recipe, on the same frames, and compare the errors with its card."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from eqff import artifact
from eqff.artifact.lookup import SUFFIX, find
from eqff.config import read_toml
from eqff.data.published import official_split
from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.digest import file_sha256
from eqff.errors import ConfigError, DataError
from eqff.files import new_file
from eqff.locks import locked, made
from eqff.tasks.evaluate import evaluate
from eqff.training.folder.trained import export_run
from eqff.training.run import train

COMPARED = ("forces_mae_meV_A", "energy_mae_meV")


class Reproduction(NamedTuple):
    """Errors on the test frames: published, and of this run."""

    name: str
    expected: dict[str, float]
    found: dict[str, float]
    band: float  # relative
    output: Path  # run folder, with NAME.eqff.pt, card.md and metrics.json

    @property
    def reproduced(self) -> bool:
        """Whether the force error is within the band; a smaller error always is."""
        return self.found["forces_mae_meV_A"] <= self.expected["forces_mae_meV_A"] * (1.0 + self.band)


def reproduce(
    name: str,
    data: str | Path,
    output: str | Path,
    resume: bool = False,
    band: float = 0.15,
    overrides: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Reproduction:
    """Train, evaluate the published test frames, compare, and write a potential with card and metrics.

    Args:   name: of a potential with recipe.toml and metrics.json beside its file; data: folder with the data files
            that the recipe names, or with rmd17_MOLECULE.npz as published; output: run folder; resume: continue the
            run there; band: by how much the force error may be larger, relative; overrides: of the recipe, e.g. a
            shorter schedule; progress: called with (test frames done, all)
    Raises: ConfigError for a potential that cannot be reproduced; DataError if a file is not the pinned one; as `train`
    """
    file, output = find(name), Path(output)
    place = file.parent
    recipe, record = place / "recipe.toml", place / "metrics.json"
    if not recipe.is_file() or not record.is_file():
        raise ConfigError("EQ1410", f"{name}: no recipe.toml and metrics.json beside {file}; name a shipped one")
    header = artifact.inspect(name)
    published = json.loads(record.read_text(encoding="utf-8"))["test"]
    described = read_toml(recipe)["data"]
    cuts = output.with_name(f"{output.name}.data")  # parts of rMD17's split go here
    source = pinned(Path(data) / described["train"], header["training_data"]["source_sha256"], cuts)
    test = pinned(Path(data) / published["data"], published["data_sha256"], cuts)
    with made(output), locked(output):
        resume = resume and (output / "config.toml").is_file()
        train(recipe, output, resume, (f"data.train={json.dumps(str(source.resolve()))}", *overrides))
        potential = artifact.load(output / "best.eqff.pt", accelerate="off")
        frames = Source(test, ReadOptions(energy_unit=described.get("energy_unit"))).frames
        metrics = evaluate(potential, frames, str(test), progress=progress).metrics
        found = {key: metrics[key] for key in metrics if key.startswith(("energy_m", "forces_m", "forces_rmse"))}
        result = Reproduction(
            file.name.removesuffix(SUFFIX), {key: published[key] for key in COMPARED}, found, band, output
        )
        _write(result, header, recipe, {"data": test.name, "data_sha256": file_sha256(test), "n_frames": len(frames)})
    return result


def pinned(path: Path, sha256: str, cuts: Path) -> Path:
    """The file, or one with the same frames: a part of rMD17 is cut out of the published file in the same folder.

    Args:   path: of the file that was used; its sha256; cuts: folder for parts
    Raises: DataError saying which is missing or differs; as `official_split.cut`
    """
    whole = official_split.whole_of(path.name)
    if path.is_file():
        found = file_sha256(path)
        if found == sha256 or (whole is not None and official_split.is_part(path)):
            return path
        raise DataError(
            "EQ3502",
            f"{path}: sha256 {found[:16]}..., but the figures are of {sha256[:16]}...; get the recipe's data",
        )
    if whole is None:
        message = f"{path}: no such file; the recipe says where these frames come from, --data names the folder"
        raise DataError("EQ3955", message)
    for folder in (path.parent, path.parent / "npz_data", path.parent / "rmd17" / "npz_data"):  # as the archive has it
        if (folder / whole).is_file():
            return official_split.cut(folder / whole, path.name, cuts, force=True)
    get = f"eqff data get {official_split.data_set(path.name)} -o {path.parent}"
    raise DataError("EQ3501", f"{path}: no such file, nor {whole}; get it with `{get}`, --data names the folder")


def _write(result: Reproduction, header: dict[str, Any], recipe: Path, test: dict[str, Any]) -> None:
    output = result.output
    with new_file(output / "recipe.toml", force=True) as temporary:
        shutil.copyfile(recipe, temporary)
    metrics = {"test": test | result.found}
    with new_file(output / "metrics.json", force=True) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    rows = "\n".join(
        f"| {key} | {result.expected[key]:.3g} | {result.found[key]:.3g} |" for key in COMPARED if key in result.found
    )
    data = header["training_data"]
    card = (
        f"# {result.name}, trained again\n\n"
        f"From its recipe ([recipe.toml](recipe.toml)), on the same {data['n_train']} + {data['n_validation']} frames "
        f"({data.get('level_of_theory') or 'level of theory not stated'}; "
        f"{data.get('licence') or 'licence not stated'}).\n\n"
        f"| error on {test['n_frames']} test frames | published | this run |\n| --- | --- | --- |\n{rows}\n\n"
        f"Allowed: a force error {100.0 * result.band:.0f} % larger; "
        f"{'reproduced' if result.reproduced else 'not reproduced'}.\n"
    )
    with new_file(output / "card.md", force=True) as temporary:
        temporary.write_text(card, encoding="utf-8")
    export_run(
        output,
        output / f"{result.name}.eqff.pt",
        force=True,
        card=output / "card.md",
        metrics=output / "metrics.json",
        licence=header.get("licence", "not stated"),
        citation=header.get("citation", "not stated"),
    )
