"""The article's own block: twelve processes, one log name for both channels, rotation at 1 MB."""

import pytest

SUBMIT = """
import concurrent.futures
from gearvisor.client import Client

def submit(number):
    with Client(["127.0.0.1:4730"], timeout=60) as client:
        return client.submit("log_lines", f"job{number} 2000".encode()).data

with concurrent.futures.ThreadPoolExecutor(12) as pool:
    print(len(set(pool.map(submit, range(12)))))
"""


@pytest.mark.on("bookworm", "plain")
def test_no_log_line_is_lost_to_rotation(host, lab):
    host.check_output("printf %%s %s > /tmp/submit.py", SUBMIT)
    assert int(host.check_output("/opt/gearvisor/venv/bin/python /tmp/submit.py")) > 1
    # supervisord may still be reading what the last jobs wrote.
    lines = "cat /var/log/app/* | grep -aoE '^job[0-9]+-[0-9]+' | sort -u | wc -l"
    lab.wait_until(lambda: int(host.check_output(lines)) == 12 * 2000)
    rotated = host.check_output("ls /var/log/app").split()
    assert any(name.endswith(".log.1") for name in rotated)
    torn = host.run("cat /var/log/app/* | grep -a '^job' | grep -avE '^job[0-9]+-[0-9]+[.]+$'")
    assert torn.stdout == ""
