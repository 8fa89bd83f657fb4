"""Time of a training step, eqff against nequip: the same function, batch, loss and optimiser.

python examples/benchmarks/bench_training.py --output RESULTS [--peers .peers] [--threads 1 2]
    [--data ethanol=rmd17_ethanol.npz aspirin=rmd17_aspirin.npz --energy-unit kcal/mol]

A step is the loss of a batch (energies per atom and forces), its gradient with respect to the weights and an Adam step;
data loading is left out on both sides. The sides run in separate processes and take turns. Without data, frames
are rattled and labels made up, which costs the same. OUTPUT gets table.md and results.json. The gradients agree if
those of nequip's weights follow, by the chain rule through eqff's importer, from those of eqff's.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sides
from bench_inference import PAUSE, ratio, summary
from sides import Side, UnavailableError
from structures import SYSTEMS, thermal

from eqff.data.reading.options import ReadOptions
from eqff.data.reading.read import Source
from eqff.errors import EqffError
from eqff.importers.nequip import convert

WARMUP_STEPS = 3
LEARNING_RATE = 1e-5


class Mode(NamedTuple):
    """One side of the benchmark."""

    package: str
    mode: str  # of its worker


MODES = {
    "eqff eager": Mode("eqff", "eager"),
    "eqff kernels": Mode("eqff", "kernels"),
    "eqff compile": Mode("eqff", "compile"),
    "eqff kernels compile": Mode("eqff", "kernels compile"),
    "nequip eager": Mode("nequip", "eager"),
    "nequip compile": Mode("nequip", "compile"),
}


def make_batch(system: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Frames and labels, as plain lists; energies around zero, because the model has no reference energies."""
    files = dict(entry.split("=", 1) for entry in arguments.data)
    if system in files:
        options = ReadOptions(energy_unit=arguments.energy_unit)
        frames = Source(files[system], options).frames[: arguments.batch_size]
        energies = np.array([frame.energy for frame in frames])
        return {
            "numbers": frames[0].atomic_numbers.tolist(),
            "frames": [frame.positions.tolist() for frame in frames],
            "energies": (energies - energies.mean()).tolist(),
            "forces": [np.asarray(frame.forces).tolist() for frame in frames],
        }
    atoms, generator = SYSTEMS[system](), np.random.default_rng(0)
    n_frames = arguments.batch_size
    return {
        "numbers": atoms.numbers.tolist(),
        "frames": [thermal(atoms, 300.0, sides.SPRING, seed)[0].tolist() for seed in range(n_frames)],
        "energies": generator.standard_normal(n_frames).tolist(),
        "forces": generator.standard_normal((n_frames, len(atoms), 3)).tolist(),
    }


def start_side(name: str, threads: int, place: Path, arguments: argparse.Namespace, batch: dict[str, Any]) -> Any:
    """A side with its model and batch.  Raises: UnavailableError"""
    mode = MODES[name]
    python = Path(sys.executable) if mode.package == "eqff" else sides.peer_python(arguments.peers, mode.package)
    side = Side(python, f"{mode.package}_training.py", threads, arguments.output / "workers.log")
    path = place / "eqff.eqff.pt" if mode.package == "eqff" else place
    key = "path" if mode.package == "eqff" else "folder"
    try:
        return side, side.ask("load", mode=mode.mode, learning_rate=LEARNING_RATE, **{key: str(path)}, **batch)
    except UnavailableError:
        side.close()
        raise


def measure(
    system: str, threads: int, names: list[str], place: Path, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """All sides on one batch, taking turns; one row per side that could take part."""
    batch = make_batch(system, arguments)
    running: dict[str, Side] = {}
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        gradients = {}
        try:
            for name in names:
                try:
                    running[name], about = start_side(name, threads, place, arguments, batch)
                    path = Path(folder) / f"{name.replace(' ', '-')}.npz"
                    began = time.monotonic()
                    loss = running[name].ask("gradient", path=str(path))["loss"]
                    first = time.monotonic() - began
                    gradients[name] = dict(np.load(path))
                    running[name].ask("step", n_steps=WARMUP_STEPS)
                except UnavailableError as reason:
                    print(f"    {name}: skipped, {reason}", flush=True)
                    if name in running:
                        running.pop(name).close()
                    continue
                rows[name] = {"system": system, "threads": threads, "side": name, "loss": loss, "first_step_s": first}
                rows[name] |= about | {"n_atoms": len(batch["numbers"]), "blocks": []}
            for k in range(arguments.rounds):
                n_steps = arguments.steps * (k + 1) // arguments.rounds - arguments.steps * k // arguments.rounds
                for name, side in running.items():
                    if n_steps:
                        time.sleep(PAUSE)
                        rows[name]["blocks"].append(side.ask("step", n_steps=n_steps))
            for name, side in running.items():
                rows[name] |= summary(rows[name].pop("blocks"))
                rows[name]["peak_MB"] = side.ask("memory")["peak_MB"]
        finally:
            for side in running.values():
                side.close()
    if "nequip eager" in rows:
        for name, row in rows.items():
            row["loss_difference"] = abs(row["loss"] / rows["nequip eager"]["loss"] - 1.0)
            row["gradient_difference"] = gradient_difference(
                gradients["nequip eager"], gradients[name], MODES[name].package, place / "weights.npz"
            )
            for clock in ("wall_ms", "cpu_ms"):
                row[f"speed_{clock}"] = ratio(rows["nequip eager"][clock], row[clock])
    return list(rows.values())


def gradient_difference(reference: dict[str, Any], found: dict[str, Any], package: str, file: Path) -> float:
    """Largest relative difference of the gradient with respect to one of nequip's arrays of weights.

    eqff's weights W are at most bilinear functions of nequip's w, so that (W(w + d) - W(w - d)) / 2 is exactly the
    derivative of W along d; dL/dW times it must be dL/dw . d, here for d = dL/dw and a random one, array by array.
    """
    if package == "nequip":
        pairs = [(found[name], reference[name]) for name in reference]
        return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs if np.linalg.norm(b) > 0)
    config, state = sides.read_weights(file)
    generator, worst = np.random.default_rng(0), 0.0
    for name, exact in reference.items():
        size = np.linalg.norm(exact)
        if size == 0.0 or exact.size == 0:
            continue
        random = generator.standard_normal(exact.shape)
        for direction in (exact / size, random / np.linalg.norm(random)):
            there = [state | {name: state[name].astype(float) + sign * direction} for sign in (1.0, -1.0)]
            ahead, behind = (dict(convert(config, weights).model.named_parameters()) for weights in there)
            slopes = {key: 0.5 * (ahead[key] - behind[key]).detach().numpy() for key in found}
            chained = sum(float((slopes[key] * gradient).sum()) for key, gradient in found.items())
            worst = max(worst, float(abs(chained - float((exact * direction).sum())) / size))
    return worst


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = "system | threads | side | parameters | edges | CPU ms: mean, median (10-90 %) | wall ms: mean, median | "
    head += "times nequip eager (CPU) | times nequip eager (wall) | first step s | peak MB | loss | gradient"
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for row in rows:
        cpu, wall = row["cpu_ms"], row["wall_ms"]
        cells = [f"{row['system']} ({row['n_atoms']})", str(row["threads"]), row["side"], f"{row['n_parameters']:,}"]
        cells += [str(row["n_edges"]), f"{cpu['mean']:.1f}, {cpu['median']:.1f} ({cpu['p10']:.1f}-{cpu['p90']:.1f})"]
        cells.append(f"{wall['mean']:.1f}, {wall['median']:.1f}")
        for clock in ("cpu_ms", "wall_ms"):
            speed = row.get(f"speed_{clock}")
            cells.append(f"{speed['mean']:.2f} ({speed['least']:.2f}-{speed['largest']:.2f})" if speed else "")
        cells += [f"{row['first_step_s']:.1f}", f"{row['peak_MB']:.0f}"]
        cells += [f"{row[key]:.1e}" if key in row else "" for key in ("loss_difference", "gradient_difference")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_results(arguments: argparse.Namespace, rows_of: dict[int, list[dict[str, Any]]]) -> None:
    """table.md and results.json, complete after every system."""
    everything = [row | {"l_max": l_max} for l_max, rows in rows_of.items() for row in rows]
    versions = {key: value for row in everything for key, value in row["versions"].items()}
    about: dict[str, Any] = {
        "machine": sides.machine(),
        "versions": versions,
        "load": os.getloadavg(),
        "options": vars(arguments),
    }
    record = json.dumps({**about, "rows": everything}, indent=1, default=str)
    (arguments.output / "results.json").write_text(record + "\n", encoding="utf-8")
    text = f"{about['machine']['processor']}, {about['machine']['cores']} cores; "
    text += ", ".join(f"{key} {value}" for key, value in versions.items()) + "\n\n"
    text += f"float32, natural parity, {arguments.channels} channels, {arguments.layers} layers, r_max 5 Å, batch of "
    text += (
        f"{arguments.batch_size}, {arguments.steps} steps. Loss and gradient: relative difference to nequip eager.\n"
    )
    for l_max, rows in rows_of.items():
        text += f"\n## l_max {l_max}\n\n{table(rows)}"
    (arguments.output / "table.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True)
    sides.add_model_options(parser)
    parser.add_argument("--systems", nargs="+", default=["ethanol", "aspirin"], choices=["ethanol", "aspirin"])
    parser.add_argument("--data", nargs="*", default=[], metavar="SYSTEM=FILE", help="labelled frames of a system")
    parser.add_argument("--energy-unit", help="of these files, where they do not state it")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--sides", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each side")
    parser.add_argument("--rounds", type=int, default=10, help="turns into which the steps are divided")
    arguments = parser.parse_args()
    sides.prepare_output(arguments.output, arguments.force)
    models = arguments.models or arguments.output / "models"
    rows_of: dict[int, list[dict[str, Any]]] = {}
    for l_max in arguments.l_max:
        rows_of[l_max] = []
        try:
            place = sides.make_nequip_model(arguments.peers, models, sides.model_arguments(arguments, l_max), [])
        except UnavailableError as reason:
            sys.exit(f"no weights to import: {reason}")
        if not (place / "eqff.eqff.pt").is_file():
            sides.import_model(place / "weights.npz", place / "eqff.eqff.pt")
        for threads in arguments.threads:
            for system in arguments.systems:
                print(f"l_max {l_max}, {threads} threads, {system}", flush=True)
                found = measure(system, threads, arguments.sides, place, arguments)
                rows_of[l_max] += found
                for row in found:
                    factor = row.get("speed_cpu_ms", {}).get("mean", float("nan"))
                    print(f"    {row['side']:16s} {row['cpu_ms']['mean']:10.1f} ms CPU  {factor:6.2f} x", flush=True)
                write_results(arguments, rows_of)
    print((arguments.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except EqffError as error:
        sys.exit(str(error))
