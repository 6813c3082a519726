import numpy as np
import numpy.typing as npt

def cut_square(
    pixels: bytes,
    out: npt.NDArray[np.uint8],
    size: tuple[int, int],
    resized: tuple[int, int],
    corner: tuple[int, int],
    side: int,
    cubic: bool,
    columns_first: bool,
    /,
) -> None: ...
