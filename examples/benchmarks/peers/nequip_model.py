"""A NequIP model with random weights, by nequip's own tools; runs in nequip's environment.

python nequip_model.py FOLDER FRAMES.extxyz MODEL.json [--threads 1 2]

nequip-train makes the model and its checkpoint (one step with learning rate 0), nequip-compile the AOTInductor package;
Inductor fixes the number of threads when it compiles, so there is one package for each. FOLDER gets

    model.ckpt             the checkpoint
    weights.npz            configuration and weights as eqff's importer reads them
    threads1.nequip.pt2    compiled for one thread
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

TOOLS = Path(sys.executable).parent
LOSS = {"_target_": "nequip.train.EnergyForceLoss", "per_atom_energy": True}
METRICS = {"_target_": "nequip.train.EnergyForceMetrics", "coeffs": {"total_energy_mae": 1.0, "forces_mae": 1.0}}


def training_config(frames: str, model: dict) -> dict:
    """What nequip-train needs to make this model and touch nothing."""
    transforms = [
        {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": model["type_names"]},
        {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": model["r_max"]},
    ]
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": 1}
    return {
        "run": ["train"],
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": 0,
            "train_file_path": frames,
            "val_file_path": frames,
            "transforms": transforms,
            "train_dataloader": loader,
            "val_dataloader": loader,
        },
        "trainer": {
            "_target_": "lightning.Trainer",
            "accelerator": "cpu",
            "max_steps": 1,
            "limit_val_batches": 1,
            "logger": False,
            "enable_progress_bar": False,
            "callbacks": [
                {
                    "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "dirpath": ".",
                    "filename": "model",
                    "every_n_train_steps": 1,
                    "save_top_k": 1,
                }
            ],
        },
        "training_module": {
            "_target_": "nequip.train.NequIPLightningModule",
            "loss": LOSS,
            "val_metrics": METRICS,
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.0},
            "model": {"_target_": "nequip.model.NequIPGNNModel", **model},
        },
    }


def make_checkpoint(folder: Path, frames: Path, model: dict) -> None:
    """model.ckpt and weights.npz."""
    config = training_config(str(frames.resolve()), model)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "model.ckpt").unlink(missing_ok=True)
    command = [TOOLS / "nequip-train", "-cd", ".", "-cn", "config.yaml", "hydra.run.dir=hydra"]
    subprocess.run([str(part) for part in command], cwd=folder, check=True, stdout=sys.stderr)
    shutil.rmtree(folder / "hydra", ignore_errors=True)

    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.utils.global_state import set_global_state

    set_global_state()
    state = load_saved_model(str(folder / "model.ckpt")).state_dict()
    arrays = {f"w/{name}": tensor.detach().numpy() for name, tensor in state.items()}
    np.savez(folder / "weights.npz", config=json.dumps(model), **arrays)


def compile_package(folder: Path, threads: int) -> None:
    """threads<N>.nequip.pt2"""
    package = folder / f"threads{threads}.nequip.pt2"
    command = [str(TOOLS / "nequip-compile"), "model.ckpt", package.name]
    command += ["--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "frames", type=Path, help="extended XYZ with labels; its first frames are nequip's example data"
    )
    parser.add_argument("model", help="JSON: arguments of nequip's NequIPGNNModel")
    parser.add_argument("--threads", type=int, nargs="*", default=[1], help="compile for these numbers of threads")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.folder / "weights.npz").is_file():
        make_checkpoint(arguments.folder, arguments.frames, json.loads(arguments.model))
    for threads in arguments.threads:
        if not (arguments.folder / f"threads{threads}.nequip.pt2").is_file():
            compile_package(arguments.folder, threads)
