"""A Slurm of one machine, to run batch scripts with: what it does depends on the name that it is called by.

* ``sbatch`` runs the script at once, as real sbatch does from a copy in another folder, with the directives of its
  head; array tasks one after the other, from the last; nothing whose ``--dependency`` has failed.
* ``srun`` runs a command "on a node" of the job.
* ``scontrol requeue`` ends the task, which is started again; ``scontrol show hostnames`` lists the nodes.
* ``hostname --ip-address`` prints the address of the node.

``SLURM_STAND_IN`` names the folder with its state: ``jobs.json`` has all exit codes, and ``stop.json`` may name a task
whose time is over as soon as a store has a further shard. What its script says then gets SIGTERM, once: the steps of
the task, or with ``--signal=B:...`` the script itself.
"""

# ruff: noqa: T201 - a program

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["SLURM_STAND_IN"])
JOBS = STATE / "jobs.json"
ADDRESSES = {"node1": "127.0.0.2", "node2": "127.0.0.3"}


def split_options(words):
    """Leading options, and the rest."""
    first = next(index for index, word in enumerate(words) if not word.startswith("-"))
    return words[:first], words[first:]


def option(options, name):
    return next((word.partition("=")[2] for word in reversed(options) if word.split("=")[0] == f"--{name}"), None)


def sbatch(words):
    given, (script, *arguments) = split_options(words)
    directives = re.findall(r"^#SBATCH (--\S+)$", Path(script).read_text(encoding="utf-8"), re.MULTILINE)
    options = [*directives, *given]  # the command line has the last word
    jobs = json.loads(JOBS.read_text()) if JOBS.exists() else {}
    number = str(1000 + len(jobs))
    kind, _, needed = (option(options, "dependency") or "").partition(":")
    assert kind in {"", "afterok"}, kind
    if needed and any(jobs[needed].values()):
        print(f"job {number} will never run", file=sys.stderr)
        return
    copy = STATE / "spool" / number / "slurm_script"
    copy.parent.mkdir(parents=True)
    shutil.copy(script, copy)
    first, _, last = (option(options, "array") or "").partition("-")
    tasks = range(int(last), int(first) - 1, -1) if last else [None]
    jobs[number] = {str(task): run_task(copy, arguments, options, number, task) for task in tasks}
    JOBS.write_text(json.dumps(jobs))
    print(number if "--parsable" in given else f"Submitted batch job {number}")


def run_task(script, arguments, options, number, task):
    """Run one task of a job until it is not requeued; return its exit code."""
    name = number if task is None else f"{number}_{task}"
    environment = {
        **os.environ,
        "SLURM_JOB_ID": f"{number}{task or 0}",
        "SLURM_JOB_NODELIST": "node[1-2]" if option(options, "nodes") else "node1",
        "SLURM_CPUS_PER_TASK": option(options, "cpus-per-task"),
        "SLURM_STAND_IN_TASK": name,
    }
    if task is not None:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}
    for restart in range(100):
        if restart:
            environment["SLURM_RESTART_COUNT"] = str(restart)
        with (STATE / f"{name}.log").open("a") as log:
            process = subprocess.Popen(["bash", script, *arguments], env=environment, stdout=log, stderr=log)
            if (option(options, "signal") or "").startswith("B:"):
                stop_in_time(process, name)
            process.wait()
        requeued = STATE / f"requeue-{environment['SLURM_JOB_ID']}"
        if not requeued.exists():
            return process.returncode
        requeued.unlink()
    raise AssertionError(f"{name} was requeued again and again")


def srun(words):
    options, command = split_options(words)
    node = option(options, "nodelist") or "node1"
    process = subprocess.Popen(command, env={**os.environ, "SLURMD_NODENAME": node})
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    stop_in_time(process, os.environ["SLURM_STAND_IN_TASK"])
    sys.exit(process.wait())


def stop_in_time(process, task):
    """Send a process SIGTERM when the store of the task that is to be stopped has a further shard."""
    order = STATE / "stop.json"
    wanted = json.loads(order.read_text()) if order.exists() else {}
    if wanted.get("task") != task:
        return
    order.unlink()
    manifest = Path(wanted["store"], "manifest")
    before = len(list(manifest.glob("shard-*.parquet")))
    while process.poll() is None and len(list(manifest.glob("shard-*.parquet"))) == before:
        time.sleep(0.01)
    process.terminate()


def scontrol(words):
    if words[0] == "requeue":
        (STATE / f"requeue-{words[1]}").touch()
        os.kill(os.getppid(), signal.SIGKILL)
    else:
        assert words[:2] == ["show", "hostnames"], words
        print("\n".join(ADDRESSES) if words[2] == "node[1-2]" else words[2])


def hostname(words):
    assert words == ["--ip-address"], words
    print(ADDRESSES[os.environ["SLURMD_NODENAME"]])


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "scontrol": scontrol, "hostname": hostname}[Path(sys.argv[0]).name](sys.argv[1:])
