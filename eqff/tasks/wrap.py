"""Wrap a TorchScript energy model of another code as a potential file, after measuring where it can be trusted."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eqff import exporter
from eqff.artifact import archive, foreign, scripting, torchscript, vectors
from eqff.artifact.header import FORMAT_WRAPPED, PROVENANCE, UNITS, WRAPPED
from eqff.artifact.lookup import SUFFIX
from eqff.artifact.program import cheap_first_call
from eqff.elements import ATOMIC_NUMBERS, atomic_number
from eqff.errors import ConfigError, PotentialError, last_line
from eqff.neighbors import MAX_REACH
from eqff.potential import GradientEvaluator
from eqff.units import energy_factor, length_factor
from eqff.validation.checks.adapter import Adapted
from eqff.validation.checks.isolated import isolated_energies
from eqff.validation.examination import examine
from eqff.validation.finding import Finding
from eqff.validation.structures import example_structures
from eqff.validation.subject import Program

# Faults that make results wrong: no file is written unless the user accepts them.
DECISIVE = ("adapter", "gradient", "n_hops", "isolated", "batch", "repeat")
EXAMINED = (
    *("gradient", "n_hops", "isolated", "batch", "repeat", "direction"),
    *("rotation", "inversion", "translation", "permutation", "cutoff"),
)
N_SHOWN = 4
SPREAD_HINT = "let it return an energy for each atom, or for each graph of `batch`, and not one total"


@dataclass(frozen=True, kw_only=True)
class WrapConfig:
    """The program to wrap and its author's statements."""

    model: str | Path
    output: str | Path
    species: tuple[str, ...] = ()  # in the order of the program's type index; nequip files state theirs
    r_max: float | None = None  # Å; nequip files state their own
    n_hops: int | None = None  # None: measured
    energy_unit: str = "eV"
    length_unit: str = "Å"
    adapter: str = "auto"
    accept: tuple[str, ...] = ()  # checks that may fail
    trust: bool = False  # execute the program
    metadata: dict[str, str] | None = None
    seed: int = 0
    force: bool = False


class WrapReport(NamedTuple):
    """Results of the examination, and the file."""

    header: dict[str, Any]
    checks: list[Finding]
    adapter: str
    path: Path


def wrap(config: WrapConfig, seen: Callable[[list[Finding]], None] | None = None) -> WrapReport:
    """Load the program, find out how to call it, examine it, write a potential file verified in a fresh process.

    Args:    seen: called with the findings before anything is refused or written
    Raises:  ConfigError without trust, or for impossible options; PotentialError for a program that cannot be
             called, fails a decisive check that is not accepted, or cannot be stored
    """
    _check_options(config)
    exporter.checked_path(config.output, config.force)
    source = foreign.describe(config.model)
    if not config.trust:
        raise ConfigError("EQ1290", _refusal(source))
    with exporter.only_exporter(config.output, config.force) as output:
        return _wrap(config, source, output, seen)


def _wrap(
    config: WrapConfig, source: foreign.Foreign, output: Path, seen: Callable[[list[Finding]], None] | None
) -> WrapReport:
    species, r_max = _facts(config, source)
    program = foreign.load(source)
    adapter = torchscript.adapter_of(program, source.notes) if config.adapter == "auto" else config.adapter
    structure = example_structures(species, r_max)[1]
    factors = energy_factor(config.energy_unit), length_factor(config.length_unit)
    with cheap_first_call():
        adapted = torchscript.adapt(program, adapter, species, r_max, structure, *factors)
        script = scripting.script(adapted.model).eval()
        operators = scripting.check_operators(script)
        subject, checks = _examined(script, adapted, species, r_max, config)
        if seen is not None:
            seen(checks)
        failed = [check.check for check in checks if not check.passed]
        _refuse(checks, config.accept, SPREAD_HINT if adapted.form is not None and adapted.form.spread else "")
        structures = [*example_structures(species, r_max), *subject.structures[-2:]]
        if "isolated" in failed:
            structures = structures[1:]
        energies = [0.0] * len(species) if "isolated" in failed else isolated_energies(subject)
        expected = [vectors.expect(subject.evaluator, structure) for structure in structures]
    header = {
        "format": FORMAT_WRAPPED,
        "name": output.name.removesuffix(SUFFIX),
        "family": WRAPPED,
        "config": {"adapter": adapter, **_plain(adapted.form)},
        "species": list(species),
        "r_max": r_max,
        "n_hops": _hops(checks) if config.n_hops is None else config.n_hops,
        "symmetry": _symmetry(failed),
        "dtype": _name(adapted.dtypes[0]),
        "dtypes": [_name(dtype) for dtype in adapted.dtypes],
        "units": UNITS,
        "reference_energies": energies,
        "n_parameters": sum(parameter.numel() for parameter in program.parameters()),
        **{field: (config.metadata or {}).get(field, "not stated") for field in PROVENANCE},
        "source": {
            "file": source.path.name,
            "sha256": source.digest,
            "energy_unit": config.energy_unit,
            "length_unit": config.length_unit,
            **{key: source.notes[key] for key in ("nequip_version", "torch_version") if source.notes.get(key)},
        },
        "verdict": [check._asdict() for check in checks],
        "accepted": sorted(set(config.accept) & set(failed)),
        "versions": exporter.package_versions(),
        "operators": operators,
    }
    extra = {archive.VECTORS: vectors.pack(expected, species), archive.CARD: b""}
    header = exporter.write_program(output, script, header, extra, exporter.prove_in_fresh_process, config.force)
    return WrapReport(header, checks, adapter, output)


def _examined(
    script: torch.jit.ScriptModule,
    adapted: torchscript.Adapted,
    species: Sequence[str],
    r_max: float,
    config: WrapConfig,
) -> tuple[Program, list[Finding]]:
    """The program in its highest precision, and the findings of the exam; decisive checks first.

    Raises: PotentialError for a program that stops, or gives numbers that are not finite, on an ordinary structure
    """
    stored = adapted.dtypes[0]
    finest = torch.float64 if torch.float64 in adapted.dtypes else stored
    evaluator = GradientEvaluator(script if finest == stored else copy.deepcopy(script).to(finest))
    findings: list[Finding] = []
    try:
        if adapted.real is not None:
            before = Adapted.of(
                GradientEvaluator(script), species, r_max, dtype=stored, seed=config.seed, real=adapted.real
            )
            findings += examine(before, ["adapter"])
        subject = Program.of(evaluator, species, r_max, stated_hops=config.n_hops, dtype=finest, seed=config.seed)
    except foreign.STOPS as error:
        raise PotentialError(
            "EQ4332", f"the program stops on a random structure: {last_line(error)}; check --species and --r-max"
        ) from error
    return subject, [*findings, *examine(subject, EXAMINED)]


def _hops(checks: Sequence[Finding]) -> int:
    """The receptive field that was measured.  Raises: PotentialError if the program stopped"""
    (check,) = (check for check in checks if check.check == "n_hops")
    if "hops" not in check.measured:
        raise PotentialError("EQ4803", f"n_hops cannot be measured: {check.note}; state it with --n-hops")
    return int(check.measured["hops"] or 0)


def _check_options(config: WrapConfig) -> None:
    if config.adapter not in ("auto", *torchscript.ADAPTERS):
        names = ", ".join(("auto", *torchscript.ADAPTERS))
        raise ConfigError("EQ1291", f"adapter={config.adapter!r} is unknown; choose from {names}")
    unknown = sorted(set(config.accept) - set(DECISIVE))
    if unknown:
        raise ConfigError("EQ1292", f"accept={unknown[0]!r} is unknown; choose from {', '.join(DECISIVE)}")
    if config.n_hops is not None and not 0 <= config.n_hops <= 100:
        raise ConfigError(
            "EQ1293", f"n_hops={config.n_hops} is impossible; give the number of interaction layers, 0 to 100"
        )
    if config.r_max is not None and not 0 < config.r_max <= MAX_REACH:
        raise ConfigError("EQ1294", f"r_max={config.r_max} is impossible; give the model's cut-off in Å")
    for symbol in config.species:
        atomic_number(symbol)
    if len(set(config.species)) != len(config.species):
        raise ConfigError(
            "EQ1295",
            f"species={','.join(config.species)} names an element twice; give each once, in the program's order",
        )
    length_factor(config.length_unit)
    energy_factor(config.energy_unit)


def _facts(config: WrapConfig, source: foreign.Foreign) -> tuple[tuple[str, ...], float]:
    """Species and r_max, stated by the user and, for nequip, by the file; they must agree."""
    names, native = torchscript.nequip_facts(source.notes)
    species, r_max = config.species, config.r_max
    symbols = bool(names) and all(name in ATOMIC_NUMBERS for name in names)
    if symbols and not species:
        species = tuple(names)
    if names and (len(species) != len(names) or (symbols and list(species) != names)):
        raise ConfigError(
            "EQ1296", f"species={','.join(species)}: the program's types are {','.join(names)}; give them in this order"
        )
    if math.isfinite(native):
        stated = native * length_factor(config.length_unit)
        r_max = stated if r_max is None else r_max
        if abs(r_max - stated) > 1e-6 * stated:
            raise ConfigError(
                "EQ1297", f"r_max={r_max:g} Å: the program was made for {stated:g} Å; leave the option out"
            )
    if not species or r_max is None:
        missing = "--species" if not species else "--r-max"
        raise ConfigError("EQ1298", f"{missing} is not stated in the file; give it as an option")
    return species, r_max


def _refusal(source: foreign.Foreign) -> str:
    """Properties of the file that would be executed; nothing is executed."""
    shown = [name.removeprefix("code/") for name in source.sources[:N_SHOWN]]
    more = len(source.sources) - len(shown)
    return (
        f"{source.path} is a program: wrapping it runs it with your rights. It holds {len(source.sources)} source "
        f"files ({', '.join(shown)}{f' and {more} more' if more else ''}), {len(source.content) / 1e6:.2f} MB, "
        f"sha256 {source.digest}; nothing was executed; if you trust its author, add --trust"
    )


def _refuse(checks: Sequence[Finding], accept: Sequence[str], hint: str) -> None:
    """Raises: PotentialError naming every decisive check that failed and was not accepted"""
    wrong = [c for c in checks if not c.passed and c.check in DECISIVE and c.check not in accept]
    if wrong:
        reasons = "; ".join(f"{check.check}: {check.note}" for check in wrong)
        options = " ".join(f"--accept {check.check}" for check in wrong)
        raise PotentialError(
            "EQ4333",
            f"nothing was written, the model gives wrong results ({reasons}); {hint or 'correct it'}, or add {options}",
        )


def _symmetry(failed: Sequence[str]) -> str:
    if "rotation" in failed:
        return "none"
    return "SE(3)" if "inversion" in failed else "O(3)"


def _plain(form: torchscript.Form | None) -> dict[str, Any]:
    return {} if form is None else dict(form._asdict())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
