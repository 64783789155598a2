"""The manifests for Kubernetes and KubeRay: valid for its API servers, and what they run makes a store."""

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from obstore.store import S3Store

import ssl_data
from ssl_data.cli.app import EXIT_INTERRUPTED, EXIT_USAGE
from ssl_data.cli.build import EXIT_REJECTED

CLUSTER = Path(__file__).parents[2] / "manifests" / "cluster"
VERSIONS = ["1.33", kubernetes_validate.latest_version()]
"""Failure policies per index are stable from the first of them on."""


def load(name):
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def ray_job():
    (job,) = load("kuberay/rayjob.yaml")
    return job["spec"]


def pod_templates():
    """Every pod template there is, with a name."""
    jobs = [job for path in sorted(CLUSTER.glob("kubernetes/*.yaml")) for job in load(path) if job["kind"] == "Job"]
    found = {job["metadata"]["name"]: job["spec"]["template"] for job in jobs}
    spec, cluster = ray_job(), ray_job()["rayClusterSpec"]
    found["ray-submitter"] = spec["submitterPodTemplate"]
    groups = {"ray-head": cluster["headGroupSpec"], "ray-worker": cluster["workerGroupSpecs"][0]}
    return found | {name: group["template"] for name, group in groups.items()}


PODS = pod_templates()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", sorted(CLUSTER.glob("kubernetes/*.yaml")), ids=lambda path: path.name)
def test_api_servers_know_all_fields(path, version):
    for document in load(path):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", [name for name in PODS if name.startswith("ray-")])
def test_api_servers_know_all_fields_of_the_pods_of_ray(name):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **PODS[name]["metadata"]}}
    kubernetes_validate.validate(pod | {"spec": PODS[name]["spec"]}, VERSIONS[-1], strict=True)


def test_a_field_that_does_not_exist_is_noticed():
    (job,) = load("kubernetes/build.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["argument"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="argument"):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_ask_for_little_and_say_how_much(name):
    spec = PODS[name]["spec"]
    claims = {claim["metadata"]["name"] for claim in load("kubernetes/storage.yaml")}
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v} <= claims
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] > 0
    assert not spec["automountServiceAccountToken"]
    (container,) = spec["containers"]
    assert container["image"].endswith(f":{ssl_data.__version__}")
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("name", ["build", "finalize", "build-s3", "finalize-s3"])
def test_an_interruption_is_no_failure_and_what_cannot_get_better_ends_the_job(name):
    (job,) = load(f"kubernetes/{name}.yaml")
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # or failure policies are refused
    disruption, *by_code = job["spec"]["podFailurePolicy"]["rules"]
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    actions = {code: rule["action"] for rule in by_code for code in rule["onExitCodes"]["values"]}
    hopeless = {EXIT_USAGE} | ({EXIT_REJECTED} if name.startswith("finalize") else set())
    assert actions == {EXIT_INTERRUPTED: "Ignore"} | dict.fromkeys(hopeless, "FailJob")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in by_code} == {container["name"]}


def run_jobs(in_place, dataset, suffix="", **variables):
    """Run what the pods of the indexed job run, one after the other, and the completion."""
    (build,), (finalize,) = load(f"kubernetes/build{suffix}.yaml"), load(f"kubernetes/finalize{suffix}.yaml")
    (container,) = build["spec"]["template"]["spec"]["containers"]
    for index in range(build["spec"]["completions"]):
        arguments = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container["args"]]
        done = in_place([*arguments, *dataset[2:]], **variables)
        assert done.exit_code == 0, done.output
    done = in_place(finalize["spec"]["template"]["spec"]["containers"][0]["args"], **variables)
    assert done.exit_code == 0, done.output


def test_the_indexed_job_and_its_completion_make_the_store_of_one_build(in_place, dataset, single_build, tmp_path):
    run_jobs(in_place, dataset)
    compared = subprocess.run(["diff", "-r", single_build, tmp_path / "store.zarr"], capture_output=True, check=False)
    assert compared.stdout == b""


def test_so_they_do_in_a_bucket(in_place, dataset, single_build, s3_environment):
    run_jobs(in_place, dataset, "-s3", **s3_environment)
    settings = {name.lower(): value for name, value in s3_environment.items() if name.startswith("AWS_")}
    client = S3Store("bucket", config=settings)
    listed = [entry["path"] for batch in client.list("store.zarr/") for entry in batch]
    found = {path.removeprefix("store.zarr/"): bytes(client.get(path).bytes()) for path in listed}
    paths = [path for path in single_build.rglob("*") if path.is_file()]
    assert found == {str(path.relative_to(single_build)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", ["build", "finalize"])
def test_buckets_are_reached_by_a_secret(name):
    (job,) = load(f"kubernetes/{name}-s3.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "ssl-data-s3"}}]
    assert "env" not in container  # no credential in a file


def test_ray_has_as_many_tasks_as_the_workers_have_processors():
    cluster = ray_job()["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert f"--workers {group['replicas'] * cpus}" in ray_job()["entrypoint"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_entry_point_of_ray_is_a_command_that_exists(in_place):
    """With another executor, it makes a store; that Ray's is the same, tests/pipeline shows."""
    program, *arguments = shlex.split(ray_job()["entrypoint"])
    assert program == "ssl-data"
    text = re.sub(r"--executor ray --ray-address auto --workers \d+", "--patch-size 128", " ".join(arguments))
    done = in_place(text.split())
    assert done.exit_code == 0, done.output
