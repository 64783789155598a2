"""Where jobs run. An executor only runs a function over jobs; what a job means is none of its business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, get_args

from ssl_data.errors import BuildError, ConfigError, SSLDataError
from ssl_data.pipeline.cores import usable_cores
from ssl_data.pipeline.metrics import RayMetrics
from ssl_data.pipeline.ray_session import ray_session, remove_abandoned_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Executor", "ExecutorName", "RayExecutor", "SerialExecutor", "make_executor"]

ExecutorName = Literal["serial", "ray"]

Job = TypeVar("Job")
Result = TypeVar("Result")

_IN_FLIGHT_PER_CORE = 2
"""Tasks submitted to a cluster that is used as a whole: some that wait, so that it can see that it is too small."""


class Executor(Protocol):
    """Runs jobs, in any order, on any machine."""

    num_threads: int
    """Threads that each job may use."""

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Yield the result of every job as it ends; the first error of a job ends the run and is raised."""
        ...

    # An executor may also have a method `observe`, which is told every event of a build; see `pipeline.monitor`.


class SerialExecutor:
    """One job after the other in this process; the kernel uses the threads.

    Parameters
    ----------
    num_threads : int, optional
        All usable cores where not given.
    """

    def __init__(self, num_threads: int | None = None) -> None:
        self.num_threads = num_threads or usable_cores()

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Executor.run`."""
        return map(function, jobs)


class RayExecutor:
    """Jobs as Ray tasks of one core each, on this machine or on a cluster.

    Parameters
    ----------
    workers : int, optional
        Tasks at a time. Where not given, all usable cores of this machine, or all cores of the cluster.
    address : str, optional
        Address of a running cluster; without it a private Ray is started, bound to the loopback interface, and stopped
        at the end.

    Notes
    -----
    A task whose worker or node dies is run again up to three times; as shards appear whole or not at all, that is safe.
    """

    num_threads = 1

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._workers = workers
        self._address = address
        self.metrics = RayMetrics()

    def observe(self, event: Mapping[str, Any]) -> None:
        """Show the numbers of the build on Ray's dashboard."""
        self.metrics.observe(event)

    def run(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `Executor.run`."""
        with ray_session(self._workers or usable_cores(), self._address) as ray:
            cores = int(ray.cluster_resources().get("CPU", 1))

            def call(job: Job) -> Result:  # Ray takes plain functions only
                return function(job)

            task = ray.remote(num_cpus=1, max_retries=3)(call)
            yield from _run_window(ray, task, jobs, window=self._workers or _IN_FLIGHT_PER_CORE * cores)


def make_executor(
    name: ExecutorName, *, workers: int | None = None, ray_address: str | None = None
) -> SerialExecutor | RayExecutor:
    """The executor of that name.

    Raises
    ------
    ConfigError
        For another name, or the address of a cluster where none is used.
    """
    if name not in get_args(ExecutorName):
        raise ConfigError(f"executor must be 'serial' or 'ray', got {name!r}")
    if name == "ray":
        remove_abandoned_sessions()  # also where there turns out to be nothing left to do
        return RayExecutor(workers, ray_address)
    if ray_address is not None:
        raise ConfigError("a Ray address needs the executor 'ray'")
    return SerialExecutor(workers)


def _run_window(ray: Any, task: Any, jobs: Sequence[Job], *, window: int) -> Iterator[Any]:  # noqa: ANN401
    """Submit jobs so that at most `window` are under way; every result is fetched, every error raised."""
    waiting = iter(jobs)
    under_way: list[Any] = []
    while True:
        for job in waiting:
            under_way.append(task.remote(job))
            if len(under_way) >= window:
                break
        if not under_way:
            return
        done, under_way = ray.wait(under_way, num_returns=1)
        try:
            yield ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, SSLDataError):
                raise cause from None
            raise BuildError(f"a worker failed: {cause!r}") from error
        except ray.exceptions.RayError as error:
            raise BuildError(f"a worker was lost: {error}") from error
