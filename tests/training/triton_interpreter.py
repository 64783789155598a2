"""Run the Triton kernels of the loss in a process of their own.

Triton decides when it is imported whether its kernels run in its interpreter, on the CPU. In the process of the tests
they must not: there may be a GPU, and other tests import Triton through torch. As a program this file takes jobs from
its standard input and writes results to its standard output, both pickled; `Interpreter` talks to it.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from ssl_data import SSGBatch, SSGSpec


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    kl: float
    l1: float
    gradients: list[np.ndarray]
    """(B, 3, H, W) each: of the total, or of KL and L1 where asked for."""


class Interpreter:
    """The other process, from outside."""

    def __init__(self) -> None:
        environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "error", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.obstacle: str | None = self._read()
        """Why there is no Triton, if so."""
        if self.obstacle:
            self.close()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def evaluate(
        self,
        sr: torch.Tensor,
        ssg: SSGBatch,
        spec: SSGSpec,
        *,
        block: int | None = None,
        apart: bool = False,
        **options: Any,
    ) -> Evaluation:
        """Loss and gradient.

        Parameters
        ----------
        block : int
            Side of the blocks of the gradient, instead of the one that a GPU would use: few large blocks take the
            interpreter less time than many small ones.
        apart : bool
            Gradients of KL and of L1 instead of the total's.
        options
            Of `SelfSimilarityLoss`.
        """
        index = [getattr(ssg, name).numpy() for name in ("image", "row", "col")]
        job = {"sr": sr.detach(), "graphs": ssg.graphs.numpy(), "index": index, "spec": asdict(spec)}
        send({**job, "block": block, "apart": apart, "options": options}, self._process.stdin)
        result = self._read()
        assert isinstance(result, dict), result
        return Evaluation(**result)

    def _read(self) -> Any:
        try:
            return pickle.load(self._process.stdout)  # noqa: S301 - written by this very file
        except EOFError:
            return f"the interpreter ended with status {self._process.wait()}"


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Within the other process: one evaluation."""
    import torch

    from ssl_data import SelfSimilarityLoss, SSGBatch, SSGSpec
    from ssl_data.kernels import triton_loss

    triton_loss._BLOCKS = (32, 64) if job["block"] is None else (job["block"],)
    image, row, col, graphs = (torch.from_numpy(array) for array in (*job["index"], job["graphs"]))
    kind = "values" if graphs.is_floating_point() else "codes"
    ssg = SSGBatch(image=image, row=row, col=col, **{kind: graphs})
    sr = job["sr"].requires_grad_()
    terms = SelfSimilarityLoss(SSGSpec(**job["spec"]), backend="triton", **job["options"])(sr, ssg)
    assert terms.kl.dtype == terms.l1.dtype == terms.total.dtype == torch.float32
    of = (terms.kl, terms.l1) if job["apart"] else (terms.total,)
    gradients = [torch.autograd.grad(term, sr, retain_graph=True)[0] for term in of]
    assert all(gradient.dtype == sr.dtype for gradient in gradients)
    return {"kl": terms.kl.item(), "l1": terms.l1.item(), "gradients": [each.float().numpy() for each in gradients]}


def main() -> None:
    """Within the other process: all jobs."""
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)  # whatever is printed must not get between the results
        try:
            import triton  # noqa: F401 - only to see whether it can be
        except ImportError as error:
            send(f"triton cannot be imported ({error}): pip install 'ssl_data[test]', on Linux", results)
            return
        send(None, results)
        while job := read_job():
            try:
                result: object = run_job(job)
            except Exception as error:  # noqa: BLE001 - raised again on the other side, as text
                result = f"{type(error).__name__}: {error}"
            send(result, results)


def send(result: object, results: IO[bytes]) -> None:
    pickle.dump(result, results)
    results.flush()


def read_job() -> dict[str, Any] | None:
    try:
        return pickle.load(sys.stdin.buffer)  # noqa: S301 - written by this very file
    except EOFError:
        return None


if __name__ == "__main__":
    main()
