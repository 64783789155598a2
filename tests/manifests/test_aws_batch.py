"""The example for AWS Batch: documents that its API takes, and a script that submits what makes a store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import botocore.loaders
import botocore.model
import botocore.validate
import pytest

import ssl_data
from ssl_data.cli.app import EXIT_INTERRUPTED

BATCH = Path(__file__).parents[2] / "manifests" / "cluster" / "aws-batch"
AWS = """
import json, sys
from pathlib import Path
words = sys.argv[1:]
calls = Path({calls!r})
given = dict(zip(words[2::2], words[3::2], strict=True))
with calls.open("a") as file:
    file.write(json.dumps([words[:2], given]) + "\\n")
print(f"job-{{len(calls.read_text().splitlines())}}")
"""


def problems(operation, document):
    """What the service's own description has against the arguments of a call."""
    service = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("batch", "service-2"))
    shape = service.operation_model(operation).input_shape
    return botocore.validate.ParamValidator().validate(document, shape).generate_report()


def definition():
    return json.loads((BATCH / "job-definition.json").read_text(encoding="utf-8"))


@pytest.fixture
def submit(tmp_path):
    """Run the script with an ``aws`` that notes its calls; return what is said, and the calls."""
    calls, tool = tmp_path / "calls", tmp_path / "tools" / "aws"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\n{AWS.format(calls=str(calls))}")
    tool.chmod(0o755)
    calls.touch()

    def run(*arguments):
        environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            [BATCH / "submit", *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
        )
        return done, [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def test_batch_knows_all_fields_of_the_definition():
    assert problems("RegisterJobDefinition", definition()) == ""
    assert "comand" in problems("RegisterJobDefinition", {**definition(), "containerProperties": {"comand": []}})
    assert definition()["containerProperties"]["image"].endswith(f":{ssl_data.__version__}")


def test_interruptions_and_failures_are_tried_again_but_wrong_usage_is_not():
    rules = definition()["retryStrategy"]["evaluateOnExit"]
    assert rules[-1] == {"onReason": "*", "action": "EXIT"}  # after all that is tried again
    assert {rule["onExitCode"] for rule in rules if "onExitCode" in rule} == {"1", str(EXIT_INTERRUPTED)}
    assert {rule["action"] for rule in rules[:-1]} == {"RETRY"}


def test_the_array_job_and_its_completion_make_the_store_of_one_build(
    submit, in_place, dataset, single_build, tmp_path
):
    done, calls = submit("queue", 3, "/stores/store.zarr", "--dataset", "/images", *dataset[2:])
    assert (done.returncode, done.stdout) == (0, "job-2\n"), done.stderr
    (verb, build), (_, finalize) = calls
    assert verb == ["batch", "submit-job"]
    assert finalize["--depends-on"] == "jobId=job-1"
    assert build["--job-definition"] == finalize["--job-definition"] == definition()["jobDefinitionName"]
    assert build["--array-properties"] == "size=3"
    overrides = [json.loads(call["--container-overrides"]) for call in (build, finalize)]
    names = {"jobName": "x", "jobQueue": "queue", "jobDefinition": "ssl-data"}
    assert [problems("SubmitJob", {**names, "containerOverrides": each}) for each in overrides] == ["", ""]
    for index in (2, 0, 1):
        made = in_place(overrides[0]["command"], AWS_BATCH_JOB_ARRAY_INDEX=str(index))
        assert made.exit_code == 0, made.output
    completed = in_place(overrides[1]["command"])
    assert completed.exit_code == 0, completed.output
    compared = subprocess.run(["diff", "-r", single_build, tmp_path / "store.zarr"], capture_output=True, check=False)
    assert compared.stdout == b""


@pytest.mark.parametrize("arguments", [[], ["queue", 1, "store", "--dataset"], ["queue", "x", "store", "--dataset"]])
def test_wrong_usage_explains_itself(submit, arguments):
    done, calls = submit(*arguments)
    assert done.returncode == 2
    assert "submit QUEUE PARTS STORE BUILD-OPTION..." in done.stderr
    assert calls == []
