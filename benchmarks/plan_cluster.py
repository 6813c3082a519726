"""Plan a run on a cluster: how many nodes, how long, how much storage, and what holds it up, with the arithmetic shown.

    python benchmarks/plan_cluster.py [--images N] [--image-kb KB] [--decode-ms MS] [--encode-per-s N]
        [--encoders-per-node N] [--cores-per-node N] [--network-gbit G] [--hours H | --nodes N] [--dim N]
        [--batch-size N] [--tar-images N] [--driver-ms MS] [--cpu-encoders] [--json]

Everything is a ratio of figures that you can measure: ``decode-ms`` and ``encode-per-s`` on your images and your
nodes (benchmarks/distributed.py prints both), ``driver-ms`` with many small images. The defaults are those that
docs/distributed.md says where they come from.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass

# Row bytes besides the embedding: place, path, truth, error, as Parquet keeps them.
ROW_BYTES = 60
SPARE = 0.85


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is planned with.

    Attributes:
        images: in all.
        image_kb: of an image's file, in 1,000 bytes.
        decode_ms: one core's time to read and decode an image.
        encode_per_s: images that one encoder embeds in a second: a GPU, or a node whose cores do nothing else.
        encoders_per_node: GPUs of a node, or 1.
        cores_per_node: CPUs of a node.
        network_gbit: a node's network, gigabits a second.
        dim: numbers in an embedding.
        batch_size: images encoded at once.
        tar_images: images in a tar.
        driver_ms: the driver's time for one batch.
        cpu_encoders: whether encoders and decoders share the cores.
    """

    images: int
    image_kb: float
    decode_ms: float
    encode_per_s: float
    encoders_per_node: int
    cores_per_node: int
    network_gbit: float
    dim: int
    batch_size: int
    tar_images: int
    driver_ms: float
    cpu_encoders: bool


@dataclass(frozen=True, kw_only=True)
class NodeRates:
    """Images that a node can take through each stage in a second, and through all of them.

    Attributes:
        read: by its network.
        decode: by its cores.
        encode: by its encoders.
        node: through all.
        bottleneck: the stage that sets it.
    """

    read: float
    decode: float
    encode: float
    node: float
    bottleneck: str


def rate_node(setting: Setting) -> NodeRates:
    """Find what a node can do; 15% are kept for what is uneven, fails or starts again."""
    read = setting.network_gbit * 1e9 / 8 / (setting.image_kb * 1000)
    decode = setting.cores_per_node * 1000 / setting.decode_ms
    encode = setting.encoders_per_node * setting.encode_per_s
    stages = {"read": read, "decode": decode, "encode": encode}
    if setting.cpu_encoders:  # the same cores do both, one after the other
        stages = {"read": read, "decode and encode": 1 / (1 / decode + 1 / encode)}
    bottleneck = min(stages, key=lambda name: stages[name])
    return NodeRates(read=read, decode=decode, encode=encode, node=SPARE * stages[bottleneck], bottleneck=bottleneck)


def count_nodes(setting: Setting, hours: float) -> int:
    """Nodes that take the images through in so many hours."""
    return math.ceil(setting.images / (rate_node(setting).node * hours * 3600))


def explain(setting: Setting, nodes: int) -> list[str]:
    """The plan, line by line, each figure with what it is made of."""
    rates = rate_node(setting)
    speed = nodes * rates.node
    seconds = setting.images / speed
    row = 4 * setting.dim + ROW_BYTES
    driver = 1000 / setting.driver_ms * setting.batch_size
    cores = setting.encode_per_s * setting.decode_ms / 1000
    image = f"{setting.image_kb:g} kB"
    count = f"{setting.images:,}"
    lines = [
        f"read     {setting.network_gbit:g} Gbit/s / 8 / {setting.image_kb:g} kB = {rates.read:,.0f} images/s a node",
        f"decode   {setting.cores_per_node} cores / {setting.decode_ms:g} ms = {rates.decode:,.0f} images/s a node",
        f"encode   {setting.encoders_per_node} x {setting.encode_per_s:,.0f} = {rates.encode:,.0f} images/s a node",
        f"a node   {SPARE:.0%} of {rates.bottleneck}: {rates.node:,.0f} images/s",
        f"cluster  {nodes:,} nodes x {rates.node:,.0f} = {speed:,.0f} images/s",
        f"time     {setting.images:,} / {speed:,.0f} = {seconds / 3600:,.1f} hours; "
        f"{nodes * seconds / 3600:,.0f} node hours",
    ]
    if not setting.cpu_encoders:
        lines.append(
            f"balance  {setting.encode_per_s:,.0f} images/s x {setting.decode_ms:g} ms = {cores:,.0f} cores that "
            f"decode for each GPU; a node has {setting.cores_per_node / setting.encoders_per_node:,.1f}"
        )
    tars = math.ceil(setting.images / setting.tar_images)
    lines += [
        f"source   {count} x {image} = {setting.images * setting.image_kb / 1e9:,.1f} TB "
        f"in {tars:,} tars of {setting.tar_images * setting.image_kb / 1e6:,.2f} GB; read at "
        f"{speed * setting.image_kb / 1e6:,.2f} GB/s in all",
        f"results  {count} x (4 x {setting.dim} + {ROW_BYTES}) bytes = {setting.images * row / 1e12:,.2f} TB "
        f"in {tars:,} shards of {setting.tar_images * row / 1e6:,.1f} MB",
        f"driver   {1000 / setting.driver_ms:,.0f} batches/s x {setting.batch_size} = {driver:,.0f} images/s at most, "
        f"{speed * row / 1e6:,.1f} MB/s of rows through its network"
        + ("" if driver >= speed else ": TOO FEW for this cluster; a larger batch, or several runs over parts"),
    ]
    return lines


def main() -> int:
    """Plan and print; 1 when the driver could not keep up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000_000)
    parser.add_argument("--image-kb", type=float, default=110)
    parser.add_argument("--decode-ms", type=float, default=6)
    parser.add_argument("--encode-per-s", type=float, default=10_000)
    parser.add_argument("--encoders-per-node", type=int, default=8)
    parser.add_argument("--cores-per-node", type=int, default=96)
    parser.add_argument("--network-gbit", type=float, default=100)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--tar-images", type=int, default=10_000)
    parser.add_argument("--driver-ms", type=float, default=5)
    parser.add_argument("--cpu-encoders", action="store_true", help="encoders compute on the cores that decode")
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--nodes", type=int, help="so many nodes, whatever time they take")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    setting = Setting(**{name: getattr(args, name) for name in Setting.__dataclass_fields__})
    nodes = args.nodes or count_nodes(setting, args.hours)
    rates = rate_node(setting)
    if args.json:
        print(json.dumps({"setting": asdict(setting), "rates": asdict(rates), "nodes": nodes}))
    else:
        print("\n".join(explain(setting, nodes)))
    return 0 if 1000 / setting.driver_ms * setting.batch_size >= nodes * rates.node else 1


if __name__ == "__main__":
    sys.exit(main())
