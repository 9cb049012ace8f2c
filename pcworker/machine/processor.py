"""Which processor this is: what libraries choose their code by."""

from pcworker.fingerprint import fingerprint

_FIELDS = (
    *("vendor_id", "cpu family", "model", "stepping", "flags"),  # of x86
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),  # of ARM
)


def processor_fingerprint() -> str | None:
    """Of all that libraries choose their code by; a model's name may stand for many processors."""
    try:
        with open("/proc/cpuinfo") as file:
            first = file.read().split("\n\n", 1)[0]
    except OSError:
        return None
    fields = (line.partition(":") for line in first.splitlines())
    values = {name.strip(): value.strip() for name, _, value in fields}
    return fingerprint({name: values.get(name) for name in _FIELDS})[:16]
