from typing import TypeAlias

import numpy as np
import numpy.typing as npt

class Tower: ...

Ids: TypeAlias = npt.NDArray[np.int32]
Floats: TypeAlias = npt.NDArray[np.float32]

def list_instruction_sets() -> dict[str, list[str]]: ...
def open_tower(
    weights: npt.NDArray[np.uint8], facts: tuple[float, ...], threads: int, instruction_set: str, /
) -> Tower: ...
def close_tower(tower: Tower, /) -> None: ...
def name_set(tower: Tower, /) -> str: ...
def encode_images(tower: Tower, pixels: npt.NDArray[np.uint8], out: Floats, watched: Floats, /) -> None: ...
def encode_full_texts(tower: Tower, ids: Ids, out: Floats, watched: Floats, /) -> None: ...
def encode_texts(
    tower: Tower,
    ids: Ids,
    positions: Ids,
    groups: Ids,
    ends: Ids,
    back: Ids,
    texts: Ids,
    pooled: Ids,
    out: Floats,
    watched: Floats,
    /,
) -> None: ...
