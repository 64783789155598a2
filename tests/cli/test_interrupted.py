"""An interrupt that no command has caught."""

import subprocess
import sys

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
