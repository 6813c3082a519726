"""The native runtime: our own towers in C, for CPUs with AVX-512, in f32, bf16 and int8.

`layout` says how weights lie in the file that the compiled code takes, `opening` makes and finds such files, `encoder`
is the runtime. The compiled code itself is ``_towers.c``.
"""

from clipworks.runtimes.native.encoder import open_encoder, open_probe
from clipworks.runtimes.native.opening import describe_devices, suits

__all__ = ["describe_devices", "open_encoder", "open_probe", "suits"]
