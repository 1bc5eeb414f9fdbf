"""What docker-compose.yml promises, for every service in it; no engine is needed to read it."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings as AppSettings
from servers.nginx import places
from worker.settings import Settings as WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
EACH = pytest.mark.parametrize("name", sorted(SERVICES))
OURS = {"secrets", "migrate", "api", "vlm", "worker", "door", "api-gpu", "worker-gpu"}
USERS_OF_SECRETS = {
    "database": {"secrets", "migrate", "postgres", "api", "vlm", "worker", "api-gpu", "worker-gpu"},
    "broker": {"secrets", "redis", "api", "vlm", "worker", "api-gpu", "worker-gpu"},
    "store": {"api", "vlm", "worker", "api-gpu", "worker-gpu"},
    "grafana": {"secrets", "grafana"},
}
# Decided by the images, or by what a container's folders are.
NOT_FOR_OPERATORS = {"host", "port", "data"}


def _once(service: dict[str, Any]) -> bool:
    return service["restart"] == "no"


def _waits(service: dict[str, Any], name: str) -> str | None:
    condition: str | None = service.get("depends_on", {}).get(name, {}).get("condition")
    return condition


@EACH
def test_it_is_healthy_or_ends(name: str) -> None:
    service = SERVICES[name]
    if _once(service):
        waiting = [_waits(each, name) for each in SERVICES.values()]
        assert "service_completed_successfully" in waiting
        return
    assert service["restart"] == "unless-stopped"
    image = "api" if name == "vlm" else name.removesuffix("-gpu")
    dockerfile = ROOT / "docker" / f"{image}.Dockerfile"
    assert "healthcheck" in service or "\nHEALTHCHECK " in dockerfile.read_text()


@EACH
def test_it_waits_for_health_and_not_for_a_start(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        expected = "completed_successfully" if _once(SERVICES[other]) else "healthy"
        assert how["condition"] == f"service_{expected}"


@EACH
def test_its_share_of_the_machine_is_limited(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= limits.keys()
    logs = SERVICES[name]["logging"]["options"]
    assert {"max-size", "max-file"} <= logs.keys()


@EACH
def test_it_can_do_little_harm(name: str) -> None:
    service = SERVICES[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@EACH
def test_only_the_api_and_the_edge_have_a_port_and_only_on_loopback(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert not ports or name in {"door", "edge"}
    for port in ports:
        assert re.match(r"\$\{EMEND_\w+:-127\.0\.0\.1\}:", port)


@EACH
def test_no_secret_stands_in_its_environment_or_its_command(name: str) -> None:
    service = SERVICES[name]
    environment = service.get("environment", {})
    assert isinstance(environment, dict)
    for variable, value in environment.items():
        if re.search(r"PASSW|SECRET|TOKEN|CREDENTIAL|ACCESS_KEY", variable):
            assert variable.endswith("_FILE")
            assert str(value).startswith("/run/secrets/")
        assert not re.search(r"//[^/@]*:[^/@]*@", str(value))
    assert "env_file" not in service


@EACH
def test_it_sees_only_the_secrets_that_it_needs_and_cannot_change_them(name: str) -> None:
    mounts = [mount for mount in SERVICES[name].get("volumes", []) if "/run/secrets/" in mount]
    found = {mount.split(":/run/secrets/")[1].split(":")[0] for mount in mounts}
    assert found == {secret for secret, users in USERS_OF_SECRETS.items() if name in users}
    assert name == "secrets" or all(mount.endswith(":ro") for mount in mounts)


@EACH
def test_every_named_volume_is_declared(name: str) -> None:
    sources = [mount.split(":/")[0] for mount in SERVICES[name].get("volumes", [])]
    named = {re.sub(r"^\$\{\w+:-([^}]*)\}$", r"\1", source) for source in sources}
    folders = {source for source in named if source.startswith((".", "/"))}
    assert named - folders <= FILE["volumes"].keys()


def test_the_servers_are_on_no_network_that_leads_outside() -> None:
    assert FILE["networks"]["inside"]["internal"] is True
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["inside"]
    assert SERVICES["migrate"]["networks"] == ["inside", "outside"]  # a database elsewhere
    assert "inside" not in SERVICES["door"]["networks"]


def test_what_comes_up_without_a_profile() -> None:
    without = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert without == {"secrets", "migrate", "postgres", "redis", "api", "door", "worker"}


def test_the_images_are_the_ones_that_the_project_is_made_for() -> None:
    assert SERVICES["postgres"]["image"] == "postgres:15"
    assert SERVICES["redis"]["image"] == "redis:7"
    for name in OURS:
        assert SERVICES[name]["pull_policy"] == "${EMEND_PULL:-never}"


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_gpu_profile_reserves_a_gpu_and_changes_nothing_else(name: str) -> None:
    plain, gpu = copy.deepcopy(SERVICES[name]), copy.deepcopy(SERVICES[f"{name}-gpu"])
    assert gpu.pop("profiles") == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert gpu.pop("deploy")["resources"]["limits"] == plain.pop("deploy")["resources"]["limits"]
    assert gpu["environment"].pop("EMEND_DEVICE") == "cuda"
    assert plain["environment"].pop("EMEND_DEVICE") == "${EMEND_DEVICE:-cpu}"
    plain.pop("build")
    assert gpu == plain


@pytest.mark.parametrize(("name", "settings"), [("api", AppSettings), ("worker", WorkerSettings)])
def test_every_setting_can_be_set(name: str, settings: type[AppSettings | WorkerSettings]) -> None:
    known = {f"EMEND_{field.upper()}" for field in settings.model_fields.keys() - NOT_FOR_OPERATORS}
    environment: dict[str, Any] = SERVICES[name]["environment"]
    given = {variable for variable in environment if variable.startswith("EMEND_")}
    assert given == known
    for variable in given:
        by_file = variable.endswith("_FILE")
        assert by_file or f"${{{variable}:-" in environment[variable]


def test_the_vlm_is_an_api_that_answers_questions_and_nothing_else_changes() -> None:
    plain, asked = copy.deepcopy(SERVICES["api"]), copy.deepcopy(SERVICES["vlm"])
    assert asked.pop("profiles") == ["vlm"]
    assert asked["environment"].pop("EMEND_VLM") == "${EMEND_VLM:-}"
    assert plain["environment"].pop("EMEND_VLM") == "${EMEND_API_VLM:-${EMEND_VLM:-}}"
    assert SERVICES["worker"]["environment"]["EMEND_VLM"] == "${EMEND_VLM:-}"
    # Whoever classifies finds `api` alone.
    assert asked.pop("networks") == ["inside", "outside"]
    assert plain.pop("networks") == {"inside": None, "outside": {"aliases": ["api"]}}
    assert asked.pop("deploy")["resources"] == plain.pop("deploy")["resources"]
    plain.pop("build")
    assert asked == plain


def test_the_edge_is_given_what_its_template_asks_for() -> None:
    edge = SERVICES["edge"]
    template = ROOT / "docker/edge/nginx.conf.template"
    environment: dict[str, str] = edge["environment"]
    given = {name: value for name, value in environment.items() if name.startswith("EMEND_")}
    assert given.keys() == places(template.read_text())
    assert edge["volumes"] == ["./docker/edge:/etc/nginx/templates:ro"]
    prefix = edge["command"][edge["command"].index("-p") + 1]
    assert environment["NGINX_ENVSUBST_OUTPUT_DIR"] == prefix == edge["tmpfs"][0].split(":")[0]
    assert f"{prefix}/{template.stem}" in edge["command"]
    limit = AppSettings.model_fields["max_request_bytes"].default
    assert given["EMEND_MAX_REQUEST_BYTES"] == f"${{EMEND_MAX_REQUEST_BYTES:-{limit}}}"
    assert given["EMEND_EDGE_API"] == "api:8000"
    assert given["EMEND_EDGE_VLM"] == "vlm:8000"
    assert edge["ports"][0].endswith(f":{given['EMEND_EDGE_LISTEN']}")


@pytest.mark.parametrize("name", ["edge", "prometheus"])
def test_who_asks_every_replica_is_where_all_have_one_name(name: str) -> None:
    assert SERVICES[name]["networks"] == ["outside"]
    for replicas in ("api", "api-gpu"):
        assert SERVICES[replicas]["networks"]["outside"] == {"aliases": ["api"]}


def test_what_is_observed_stays_inside_and_finds_its_files() -> None:
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["profiles"] == ["observe"]
        assert "ports" not in SERVICES[name]
    folder = SERVICES["prometheus"]["volumes"][0].split(":")[1]
    assert f"--config.file={folder}/prometheus.yml" in SERVICES["prometheus"]["command"]
    provided = ROOT / "docker/observe/grafana/provisioning/dashboards/emend.yml"
    (provider,) = yaml.safe_load(provided.read_text())["providers"]
    mounts = [mount.split(":") for mount in SERVICES["grafana"]["volumes"]]
    assert ["./docker/observe/grafana/dashboards", provider["options"]["path"], "ro"] in mounts
