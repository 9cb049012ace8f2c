"""The process in which other libraries are timed: it runs `peers.py` with their own Python."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jobs.benchmark.arithmetic import Times
from jobs.benchmark.contenders import Contender, Supply
from pcworker.data.randomness import initial_parameters
from pcworker.errors import InputError
from pcworker.trials.trial import Trial

SCRIPT = Path(__file__).with_name("peers.py")


class PeersProcess:
    """A running peers' process, which answers one request at a time."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path, python: Path) -> None:
        self._process, self._folder, self._python = process, folder, python
        hello = self._answer()
        self.failed: dict[str, str] = hello["failed"]
        """Why a peer cannot be run, by peer."""
        self.versions: dict[str, str] = hello["versions"]
        """The version of each peer, and of jax."""
        self._rules: dict[str, list[str]] = hello["peers"]

    def contenders(self, updates: int) -> list[Contender]:
        """A contender for each peer and rule that can be run.

        updates  the weight updates in a block
        """

        def contender(peer: str, rule: str) -> Contender:
            name = f"{peer} {rule}"

            def block() -> Times:
                return Times(0.0, self._ask(run=name, updates=updates)["seconds"])

            return Contender(
                f"{peer} {self.versions[peer]}", rule, 1, block, lambda: self._weights(name)
            )

        works = {peer: rules for peer, rules in self._rules.items() if peer not in self.failed}
        return [contender(peer, rule) for peer, rules in works.items() for rule in rules]

    def _weights(self, name: str) -> Sequence[np.ndarray]:
        path = self._ask(weights=name, to=str(self._folder / "weights.npz"))["weights"]
        with np.load(path, allow_pickle=False) as learnt:
            return [learnt[f"w{l}"] for l in range(len(learnt.files))]

    def _ask(self, **request: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.wait()
        said = (self._folder / "errors").read_text(errors="replace").strip().splitlines()
        raise InputError(
            f"{self._python}: the peers' process ended with {self._process.returncode}, saying "
            f"{said[-1] if said else 'nothing'}; make its environment anew with make peers, or "
            "leave it out with --no-peers"
        )


@contextmanager
def peers_process(
    python: Path, trial: Trial, supply: Supply, rate: float, gamma: float
) -> Iterator[PeersProcess]:
    """Starts the peers' process with the initial weights of `trial` and all batches of `supply`,
    and ends it when the context is left.

    rate   the learning rate alpha, for a sum over the batch
    gamma  the integration step of IL

    Raises InputError if the process cannot be started.
    """
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        parameters = initial_parameters(trial.configuration, trial.seed)
        task: dict[str, Any] = {f"w{l}": layer[0].numpy() for l, layer in enumerate(parameters)}
        batches = supply.all()
        task |= {"x": batches.inputs.numpy(), "y": batches.targets.numpy()}
        np.savez(folder / "task.npz", **task, alpha=rate, gamma=gamma)
        # With -P, Python does not take the modules beside the script for libraries.
        command = [str(python), "-P", str(SCRIPT), str(folder / "task.npz")]
        with (folder / "errors").open("w") as errors:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            except OSError as error:
                raise InputError(
                    f"--peers-python {python}: {error}; give the Python of an environment with "
                    "the peers, such as make peers makes, or --no-peers"
                ) from error
        try:
            yield PeersProcess(process, folder, python)
        finally:
            process.kill()  # it keeps nothing that could be lost
            process.communicate()
