"""The normals of a stream, drawn by `phases.c`: the numbers of `pcworker.data.streams`, sooner."""

import numpy as np

from pcworker.data.streams import COS, LN, SIN, Stream
from pcworker.kernels.fixed.library import built

_COEFFICIENTS = np.array([LN, COS, SIN])


class CompiledStream(Stream):
    """A stream whose normals a compiled loop draws, in a twentieth of the time."""

    def normals(self, count: int) -> np.ndarray:
        first, stop = self._drawn // 2, (self._drawn + count + 1) // 2
        start = self._drawn - 2 * first
        both = np.empty(2 * (stop - first))
        addresses = (_COEFFICIENTS.ctypes.data, both.ctypes.data)
        # the normals are float64 in both builds
        built("float32").code.normals(self.key, first, stop - first, *addresses)
        self._drawn += count
        return both[start : start + count]
