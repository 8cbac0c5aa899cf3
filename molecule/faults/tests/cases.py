"""What each module is cut off in: its arguments before and after a change, and what then runs on the host."""

import types


class Programs:
    """supervisor_programs: a fleet that grows, shrinks, changes and keeps."""

    module = "supervisor_programs"

    @staticmethod
    def arguments(after):
        def program(numprocs, release="1"):
            return {
                "command": "/bin/sleep 100000",
                "numprocs": numprocs,
                "environment": {"RELEASE": release},
                "startsecs": 0,
            }

        programs = {"keep": program(2), "load": program(2 if after else 3, "2" if after else "1")}
        programs["comes" if after else "goes"] = program(1)
        return {"programs": programs, "fleet": "faults", "purge": True, "wait_timeout": 30}

    @staticmethod
    def running(target):
        """Return {process: (state, its RELEASE)} and the pids of what is kept."""
        states, pids = {}, {}
        for line in target.shell("supervisorctl status").splitlines():
            name, state, *rest = line.split()
            if name.startswith("retry-fatal"):
                continue
            pid = rest[1].rstrip(",") if state == "RUNNING" else "0"
            found = target.shell(f"tr '\\0' '\\n' </proc/{pid}/environ | grep ^RELEASE=")
            states[name] = (state, found.strip())
            if name.startswith("keep"):
                pids[name] = pid
        orphans = target.shell("pgrep -c -f '^/bin/sleep 100000'").strip()
        return {**states, "sleeping": orphans}, pids


class JobServer:
    """gearman_job_server: a restart with jobs in its queue, which is a file."""

    module = "gearman_job_server"
    function = "waits"
    queue = types.MappingProxyType({"type": "libsqlite3", "path": "/var/lib/gearman/faults.db"})

    @classmethod
    def arguments(cls, after):
        return {"queue": dict(cls.queue), "job_retries": 2 if after else 1}

    @staticmethod
    def prepare(target):
        if "waits\t3" not in target.shell("gearadmin --status"):
            for number in range(3):
                target.shell(f"gearman -b -f waits -u job-{number} x")

    @classmethod
    def running(cls, target):
        shown = target.shell("gearadmin --status; gearadmin --show-unique-jobs | sort")
        assert cls.function in shown, shown
        process = target.shell("tr '\\0' ' ' </proc/$(pgrep -x gearmand)/cmdline")
        return {"answers": shown, "command": process}, {}


class Drained(JobServer):
    """The same, closed to new jobs first, with a queue in memory that is empty."""

    @classmethod
    def arguments(cls, after):
        return {
            "queue": {"type": "builtin"},
            "job_retries": 2 if after else 1,
            "restart": "drain",
            "drain_timeout": 30,
        }

    @staticmethod
    def prepare(target):
        # A function that a worker has served, so that there is one to close.
        target.shell("gearman -b -f seen x; timeout 5 gearman -w -c 1 -f seen -- cat")

    @classmethod
    def running(cls, target):
        """It takes jobs, whatever was closed."""
        accepted = target.shell("gearman -b -f seen x && gearadmin --status | grep ^seen")
        assert "seen\t1\t" in accepted, accepted
        target.shell("timeout 5 gearman -w -c 1 -f seen -- cat")
        process = target.shell("tr '\\0' ' ' </proc/$(pgrep -x gearmand)/cmdline")
        return {"accepted": accepted, "command": process}, {}


class Release:
    """supervisor_programs: a rollout of a release of two programs, in batches; what is cut off ends in one release."""

    module = "supervisor_programs"
    place = "/srv/release"

    @classmethod
    def set_up(cls, target):
        for number in (1, 2):
            work = f"{cls.place}/{number}/work"
            target.shell(
                f"mkdir -p {cls.place}/{number}; printf '#!/bin/sh\\nexec sleep 200000\\n' >{work}; chmod 755 {work}"
            )

    @classmethod
    def arguments(cls, after):
        link = f"{cls.place}/current"
        program = {
            "command": f"{link}/work",
            "directory": link,
            "startsecs": 0,
            "release": {"link": link, "target": f"{cls.place}/{2 if after else 1}"},
        }
        # Programs that share a release wait for each other's first batch.
        programs = {"app": {**program, "numprocs": 4}, "web": {**program, "numprocs": 2}}
        return {"programs": programs, "fleet": "release", "purge": True, "batch": 2}

    @classmethod
    def running(cls, target):
        states = {"link": target.shell(f"readlink {cls.place}/current")}
        for line in target.shell("supervisorctl status | grep -E '^(app|web)'").splitlines():
            name, state, *rest = line.split()
            pid = rest[1].rstrip(",") if state == "RUNNING" else "0"
            states[name] = (state, target.shell(f"readlink /proc/{pid}/cwd"))
        return {**states, "sleeping": target.shell("pgrep -c -f '^sleep 200000'")}, {}


class Daemon:
    """supervisor_daemon: other limits, for which supervisord starts again."""

    module = "supervisor_daemon"

    @staticmethod
    def arguments(after):
        return {"minfds": 4096 if after else 8192, "stop_timeout": 100 if after else 330}

    @staticmethod
    def running(target):
        names = target.shell("supervisorctl status | awk '{print $1, $2}' | sort")
        limit = target.shell("grep 'open files' /proc/$(supervisorctl pid)/limits")
        return {
            "programs": names,
            "limit": limit,
            "number": target.shell("pgrep -c supervisord"),
        }, {}


class Firewall:
    """gearman_firewall: more ports and other hosts."""

    module = "gearman_firewall"

    @staticmethod
    def arguments(after):
        if after:
            return {"ports": [4730, 4731], "networks": ["192.0.2.0/25"], "monitoring_ports": [9418]}
        return {"ports": [4730], "hosts": {"w1": ["192.0.2.1", "2001:db8::1"]}}

    @staticmethod
    def running(target):
        table = target.shell("nft --stateless list ruleset")
        unit = target.shell(
            "systemctl is-active gearman-firewall; systemctl is-enabled gearman-firewall"
        )
        return {"table": table, "unit": unit}, {}


class Tunnel:
    """gearman_tunnel: another port, which stunnel has to listen on."""

    module = "gearman_tunnel"
    address = ""
    identity = types.MappingProxyType({})

    @classmethod
    def set_up(cls, target):
        hosts = {"h1": {"names": ["h1"], "server": True}}
        place = "/root/authority"
        target.converged("gearman_authority", {"directory": place, "hosts": hosts})
        files = {"ca": "ca.pem", "certificate": "hosts/h1.pem", "key": "hosts/h1.key"}
        cls.address = target.shell("hostname --all-ip-addresses").split()[0]
        cls.identity = {name: target.shell(f"cat {place}/{file}") for name, file in files.items()}

    @classmethod
    def arguments(cls, after):
        serve = {"listen": cls.address, "name": "h1", "port": 4733 if after else 4731}
        return {"serve": serve, **cls.identity}

    @staticmethod
    def running(target):
        ports = target.shell("ss -Hltn '( sport >= 4731 and sport <= 4733 )' | awk '{print $4}'")
        return {"ports": ports, "number": target.shell("pgrep -c stunnel")}, {}


class Python:
    """gearman_python_binding: a virtual environment that gets one more package."""

    module = "gearman_python_binding"

    @staticmethod
    def arguments(after):
        return {"requirements": ["six==1.16.0"] if after else []}

    @staticmethod
    def running(target):
        venv = "/opt/gearvisor/venv"
        return {
            "packages": target.shell(f"{venv}/bin/python -m pip list --format freeze 2>&1"),
            "command": target.shell(f"{venv}/bin/gearvisor --version"),
            # Former builds stay for programs that run from them.
            "unfinished": target.shell("ls -A /opt/gearvisor | grep -v ^venv"),
        }, {}


class Php:
    """gearman_php_extension: it comes from Debian's archive."""

    module = "gearman_php_extension"

    @staticmethod
    def set_up(target):
        target.shell("apt-get install -y --no-install-recommends php-cli")

    @staticmethod
    def arguments(after):
        return {"state": "present" if after else "absent"}

    @staticmethod
    def running(target):
        loaded = target.shell("php -m 2>/dev/null | grep -c gearman")
        packages = target.shell(
            "dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' 'php*gearman'"
        )
        return {"loaded": loaded, "packages": packages}, {}


class Database:
    """gearman_queue_database: another password for gearmand's user."""

    module = "gearman_queue_database"

    @staticmethod
    def set_up(target):
        target.shell("apt-get install -y --no-install-recommends mariadb-server")

    @staticmethod
    def arguments(after):
        return {"type": "mysql", "password": "after" if after else "before"}

    @staticmethod
    def running(target):
        sign_in = "mariadb -h localhost -u gearman -p{} -e 'select 1' gearman 2>&1 | head -1"
        return {word: target.shell(sign_in.format(word)) for word in ("before", "after")}, {}


# By name: the case, its host, and whether a usual run tries it, too.
CASES = {
    "programs": (Programs, "plain", True),
    "job server": (JobServer, "booted", True),
    "drain": (Drained, "plain", True),
    "release": (Release, "other", True),
    "firewall": (Firewall, "other", True),
    "daemon": (Daemon, "other", False),
    "tunnel": (Tunnel, "other", False),
    "python": (Python, "other", False),
    "php": (Php, "other", False),
    "database": (Database, "other", False),
}
# Of these each step takes long: with GEARVISOR_TEST_ALL a sample of them is tried, too.
SLOW = ("daemon", "python", "php", "database")
