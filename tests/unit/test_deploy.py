"""docker-compose.yml and deploy/: what they say of touchstream is what the code does.

No engine is needed: the files are parsed and compared with settings, topics and metrics.
"""

import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from touchstream.streams.metric_push import PushedGauges
from touchstream.streams.settings import PREFIX, Settings, load_settings
from touchstream.streams.telemetry import Telemetry
from touchstream.streams.topics import BATCH_BYTES, topic_specs
from touchstream.streams.watchdog import STOP_LIMIT_SECONDS

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
SCRAPED_LABELS = {"job", "instance", "le"}
"""Labels that Prometheus adds or that histograms have."""


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exported_metrics() -> dict[str, set[str]]:
    """Name of every series a worker exports, with its labels."""
    found: dict[str, set[str]] = {}
    telemetry = Telemetry()
    held = vars(telemetry).values()
    groups = [each.values() if isinstance(each, dict) else (each,) for each in held]
    for metric in chain.from_iterable(groups):
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = set(metric._labelnames)
    for pushed in PushedGauges(telemetry.registry).describe():
        found[pushed.name] = set(pushed._labelnames)
    return found


def test_the_worker_of_compose_has_valid_production_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    for name in SERVICES["worker"]["secrets"]:
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.setenv(PREFIX + "SECRETS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    settings = load_settings()

    assert settings.profile == "production"
    assert settings.identity_key.get_secret_value() == "touchstream_identity_key"
    assert settings.clickhouse_password.get_secret_value() == "touchstream_clickhouse_password"
    assert (
        settings.kafka_bootstrap_servers
        in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    )


def test_every_variable_of_touchstream_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    files = [ROOT / "docker-compose.yml", ROOT / "deploy" / "Dockerfile"]
    files += [*(ROOT / "deploy").rglob("*.yml"), *(ROOT / "deploy").rglob("*.xml")]
    used = {name for file in files for name in re.findall(r"TOUCHSTREAM_[A-Z_]+", file.read_text())}
    assert used - known == set()


def test_every_image_has_a_tag() -> None:
    images = [service["image"] for service in SERVICES.values()]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    images += re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    for image in images:
        name, colon, tag = image.partition(":")
        assert colon and tag and tag != "latest", f"{name} has no tag"


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_the_metrics_port_is_scraped_and_not_published() -> None:
    worker = SERVICES["worker"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert str(discovery["port"]) == worker["environment"]["TOUCHSTREAM_METRICS_PORT"]
    assert discovery["names"] == ["worker"]
    assert "ports" not in worker
    assert config["rule_files"] == ["rules.yml"]


def test_a_stuck_worker_is_unhealthy_and_one_that_ended_is_started_again() -> None:
    worker = SERVICES["worker"]
    port = worker["environment"]["TOUCHSTREAM_METRICS_PORT"]
    assert f"http://127.0.0.1:{port}/healthz" in worker["healthcheck"]["test"][-1]
    assert worker["restart"] == "unless-stopped"
    assert float(worker["stop_grace_period"].removesuffix("s")) > STOP_LIMIT_SECONDS


def test_no_service_may_gain_privileges() -> None:
    for name, service in SERVICES.items():
        assert "no-new-privileges:true" in service["security_opt"], name


def test_workers_start_after_topics_and_tables_are_made() -> None:
    conditions = {
        name: need["condition"] for name, need in SERVICES["worker"]["depends_on"].items()
    }
    assert conditions["init"] == "service_completed_successfully"
    assert "topics apply && touchstream migrate" in SERVICES["init"]["entrypoint"][-1]
    for name, need in SERVICES["init"]["depends_on"].items():
        assert need["condition"] == "service_healthy"
        assert "healthcheck" in SERVICES[name]


def test_the_broker_takes_the_largest_batch_and_creates_no_topics() -> None:
    broker = SERVICES["kafka"]["environment"]
    largest = max(int(spec.config["max.message.bytes"]) for spec in topic_specs())
    assert int(broker["KAFKA_MESSAGE_MAX_BYTES"]) >= largest > BATCH_BYTES
    assert broker["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_every_secret_is_a_file_with_an_example_and_out_of_git() -> None:
    for name, secret in COMPOSE["secrets"].items():
        file = ROOT / secret["file"]
        assert file.name == name
        assert file.with_name(name + ".example").is_file()
        assert f"deploy/secrets/{name}" in (ROOT / "deploy/secrets/README.md").read_text()
    assert (ROOT / "deploy/secrets/.gitignore").read_text().startswith("*\n")


def test_mounted_files_exist() -> None:
    volumes = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    sources = [mount.split(":")[0] for mount in volumes]
    named = {source for source in sources if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert [s for s in sources if s.startswith(".") and not (ROOT / s).is_file()] == []


def test_the_image_copies_only_what_is_let_in_and_nothing_embedded() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    let_in = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sorted(copied) == sorted(let_in)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert "requirements/local.txt" not in dockerfile
    assert 'ENTRYPOINT ["touchstream"]' in dockerfile


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_uses_metrics_and_labels_that_workers_export(alert: dict[str, Any]) -> None:
    exported = exported_metrics()
    used = set(re.findall(r"\btouchstream_\w+", alert["expr"]))
    assert used - set(exported) == set()
    labels = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", alert["expr"]))
    for listed in re.findall(r"by \(([^)]*)\)", alert["expr"]):
        labels |= {label.strip() for label in listed.split(",")}
    shown = {label for text in alert["annotations"].values() for label in _labels_shown(text)}
    for name in used:
        assert labels - SCRAPED_LABELS <= exported[name], name
        assert shown - SCRAPED_LABELS <= labels


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_has_a_summary_and_a_runbook(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    runbooks = (ROOT / "docs" / "operations.md").read_text()
    heading, _, text = runbooks.partition(f"### {name}\n")
    assert heading != runbooks, f"docs/operations.md has no section {name}"
    assert len(text.split("\n#")[0].strip()) > 40


def test_the_documented_metrics_are_the_exported_ones() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(touchstream_\w+)` \|([^|]*)\|", text, re.MULTILINE)
    documented = {name: set(labels.replace(",", " ").split()) for name, labels in rows}
    exported = {
        name.removesuffix("_bucket"): labels
        for name, labels in exported_metrics().items()
        if not name.endswith(("_sum", "_count"))
    }
    assert documented == exported


def _labels_shown(text: str) -> list[str]:
    return re.findall(r"\$labels\.(\w+)", text)
