# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter over HTTP and as a file, and the page."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import threading
import time
from html.parser import HTMLParser

import pytest
from gearvisor import certificate, exporter, metrics, observe, page
from gearvisor.cli import main
from test_metrics import ODD, SEEN, parse
from views import NOW, job, server, tally, view, worker


@pytest.fixture
def serve_view(monkeypatch):
    """serve_view(view): an exporter of it; the (host, port) that it listens on."""
    servers = []

    def start(seen, delay=0.0):
        def look(*_):
            time.sleep(delay)
            return seen

        monkeypatch.setattr(exporter, "observe", look)
        watcher = exporter.Watcher(exporter.Sources([], 1))
        servers.append(exporter.Server("127.0.0.1", 0, watcher))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_address

    yield start
    for each in servers:
        each.shutdown()
        each.server_close()


def get(address, path, method="GET"):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer, answer.read().decode()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/metrics", "text/plain"), ("/page.css", "text/css"),
     ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml"), ("/healthz", "text/plain")],
)  # fmt: skip
def test_what_is_served(serve_view, path, kind):
    address = serve_view(SEEN)
    answer, body = get(address, path)
    assert answer.status == 200 and answer.getheader("Content-Type").startswith(kind) and body
    assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
    assert get(address, path, "HEAD")[1] == ""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/etc/passwd", 404), ("GET", "/../..", 404), ("POST", "/", 501), ("PUT", "/", 501)],
)
def test_nothing_else(serve_view, method, path, status):
    assert get(serve_view(SEEN), path, method)[0].status == status


def test_one_look_answers_all_requests_of_a_moment(serve_view, monkeypatch):
    address = serve_view(SEEN, delay=0.2)
    looks = []
    look = exporter.observe
    monkeypatch.setattr(exporter, "observe", lambda *rest: looks.append(1) or look(*rest))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(get(address, "/metrics")[0].status))
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == [200] * 8 and len(looks) < 8


def test_clients_that_say_nothing_do_not_stop_the_others(serve_view):
    address = serve_view(SEEN)
    silent = [socket.create_connection(address) for _ in range(exporter.REQUESTS - 1)]
    assert get(address, "/healthz")[0].status == 200
    for each in silent:
        each.close()


class Reader(HTMLParser):
    """Collects the page's text and what it would load."""

    def __init__(self, source):
        super().__init__()
        self.text, self.loads, self.tags = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attributes)
        self.loads += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_works_without_javascript_and_asks_no_other_host():
    reader = Reader(page.page(SEEN, {"/a.pem": NOW + 40 * 86400}, "web1"))
    text = " ".join(reader.text)
    for expected in ("Gearvisor on web1", "does not answer", "resize", "mail_01", "1 min",
                     "died in its job", "40 days left", "paused"):  # fmt: skip
        assert expected in text
    assert set(reader.loads) == {"/icon.svg", "/page.css", "/page.js", "/metrics"}
    assert not re.search("https?://", page.page(SEEN, {}, "h") + page.STYLE + page.SCRIPT)


def test_names_of_strangers_never_become_markup():
    odd = [*ODD, "<script>alert(1)</script>", "</td><b>", "'\"&amp;"]
    seen = view(
        server(**{name: (1, 0, 0) for name in odd}),
        workers=[
            worker(name, job=job(function=name), release=name, functions={name: tally(1)})
            for name in odd
        ],
        failures=[observe.Failure(name, name, name, NOW, 1, name) for name in odd],
    )
    source = page.page(seen, {"<i>": NOW}, "<host>")
    plain = Reader(page.page(SEEN, {"a": NOW}, "web1"))
    reader = Reader(source)
    assert set(reader.tags) == set(plain.tags) and reader.tags.count("script") == 1
    assert "\x1b" not in source and "\u202e" not in source
    assert len(source) < 200_000


def test_a_failed_job_is_shown_without_its_payload():
    failure = observe.Failure("0190", "mail", "resize", NOW - 60, 2, "OSError: disk full")
    source = page.page(view(failures=[failure]), {}, "h")
    assert "OSError: disk full" in source and "1 min ago" in source


@pytest.fixture
def pem(tmp_path):
    def make(days):
        path = tmp_path / f"{days}.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-subj", "/CN=test", "-days", str(days), "-keyout", tmp_path / "key",
             "-out", path], check=True, capture_output=True,
        )  # fmt: skip
        return path

    return make


@pytest.mark.parametrize("days", [1, 365, 20_000])
def test_until_when_a_certificate_is_valid(pem, days):
    left = certificate.valid_until(pem(days).read_bytes()) - time.time()
    assert left == pytest.approx(days * 86400, abs=120)


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END"
                                     b" CERTIFICATE-----", b"\0" * 1000])  # fmt: skip
def test_other_content_is_no_certificate(content):
    with pytest.raises(ValueError):
        certificate.valid_until(content)


def test_a_damaged_certificate_is_refused_not_misread(pem):
    whole = pem(10).read_bytes()
    for cut in range(30, len(whole), 7):
        try:
            certificate.valid_until(whole[:cut] + b"-----END CERTIFICATE-----")
        except ValueError:
            continue


def test_the_command_serves_a_real_host(command, job_server, closed_port, wait_until, pem):
    process = command("exporter", "--listen", closed_port, "--server", job_server.address,
                      "--server", "127.0.0.1:1", "--certificate", pem(5))  # fmt: skip
    host, port = closed_port.split(":")

    def answers():
        try:
            return get((host, int(port)), "/metrics")[1]
        except OSError:
            return None

    samples = parse(wait_until(answers, "the exporter answers"))
    up = {dict(labels)["server"]: value for (name, labels), value in samples.items()
          if name == "gearman_up"}  # fmt: skip
    assert up == {job_server.address: 1, "127.0.0.1:1": 0}
    assert any(name.startswith("gearvisor_certificate") for name, _ in samples)
    process.terminate()
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, b"", b"")


def test_textfile(tmp_path, job_server, capfd):
    path = tmp_path / "gearvisor.prom"
    assert main(["exporter", "--textfile", str(path), "--server", job_server.address]) == 0
    assert parse(path.read_text())
    assert os.listdir(tmp_path) == ["gearvisor.prom"] and path.stat().st_mode & 0o777 == 0o644
    assert main(["exporter", "--textfile", str(tmp_path / "no/dir"), "--no-servers"]) == 2
    assert "--textfile" in capfd.readouterr().err


@pytest.mark.parametrize("listen", ["host", "9418", ":9418", "host:0", "::1:9418"])
def test_where_to_listen_is_checked(listen, capfd):
    with pytest.raises(SystemExit):
        main(["exporter", "--listen", listen])
    assert "is not HOST:PORT" in capfd.readouterr().err


def test_a_port_in_use_is_an_error_with_its_name(job_server, capfd):
    assert main(["exporter", "--no-servers", "--listen", job_server.address]) == 2
    assert f"--listen {job_server.address}: Address already in use" in capfd.readouterr().err


def test_a_thousand_workers_are_read_soon(tmp_path):
    import json

    (tmp_path / "mail").mkdir()
    for number in range(1000):
        facts = {"process": f"m_{number}", "pid": os.getpid(), "functions": {"f": {"done": 1}}}
        (tmp_path / "mail" / f"m_{number}.json").write_text(json.dumps(facts))
    started = time.process_time()
    seen = view(workers=observe.workers(str(tmp_path)))
    text = metrics.text(seen, {}, 0)
    assert time.process_time() - started < 3, "seconds of processor time; about 0.2 usually"
    assert len(seen.workers) == 1000 and parse(text)
