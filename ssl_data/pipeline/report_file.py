"""The report about a build as a file beside the store: what went in, what was rejected, how fast, how small."""

from __future__ import annotations

import json
import platform
import socket
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_data.pipeline.cores import usable_cores
from ssl_data.store.files import write_atomic
from ssl_data.store.local_target import LocalTarget
from ssl_data.store.locate import open_target
from ssl_data.store.reader import open_store
from ssl_data.store.summary import summarize_store

if TYPE_CHECKING:
    from ssl_data.pipeline.report import BuildReport

__all__ = ["describe_build", "write_report"]

_FOLDER_SUFFIX = ".reports"


def describe_build(report: BuildReport) -> dict[str, Any]:
    """The report, with rates, what compression achieved, and where and with what the build ran, as JSON values."""
    summary = summarize_store(open_store(report.out))
    made = {"patches": report.num_patches, "graphs": report.num_graphs, "bytes": report.num_bytes}
    rates = {f"{name}_per_second": number / report.seconds for name, number in made.items() if report.seconds > 0}
    return {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **report.to_dict(),
        "spec": summary.spec,
        "rates": rates if report.num_shards_reused == 0 else None,
        "compression": {
            array.name: {**asdict(array), "bytes_per_value": array.bytes_per_value} for array in summary.arrays
        },
        "machine": {"host": socket.gethostname(), "cores": usable_cores(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in ("ssl_data", "numpy", "pyarrow", "numcodecs", "pillow")},
    }


def write_report(report: BuildReport) -> str:
    """Write `describe_build` into a folder beside the store, whose own bytes depend on no machine and no time.

    Returns
    -------
    str
        Where it is: ``STORE.reports/build-TIME.json``.
    """
    document = describe_build(report)
    content = (json.dumps(document, indent=2) + "\n").encode()
    name = f"build-{document['ended'].replace(':', '').removesuffix('+0000')}Z.json"
    folder = report.out.rstrip("/") + _FOLDER_SUFFIX
    target = open_target(folder)
    if isinstance(target, LocalTarget):
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_atomic(Path(folder) / name, content, Path(folder))
    else:
        target.put(name, content)
    return f"{folder}/{name}"
