"""The PyTorch runtime, the extra ``clipworks[torch]``.

`towers` are the equations, `lanes` what one call needs for itself on a device, `encoder` the runtime.
"""

from clipworks.runtimes.protocol import Implementation
from clipworks.runtimes.torch.devices import describe_devices
from clipworks.runtimes.torch.encoder import open_encoder

__all__ = ["IMPLEMENTATION"]

IMPLEMENTATION = Implementation(
    open_encoder=open_encoder,
    describe_devices=describe_devices,
    open_probe=lambda request, _values: open_encoder(request).watch,  # of the towers, whatever a graph calls them
)
