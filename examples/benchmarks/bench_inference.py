"""Time of an MD step, eqff against nequip (the same function) and mace-torch, each through its own ASE calculator.

python examples/benchmarks/bench_inference.py --output RESULTS [--peers .peers] [--threads 1 2] [--l-max 1 2 3]

All sides run in separate processes and take turns, a block of steps each, so that other load on the machine affects
all of them. A step is energy and forces of moved atoms (velocity Verlet, 0.5 fs, 300 K), neighbour lists rebuilt
as each engine does. The NequIP has random weights, made by nequip and imported by eqff: the table prints how far
energies and forces of the two are apart. Springs hold the atoms near their start; they are added outside the timed
part. OUTPUT gets table.md, results.json and scaling-l<l_max>.png.  peers/make_environments.sh makes the environments of
the peers.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sides
from sides import Side, UnavailableError
from structures import SYSTEMS, thermal

from eqff.errors import EqffError

TEMPERATURE, TIMESTEP = 300.0, 0.5  # K, fs
WARMUP_STEPS = 5
PAUSE = 0.2  # s between turns: OpenMP threads of the last side go to sleep
SCALING = ("64 H2O", "343 H2O", "1000 H2O", "1728 H2O", "3375 H2O")
SMALL = ("ethanol", "aspirin", "64 H2O", "216 Si")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


class Mode(NamedTuple):
    """One side of the benchmark."""

    package: str  # whose calculator
    options: dict[str, Any]  # of the calculator
    compile: tuple[str, ...] | None = None  # options of `eqff compile`, where it has to run before
    same_function: bool = True  # as the reference


MODES = {
    "eqff torchscript": Mode("eqff", {"accelerate": "off"}),
    "eqff compiled exact": Mode("eqff", {"accelerate": "ready", "exact": True}, ("--exact",)),
    "eqff compiled": Mode("eqff", {"accelerate": "ready"}, ()),
    "nequip eager": Mode("nequip", {"mode": "eager"}),
    "nequip aotinductor": Mode("nequip", {"mode": "aotinductor"}),
    "mace eager": Mode("mace", {}, same_function=False),
}


def start_side(name: str, threads: int, models: Path, arguments: argparse.Namespace, log: Path) -> tuple[Side, dict]:
    """A side with its calculator loaded.  Raises: UnavailableError"""
    mode = MODES[name]
    python = Path(sys.executable) if mode.package == "eqff" else sides.peer_python(arguments.peers, mode.package)
    side = Side(python, f"{mode.package}_worker.py", threads, log)
    try:
        if mode.package == "eqff":
            path = potential_file(name, threads, models, log)
            return side, side.ask("load", path=str(path), options=mode.options)
        if mode.package == "nequip":
            about = side.ask("load", folder=str(models), threads=threads, **mode.options)
            return side, about | {"n_parameters": sides.trained_parameters(models / "weights.npz")}
        about = side.ask("load", species=["H", "C", "O", "Si"], r_max=5.0, avg_num_neighbors=20.0)
        return side, about
    except UnavailableError:
        side.close()
        raise


def potential_file(name: str, threads: int, models: Path, log: Path) -> Path:
    """nequip's weights as a potential file; one file per way of compiling, because programs are found by its digest."""
    mode = MODES[name]
    stem = "eqff" if mode.compile is None else f"{name.replace(' ', '-')}-threads{threads}"
    path = models / f"{stem}.eqff.pt"
    if not path.is_file():
        sides.import_model(models / "weights.npz", path)
    if mode.compile is not None:
        command = [sys.executable, "-m", "eqff", "compile", str(path), *mode.compile]
        with log.open("a", encoding="utf-8") as file:
            run = subprocess.run(command, stdout=file, stderr=file, env=sides.eqff_environment(threads), check=False)
        if run.returncode:
            raise UnavailableError(f"`eqff compile {' '.join(mode.compile)}` failed, see {log}")
    return path


def structure_request(system: str) -> dict[str, Any]:
    """A structure with thermal positions and velocities, as plain lists."""
    atoms = SYSTEMS[system]()
    positions, velocities = thermal(atoms, TEMPERATURE, sides.SPRING)
    return {
        "numbers": atoms.numbers.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "places": atoms.positions.tolist(),
        "positions": positions.tolist(),
        "velocities": velocities.tolist(),
        "spring": sides.SPRING,
        "timestep": TIMESTEP,
    }


def measure(
    system: str, threads: int, names: list[str], models: Path, arguments: argparse.Namespace, history: dict[str, Any]
) -> list[dict[str, Any]]:
    """All sides on one structure, taking turns; one row per side that could take part.

    Args: history: largest memory of each side so far, to skip what would not fit
    """
    request = structure_request(system)
    n_atoms = len(request["numbers"])
    atoms = SYSTEMS[system]()
    frames = [thermal(atoms, TEMPERATURE, sides.SPRING, seed)[0].tolist() for seed in range(3 if n_atoms < 500 else 1)]
    geometry = {key: request[key] for key in ("numbers", "cell", "pbc")}
    running: dict[str, Side] = {}
    rows: dict[str, dict[str, Any]] = {}
    results: dict[str, dict[str, Any]] = {}
    log = arguments.output / "workers.log"
    try:
        for name in names:
            expected = history.get(name, 0.0) * n_atoms
            if expected > arguments.memory:
                print(f"    {name}: skipped, would need about {expected / 1000:.0f} GB", flush=True)
                continue
            try:
                running[name], about = start_side(name, threads, models, arguments, log)
                results[name] = running[name].ask("evaluate", frames=frames, **geometry)
                if MODES[name].compile is not None and "TorchScript" in results[name]["calculator"]:
                    raise UnavailableError("the calculator runs the file's own program, not a compiled one")
                running[name].ask("start", **request)
                warm = running[name].ask("step", n_steps=WARMUP_STEPS if n_atoms < 500 else 2)
            except UnavailableError as reason:
                print(f"    {name}: skipped, {reason}", flush=True)
                if name in running:
                    running.pop(name).close()
                continue
            n_steps = int(np.clip(1e3 * arguments.seconds / warm["wall_ms"][-1], 3, arguments.steps))
            rows[name] = {"system": system, "n_atoms": n_atoms, "threads": threads, "side": name, "n_steps": n_steps}
            rows[name] |= about | {"calculator": results[name]["calculator"], "blocks": []}
        for k in range(arguments.rounds):
            for name, side in running.items():
                n_steps = rows[name]["n_steps"]
                share = n_steps * (k + 1) // arguments.rounds - n_steps * k // arguments.rounds
                if share:
                    time.sleep(PAUSE)
                    rows[name]["blocks"].append(side.ask("step", n_steps=share))
        for name, side in running.items():
            rows[name] |= summary(rows[name].pop("blocks"))
            rows[name]["peak_MB"] = side.ask("memory")["peak_MB"]
            history[name] = rows[name]["peak_MB"] / n_atoms if n_atoms >= 500 else 0.0
    finally:
        for side in running.values():
            side.close()
    compare(rows, results, n_atoms)
    return list(rows.values())


def summary(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over the steps of all blocks."""
    record: dict[str, Any] = {key: value for key, value in blocks[-1].items() if not key.endswith("_ms")}
    for clock in ("wall_ms", "cpu_ms"):
        steps = np.concatenate([block[clock] for block in blocks])
        record[clock] = {
            "median": float(np.median(steps)),
            "mean": float(steps.mean()),
            "p10": float(np.quantile(steps, 0.1)),
            "p90": float(np.quantile(steps, 0.9)),
            "blocks": [float(np.mean(block[clock])) for block in blocks],
        }
    return record


def compare(rows: dict[str, dict[str, Any]], results: dict[str, dict[str, Any]], n_atoms: int) -> None:
    """Differences to nequip eager (or to another run of nequip), and how much faster than nequip's compiled model."""
    reference = next((name for name in ("nequip eager", "nequip aotinductor") if name in rows), None)
    rival = next((name for name in ("nequip aotinductor", "nequip eager") if name in rows), None)
    for name, row in rows.items():
        if reference is not None and MODES[name].same_function:
            energy = np.subtract(results[name]["energies"], results[reference]["energies"])
            exact = np.array(results[reference]["forces"])
            row["max_dE_meV_per_atom"] = float(1e3 * abs(energy).max() / n_atoms)
            row["max_dF_eV_A"] = float(abs(np.array(results[name]["forces"]) - exact).max())
            row["force_rms_eV_A"] = float(np.sqrt((exact**2).mean()))
        if rival is not None:
            row["rival"] = rival
            for clock in ("wall_ms", "cpu_ms"):
                row[f"speed_{clock}"] = ratio(rows[rival][clock], row[clock])


def ratio(slow: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    """Of the means over all steps; least and largest of single rounds as its spread."""
    pairs = [a / b for a, b in zip(slow["blocks"], fast["blocks"], strict=False)]
    return {"mean": slow["mean"] / fast["mean"], "least": min(pairs), "largest": max(pairs)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = "system | threads | side | parameters | steps | CPU ms: mean, median (10-90 %) | wall ms: mean, median | "
    head += "times nequip (CPU) | times nequip (wall) | peak MB | max dE meV/atom | max dF / force RMS"
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for row in rows:
        cpu, wall = row["cpu_ms"], row["wall_ms"]
        cells = [f"{row['system']} ({row['n_atoms']})", str(row["threads"]), row["side"], f"{row['n_parameters']:,}"]
        cells += [str(row["n_steps"]), f"{cpu['mean']:.2f}, {cpu['median']:.2f} ({cpu['p10']:.2f}-{cpu['p90']:.2f})"]
        cells.append(f"{wall['mean']:.2f}, {wall['median']:.2f}")
        for clock in ("cpu_ms", "wall_ms"):
            speed = row.get(f"speed_{clock}")
            cells.append(f"{speed['mean']:.2f} ({speed['least']:.2f}-{speed['largest']:.2f})" if speed else "")
        cells.append(f"{row['peak_MB']:.0f}")
        if "max_dF_eV_A" in row:
            scaled = row["max_dF_eV_A"] / row["force_rms_eV_A"]
            cells += [f"{row['max_dE_meV_per_atom']:.1e}", f"{scaled:.1e}"]
        else:
            cells += ["another function", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot_scaling(path: Path, rows: list[dict[str, Any]]) -> None:
    """Wall time per atom against the number of atoms."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    curves: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for row in rows:
        if row["system"] in SCALING:
            point = (row["n_atoms"], 1e3 * row["wall_ms"]["median"] / row["n_atoms"])
            curves.setdefault((row["side"], row["threads"]), []).append(point)
    names = list(MODES)
    for (name, threads), points in curves.items():
        style: dict[str, Any] = {
            "color": COLOURS[names.index(name) % len(COLOURS)],
            "linestyle": "-" if threads == 1 else "--",
        }
        label = f"{name}, {threads} thread{'s' * (threads > 1)}"
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label, **style)
    axes.set(xscale="log", yscale="log", xlabel="atoms (water)", ylabel="time per step and atom (µs)")
    axes.grid(True, which="both", color="#dddddd", linewidth=0.6)
    sides.plain_ticks(axes.xaxis)
    sides.plain_ticks(axes.yaxis)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def write_results(arguments: argparse.Namespace, rows_of: dict[int, list[dict[str, Any]]]) -> None:
    """table.md, results.json and the scaling plot, complete after every structure."""
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
    text += f"float32, natural parity, {arguments.channels} channels, {arguments.layers} layers, r_max 5 Å; NVE, "
    text += "0.5 fs, 300 K.  Factors are ratios of means, with the least and largest of the rounds.\n"
    for l_max, rows in rows_of.items():
        text += f"\n## l_max {l_max}\n\n{table(rows)}"
    (arguments.output / "table.md").write_text(text, encoding="utf-8")
    for l_max, rows in rows_of.items():
        if len({row["system"] for row in rows} & set(SCALING)) > 1:
            plot_scaling(arguments.output / f"scaling-l{l_max}.png", rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True)
    sides.add_model_options(parser)
    parser.add_argument("--systems", nargs="+", default=list(SMALL), choices=list(SYSTEMS))
    parser.add_argument("--scaling", action="store_true", help="also water boxes of 1,000 to 10,000 atoms (l_max[0])")
    parser.add_argument("--sides", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--scaling-sides", nargs="+", choices=list(MODES), help="of the large boxes  [as --sides]")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of each side")
    parser.add_argument("--rounds", type=int, default=10, help="turns into which the steps are divided")
    parser.add_argument("--seconds", type=float, default=300.0, help="a slow side makes fewer steps, at least 3")
    parser.add_argument("--memory", type=float, default=16000.0, help="MB; sides that would need more are skipped")
    arguments = parser.parse_args()
    sides.prepare_output(arguments.output, arguments.force)
    models = arguments.models or arguments.output / "models"
    rows_of: dict[int, list[dict[str, Any]]] = {}
    for l_max in arguments.l_max:
        rows_of[l_max] = []
        model = sides.model_arguments(arguments, l_max)
        wanted = arguments.threads if "nequip aotinductor" in arguments.sides else []
        try:
            place = sides.make_nequip_model(arguments.peers, models, model, wanted)
        except UnavailableError as reason:
            sys.exit(f"no weights to import: {reason}")
        for threads in arguments.threads:
            plan = [(system, arguments.sides) for system in arguments.systems]
            if arguments.scaling and l_max == arguments.l_max[0]:
                large = [system for system in SCALING if system not in arguments.systems]
                plan += [(system, arguments.scaling_sides or arguments.sides) for system in large]
            history: dict[str, Any] = {}
            for system, names in plan:
                print(f"l_max {l_max}, {threads} threads, {system}", flush=True)
                found = measure(system, threads, list(names), place, arguments, history)
                rows_of[l_max] += found
                for row in found:
                    factor = row.get("speed_cpu_ms", {}).get("mean", float("nan"))
                    print(f"    {row['side']:22s} {row['cpu_ms']['mean']:10.2f} ms CPU  {factor:6.2f} x", flush=True)
                write_results(arguments, rows_of)
    print((arguments.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except EqffError as error:
        sys.exit(str(error))
