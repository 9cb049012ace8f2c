"""Identifies the processor of this machine, and knows how wide vector units are."""

from pcworker.fingerprint import fingerprint

VECTOR = 16
"""The number of float32 values that the widest vector unit, AVX-512, takes at once."""

SAME_EVERYWHERE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""Environment variables with which torch's own sums have the same bits on all x86 processors with
AVX2. A process must start with them. They cost speed where there is AVX-512. MKL_CBWR alone leaves
processors with and without AVX-512 apart, and the other two alone leave vendors apart."""

_FIELDS = (
    *("vendor_id", "cpu family", "model", "stepping", "flags"),  # x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # ARM
)


def processor_fingerprint() -> str | None:
    """Hash of the fields by which libraries choose code paths: 16 hex digits.

    The fields are, on x86, the vendor, family, model, stepping and flags. The model's name is not
    enough, because several processors share one. None if /proc/cpuinfo cannot be read.
    """
    try:
        with open("/proc/cpuinfo") as file:
            first = file.read().split("\n\n", 1)[0]
    except OSError:
        return None
    fields = (line.partition(":") for line in first.splitlines())
    values = {name.strip(): value.strip() for name, _, value in fields}
    return fingerprint({name: values.get(name) for name in _FIELDS})[:16]
