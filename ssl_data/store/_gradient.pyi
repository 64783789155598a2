import numpy as np
from numpy.typing import NDArray

def restore(graphs: NDArray[np.uint8], side: int) -> None: ...
