"""``ssl-data bench``: how fast it is on this machine, beside its bounds and beside the straightforward ways."""

from __future__ import annotations

from importlib import import_module

import typer

bench = typer.Typer(help="Measure the speed of one part, beside its bound and the straightforward way.")

_BENCHMARKS = {
    "kernel": "Computing graphs, by each backend.",
    "codec": "Size, encoding and decoding time of chunk codecs.",
    "build": "A whole build, and its parts one by one.",
    "plan": "How far the figures of `ssl-data plan` are from a build.",
    "load": "Samples per second of a dataset.",
    "loss": "Time and memory of the loss with its gradient.",
    "fidelity": "What storing graphs in few bits costs the loss and its gradient.",
}


def _measure(context: typer.Context) -> None:
    from ssl_data.errors import MissingDependencyError

    name = context.info_name
    try:
        benchmark = import_module(f"ssl_data.benchmarks.{name}")
    except ModuleNotFoundError as error:
        message = f"`ssl-data bench {name}` needs {error.name}: pip install 'ssl_data[bench]'"
        raise MissingDependencyError(message) from error
    benchmark.main(context.args)


# The benchmarks read their own options, --help too.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

for _name, _help in _BENCHMARKS.items():
    bench.command(_name, help=_help, context_settings=_PASS_ON)(_measure)
