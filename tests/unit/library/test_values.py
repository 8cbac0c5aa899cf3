# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odd values of every option of every module end in a result or in one clear sentence, in check mode.

As Ansible hands them over: what its own argument specification refuses never gets here. 10,000 of them with
GEARVISOR_TEST_ALL. The options of programs have a test of their own, module_utils/supervisor/test_odd_values.
"""

import functools
import importlib
import os
import random
import socket

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host

CASES = 10_000 if os.environ.get("GEARVISOR_TEST_ALL") else 1_100
SEED = 20261127
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

# Per module, parameters that are fine.
FINE = {
    "gearman_authority": {"directory": "/x/authority", "hosts": {"h1": {"names": ["h1"]}}},
    "gearman_firewall": {"ports": [4730], "hosts": {"w1": ["192.0.2.1"]}},
    "gearman_function": {"name": "resize", "servers": ["127.0.0.1:1"]},
    "gearman_info": {"servers": ["127.0.0.1:1"]},
    "gearman_job": {"function": "resize", "servers": ["127.0.0.1:1"]},
    "gearman_job_server": {},
    "gearman_php_extension": {},
    "gearman_python_binding": {},
    "gearman_queue_database": {"type": "mysql", "password": "x"},
    "gearman_tunnel": {
        "ca": PEM,
        "certificate": PEM,
        "key": PEM,
        "serve": {"listen": "127.0.0.1", "name": "h1"},
        "servers": [{"name": "h2", "address": "192.0.2.2", "local_port": 4740}],
    },
    "supervisor_daemon": {"web": {"username": "u", "password": "p"}},
}
# What else the module asks Ansible to check.
RULES = {
    "gearman_job": {"mutually_exclusive": [("data", "data_base64")]},
    "gearman_tunnel": {"required_if": [("state", "present", ("ca", "certificate", "key"))]},
}
ODD = [
    None, True, False, 0, 1, -1, 22, 80, 65535, 65536, 2**31, 2**63, 10**400,
    0.5, -1.5, 1e308, float("inf"), float("-inf"), float("nan"),
    "", " ", "0", "-1", "1e3", "٣", "9" * 5000, "true", "absent", "present",
    "\0", "a\0b", "\n", "a\nb", "\r", "\x1b[31m", "\x7f", "\ud800", "\udcff", "\u2028", "é", "💥", "a b", "a\tb",
    "%", "%s", "%(x)s", "{{ x }}", ";", "#", "'", '"', "\\", "`x`", "$(x)", "[section]", "a=b",
    "/", "//", "/..", "/../../etc/passwd", "~", "~root/x", ".", "..", "a/b", "/dev/zero", "/dev/stdout",
    "/proc/self/mem", "/etc/passwd", "/tmp", "/a" * 3000, "x" * 100_000, "-x", "--", "--index-url=http://x", "root",
    "4294967296", "1.1.20*", ">=2", "==", "mail", "mail[x]==1", "git+https://x", "file:///etc/passwd", "https://", "http://[",
    "::1", "[::1]:4730", "[::1", "h:0", "h:99999", "h:4730:1", "192.0.2.0/33", "192.0.2.300", "0.0.0.0", "localhost",
    "sha256:x", "sha256:" + "0" * 64, "libsqlite3", "mysql", PEM, "-----BEGIN",
    [], {}, [None], [[]], [{}], ["a", "b"], [1, "2", None], ["a\nb"], [""], ["x"] * 2000, list(range(300)),
    {"": ""}, {"a": None}, {"a": {"b": [1]}}, {"a\nb": "c"}, {1: 2}, {"type": "libsqlite3"}, {"type": "mysql"},
    {"name": "h1"}, {"listen": "x", "name": "\n"}, {f"a{n}": n for n in range(1000)},
    [{"name": "f"}], [{"name": "f", "max_queue": [1, 2, 3]}], [{"name": "a b", "max_queue": [-1]}],
]  # fmt: skip


def nested(chance, value):
    """The value, alone or somewhere below."""
    return chance.choice([value, [value], {"name": value}, {"h1": value}, {"h1": [value]}, value])


def cases(chance, name, arguments, fine):
    """Parameters with one to three odd values, as Ansible's check of them lets through."""
    validator = ArgumentSpecValidator(arguments, **RULES.get(name, {}))
    while True:
        given = dict(fine)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            option = chance.choice([key for key in arguments if key != "lock_timeout"])
            value = nested(chance, chance.choice(ODD))
            part = given.get(option)
            if isinstance(part, dict) and chance.randrange(2):
                keys = ["odd", *part, *arguments[option].get("options", ())]
                value = {**part, chance.choice(keys): value}
            given[option] = value
        if given.get("state") == "absent" and chance.randrange(2):
            continue
        try:
            result = validator.validate(given)
        except Exception:
            # Ansible's own error, before any module starts.
            continue
        if not result.error_messages:
            yield result.validated_parameters


@pytest.fixture
def no_names(monkeypatch):
    """No name resolves: it would be asked for over the network."""

    def refuse(host, *_arguments, **_options):
        if host in ("127.0.0.1", "::1", "localhost"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def described(case, params):
    return f"case {case}: {str(params)[:2000]}"


@pytest.mark.parametrize("name", FINE)
def test_odd_values_end_in_a_result_or_in_a_sentence(name, tmp_path, no_names, ends_well):
    module = importlib.import_module(
        f"ansible_collections.gearvisor.gearvisor.plugins.modules.{name}"
    )
    entry = (
        getattr(module, "converge", None)
        or {
            "gearman_function": lambda: module.function.converge,
            "gearman_info": lambda: module.info.gather,
            "gearman_job": lambda: module.job.submit,
            "gearman_job_server": lambda: module.server.converge,
            "gearman_queue_database": lambda: module.queue_database.converge,
        }[name]()
    )
    for directory in ("etc/rc2.d", "run/systemd/system"):
        (tmp_path / directory).mkdir(parents=True)
    chance = random.Random(f"{SEED}{name}")
    given = cases(chance, name, module.ARGUMENTS, FINE[name])
    done, number = 0, CASES // len(FINE)
    for case in range(number):
        params = next(given)
        host = Host(lambda *_arguments, **_options: (1, "", "no"), True, root=str(tmp_path))
        done += ends_well(
            functools.partial(entry, params, host), functools.partial(described, case, params)
        )
    assert done < number
    print(f"{name}: {done} results, {number - done} sentences")
