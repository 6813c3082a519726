"""The native runtime: CLIP's towers in C, in f32, bf16 and int8.

`layout` says how weights lie in the file that the compiled code takes, `opening` makes and finds such files, `encoder`
is the runtime. The compiled code itself is in ``compiled``: its page for maintainers is docs/developers/kernels.md.
"""

from clipworks.runtimes.native.encoder import open_encoder
from clipworks.runtimes.native.opening import describe_devices, find_set
from clipworks.runtimes.protocol import Implementation

__all__ = ["IMPLEMENTATION"]

IMPLEMENTATION = Implementation(
    open_encoder=open_encoder,
    describe_devices=describe_devices,
    find_instruction_set=lambda: found.name if (found := find_set()) else None,
    open_probe=lambda request, _values: open_encoder(request).watch,  # of the towers, whatever a graph calls them
)
