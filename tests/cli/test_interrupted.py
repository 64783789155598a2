"""Interrupts that no command has caught, or that come when it is over."""

import subprocess
import sys

import pytest

SCRIPT = """
from ssl_data.cli import app


@app.app.command("wait")
def wait():
    raise KeyboardInterrupt


app.main()
"""


def test_any_command_that_is_interrupted_ends_with_4():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "wait"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "ssl-data: interrupted\n")


LATE_SCRIPT = """
import atexit, os, signal, sys
from ssl_data.cli import app

atexit.register(os.kill, os.getpid(), getattr(signal, sys.argv.pop()))
app.main()
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_end_does_not_change_how_it_ended(number):
    command = [sys.executable, "-c", LATE_SCRIPT, "--version", number]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
