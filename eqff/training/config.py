"""What the user says about a training run: the keys of a recipe, each with its meaning and unit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from eqff.data.reading.index import split_index
from eqff.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Labelled frames and their division into training and validation frames."""

    train: str  # file of labelled frames, to train and to validate on
    energy_unit: str | None = None  # of the energies in the file, where it does not state one, e.g. "kcal/mol"
    length_unit: str | None = None  # of the positions in the file, where it does not state one, e.g. "bohr"
    energy_key: str | None = None  # name of the energy in extended XYZ
    forces_key: str | None = None  # name of the forces in extended XYZ
    stress_key: str | None = None  # name of the stress in extended XYZ
    force_unit: str | None = None  # of the forces in extended XYZ, where it is not energy over length
    stress_unit: str | None = None  # of the stress in extended XYZ, e.g. "GPa"
    stress_order: Literal["voigt", "vasp"] | None = None  # of six numbers under another name than stress
    types: str | None = None  # elements of the types of a LAMMPS dump, e.g. "Si,O"
    baseline: str | None = None  # calculator to subtract: tblite:GFN2-xTB, emt, a potential, or my_module:make
    foreign: str | None = None  # frames of other materials: errors before and after show what fine-tuning forgets
    replay: int = 0  # number of foreign frames that train beside the others, on forces and stress
    n_train: int | None = None  # number of training frames; by default all that do not validate, in whole batches
    n_validation: int | None = None  # number of validation frames; by default 5 %, at least 1 and at most about 1000
    split_seed: int = 0  # of the random split
    split: str | None = None  # file of a saved split, instead of a random one
    level_of_theory: str = ""  # for the potential's header, e.g. "PBE/def2-SVP"; by default as the file states
    licence: str = ""  # of the data, for the potential's header; by default as the file states


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    r"""L = w_F l(F - F_ref) + w_E l(E - E_ref) + w_S l((s - s_ref) V / n_atoms), means over labels.

    Energies are per atom or per frame, eV; forces eV/Å; stress is multiplied by the volume per atom, eV. A label that a
    frame does not have counts for nothing.
    """

    forces: float = 1.0  # weight w_F of the forces
    energy_per_atom: float = 1.0  # weight w_E of the energies
    final_energy_per_atom: float | None = None  # w_E at the end of the run, approached geometrically; default: constant
    energy: Literal["per_atom", "total"] = "per_atom"  # whether w_E is for the energy per atom or of the whole frame
    stress: float | None = None  # weight w_S of the stress; by default 3 where training frames have one; 0: not used
    kind: Literal["mse", "mae", "l2", "huber"] = "mse"  # function l; l2: mean length of force errors, otherwise as mae
    huber_delta: float = 0.01  # eV/Å (and eV/atom) up to which the Huber function is quadratic, and linear beyond


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Optimiser, schedule and bookkeeping."""

    epochs: int = 100  # passes over the training frames
    steps: int = 0  # of the optimiser: if > 0, the nearest whole number of epochs replaces `epochs`
    batch_size: int = 5  # frames in a batch, of all processes together
    max_edges: int = 0  # largest number of edges in a batch; if > 0, it replaces batch_size
    optimizer: Literal["adam", "soap"] = "adam"  # adam: with amsgrad; soap: reaches an accuracy several times faster
    learning_rate: float = 0.01  # largest, after the warm-up
    final_learning_rate: float = 1e-5  # at the end of the cosine schedule
    warmup_steps: int = 100  # in which the learning rate rises linearly
    ema_decay: float = 0.999  # of the averaged weights, which are validated and exported
    gradient_clip: float = 0.0  # largest norm of the gradient; 0: no limit
    seed: int = 0  # of initial weights and of the order of frames
    validate_every: int = 1  # epochs between validations; 0: about a hundred validations in a run
    checkpoint_every: int = 10  # epochs between checkpoints; 0: about a hundred checkpoints in a run
    checkpoint_minutes: float = 10.0  # longest time between checkpoints, also within an epoch
    max_skipped_steps: int = 5  # successive steps with a loss that is not finite; one more stops the run
    export_best: bool = True  # write best.eqff.pt to the run folder, and renew it during the run
    report: bool = True  # write report.html at the end
    loggers: tuple[Literal["tensorboard", "wandb"], ...] = ()  # besides metrics.csv; their packages must be installed
    devices: int = 1  # processes on each machine, each with a GPU or its share of the cores
    nodes: int = 1  # machines, started by torchrun or SLURM
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"  # auto: a GPU where there is one
    dtype: Literal["float32", "float64"] = "float32"  # of the weights; positions and edge vectors are always float64
    threads: int = 0  # of torch; 0: as torch decides
    kernels: Literal["auto", "reference"] = "auto"  # auto: compiled for this CPU, where a C++ compiler is found
    freeze: tuple[str, ...] = ()  # names of weights to leave unchanged, e.g. "embedding", "layers.0.*"
    compile: bool | Literal["auto"] = False  # compile the whole step; frames must be of equal size; auto: if it pays
    loss: LossConfig = field(default_factory=LossConfig)  # weights and form of the loss


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What the user says about a training run; `plan.Plan` is what was decided from it and the data."""

    data: DataConfig  # labelled frames
    model: dict[str, Any]  # family, and fields of the family's Config
    preset: str | None = None  # fast or accurate: values of a family for every key that is not given
    init_from: str | None = None  # potential, run folder or checkpoint whose weights the run begins with
    training: TrainingConfig = field(default_factory=TrainingConfig)  # optimiser, schedule and bookkeeping


def check(config: RunConfig) -> None:
    """Check values and their combinations.  Raises: ConfigError naming the key"""
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
            raise ConfigError("EQ1060", f"{name}={value}: expected > 0; correct the value")
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
        "data.replay": config.data.replay,
    }
    for name, value in not_negative.items():
        if value is not None and not value >= 0:
            raise ConfigError("EQ1075", f"{name}={value}: expected >= 0; correct the value")
    if training.compile is True:
        check_compile(training, config.data.n_train)
    if not 0.0 <= training.ema_decay < 1.0:
        raise ConfigError(
            "EQ1061",
            f"training.ema_decay={training.ema_decay}: expected 0 <= decay < 1; 0.999 is usual",
        )
    if training.loss.forces < 0 or training.loss.energy_per_atom < 0:
        raise ConfigError("EQ1062", "training.loss: weights must not be negative; 0 leaves a part out")
    if training.loss.final_energy_per_atom is not None and not (
        training.loss.energy_per_atom > 0 and training.loss.final_energy_per_atom > 0
    ):
        raise ConfigError(
            "EQ1072",
            "training.loss.final_energy_per_atom: both energy weights must be > 0; "
            "leave final_energy_per_atom out to keep the weights as they are",
        )
    if "family" not in config.model:
        raise ConfigError("EQ1063", 'model.family is missing; write e.g. family = "nequip"')
    foreign = None if config.data.foreign is None else split_index(config.data.foreign)[0]
    files = {
        "train": split_index(config.data.train)[0],
        "split": config.data.split,
        "foreign": foreign,
    }  # or FILE@INDEX
    for name, path in files.items():
        if path is not None and not Path(path).exists():
            raise ConfigError(
                "EQ1064",
                f"data.{name}={str(path)!r}: no such file; check the name (relative paths start at the config file)",
            )


def check_compile(training: TrainingConfig, n_train: int | None) -> None:
    """Check that all batches of a compiled step are equal.

    Args:   n_train: number of training frames, None if it is not decided yet
    Raises: ConfigError EQ1074, EQ1076 or EQ1431 saying why they are not
    """
    n_processes = training.devices * training.nodes
    if training.max_edges:
        raise ConfigError(
            "EQ1076", "training.max_edges: training.compile=true needs batches of equal size; set one of the two"
        )
    if n_train is not None and n_train % training.batch_size:
        raise ConfigError(
            "EQ1074",
            f"training.compile=true needs full batches: n_train={n_train} is not a multiple of "
            f"batch_size={training.batch_size}; change either number",
        )
    if training.batch_size % n_processes:
        raise ConfigError(
            "EQ1431",
            f"training.compile=true needs equal shares of a batch: batch_size={training.batch_size} is not a multiple "
            f"of {n_processes} processes; change either number",
        )
