"""Python runs this file when it starts in an environment of `emulated_runtime.environment`, so also
in Ray's workers. It lets our code be compiled for the emulator, and the CPU do the work of torch's
kernels.
"""

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType


def _of_torch(module: ModuleType) -> None:
    import emulated_torch

    emulated_torch.replace_kernels()


def _of_our_code(module: ModuleType) -> None:
    import emulated_torch

    module.cubin = emulated_torch.image  # type: ignore[attr-defined]


def _of_mnist(module: ModuleType) -> None:
    """Lets an epoch be short: EMULATED_SAMPLES is how many digits of MNIST there are."""
    load, count = module.load_digits, int(os.environ["EMULATED_SAMPLES"])

    def few(*arguments: object, **named: object) -> object:
        return module.Digits(*(part[:count] for part in load(*arguments, **named)))

    module.load_digits = few  # type: ignore[attr-defined]


class _Changes(importlib.abc.MetaPathFinder):
    """Changes modules once they are imported."""

    def __init__(self) -> None:
        self._left: dict[str, Callable[[ModuleType], None]] = {
            "torch": _of_torch,
            "pcworker.kernels.cuda.torch_gpu": _of_our_code,
        }
        if "EMULATED_SAMPLES" in os.environ:
            self._left["pcworker.data.mnist"] = _of_mnist

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        change = self._left.pop(name, None)
        spec = importlib.util.find_spec(name) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            change(module)

        spec.loader.exec_module = run_and_change  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Changes())
