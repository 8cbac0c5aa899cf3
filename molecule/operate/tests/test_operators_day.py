"""Each task of an operator's day is answered by one command, for Python and PHP alike."""

import json
import re
import time

import pytest

GEARVISOR = "/opt/gearvisor/venv/bin/gearvisor"
APPLICATIONS = {"py": ("mail-app", "mail"), "php": ("shop-app", "shop")}

each_application = pytest.mark.parametrize("language", APPLICATIONS)


def gearvisor(host, *arguments):
    return host.check_output(" ".join([GEARVISOR, *("%s" for _ in arguments)]), *arguments)


def document(host, *arguments):
    return json.loads(gearvisor(host, *arguments, "--json"))


def submit(host, function, *data):
    command = (
        f"for each in {' '.join(data)}; do {GEARVISOR} submit --background {function} $each; done"
    )
    host.check_output(command)


def top(host):
    return document(host, "top", "--once")


def says(host, pattern):
    return any(re.search(pattern, each["text"]) for each in top(host)["diagnosis"])


def failed(host, function):
    return document(host, "failed", "list", "--function", function)["entries"]


@pytest.fixture(autouse=True)
def _clean(host, lab):
    yield
    host.run("rm -f /tmp/broken")
    gearvisor(host, "resume", "--all")
    gearvisor(host, "failed", "drop", "--all")


def test_workers_show_what_they_are(host, lab):
    workers = lab.wait_until(
        lambda: (
            [each for each in top(host)["workers"] if each["alive"]][3:] and top(host)["workers"]
        )
    )
    assert {each["process"] for each in workers} == {"mail_00", "mail_01", "shop_00", "shop_01"}
    assert {each["user"] for each in workers} == {"mail-app", "shop-app"}
    assert {each["language"] for each in workers} == {"python", "php"}
    assert all(each["rss"] > 5 and each["client_id"].startswith("trixie/") for each in workers)


@each_application
def test_why_the_queue_grows(host, lab, language):
    """Jobs that run, for how long, and how long the oldest waits."""
    submit(host, f"{language}_work", *["8"] * 6)
    lab.wait_until(
        lambda: says(host, rf"2 of 2 workers of {language}_work are busy; \d jobs? waiting")
    )
    seen = top(host)
    assert 0 < seen["servers"][0]["oldest"] < 60
    busy = [each["job"] for each in seen["workers"] if each["job"]]
    assert [each["function"] for each in busy] == [f"{language}_work"] * 2
    assert all(0 <= time.time() - each["since"] < 30 for each in busy)
    lab.wait_until(lambda: seen["functions"][f"{language}_work"]["waiting"] and not top(host)[
        "functions"][f"{language}_work"]["running"])  # fmt: skip


def test_no_worker_serves_it(host, lab):
    submit(host, "nobody_serves_this", "x")
    assert says(host, "no worker serves nobody_serves_this; 1 job waiting")
    lab.module("trixie", "gearman_function",
               {"name": "nobody_serves_this", "state": "absent", "cancel": True})  # fmt: skip


@each_application
def test_failed_jobs_are_kept_shown_retried_and_dropped(host, lab, language):
    user, _ = APPLICATIONS[language]
    host.check_output("touch /tmp/broken")
    submit(host, f"{language}_fail", "one", "two")
    entries = lab.wait_until(lambda: failed(host, f"{language}_fail")[1:] and failed(
        host, f"{language}_fail"))  # fmt: skip
    assert {each["user"] for each in entries} == {user}
    assert all("the disk is full: " in each["error"] for each in entries)
    one = next(each["id"] for each in entries if each["error"].endswith("one"))
    assert "payload    3 bytes: one" in gearvisor(host, "failed", "show", one)

    gearvisor(host, "failed", "retry", one)
    again = lab.wait_until(
        lambda: [each for each in failed(host, f"{language}_fail") if each["times"] == 2]
    )
    assert [each["id"] for each in again] == [one], "one entry with one attempt more"

    host.check_output("rm /tmp/broken")
    assert gearvisor(host, "failed", "retry", "--all") == "2 submitted again"
    lab.wait_until(lambda: not top(host)["functions"][f"{language}_fail"]["running"])
    time.sleep(1)
    assert failed(host, f"{language}_fail") == []


@each_application
def test_a_job_that_kills_its_worker_is_known(host, lab, language):
    """Its worker is gone within a moment; what it did is not."""
    _, program = APPLICATIONS[language]
    gearvisor(host, "submit", "--background", "--unique", f"poison-{language}",
              f"{language}_poison", "x")  # fmt: skip
    log = f"cat /var/log/gearman-worker/{program}_0*.log"
    lab.wait_until(lambda: f"unique poison-{language}" in host.check_output(log))
    assert re.search(rf"died in job H:\S+ of function {language}_poison", host.check_output(log))
    lab.wait_until(lambda: says(host, "times a worker of this host died in a job"))
    lab.wait_until(lambda: sum(each["alive"] for each in top(host)["workers"]) == 4)


@each_application
def test_a_hung_job_is_found_and_ended(host, lab, language):
    """Which job of which process, since when; and its process is ended by name."""
    submit(host, f"{language}_work", "3000")

    def hung():
        return [each for each in top(host)["workers"] if each["job"] and each["alive"]]

    (worker,) = lab.wait_until(hung)
    assert worker["job"]["function"] == f"{language}_work"
    assert f"{language}_work" in gearvisor(host, "status", "--workers")
    # The job is handed to another worker, which would hang as well.
    gearvisor(host, "pause", f"{language}_work")
    lab.wait_until(
        lambda: sum(f"{language}_work" in each["paused"] for each in top(host)["workers"]) >= 1
    )
    process = worker["process"]
    host.check_output(f"supervisorctl signal KILL {process}:{process}")
    lab.wait_until(lambda: not hung())
    lab.wait_until(lambda: sum(each["alive"] for each in top(host)["workers"]) == 4)
    gearvisor(host, "cancel", f"{language}_work")
    lab.wait_until(lambda: not top(host)["functions"][f"{language}_work"]["waiting"])


@each_application
def test_a_leak_shows_which_worker(host, lab, language):
    _, program = APPLICATIONS[language]
    assert gearvisor(host, "submit", "--timeout", "60", f"{language}_leak", "x") == ""
    large = lab.wait_until(lambda: [each for each in top(host)["workers"] if each["rss"] > 200])
    assert [each["process"].rpartition("_")[0] for each in large] == [program]
    process = large[0]["process"]
    host.check_output(f"supervisorctl restart {process}:{process}")
    lab.wait_until(lambda: all(each["rss"] < 200 for each in top(host)["workers"]))


@each_application
def test_waiting_jobs_are_cancelled_and_kept(host, lab, language):
    """Their payloads come back by a retry, when the function may run again."""
    function = f"{language}_work"
    gearvisor(host, "pause", function)
    lab.wait_until(lambda: sum(function in each["paused"] for each in top(host)["workers"]) == 2)
    submit(host, function, "0.01", "0.02", "0.03")
    lab.wait_until(lambda: top(host)["functions"][function]["waiting"] == 3)
    gearvisor(host, "cancel", function)
    entries = failed(host, function)
    shown = [gearvisor(host, "failed", "show", each["id"]) for each in entries]
    assert sorted(text.rpartition("bytes: ")[2].strip() for text in shown) == [
        "0.01",
        "0.02",
        "0.03",
    ]
    assert top(host)["functions"][function]["waiting"] == 0
    gearvisor(host, "resume", function)
    assert gearvisor(host, "failed", "retry", "--all") == "3 submitted again"
    lab.wait_until(lambda: not top(host)["functions"][function]["waiting"])


@each_application
def test_pause_stops_a_function_and_nothing_else(host, lab, language):
    gearvisor(host, "pause", f"{language}_work")
    lab.wait_until(
        lambda: sum(f"{language}_work" in each["paused"] for each in top(host)["workers"]) == 2
    )
    submit(host, f"{language}_work", "0")
    assert gearvisor(host, "submit", "--timeout", "60", f"{language}_fail", "x") == "fine"
    assert says(host, f"{language}_work is paused since .*; 1 job waiting")
    host.check_output("supervisorctl restart all")
    lab.wait_until(lambda: sum(each["alive"] for each in top(host)["workers"]) == 4)
    time.sleep(2)
    assert top(host)["functions"][f"{language}_work"]["waiting"] == 1, "still, after a restart"
    gearvisor(host, "resume", f"{language}_work")
    lab.wait_until(lambda: not top(host)["functions"][f"{language}_work"]["waiting"])


# What serves the function on the new host: a pause of the old one does not concern it.
ELSEWHERE = {
    "py": f"cd /srv/mail && {GEARVISOR} worker --client-id elsewhere --paused-dir '' tasks",
    "php": "/usr/bin/php /opt/gearvisor/php/worker.php --client-id elsewhere --paused-dir ''"
    " --functions /srv/shop/functions.php",
}


@each_application
def test_a_function_moves_without_a_gap(host, lab, language):
    """docs/troubleshooting.md, "Move a function": served there, paused here, taken out here."""
    function = f"{language}_work"
    unit = f"systemd-run --unit elsewhere-{language} --setenv GEARVISOR_SERVERS=127.0.0.1:4730"
    host.check_output(f"{unit} sh -c %s", ELSEWHERE[language])
    try:
        lab.wait_until(lambda: top(host)["functions"][function]["workers"] == 3)
        flow = (
            f"for i in $(seq 300); do {GEARVISOR} submit --timeout 60 {function} 0.01 || exit; done"
        )
        host.check_output(f"systemd-run --unit flow-{language} sh -c %s", flow)
        gearvisor(host, "pause", function)
        lab.wait_until(lambda: top(host)["functions"][function]["workers"] == 1)
        here = [each["job"] for each in top(host)["workers"] if each["client_id"] != "elsewhere"]
        assert not [job for job in here if job and job["function"] == function]
        # The jobs go on, one after the other, and each is answered.
        lab.wait_until(lambda: host.run(f"systemctl is-active flow-{language}").rc != 0, 180)
        assert host.run(f"systemctl is-failed --quiet flow-{language}").rc != 0
        assert top(host)["functions"][function]["waiting"] == 0
    finally:
        host.run(f"systemctl stop elsewhere-{language} flow-{language}")
    gearvisor(host, "resume", function)


def test_neither_application_sees_the_others_payloads(host, lab):
    host.check_output("touch /tmp/broken")
    submit(host, "py_fail", "secret_of_mail")
    submit(host, "php_fail", "secret_of_shop")
    lab.wait_until(lambda: failed(host, "py_fail") and failed(host, "php_fail"))
    for user, other in (("mail-app", "shop-app"), ("shop-app", "mail-app")):
        for path in (f"/var/lib/gearvisor/failed/{other}", f"/run/gearvisor/{other}"):
            assert host.run(f"runuser -u {user} -- ls {path}").rc != 0
        own = host.check_output(f"runuser -u {user} -- {GEARVISOR} failed list --json")
        assert {each["user"] for each in json.loads(own)["entries"]} == {user}


def test_playbooks_do_it_for_the_fleet(host, lab):
    host.check_output("touch /tmp/broken")
    submit(host, "py_fail", "x")
    lab.wait_until(lambda: failed(host, "py_fail"))
    assert "all is well" in lab.play("playbooks/status.yml")[1]
    assert "the disk is full: x" in lab.play("playbooks/failed.yml")[1]
    arguments = [
        "-e",
        "gearman_worker_failed_action=drop",
        "-e",
        "gearman_worker_failed_function=py_fail",
    ]
    assert lab.play("playbooks/failed.yml", *arguments)[0]["trixie"]["changed"] == 1
    assert failed(host, "py_fail") == []
    assert lab.play("playbooks/failed.yml", *arguments)[0]["trixie"]["changed"] == 0
    functions = ["-e", '{"gearman_worker_pause_functions": ["py_work"]}']
    assert lab.play("playbooks/pause.yml", *functions)[0]["trixie"]["changed"] == 1
    assert "py_work is paused since" in gearvisor(host, "pause")
    resumed = [*functions, "-e", "gearman_worker_pause_state=resumed"]
    assert lab.play("playbooks/pause.yml", *resumed)[0]["trixie"]["changed"] == 1
    assert gearvisor(host, "pause") == "no function is paused"


def test_the_exporter_sees_it_all_without_privileges(host, lab):
    assert (
        host.check_output("systemctl show -p User --value gearvisor-exporter")
        == "gearvisor-exporter"
    )
    metrics = host.check_output("/opt/gearvisor/venv/bin/python -c %s", (
        "from urllib.request import urlopen;"
        "print(urlopen('http://127.0.0.1:9418/metrics').read().decode())"
    ))  # fmt: skip
    assert 'gearman_up{server="127.0.0.1:4730"} 1' in metrics
    assert 'supervisor_process_state{program="shop",process="shop_00"} 20' in metrics
    assert re.search(
        r'gearvisor_worker_start_time_seconds\{user="mail-app".*process="mail_01"', metrics
    )
    denied = host.run("runuser -u gearvisor-exporter -- supervisorctl status")
    assert denied.rc != 0 or "denied" in (denied.stdout + denied.stderr).lower()
