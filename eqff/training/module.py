"""The LightningModule: one loss, one optimiser, one schedule, averaged weights."""

import math
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from eqff.data.loader import to_structure
from eqff.errors import RunError
from eqff.training.config import TrainingConfig
from eqff.training.ema import WeightAverage
from eqff.training.losses import errors, loss, loss_weights
from eqff.training.step import CompiledStep, EagerStep


def learning_rate_factor(step: int, n_steps: int, config: TrainingConfig) -> float:
    """Learning rate at a step, divided by config.learning_rate: linear warm-up, then a cosine to the final rate."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = min((step - config.warmup_steps) / max(n_steps - config.warmup_steps, 1), 1.0)
    final = config.final_learning_rate / config.learning_rate
    return final + 0.5 * (1.0 - final) * (1.0 + math.cos(math.pi * progress))


class TrainingModule(lightning.LightningModule):
    """Trains a model on energies and forces.

    Args: model; config; n_steps: optimiser steps of the whole run, for the schedule
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, n_steps: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.n_steps = n_steps
        self.average = WeightAverage(model, config.ema_decay)
        self.step = CompiledStep(model, config.loss) if config.compile else EagerStep(model, config.loss)
        self.sums = torch.zeros(5, dtype=torch.float64)
        self.train_loss = torch.zeros(2, dtype=torch.float64)

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Loss of one batch."""
        weights = loss_weights(self.config.loss, self.global_step / self.n_steps).to(batch.energy.device)
        value = self.step(to_structure(batch), batch.energy, batch.forces, weights)
        if not bool(torch.isfinite(value)):
            frames = ", ".join(str(int(index)) for index in batch.frame_index[:5])
            raise RunError(
                "EQ5201",
                f"loss={float(value.detach())} at epoch {self.current_epoch + 1} (frames {frames}); lower "
                "training.learning_rate, or look at these frames; the last checkpoint is kept",
            )
        self.train_loss += torch.stack([value.detach().to("cpu", torch.float64), torch.ones((), dtype=torch.float64)])
        return value

    def on_train_start(self) -> None:
        """Averaged weights follow the model to its device."""
        self.average.average = [a.to(p.device) for a, p in zip(self.average.average, self.average.parameters)]  # noqa: B905

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Update the average."""
        self.average.update()

    def on_validation_epoch_start(self) -> None:
        """Validate the averaged weights."""
        self.sums.zero_()
        self.applied = self.average.applied()
        self.applied.__enter__()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Sum the errors of one batch."""
        with torch.enable_grad():  # forces are a gradient, also in validation
            difference = errors(self.model, to_structure(batch), batch.energy, batch.forces, create_graph=False)
            value = loss(difference, loss_weights(self.config.loss, 0.0).to(batch.energy.device), self.config.loss)
        n_graphs = float(difference.energy.shape[0])
        self.sums += torch.stack(
            [
                difference.forces.abs().sum().cpu(),
                torch.tensor(float(difference.forces.numel()), dtype=torch.float64),
                difference.energy.abs().sum().cpu(),
                torch.tensor(n_graphs, dtype=torch.float64),
                value.detach().cpu() * n_graphs,
            ]
        )

    def on_validation_epoch_end(self) -> None:
        """Report mean absolute errors and put the trained weights back; the loss keeps the first w_E."""
        self.applied.__exit__(None, None, None)
        force_sum, n_components, energy_sum, n_frames, loss_sum = self.sums.tolist()
        bar = {"forces_mae_meV_A": 1000.0 * force_sum / n_components, "energy_mae_meV": 1000.0 * energy_sum / n_frames}
        self.log_dict(bar, prog_bar=True, batch_size=1)
        self.log("validation_loss", loss_sum / n_frames, batch_size=1)
        if not self.trainer.sanity_checking:
            self.log("train_loss", float(self.train_loss[0] / self.train_loss[1].clamp(min=1.0)), batch_size=1)
            self.train_loss.zero_()

    def configure_optimizers(self) -> Any:
        """Adam with amsgrad, learning rate by step."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=self.config.learning_rate, amsgrad=True, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.n_steps, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The average is part of the run."""
        checkpoint["average"] = self.average.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the average."""
        self.average.load_state_dict(checkpoint["average"])
