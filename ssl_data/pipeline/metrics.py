"""Numbers about a running build for whoever watches machines: a text file for Prometheus, and the dashboard of Ray."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.errors import BuildError, explain_os_error
from ssl_data.store.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["METRICS", "BuildNumbers", "MetricsFile", "RayMetrics"]

METRICS = {
    "ssl_data_build_running": "Whether the build is at work.",
    "ssl_data_build_succeeded": "Whether it has ended, and well.",
    "ssl_data_build_start_timestamp_seconds": "When it began.",
    "ssl_data_build_last_shard_timestamp_seconds": "When the last shard was made; when it began, before the first.",
    "ssl_data_build_shards": "Shards of the build, or of its part.",
    "ssl_data_build_shards_reused": "Those that an earlier run had made.",
    "ssl_data_build_shards_made_total": "Shards made by this run.",
    "ssl_data_build_shard_failures_total": "Attempts to make a shard that failed.",
    "ssl_data_build_shard_seconds_total": "Time that making shards took, all workers together.",
    "ssl_data_build_patches_total": "Patches made by this run.",
    "ssl_data_build_graphs_total": "Graphs made by this run.",
    "ssl_data_build_bytes_total": "Bytes written by this run, compressed.",
    "ssl_data_build_stalls_total": "How often nothing moved for ten minutes.",
}
"""Name and meaning of each number."""
_INTERVAL_SECONDS = 1.0
_COUNTED = {"patches": "num_patches", "graphs": "num_graphs", "bytes": "num_bytes", "shard_seconds": "seconds"}
"""Totals, by the fields of the event "shard-made" that they add up."""


class BuildNumbers:
    """The metrics of a build, as its events change them; see `ssl_data.pipeline.monitor`."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(METRICS, 0.0)
        self._set(running=1, start_timestamp_seconds=time.time(), last_shard_timestamp_seconds=time.time())

    def observe(self, event: Mapping[str, Any]) -> None:
        """Take note of an event of a build."""
        match event["event"]:
            case "start":
                self._set(shards=event["num_shards"], shards_reused=event["num_reused"])
            case "shard-made":
                self._set(last_shard_timestamp_seconds=time.time())
                self._add(shards_made=1, **{name: event[field] for name, field in _COUNTED.items()})
            case "shard-failed":
                self._add(shard_failures=1)
            case "stalled":
                self._add(stalls=1)

    def end(self, *, succeeded: bool) -> None:
        """The build is over."""
        self._set(running=0, succeeded=succeeded)

    def _set(self, **values: float) -> None:
        self.values |= {f"ssl_data_build_{name}": float(value) for name, value in values.items()}

    def _add(self, **values: float) -> None:
        for name, value in values.items():
            self.values[f"ssl_data_build_{name}_total"] += value

    def render(self, labels: Mapping[str, str]) -> str:
        """In the text format of Prometheus."""
        quoted = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
        lines = []
        for name, meaning in METRICS.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name}{{{quoted}}} {self.values[name]!r}"]
        return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class MetricsFile(logging.Handler):
    """Keeps a file as the textfile collector of Prometheus' node exporter reads it; listens to the build's logger.

    Parameters
    ----------
    path : str
        Its name should end in ``.prom``. It is replaced as a whole, about once a second, and stays behind.
    labels : mapping
        What tells this build from others on the machine.

    Raises
    ------
    BuildError
        If it cannot be written, at once; failures later on only leave the file as it is.
    """

    def __init__(self, path: str, labels: Mapping[str, str]) -> None:
        super().__init__(logging.INFO)
        self._path, self._labels = Path(path), labels
        self._numbers, self._last = BuildNumbers(), 0.0
        try:
            self._write()
        except OSError as error:
            raise BuildError(f"--metrics {path} cannot be written: {explain_os_error(error)}") from error

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of an event."""
        event = getattr(record, "event", None)
        if event is None:
            return
        self._numbers.observe(event)
        if time.monotonic() - self._last >= _INTERVAL_SECONDS:
            self._try_to_write()

    def end(self, *, succeeded: bool) -> None:
        """Say that the build is over."""
        self._numbers.end(succeeded=succeeded)
        self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            self._write()
        except OSError as error:  # no reason to end a build; whoever reads the file sees that it is old
            logging.getLogger("ssl_data").warning("%s cannot be written: %s", self._path, explain_os_error(error))

    def _write(self) -> None:
        self._last = time.monotonic()
        write_atomic(self._path, self._numbers.render(self._labels).encode(), self._path.absolute().parent)


class RayMetrics:
    """The same numbers as custom metrics of Ray, which its dashboard and its own exporter show."""

    def __init__(self) -> None:
        self._numbers = BuildNumbers()
        self._gauges: dict[str, Any] = {}
        self.shown: dict[str, float] = {}
        """What Ray has been given."""

    def observe(self, event: Mapping[str, Any]) -> None:
        """Take note of an event; show the numbers while Ray is connected."""
        if event["event"] == "start":
            self._numbers = BuildNumbers()
        self._numbers.observe(event)
        ray = sys.modules.get("ray")  # not loaded for their sake
        if ray is None or not ray.is_initialized():
            return
        from ray.util.metrics import Gauge  # noqa: PLC0415 - only on Ray

        for name, meaning in METRICS.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, description=meaning)
            self._gauges[name].set(self._numbers.values[name])
        self.shown = dict(self._numbers.values)
