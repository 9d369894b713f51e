"""GPUs by name: for plans that are made where there are none."""

import re

from async_r1.errors import ConfigError
from async_r1.machine import Gpu
from async_r1.schema import nearest

# Total memory as the driver reports it [MiB]; a little is gone before a process has any.
MEMORY_MIB = {
    "A100-40": 40_960,
    "A100-80": 81_920,
    "H100-80": 81_559,
    "H200-141": 143_771,
    "B200-180": 183_359,
    "L40S-48": 46_068,
    "RTX4090-24": 24_564,
}
_FORM = re.compile(r"(?:(\d{1,4})x)?(\S+)")


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs that `run.plan_for` names.

    Example: `parse_gpus("8xH100-80")` are eight; "H100" is enough where one size has the name.

    Raises:
        ConfigError: an unknown name, or none of them.
    """
    match = _FORM.fullmatch(text)
    name = match[2].upper().removesuffix("GB") if match else ""
    names = [kind for kind in MEMORY_MIB if kind == name or kind.split("-")[0] == name]
    count = int(match[1] or 1) if match else 0
    if not count or len(names) != 1:
        close = nearest(name, MEMORY_MIB)
        hint = f"; did you mean {count or 1}x{close}?" if close else ""
        raise ConfigError(
            f"run.plan_for must be a number and a GPU, such as 8xH100-80, of "
            f"{', '.join(MEMORY_MIB)}; got {text!r}{hint}"
        )
    (kind,) = names
    return (Gpu(name=kind, memory_mib=MEMORY_MIB[kind], driver=""),) * count
