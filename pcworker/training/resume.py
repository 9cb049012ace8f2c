"""Takes a checkpoint of a training, and puts it back into a new one."""

import torch

from pcworker.training.checkpoint import Checkpoint, TrialProgress
from pcworker.training.shard import Training
from pcworker.trials.measures import to_numpy


def take(training: Training, seconds: float) -> Checkpoint:
    """A copy of everything on which the training depends.

    seconds  the time that the training has taken
    """
    networks = training.kernel.networks
    return Checkpoint(
        epoch=training.epoch,
        done=training.done,
        of=training.updates_of_epoch,
        updates=training.updates,
        seconds=seconds,
        packing=training.kernel.packing,
        trials={
            trial.trial_id: TrialProgress(
                result.nonfinite_epoch, result.updates, tuple(result.epochs)
            )
            for trial, result in training.results.items()
        },
        parameters={
            trial.trial_id: to_numpy(network.parameters()) for trial, network in networks.items()
        },
        squares={
            trial.trial_id: network.squares.cpu().numpy().copy()
            for trial, network in networks.items()
        },
        twins={twin: tuple(digests) for twin, digests in training.twin_digests.items()},
        nonfinite_twins=dict(training.nonfinite_twins),
    )


@torch.no_grad()
def restore(training: Training, checkpoint: Checkpoint) -> None:
    """Brings a new training of the same trials to the state of the checkpoint.

    The kernel is built with all trials and then drops those that are not finite, and the parameters
    are copied into its memory. So memory is laid out as it was. That matters because the bits of
    torch's own products may depend on how their operands are aligned.
    """
    training.epoch, training.done = checkpoint.epoch, checkpoint.done
    training.updates = checkpoint.updates
    training.twin_digests = {twin: list(digests) for twin, digests in checkpoint.twins.items()}
    training.nonfinite_twins = dict(checkpoint.nonfinite_twins)
    for trial, result in training.results.items():
        progress = checkpoint.trials[trial.trial_id]
        result.nonfinite_epoch, result.updates = progress.nonfinite_epoch, progress.updates
        result.epochs = list(progress.epochs)
    training.drop_nonfinite()
    for trial, network in training.kernel.networks.items():
        saved = checkpoint.parameters[trial.trial_id]
        for layer, values in zip(network.parameters(), saved, strict=True):
            for parameter, value in zip(layer, values, strict=True):
                parameter.copy_(torch.from_numpy(value))
        network.squares.copy_(torch.from_numpy(checkpoint.squares[trial.trial_id]))
