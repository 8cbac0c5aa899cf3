"""Debian's Prometheus reads the exporters; each alert fires from its fault, and resolves after it."""

import json
import time
from contextlib import contextmanager

import pytest

GEARVISOR = "/opt/gearvisor/venv/bin/gearvisor"
FETCH = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())"


def fetch(host, url):
    return host.check_output("/usr/bin/python3 -c %s %s", FETCH, url)


def alerts(lab):
    """The names of the alerts that fire."""
    found = json.loads(fetch(lab["queue"], "http://127.0.0.1:9090/api/v1/alerts"))
    return {each["labels"]["alertname"] for each in found["data"]["alerts"]
            if each["state"] == "firing"}  # fmt: skip


def passed_on(lab):
    """The names of the alerts that Alertmanager was given and that last."""
    found = json.loads(fetch(lab["queue"], "http://127.0.0.1:9093/api/v2/alerts?active=true"))
    return {each["labels"]["alertname"] for each in found}


def query(lab, expression):
    from urllib.parse import quote

    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(expression)}"
    return json.loads(fetch(lab["queue"], url))


def submit(lab, *arguments):
    lab["worker"].check_output(
        " ".join([f"{GEARVISOR} submit --server queue:4730 --background", *arguments])
    )


def command(host, start, end):
    """A fault that one command makes and another one ends."""

    @contextmanager
    def fault(lab):
        lab[host].check_output(start)
        try:
            yield
        finally:
            lab[host].check_output(end)

    return fault


@contextmanager
def unserved(lab):
    submit(lab, "nobody_serves_this", "x")
    try:
        yield
    finally:
        lab.module("queue", "gearman_function",
                   {"name": "nobody_serves_this", "state": "absent", "cancel": True})  # fmt: skip


@contextmanager
def held(lab, number):
    """Jobs that run, or wait, until the fault is over."""
    one = f"{GEARVISOR} submit --server queue:4730 --background hold /run/held"
    lab["worker"].check_output(f"touch /run/held; for each in $(seq {number}); do {one}; done")
    try:
        yield
    finally:
        lab["worker"].check_output("rm /run/held")


@contextmanager
def failing(lab):
    """One failed job after the other: a rate needs more than one count."""
    one = f"{GEARVISOR} submit --server queue:4730 --background fail x"
    lab["worker"].check_output(
        f"touch /run/failing; while test -e /run/failing; do {one}; done >/dev/null 2>&1 &"
    )
    try:
        yield
    finally:
        lab["worker"].check_output("rm /run/failing")


@contextmanager
def poison(lab):
    submit(lab, "poison", "x")
    yield


@contextmanager
def stuck(lab):
    """Workers that are connected and take no job."""
    workers = "kill -{} $(pgrep -f 'gearvisor[ ]worker tasks')"
    lab["worker"].check_output(workers.format("STOP"))
    try:
        submit(lab, "hold", "/run/not-there")
        yield
    finally:
        lab["worker"].check_output(workers.format("CONT"))


@contextmanager
def restarting(lab):
    """A worker that is killed three times after it was up."""
    running = "supervisorctl status tasks_00 | grep RUNNING"
    for _time in range(3):
        lab.wait_until(lambda: lab["worker"].run(running).rc == 0)
        lab["worker"].check_output("kill -9 $(supervisorctl pid tasks_00)")
    yield


@contextmanager
def unkept(lab):
    """Jobs that fail while their worker cannot write to the directory of failed jobs."""
    directory = "/var/lib/gearvisor/failed/gearman-worker"
    mode = lab["worker"].check_output(f"stat -c %a {directory}")
    lab["worker"].check_output(f"chmod 0 {directory}")
    try:
        with failing(lab):
            yield
    finally:
        lab["worker"].check_output(f"chmod {mode} {directory}")


FAULTS = {
    "GearmanDown": command(
        "queue", "systemctl stop gearman-job-server", "systemctl start gearman-job-server"
    ),
    "GearmanNoWorkers": unserved,
    "GearmanSaturated": lambda lab: held(lab, 3),
    "GearmanOldJob": lambda lab: held(lab, 1),
    "GearmanStuck": stuck,
    "GearvisorLongJob": lambda lab: held(lab, 1),
    "GearvisorJobsFail": failing,
    "GearvisorJobKilledWorker": poison,
    "GearvisorFunctionPaused": command(
        "worker", f"{GEARVISOR} pause hold", f"{GEARVISOR} resume hold"
    ),
    "GearvisorExporterDown": command(
        "worker",
        "supervisorctl stop gearvisor-exporter_00",
        "supervisorctl start gearvisor-exporter_00",
    ),
    "SupervisorProcessFatal": command(
        "worker",
        "mv /srv/tasks/tasks.py /srv/tasks/away; supervisorctl restart tasks_00 tasks_01; true",
        "mv /srv/tasks/away /srv/tasks/tasks.py; supervisorctl start tasks_00 tasks_01; true",
    ),
    "SupervisorProcessRestarting": restarting,
    "SupervisorDown": command(
        "worker", "kill -9 $(supervisorctl pid)", "service supervisor start >/dev/null"
    ),
    "GearvisorFailuresNotKept": unkept,
    "GearvisorCertificateExpires": command(
        "worker",
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -days 2"
        " -keyout /dev/null -out /etc/short.pem 2>/dev/null; chmod 644 /etc/short.pem",
        "rm /etc/short.pem",
    ),
}


# These resolve when the failures of the last ten minutes are none.
LASTING = ("SupervisorProcessRestarting",)


@pytest.mark.parametrize(
    "alert",
    [pytest.param(name, marks=pytest.mark.slow) if name in LASTING else name for name in FAULTS],
)
def test_alert(lab, alert):
    patience = 700 if alert in LASTING else 120
    lab.wait_until(lambda: alert not in alerts(lab), patience)
    started = time.monotonic()
    with FAULTS[alert](lab):
        lab.wait_until(lambda: alert in alerts(lab), 120)
        fired = time.monotonic()
        lab.wait_until(lambda: alert in passed_on(lab), 120)
    lab.wait_until(lambda: alert not in alerts(lab), patience)
    resolved = time.monotonic()
    # Alertmanager is told that it is over.
    lab.wait_until(lambda: alert not in passed_on(lab), 120)
    print(f"{alert}: fired after {fired - started:.0f} s, resolved after {resolved - fired:.0f} s")


def test_both_hosts_are_scraped_and_the_format_is_clean(lab):
    lab.wait_until(lambda: len(query(lab, "up == 1")["data"]["result"]) == 2)
    for name, url in (("queue", "http://127.0.0.1:9418"), ("queue", "http://worker:9418")):
        metrics = f"/usr/bin/python3 -c '{FETCH}' {url}/metrics | promtool check metrics"
        assert lab[name].run(metrics).rc == 0


# Empty without a fault, a pause, a release or a certificate.
QUIET_PANELS = {
    "Oldest job",
    "Processes not RUNNING",
    "Processes that restart again and again",
    "Paused functions, seconds",
    "Releases, seconds since",
    "Certificates, seconds left",
}


def test_every_query_of_the_dashboard_finds_something(lab):
    from pathlib import Path

    dashboard = Path(__file__).parents[3] / "monitoring/dashboard.json"
    for panel in json.loads(dashboard.read_text())["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$function", ".*").replace("$program", ".*")
            answer = query(lab, expression)
            assert answer["status"] == "success", expression
            if panel["title"] not in QUIET_PANELS:
                assert answer["data"]["result"], expression


def test_names_of_strangers_break_neither_metrics_nor_page(lab):
    """A client names functions with line feeds, quotes and kilobytes."""
    stranger = (
        "import socket, struct; s = socket.create_connection(('queue', 4730));"
        "names = [b'odd\\nname\" \\x1b[2J', b'<script>', b'x' * 4000, b'\\xff'];"
        "[s.sendall(b'\\0REQ' + struct.pack('>II', 1, len(n)) + n) for n in names];"
        "import time; time.sleep(1)"
    )
    lab["worker"].check_output("/usr/bin/python3 -c %s", stranger)

    def functions():
        found = query(lab, "gearman_workers")["data"]["result"]
        return {each["metric"]["function"] for each in found}

    lab.wait_until(lambda: 'odd\nname" \x1b[2J' in functions())
    assert len(query(lab, "up == 1")["data"]["result"]) == 2
    page = fetch(lab["queue"], "http://127.0.0.1:9418/")
    assert "&lt;script&gt;" in page and "\x1b" not in page


def test_only_prometheus_reaches_the_exporter(lab):
    look = "import socket; socket.create_connection(('worker', 9418), 20)"
    assert lab["queue"].run("/usr/bin/python3 -c %s", look).rc == 0
    assert "Connection refused" in lab["stranger"].run("/usr/bin/python3 -c %s", look).stderr


@pytest.mark.parametrize("name", ["queue", "worker"])
def test_it_runs_without_privileges(lab, name):
    host = lab[name]
    pid = host.check_output("pgrep -f 'gearvisor[ ]exporter' | head -1")
    assert host.check_output(f"stat -c %U /proc/{pid}") == "gearvisor-exporter"
