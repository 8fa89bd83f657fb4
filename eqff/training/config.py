"""What a training run is told: one TOML file, every key with its unit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eqff.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Labelled frames and how they are divided."""

    train: str  # file with frames to train and validate on
    energy_unit: str | None = None  # of the file, where it does not state it, e.g. "kcal/mol"
    length_unit: str | None = None
    energy_key: str | None = None  # of extended XYZ
    forces_key: str | None = None
    stress_key: str | None = None
    # labels minus those of a calculator: tblite:GFN2-xTB, emt, a potential, my_module:make (engines/ase/calculators)
    baseline: str | None = None
    n_train: int | None = None  # None: all others, in whole batches
    n_validation: int | None = None  # None: 5 % of the frames, at least 1, at most 1000, and what batches leave over
    split_seed: int = 0
    split: str | None = None  # a saved split instead of a random one
    level_of_theory: str = ""  # goes into the potential's header, e.g. "PBE/def2-SVP"
    licence: str = ""  # of the data


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    r"""L = w_F l(F - F_ref) + w_E l(E - E_ref) + w_S l((s - s_ref) V / n_atoms), means over components and frames.

    Energies per atom or per frame, eV; forces eV/Å; stress times the volume of an atom, eV.
    """

    forces: float = 1.0
    energy_per_atom: float = 1.0
    final_energy_per_atom: float | None = (
        None  # w_E at the end, reached geometrically; energies profit late, at small steps
    )
    energy: Literal["per_atom", "total"] = "per_atom"  # total: the energy weights are of the frame's whole energy
    stress: float = 0.0  # 0: labels of stress are not needed and not used
    kind: Literal["mse", "mae", "l2", "huber"] = "mse"  # l2: mean length of the force error; the rest as mae
    huber_delta: float = 0.01  # eV/Å (and eV/atom): quadratic below, linear above


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimiser, schedule and bookkeeping."""

    epochs: int = 100
    steps: int = 0  # of the optimiser: instead of epochs, as many as come nearest to it; 0 leaves it to epochs
    batch_size: int = 5  # frames
    max_edges: int = 0  # of a batch, instead of batch_size; 0 is none
    optimizer: Literal["adam", "soap"] = "adam"  # adam: with amsgrad; soap: several times faster to an accuracy
    learning_rate: float = 0.01  # of either
    final_learning_rate: float = 1e-5  # cosine from one to the other
    warmup_steps: int = 100
    ema_decay: float = 0.999  # of the weights that are validated and exported
    gradient_clip: float = 0.0  # norm; 0 is none
    seed: int = 0  # of weights and shuffles
    validate_every: int = 1  # epochs; 0: about a hundred times in a run
    checkpoint_every: int = 10  # epochs; 0: about a hundred times in a run
    checkpoint_minutes: float = 10.0  # and at the latest after so many minutes, within an epoch too
    max_skipped_steps: int = 5  # in a row whose loss is not finite; one more stops the run
    export_best: bool = True  # best.eqff.pt in the run folder, renewed while the run goes on
    report: bool = True  # report.html at the end
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()  # beside metrics.csv; their packages must be installed
    devices: int = 1  # processes on each node, one GPU or a share of the cores each; batch_size is of all together
    nodes: int = 1  # machines, started by torchrun or SLURM
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    dtype: Literal["float32", "float64"] = "float32"  # of the weights; geometry is always float64
    threads: int = 0  # of torch; 0 leaves it alone
    kernels: Literal["auto", "reference"] = "auto"  # auto: compiled for this CPU where a C++ compiler is found
    freeze: tuple[str, ...] = ()  # names of weights to leave as they are, e.g. "embedding", "layers.0.*"
    # torch.compile of the whole step; needs frames of equally many atoms, periodic ones of equally many edges, too.
    # auto: where that is so, it pays, and a compiler is found
    compile: bool | Literal["auto"] = False
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run: data, model (`family` and the fields of its Config), training."""

    data: DataConfig
    model: dict[str, Any]
    preset: str | None = None  # fast or accurate: of a family, for every key that is not given
    init_from: str | None = None  # potential, run folder, checkpoint or start file whose weights to begin with
    training: TrainingConfig = field(default_factory=TrainingConfig)


def check(config: RunConfig) -> None:
    """Raises: ConfigError for values that cannot work together."""
    training = config.training
    positive = {
        "training.epochs": training.epochs,
        "training.batch_size": training.batch_size,
        "training.learning_rate": training.learning_rate,
        "training.loss.huber_delta": training.loss.huber_delta,
        "training.checkpoint_minutes": training.checkpoint_minutes,
        "training.devices": training.devices,
        "training.nodes": training.nodes,
        "data.n_train": config.data.n_train,
        "data.n_validation": config.data.n_validation,
    }
    for name, value in positive.items():
        if value is not None and not value > 0:
            raise ConfigError("EQ1060", f"{name}={value}: expected > 0")
    not_negative = {
        "training.steps": training.steps,
        "training.validate_every": training.validate_every,
        "training.checkpoint_every": training.checkpoint_every,
        "training.final_learning_rate": training.final_learning_rate,
        "training.warmup_steps": training.warmup_steps,
        "training.gradient_clip": training.gradient_clip,
        "training.threads": training.threads,
        "training.max_edges": training.max_edges,
        "training.seed": training.seed,
        "training.max_skipped_steps": training.max_skipped_steps,
        "training.loss.stress": training.loss.stress,
    }
    for name, value in not_negative.items():
        if not value >= 0:
            raise ConfigError("EQ1075", f"{name}={value}: expected >= 0")
    if training.compile is True:
        check_compile(config)
    if not 0.0 <= training.ema_decay < 1.0:
        raise ConfigError("EQ1061", f"training.ema_decay={training.ema_decay}: expected 0 <= decay < 1")
    if training.loss.forces < 0 or training.loss.energy_per_atom < 0:
        raise ConfigError("EQ1062", "training.loss: weights must not be negative")
    if training.loss.final_energy_per_atom is not None and not (
        training.loss.energy_per_atom > 0 and training.loss.final_energy_per_atom > 0
    ):
        raise ConfigError("EQ1072", "training.loss.final_energy_per_atom: both energy weights must be > 0")
    if "family" not in config.model:
        raise ConfigError("EQ1063", 'model.family is missing; write e.g. family = "nequip"')
    for name in ("train", "split"):
        path = getattr(config.data, name)
        if path is not None and not Path(path).exists():
            raise ConfigError("EQ1064", f"data.{name}={path!r}: no such file (relative paths start at the config file)")


def check_compile(config: RunConfig) -> None:
    """That batches of a compiled step are equal.  Raises: ConfigError saying why they are not"""
    training, n_train, n_processes = (
        config.training,
        config.data.n_train,
        config.training.devices * config.training.nodes,
    )
    if training.max_edges:
        raise ConfigError(
            "EQ1076", "training.max_edges: training.compile=true needs batches of equal size; set one of the two"
        )
    if n_train is not None and n_train % training.batch_size:
        raise ConfigError(
            "EQ1074",
            f"training.compile=true needs full batches: n_train={n_train} is not a multiple of "
            f"batch_size={training.batch_size}",
        )
    if training.batch_size % n_processes:
        raise ConfigError(
            "EQ1431",
            f"training.compile=true needs equal shares of a batch: batch_size={training.batch_size} is not a multiple "
            f"of {n_processes} processes",
        )
