"""What all model configurations share: numbers per species, irreps of features, and checks."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from eqff.elements import atomic_number
from eqff.errors import ConfigError
from eqff.o3.irreps import L_MOST, Block, Irrep, Irreps, parse

# No model that anybody could train needs more; a header or recipe that demands it must not fill the memory.
MOST = {"l_max": L_MOST, "m_max": L_MOST, "n_layers": 100, "n_heads": 256, "feed_forward": 256, "envelope_power": 100}
MOST_CHANNELS = 65_536  # any other whole number
MOST_NUMBERS = 256  # in a list
MOST_LETTERS = 1_000
MOST_WEIGHTS = 2**29  # a file holds fewer
LONGEST_R_MAX = 100.0  # Å


def per_species(value: float | Sequence[float], n_species: int, name: str) -> tuple[float, ...]:
    """One number for each species; () is zeros.  Raises: ConfigError if there are fewer or more than species."""
    values = (float(value),) * n_species if isinstance(value, int | float) else tuple(value) or (0.0,) * n_species
    if len(values) != n_species:
        raise ConfigError(
            "EQ1091",
            f"{name} has {len(values)} numbers for {n_species} species; "
            "give one number for all species or one for each",
        )
    return values


def feature_irreps(l_max: int, n_channels: int | Sequence[int], parity: str) -> Irreps:
    """Irreps of features: degree outer, even before odd.

    Args:   n_channels: of every irrep, or one number per degree;
            parity: "natural" (-1)^l; "both" for every l; "none" everything even, SE(3) only
    Raises: ConfigError unless n_channels has one number, or one per degree
    """
    channels = (n_channels,) * (l_max + 1) if isinstance(n_channels, int) else tuple(n_channels)
    if len(channels) != l_max + 1:
        raise ConfigError(
            "EQ1092",
            f"n_channels={n_channels}: expected one number, or {l_max + 1} for l_max={l_max}; "
            "the list has a number for each degree from 0",
        )
    parities = {"natural": lambda l: [(-1) ** l], "both": lambda l: [1, -1], "none": lambda l: [1]}[parity]
    return tuple(Block(Irrep(l, p), channels[l]) for l in range(l_max + 1) for p in parities(l))


def check_fields(config: Any, counts: Sequence[str], positive: Sequence[str] = ()) -> None:
    """Check the hyper-parameters that all families have, and further numbers of one family.

    Args:   config: with species, r_max, avg_num_neighbors, energy_scale, reference_energies and envelope_power;
            counts: names of fields that are, or contain, whole numbers >= 1; positive: further fields that are > 0
    Raises: ConfigError
    """
    check_bounds(config)
    check_species(config.species)
    check_counts({name: getattr(config, name) for name in counts})
    check_size(config)
    names = ("r_max", "avg_num_neighbors", *positive)
    check_scales(
        len(config.species),
        {name: getattr(config, name) for name in names},
        config.energy_scale,
        config.reference_energies,
    )
    if config.envelope_power < 3:
        raise ConfigError("EQ1929", f"envelope_power={config.envelope_power}: expected >= 3; 6 is usual")


def check_bounds(config: Any) -> None:
    """Raises: ConfigError EQ1502 for a number that no sensible model needs, before anything of that size is made"""
    for name, given in vars(config).items():
        values = given if isinstance(given, tuple) else (given,)
        most = MOST.get(name, MOST_CHANNELS)
        if name == "seed":
            good, expected = -(2**63) <= given < 2**63, "a whole number of 64 bits"
        elif name == "r_max":
            good, expected = not LONGEST_R_MAX < given < math.inf, f"at most {LONGEST_R_MAX:g} Å"
        elif len(values) > MOST_NUMBERS:
            good, expected = False, f"at most {MOST_NUMBERS} numbers"
        elif any(isinstance(value, str) and len(value) > MOST_LETTERS for value in values):
            good, expected = False, f"at most {MOST_LETTERS} letters"
        else:
            good = all(not isinstance(value, int) or abs(value) <= most for value in values)
            expected = f"at most {most}"
        if not good:
            shown = repr(given)
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            raise ConfigError("EQ1502", f"{name}={shown}: expected {expected}; lower it")


def check_size(config: Any) -> None:
    """Raises: ConfigError EQ1504 if layers alone would have more weights than a file can hold"""
    channels = getattr(config, "n_channels", 1)
    widest = max((channels,) if isinstance(channels, int) else (*channels, 1))
    text = getattr(config, "hidden_irreps", "")
    if text:
        widest = max(block.n_channels for block in parse(text))
    hidden = (*getattr(config, "radial_hidden", ()),)
    n_layer = widest**2 + sum(a * b for a, b in pairwise(hidden)) + (hidden[-1] * widest if hidden else 0)
    n_weights = config.n_layers * n_layer
    if n_weights > MOST_WEIGHTS:
        raise ConfigError(
            "EQ1504",
            f"n_layers={config.n_layers} of {widest} channels with radial_hidden={list(hidden)}: about {n_weights:.1e} "
            f"weights, expected at most {MOST_WEIGHTS:.1e}; lower one of them",
        )


def check_species(species: Sequence[str]) -> None:
    """Raises: ConfigError unless each is a chemical symbol, written once"""
    for symbol in species:
        atomic_number(symbol)
    if not species or len(set(species)) < len(species):
        raise ConfigError(
            "EQ1093",
            f"species={list(species)}: expected each chemical symbol once; remove what is repeated or is no symbol",
        )


def check_counts(counts: Mapping[str, int | Sequence[int]], at_least: int = 1) -> None:
    """Raises: ConfigError naming a hyper-parameter that is too small, or contains a number that is"""
    for name, count in counts.items():
        values = (count,) if isinstance(count, int) else count
        if any(value < at_least for value in values):
            raise ConfigError("EQ1094", f"{name}={count}: expected at least {at_least}; raise it")


def check_scales(
    n_species: int,
    positive: Mapping[str, float | Sequence[float]],
    energy_scale: float | Sequence[float],
    references: Sequence[float],
) -> None:
    """Raises: ConfigError for a number that is not finite, or not positive where it must be"""
    for name, value in positive.items():
        if not all(math.isfinite(number) and number > 0.0 for number in per_species(value, n_species, name)):
            raise ConfigError("EQ1095", f"{name}={value}: expected finite numbers > 0; correct the value")
    scales = per_species(energy_scale, n_species, "energy_scale")
    if not all(math.isfinite(scale) for scale in scales) or not any(scales):
        raise ConfigError(
            "EQ1097",
            f"energy_scale={energy_scale} eV: expected finite numbers, not all of them 0; "
            "use the RMS force component of the training set",
        )
    if not all(math.isfinite(energy) for energy in per_species(references, n_species, "reference_energies")):
        raise ConfigError(
            "EQ1098",
            f"reference_energies={references} eV: expected finite numbers; use those fitted to the training set",
        )
