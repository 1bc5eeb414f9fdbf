"""What is observed: real scrapes by a real Prometheus, its rules, and the dashboard's questions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from registry.claims import claim_job, finish_job
from registry.session import default_url, open_database, transaction
from servers.prometheus import RunningPrometheus, promtool, running_prometheus, why_absent
from tests.deployment.conftest import FIRST, SECOND
from tests.support.replicas import Replicas
from tests.support.servers import require_server
from tests.support.service import ROOT, picture
from tests.support.waiting import wait_for

FOLDER = ROOT / "docker/observe"
CONFIGURATION = FOLDER / "prometheus.yml"
RULES = FOLDER / "alerts.yml"
CASES = Path(__file__).with_name("alerts_test.yml")
RUNBOOK = "docs/operations.md"
ABSENT = "127.0.0.8"  # a replica that nobody started
SCRAPE_SECONDS = 60
# What its panels show only in an emergency.
EMPTY_IN_GOOD_TIMES = ('status=~"5.."', "ALERTS")

alerts: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
dashboard: dict[str, Any] = json.loads((FOLDER / "grafana/dashboards/emend.json").read_text())
panels: list[dict[str, Any]] = [one for one in dashboard["panels"] if one["type"] != "row"]
expressions: list[str] = [target["expr"] for panel in panels for target in panel["targets"]]


def _provisioned(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "grafana/provisioning" / file).read_text())
    return found


def _metrics_in(expression: str) -> set[str]:
    """The names, without what stands in braces, brackets or quotes or after `by` and `without`."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)', " ", expression)
    words = set(re.findall(r"[A-Za-z_][A-Za-z0-9_:]*(?!\w*\s*\()", bare))
    return words - {"and", "or", "unless", "on", "ignoring", "bool"}


@pytest.fixture(scope="module")
def prometheus(
    replicas: Replicas, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPrometheus]:
    """Our configuration but for two things: it asks every second, and is told the addresses that
    stand behind the name `api`."""
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_PROMETHEUS")
    _use(replicas)
    folder = tmp_path_factory.mktemp("prometheus")
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    configuration["global"].update(
        scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s"
    )
    configuration["rule_files"] = [str(RULES)]
    (api,) = (one for one in configuration["scrape_configs"] if one["job_name"] == "api")
    del api["dns_sd_configs"]
    addresses = [f"{address}:{replicas.port}" for address in (FIRST, SECOND, ABSENT)]
    api["static_configs"] = [{"targets": addresses}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with running_prometheus(folder / "prometheus.yml", folder) as running:
        wait_for(
            lambda: len(running.ask('up{job="api"}')) == 3 and running.ask("emend_ready == 1"),
            seconds=SCRAPE_SECONDS,
            what="the first scrapes",
        )
        yield running


def _use(replicas: Replicas) -> None:
    """Requests and a job, so that all that is counted is there to be seen."""
    with httpx.Client(base_url=replicas.url(FIRST), timeout=30) as http:
        http.post("/classify", files={"image": picture(1)}, data={"label": "a"}).raise_for_status()
        sent = http.post("/corrections", files={"image": picture(500)}, data={"label": "a"})
        assert sent.status_code == 202, sent.text
    engine = open_database(default_url(replicas.folder))
    later = datetime.now(UTC) + timedelta(days=1)
    with transaction(engine) as session:
        job = claim_job(session, worker="the test", now=later)
        assert job is not None
        finish_job(session, job.id, job.attempt, status="rejected", now=later)
    engine.dispose()


def _asks(expression: str) -> str:
    """A panel's question as Grafana would put it."""
    return expression.replace("$__rate_interval", "20s")


def test_every_replica_is_scraped_and_a_missing_one_is_noticed(
    prometheus: RunningPrometheus, replicas: Replicas
) -> None:
    up = {one["metric"]["instance"]: one["value"][1] for one in prometheus.ask('up{job="api"}')}
    port = replicas.port
    assert up == {f"{FIRST}:{port}": "1", f"{SECOND}:{port}": "1", f"{ABSENT}:{port}": "0"}
    pending = wait_for(
        lambda: prometheus.ask('ALERTS{alertname="EmendReplicaDown"}'),
        seconds=SCRAPE_SECONDS,
        what="the alert",
    )
    assert [one["metric"]["instance"] for one in pending] == [f"{ABSENT}:{port}"]
    assert pending[0]["metric"]["alertstate"] == "pending"
    wait_for(
        lambda: not prometheus.ask('ALERTS{alertname!="EmendReplicaDown"}'),
        seconds=SCRAPE_SECONDS,
        what="no other alert, once the replicas have been scraped",
    )


def test_every_metric_that_a_rule_or_the_dashboard_names_is_scraped(
    prometheus: RunningPrometheus,
) -> None:
    prometheus_own = {"ALERTS", "up"}
    wanted = set().union(*(_metrics_in(one) for one in [*expressions, *_rules()]))
    assert {"emend_requests_total", "emend_oldest_due_job_seconds", "up"} <= wanted
    wait_for(
        lambda: wanted - prometheus_own <= prometheus.names(),
        seconds=SCRAPE_SECONDS,
        what=f"{sorted(wanted - prometheus_own - prometheus.names())} to be scraped",
    )


def test_every_panel_shows_something(prometheus: RunningPrometheus, replicas: Replicas) -> None:
    asking = [_asks(one) for one in expressions]
    for one in asking:
        prometheus.ask(one)  # wrong ones are refused
    shown = [one for one in asking if not any(part in one for part in EMPTY_IN_GOOD_TIMES)]
    with httpx.Client(base_url=replicas.url(FIRST), timeout=30) as http:
        files, data = {"image": picture(1)}, {"label": "a"}

        def all_shown() -> bool:
            http.get("/nowhere")
            http.post("/classify", files=files, data=data)
            return all(prometheus.ask(one) for one in shown)

        wait_for(all_shown, seconds=SCRAPE_SECONDS, what="every panel to show something")


def test_the_configuration_is_valid_and_finds_the_replicas_by_name() -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_PROMETHEUS")
    done = promtool("check", "config", CONFIGURATION)
    assert done.returncode == 0, done.stderr
    jobs = yaml.safe_load(CONFIGURATION.read_text())["scrape_configs"]
    found = {name for job in jobs for sd in job.get("dns_sd_configs", []) for name in sd["names"]}
    assert found == {"api", "vlm"}


def test_alerts_fire_when_they_should_and_not_before() -> None:
    require_server(why_absent(), demanded_by="EMEND_REQUIRE_PROMETHEUS")
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = yaml.safe_load(CASES.read_text())["tests"]
    checked = [case for test in cases for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in alerts}
    assert {one["alertname"] for one in checked if one.get("exp_alerts")} == names


@pytest.mark.parametrize("rule", alerts, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["for"]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert (page, anchor) == (RUNBOOK, rule["alert"].lower())
    section = _runbook().get(rule["alert"])
    assert section, f"{RUNBOOK} has no section of {rule['alert']}"
    assert section.strip().lower().startswith(rule["labels"]["severity"])


def test_the_runbook_has_no_alert_that_there_is_not() -> None:
    assert set(_runbook()) == {rule["alert"] for rule in alerts}


def _runbook() -> dict[str, str]:
    """Text of each section under `## Alerts`."""
    page = (ROOT / RUNBOOK).read_text()
    chapter = re.split(r"^## ", page.partition("\n## Alerts\n")[2], flags=re.MULTILINE)[0]
    sections = re.split(r"^### (\w+)$", chapter, flags=re.MULTILINE)[1:]
    return dict(zip(sections[::2], sections[1::2], strict=True))


def _rules() -> list[str]:
    return [rule["expr"] for rule in alerts]


def test_the_dashboard_asks_the_source_that_is_provided() -> None:
    (source,) = _provisioned("datasources/prometheus.yml")["datasources"]
    asked = {panel["datasource"]["uid"] for panel in panels}
    asked |= {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    assert asked == {source["uid"]}
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


def test_the_dashboard_is_laid_out() -> None:
    everything = dashboard["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert all(panel["title"] for panel in everything)
    places = [panel["gridPos"] for panel in everything]
    assert all(one["x"] >= 0 and one["x"] + one["w"] <= 24 for one in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


@pytest.mark.parametrize(
    "shown",
    [
        "emend_requests_total",
        "emend_request_seconds_bucket",
        "emend_classified_images_total",
        "emend_live_version",
        "emend_edit_jobs",
        "emend_oldest_due_job_seconds",
        "emend_newest_job_seconds",
        "emend_database_up",
        "emend_problems_total",
        "emend_disk_free_bytes",
    ],
)
def test_the_dashboard_shows(shown: str) -> None:
    assert any(shown in _metrics_in(one) for one in expressions)


def test_metric_names_are_read_from_expressions() -> None:
    found = _metrics_in(
        'histogram_quantile(0.95, sum by (le, route) (rate(a_bucket{x="b c"}[5m]))) > max(d) and e'
    )
    assert found == {"a_bucket", "d", "e"}
