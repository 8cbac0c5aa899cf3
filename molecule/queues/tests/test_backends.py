"""5,000 background jobs of mixed priority, kill -9, start, drain with a worker: what is there again."""

import collections
import json

import pytest

pytestmark = pytest.mark.on("trixie")
NUMBER = 5000
PRIORITIES = ("high", "normal", "low")
PASSWORD = "Lab--#%$`&;|<>()[]{}!?*~^=+,.:/@_secret"
DATABASES = {
    "libsqlite3": {},
    "mysql": {"password": PASSWORD},
    "postgres": {"password": PASSWORD, "host": "127.0.0.1", "accept_known_defects": True},
    "redis": {"accept_known_defects": True},
    "memcached": {"accept_known_defects": True},
}


def load(host, *arguments):
    command = " ".join(["cd /srv/queues && python3 load.py", *arguments])
    return json.loads(host.run(command).stdout)


def pid(host):
    return host.check_output("systemctl show --property MainPID --value gearman-job-server")


def set_queue(lab, kind):
    queue = {"type": kind, **DATABASES.get(kind, {})}
    result = lab.module("trixie", "gearman_job_server", {"queue": queue, "restart": "force"})
    assert not result["failed"], result
    return result


def kill(lab, host):
    """kill -9, and wait until systemd has brought it back and it answers."""
    old = pid(host)
    host.check_output(f"kill -9 {old}")
    lab.wait_until(lambda: pid(host) not in (old, "0"))
    answers(lab, host)


def answers(lab, host):
    lab.wait_until(lambda: host.run("cd /srv/queues && python3 load.py submit 0").rc == 0)


def crash(lab, host, kind):
    """Return the [(function, unique, payload)] that are left, in the order a worker gets them."""
    set_queue(lab, kind)
    load(host, "work")
    assert load(host, "submit", str(NUMBER)) == {"submitted": NUMBER}
    kill(lab, host)
    jobs = load(host, "work")["jobs"]
    print(kind, "accepted", NUMBER, "there again", len(jobs))
    return jobs


def expected():
    return {
        f"{PRIORITIES[index % 3]}-{index}": f"{index:05d}".encode() + bytes([index % 256, 0, 255])
        for index in range(NUMBER)
    }


@pytest.mark.parametrize("kind", ["libsqlite3", "mysql"])
def test_no_job_is_lost_or_altered(lab, host, kind):
    jobs = crash(lab, host, kind)
    assert {unique: bytes.fromhex(payload) for _function, unique, payload in jobs} == expected()
    assert len(jobs) == NUMBER
    assert {function for function, _unique, _payload in jobs} == {"load-test"}
    # High before normal before low.
    order = [PRIORITIES.index(unique.split("-")[0]) for _function, unique, _payload in jobs]
    assert order == sorted(order)
    # None of them comes again.
    kill(lab, host)
    assert load(host, "work") == {"jobs": []}


def test_postgres_forgets_priorities(lab, host):
    """Nothing is lost, but all is of one priority: were it kept, the order would be sorted."""
    jobs = crash(lab, host, "postgres")
    assert {unique for _function, unique, _payload in jobs} == set(expected())
    order = [PRIORITIES.index(unique.split("-")[0]) for _function, unique, _payload in jobs]
    assert order != sorted(order)


def test_redis_cuts_payloads_and_renames_functions(lab, host):
    jobs = crash(lab, host, "redis")
    payloads = expected()
    assert {function for function, _unique, _payload in jobs} != {"load-test"}
    whole = [job for job in jobs if payloads.get(job[1]) == bytes.fromhex(job[2])]
    assert whole == []


def test_memcached_renames_functions_and_loses_jobs(lab, host):
    jobs = crash(lab, host, "memcached")
    assert {function for function, _unique, _payload in jobs} == {"load"}
    # Which stop loses some, and how many, varies.
    left = []
    while not left or (left[-1] == NUMBER and len(left) < 5):
        load(host, "submit", str(NUMBER))
        host.check_output("systemctl restart gearman-job-server")
        answers(lab, host)
        left.append(len(load(host, "work")["jobs"]))
    print("memcached accepted", NUMBER, "there again after stops", left)
    assert left[-1] < NUMBER


def test_builtin_loses_all(lab, host):
    assert crash(lab, host, "builtin") == []


def test_defects_are_refused_by_name(lab):
    for kind, word in (("postgres", "high priority"), ("redis", "NUL"), ("memcached", "lose")):
        result = lab.module("trixie", "gearman_job_server", {"queue": {"type": kind}})
        assert result["failed"]
        assert word in result["msg"]


def test_the_password_is_nowhere_to_be_read(lab, host):
    """Of all places on the host and in all output, but gearmand's file."""
    result = set_queue(lab, "mysql")
    assert PASSWORD not in json.dumps(result)
    database = {"type": "mysql", "password": PASSWORD}
    assert PASSWORD not in json.dumps(lab.module("trixie", "gearman_queue_database", database))
    config = host.file("/etc/gearman/gearmand.conf")
    assert PASSWORD in config.content_string
    assert (config.mode, config.user, config.group) == (0o640, "root", "gearman")
    assert PASSWORD not in host.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert PASSWORD not in host.check_output("journalctl --no-pager")
    logs = host.run("cat /var/log/mysql/* /var/log/postgresql/* /var/log/redis/*")
    assert "database system is ready" in logs.stdout
    assert PASSWORD not in logs.stdout


def test_a_wrong_password_brings_the_old_server_back(lab, host):
    set_queue(lab, "mysql")
    before = host.file("/etc/gearman/gearmand.conf").content_string
    queue = {"type": "mysql", "password": "wrong-secret"}
    result = lab.module("trixie", "gearman_job_server", {"queue": queue})
    assert result["failed"]
    assert "The old configuration is back" in result["msg"]
    assert "wrong-secret" not in json.dumps(result)
    assert host.file("/etc/gearman/gearmand.conf").content_string == before
    assert collections.Counter(load(host, "submit", "3")) == {"submitted": 3}
    assert len(load(host, "work")["jobs"]) == 3
