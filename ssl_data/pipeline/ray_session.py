"""A connection to Ray: a private one that leaves nothing behind, or to a cluster that somebody runs.

Ray never removes the folder of a session, which holds its logs and sockets. A private Ray therefore gets a folder of
its own; it is removed with the session, and where its owner was killed, when the next one begins or ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.errors import BuildError, MissingDependencyError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SESSION_PREFIX", "ray_session", "remove_abandoned_sessions"]

SESSION_PREFIX = "ssl-data-ray-"
"""Begins the name of a private session's folder. Short: the paths of the sockets in it have at most 107 characters."""
_OWNER_NAME = "owner"
"""A file in that folder, locked as long as the process lives that started Ray."""
_OBJECT_STORE_BYTES = 128 * 1024**2
"""Ray's shared memory: jobs and results are small, Ray's own default would take a third of the machine."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A link that is cut silently is noticed after 15 s; without these, what was sent over it is waited for for ever.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
_LOOPBACK = "127.0.0.1"
_PRIVATE_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # nothing listens outside the loopback interface
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # or Ray takes another address, even where loopback is asked for
    "RAY_prestart_worker_first_driver": "0",  # or the start waits for ever for a worker that dies before it is known
}


@contextlib.contextmanager
def ray_session(num_cpus: int, address: str | None = None) -> Iterator[Any]:
    """Yield the module `ray`, connected; a connection that is there already is used, and left alone.

    Parameters
    ----------
    num_cpus : int
        Cores of a private Ray, which listens on the loopback interface only.
    address : str, optional
        Of a running cluster, to be used instead.

    Raises
    ------
    BuildError
        If a private Ray cannot be kept from listening elsewhere.
    """
    wanted = _ENVIRONMENT if address is not None else {**_ENVIRONMENT, **_PRIVATE_ENVIRONMENT}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_defaults_in_environment(wanted))  # some are read when Ray is loaded
        ray = _import_ray()
        if ray.is_initialized():
            yield ray
            return
        folder = stack.enter_context(_session_folder()) if address is None else None
        stack.callback(ray.shutdown)
        if folder is not None:
            _start_private(ray, num_cpus, folder)
        else:
            _connect(ray, address=address)
        yield ray


def _start_private(ray: Any, num_cpus: int, folder: Path) -> None:  # noqa: ANN401 - a module without types
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # noqa: SLF001 - as the environment says, if it came too late
    _connect(
        ray,
        address="local",  # even where RAY_ADDRESS names a cluster: that one was not asked for
        num_cpus=num_cpus,
        object_store_memory=_OBJECT_STORE_BYTES,
        _node_ip_address=_LOOPBACK,
        _temp_dir=str(folder),
    )
    found = {node["NodeManagerAddress"] for node in ray.nodes()}
    if found != {_LOOPBACK}:
        raise BuildError(
            f"this version of Ray listens on {', '.join(sorted(found))}, where others can reach it: start one with "
            "`ray start` as you see fit, and give its address"
        )


def _connect(ray: Any, **options: Any) -> None:  # noqa: ANN401 - a module without types
    try:
        with _own_signals():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # Ray raises plain ones, too
        what = "Ray does not start" if options["address"] == "local" else f"no Ray cluster at {options['address']}"
        raise BuildError(f"{what}: {one_line(str(error))}; the same command tries it again") from error


def _import_ray() -> Any:  # noqa: ANN401 - a module without types
    try:
        import ray  # noqa: PLC0415 - only this needs it, and it is slow to load
    except ImportError as error:
        raise MissingDependencyError("the Ray executor needs Ray: pip install 'ssl_data[ray]'") from error
    return ray


@contextlib.contextmanager
def _defaults_in_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set those variables that are not set, for as long as this lasts."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Undo what Ray's start does to SIGTERM: an exit with a code of its own, past all who expect an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # it came while Ray was starting
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _session_folder() -> Iterator[Path]:
    """A folder for one session of Ray, removed at the end, and with it those whose owners have died."""
    remove_abandoned_sessions()
    made = Path(tempfile.mkdtemp(prefix=f".{SESSION_PREFIX}", dir=_place()))
    folder = made.with_name(made.name.removeprefix("."))
    try:
        with (made / _OWNER_NAME).open("w", encoding="utf-8") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            made.rename(folder)  # only now, or another process would take it for abandoned
            yield folder
    finally:
        shutil.rmtree(made, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        remove_abandoned_sessions()


def _place() -> Path:
    """Where sessions have their folders."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - where Ray looks, too


def remove_abandoned_sessions() -> None:
    """Remove the folders of private sessions whose owners were killed; loads no Ray."""
    for folder in _place().glob(f"{SESSION_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and not _is_owned(folder / _OWNER_NAME):
                shutil.rmtree(folder, ignore_errors=True)


def _is_owned(path: Path) -> bool:
    try:
        with path.open("r", encoding="utf-8") as owner:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
