"""The LightningModule: one loss, one optimiser, one schedule, averaged weights."""

import logging
import math
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from eqff.data.loader import to_structure
from eqff.errors import RunError
from eqff.training.config import LossConfig, TrainingConfig
from eqff.training.fit.ema import WeightAverage
from eqff.training.fit.lone_atoms import LoneAtoms
from eqff.training.fit.losses import Labels, counts, errors, labels_of, loss_sums, loss_weights, present
from eqff.training.fit.optimizers import make_optimizer
from eqff.training.fit.step import CompiledStep, EagerStep
from eqff.units import GPA

logger = logging.getLogger("eqff.training")


def learning_rate_factor(step: int, n_steps: int, config: TrainingConfig) -> float:
    """Learning rate at a step, divided by config.learning_rate: linear warm-up, then a cosine to the final rate."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = min((step - config.warmup_steps) / max(n_steps - config.warmup_steps, 1), 1.0)
    final = config.final_learning_rate / config.learning_rate
    return final + 0.5 * (1.0 - final) * (1.0 + math.cos(math.pi * progress))


class TrainingModule(lightning.LightningModule):
    """Trains a model on the labels that frames have and the loss has a weight for.

    A step whose loss or gradient is not finite is skipped; several in a row stop the run.

    Args: model; config: what the user said; compiled: compile the step as a whole; n_steps: optimiser steps of the
          whole run, for the schedule; loss: as decided, None: as the user said; alone: elements with a stated energy
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        compiled: bool,
        n_steps: int,
        loss: LossConfig | None = None,
        alone: LoneAtoms | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.n_steps = n_steps
        self.average = WeightAverage(model, config.ema_decay)
        self.loss, self.alone = loss or config.loss, alone or LoneAtoms((), {})
        self.step = (CompiledStep if compiled else EagerStep)(model, self.loss, self.alone)
        self.sums = torch.zeros(4, 3, dtype=torch.float64)
        self.train_loss = torch.zeros(2, dtype=torch.float64)
        self.epochs_done = self.steps_of_epoch = 0  # where a resumed run continues
        self.skipped = 0  # successive steps
        self.last_loss, self.last_frames = 0.0, ""

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        """Loss of one batch."""
        weights = loss_weights(self.loss, self.global_step / self.n_steps).to(batch.energy.device)
        value = self.step(to_structure(batch), self._labels(batch), weights)
        self.last_loss = float(value.detach())
        self.last_frames = ", ".join(str(int(index)) for index in batch.frame_index[:8])
        if math.isfinite(self.last_loss):
            self.train_loss += torch.tensor([self.last_loss, 1.0], dtype=torch.float64)
        return value

    def _labels(self, batch: Any) -> Labels:
        """Labels of a batch; of several processes, means are taken over the labels of all, divided by their number."""
        labels = labels_of(batch, stress=bool(self.loss.stress))
        if self.trainer.world_size == 1:
            return labels
        total = self.trainer.strategy.reduce(counts(batch), reduce_op="sum")
        return labels._replace(n_labels=total.clamp(min=1.0) / self.trainer.world_size)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Remove gradients that are not finite, so that the optimiser leaves the weights unchanged.

        All processes do the same: a gradient that is not finite in one of them makes the mean not finite.
        """
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        size = torch.stack(torch._foreach_norm(gradients)).sum() if gradients else torch.zeros(())
        if math.isfinite(float(size)):
            self.skipped = 0
            return
        optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        where = f"epoch {self.current_epoch + 1}, frames {self.last_frames}"
        if self.skipped > self.config.max_skipped_steps:
            raise RunError(
                "EQ5201",
                f"loss={self.last_loss}, or its gradient, is not finite in {self.skipped} steps in a row, now at "
                f"{where}; lower training.learning_rate, or look at these frames; the last checkpoint is kept",
            )
        logger.warning("step skipped: loss %g or its gradient is not finite (%s)", self.last_loss, where)

    def optimizer_step(self, *arguments: Any, **more: Any) -> None:
        """Update the weights, then their average, before anything can save a checkpoint."""
        super().optimizer_step(*arguments, **more)
        self.average.update()
        self.steps_of_epoch += 1

    def on_train_epoch_end(self) -> None:
        """Count the epoch; the next one begins at its first batch."""
        self.epochs_done += 1
        self.steps_of_epoch = 0

    def on_train_start(self) -> None:
        """Move the averaged weights to the device of the model."""
        self.average.average = [a.to(p.device) for a, p in zip(self.average.average, self.average.parameters)]  # noqa: B905

    def on_validation_epoch_start(self) -> None:
        """Validate the averaged weights."""
        self.sums.zero_()
        self.applied = self.average.applied()
        self.applied.__enter__()

    def validation_step(self, batch: Any, batch_index: int) -> None:
        """Add the errors of one batch: sums of penalties, of errors, and numbers of both, over frames with a label."""
        labels, structure, has = labels_of(batch, bool(self.loss.stress)), to_structure(batch), present(batch)
        with torch.enable_grad():  # forces are a gradient, also in validation
            found = errors(self.alone.held(self.model), structure, labels, create_graph=False)
            penalties = loss_sums(found, structure, labels, self.loss)
        forces, energy = found.forces.abs()[has[:, 1][structure.batch]], found.energy.abs()[has[:, 0]]
        sums, numbers = [forces.sum(), energy.sum()], [forces.numel(), energy.numel()]
        stress = energy[:0]
        if found.virial is not None:
            volume = torch.linalg.det(structure.cell).abs().unsqueeze(1)
            stress = found.virial[has[:, 2]].abs() / volume[has[:, 2]]
        self.sums += torch.stack(
            [
                penalties.detach().cpu(),
                counts(batch).cpu(),
                torch.stack([*sums, stress.sum()]).detach().to("cpu", torch.float64),
                torch.tensor([*numbers, stress.numel()], dtype=torch.float64),
            ]
        )

    def on_validation_epoch_end(self) -> None:
        """Report mean absolute errors and restore the trained weights; the loss is that with the initial w_E."""
        self.applied.__exit__(None, None, None)
        sums = (
            self.sums
            if self.trainer.world_size == 1
            else self.trainer.strategy.reduce(self.sums.to(self.device), reduce_op="sum")
        ).cpu()
        penalties, n_labels, absolute, n_numbers = sums
        forces, energy, stress = (absolute / n_numbers).tolist()  # NaN without a label
        bar = {"forces_mae_meV_A": 1000.0 * forces, "energy_mae_meV": 1000.0 * energy, "stress_mae_GPa": stress / GPA}
        bar = {name: value for name, value in bar.items() if not math.isnan(value)}
        weights = loss_weights(self.loss, 0.0)
        self.log_dict(bar, prog_bar=True, batch_size=1)
        self.log("validation_loss", torch.dot(weights, penalties / n_labels.clamp(min=1.0)), batch_size=1)
        if not self.trainer.sanity_checking:
            done = self.train_loss
            if self.trainer.world_size > 1:
                done = self.trainer.strategy.reduce(done.to(self.device, copy=True), reduce_op="sum")
            self.log("train_loss", float(done[0] / done[1].clamp(min=1.0)), batch_size=1)
            self.train_loss.zero_()

    def configure_optimizers(self) -> Any:
        """Adam with amsgrad, or SOAP; the learning rate changes with every step."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = make_optimizer(parameters, self.config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.n_steps, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of the run besides weights and optimiser."""
        checkpoint["average"] = self.average.state_dict()
        checkpoint["progress"] = [self.epochs_done, self.steps_of_epoch, self.skipped]
        checkpoint["train_loss"] = self.train_loss.clone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue where the run stopped; `ResumedModule` sets the position of the loader."""
        self.average.load_state_dict(checkpoint["average"])
        self.epochs_done, self.steps_of_epoch, self.skipped = checkpoint["progress"]
        if self._trainer is None or self.trainer.global_rank == 0:  # the checkpoint has the sum of process 0
            self.train_loss.copy_(checkpoint["train_loss"])
