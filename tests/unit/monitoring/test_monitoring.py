# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts, dashboard, runbook and exporter speak of the same metrics."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[3]
MONITORING = ROOT / "monitoring"
RUNBOOK = (ROOT / "docs/monitoring.md").read_text()
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
QUERIES = [rule["expr"] for rule in ALERTS.values()] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]
]
_METRIC = re.compile(r"\b(?:gearman|gearvisor|supervisor)_[a-z_]+")


def exported():
    """The names of all metrics, as the source has them."""
    source = (ROOT / "python/src/gearvisor/metrics.py").read_text()
    names = set(re.findall(r'"((?:gearman|gearvisor|supervisor)_[a-z_]+)"', source))
    workers = re.findall(r'^ {8}\(?\s*"([a-z_]+)", "(?:gauge|counter)"', source, re.MULTILINE)
    workers += re.findall(r'^ {12}"([a-z_]+)",\n {12}"(?:gauge|counter)"', source, re.MULTILINE)
    workers += ["waits_total", "wait_seconds_total"]
    workers = [name for name in workers if not name.startswith(("gear", "supervisor"))]
    return names | {f"gearvisor_worker_{name}" for name in workers}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_use_metrics_that_exist(query):
    assert set(_METRIC.findall(query)) - exported() == set()


def test_every_metric_is_documented():
    documented = set(re.findall(r"^\| `([a-z_]+)", RUNBOOK, re.MULTILINE))
    assert exported() - documented == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_its_paragraph_and_test(alert):
    assert f"\n### {alert}\n" in RUNBOOK
    assert ALERTS[alert]["annotations"]["runbook"] == f"docs/monitoring.md#{alert.lower()}"
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    (test,) = [test for test in tests if test["name"] == alert]
    fires, resolves = test["alert_rule_test"]
    assert fires["exp_alerts"] and not resolves["exp_alerts"]


def test_the_scrape_configuration_names_the_hosts_of_the_inventory(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "gearman_job_servers: {hosts: {q1: {gearman_monitoring_target: '10.0.0.9:9418'}}}\n"
        "gearman_workers: {hosts: {w1: {}, q1: {}}}\n"
    )
    ansible = pathlib.Path(sys.executable).with_name("ansible")
    subprocess.run(
        [ansible, "localhost", "-i", tmp_path / "hosts.yml", "-c", "local", "-m", "template",
         "-a", f"src={MONITORING}/prometheus.yml.j2 dest={tmp_path}/prometheus.yml"],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    (job,) = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    assert [each["targets"] for each in job["static_configs"]] == [["10.0.0.9:9418"], ["w1:9418"]]
