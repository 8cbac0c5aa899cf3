"""Every client to every worker, with binary payloads."""

import base64
import hashlib

import pytest

PAYLOADS = {
    "all byte values": bytes(range(256)),
    "empty": b"",
    "1 MiB": hashlib.sha256(b"gearvisor").digest() * (1024 * 1024 // 32),
}
CLIENTS = {
    "php": "php /opt/gearvisor/php/client.php {function} -",
    "python": "/opt/gearvisor/venv/bin/gearvisor submit {function} -",
    "gearman tool": "gearman -h 127.0.0.1 -f {function}",
}


@pytest.fixture(scope="module", params=PAYLOADS)
def payload(request, host):
    data = PAYLOADS[request.param]
    # Through a file, since a megabyte does not fit into a command line.
    encoded = base64.b64encode(data).decode()
    host.run("rm -f /tmp/payload.b64")
    for start in range(0, len(encoded), 100_000):
        host.check_output("printf %%s %s >> /tmp/payload.b64", encoded[start : start + 100_000])
    host.check_output("touch /tmp/payload.b64; base64 -d /tmp/payload.b64 > /tmp/payload")
    return data


@pytest.fixture(scope="module", autouse=True)
def gearman_tool(host):
    """Debian's command line client, which Gearvisor does not install, so it is not on the hosts yet."""
    if not host.exists("gearman"):
        # A package that starts nothing, unlike the metapackage gearman.
        host.check_output("apt-get -qq update && apt-get -qq -y install gearman-tools")


@pytest.mark.parametrize("function", ["reverse_php", "reverse_python"])
@pytest.mark.parametrize("client", CLIENTS)
def test_round_trip(host, payload, client, function):
    if client == "php" and not payload:
        # The extension itself takes no empty payload; the client reports that instead of sending another.
        refused = host.run(CLIENTS[client].format(function=function) + " < /tmp/payload")
        assert (refused.rc, "empty" in refused.stderr) == (2, True)
        return
    command = CLIENTS[client].format(function=function)
    answer = host.check_output(f"timeout 20 {command} < /tmp/payload | base64 --wrap=0")
    assert base64.b64decode(answer) == payload[::-1]


@pytest.mark.parametrize("client", ["php", "python"])
def test_a_failing_job_is_told_apart(host, client):
    done = host.run(CLIENTS[client].format(function="fail").replace(" -", " broken"))
    assert done.rc == 1
    assert "broken" in done.stderr


def test_the_reference_workers_are_named_and_probed(host):
    workers = host.check_output("gearadmin --workers")
    for function in ("reverse", "echo", "sleep", "fail"):
        assert function in workers
