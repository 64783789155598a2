"""``ssl-data view`` as a user meets it."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

COMMAND = [sys.executable, "-W", "error", "-c", "from ssl_data.cli.app import main; main()", "view"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_address_is_printed_and_served_until_the_command_is_stopped(store, stop):
    with subprocess.Popen([*COMMAND, store.url, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        url = re.fullmatch(rf"Showing {re.escape(store.url)} at (http://127\.0\.0\.1:\d+/) .*\n", line)[1]
        with urllib.request.urlopen(f"{url}api/store") as answer:  # noqa: S310
            assert json.load(answer)["num_patches"] == store.num_patches
        process.send_signal(stop)
        assert process.wait(15) == 0


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=30)


def test_no_other_command_loads_the_server():
    code = """
import sys
sys.argv = ["ssl-data", "--help"]
try:
    from ssl_data.cli.app import main; main()
except SystemExit:
    pass
print([name for name in sys.modules if name.startswith(("ssl_data.view", "ssl_data.report", "http.server"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_no_store_is_named(tmp_path):
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert "is not a store" in done.stderr


def test_a_port_that_is_taken_is_named_with_a_remedy(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(store.url, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "--port 0 for any free one" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_refused(store):
    done = run(store.url, "--host", "192.0.2.1")
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1" in done.stderr


def test_listening_for_others_is_said(store):
    arguments = [*COMMAND, store.url, "--port", "0", "--host", "0.0.0.0"]  # noqa: S104
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "whoever reaches 0.0.0.0 can look at this store" in process.communicate(timeout=15)[1]
