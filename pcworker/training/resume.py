"""Between a training and its checkpoint: what is taken out, and how it is put back."""

import torch

from pcworker.training.checkpoint import Checkpoint, TrialProgress
from pcworker.training.measures import to_numpy
from pcworker.training.shard import Training


def take(training: Training, epoch: int, seconds: float) -> Checkpoint:
    """A copy of all that the training depends on after `epoch` is measured; `seconds` is the time
    that it took."""
    return Checkpoint(
        epoch=epoch,
        updates=training.updates,
        seconds=seconds,
        packing=training.packing,
        trials={
            trial.trial_id: TrialProgress(
                result.nonfinite_epoch, result.updates, tuple(result.epochs)
            )
            for trial, result in training.results.items()
        },
        parameters={
            trial_id: to_numpy(parameters) for trial_id, parameters in training.networks().items()
        },
        twins={twin: tuple(digests) for twin, digests in training.twin_digests.items()},
    )


@torch.no_grad()
def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Makes a new training, of the same trials, the one that the checkpoint was taken of.

    Stacks are made whole and then lose their non-finite trials, and parameters are copied to where
    they are: memory is laid out as it was, and products may depend on how operands are aligned.
    """
    training.updates = checkpoint.updates
    training.twin_digests = {twin: list(digests) for twin, digests in checkpoint.twins.items()}
    for trial, result in training.results.items():
        progress = checkpoint.trials[trial.trial_id]
        result.nonfinite_epoch, result.updates = progress.nonfinite_epoch, progress.updates
        result.epochs = list(progress.epochs)
    for stack in training.stacks:
        stack.keep([training.results[trial].nonfinite_epoch is None for trial in stack.trials])
    training.stacks = [stack for stack in training.stacks if stack.trials]
    for trial_id, parameters in training.networks().items():
        for layer, saved in zip(parameters, checkpoint.parameters[trial_id], strict=True):
            for parameter, values in zip(layer, saved, strict=True):
                parameter.copy_(torch.from_numpy(values))
