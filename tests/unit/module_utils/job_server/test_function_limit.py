from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.client import Client
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.gearvisor.errors import (
    SubmitError,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    config,
    function_limit,
    options,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("127.0.0.1", 4730)),
        ("# --\n--listen=::\n--port=4731\n", ("::1", 4731)),
        ("--listen=0.0.0.0\n--keepalive\n", ("127.0.0.1", 4730)),
        ("--listen=jobs.example\n", ("jobs.example", 4730)),
    ],
)
def test_address(text, expected):
    assert function_limit.address(text) == expected


def test_commands():
    assert function_limit.commands({"b": [1, 2, 0], "a": [7]}) == [
        "create function a",
        "maxqueue a 7",
        "create function b",
        "maxqueue b 1 2 0",
    ]


def test_the_script_sets_the_limits_of_a_server_that_starts(start, port, tmp_path):
    """As the service does: the script is there before gearmand answers."""
    script, limits = tmp_path / "max_queue.py", tmp_path / "max_queue.json"
    script.write_text(config.max_queue_script())
    limits.write_text(json.dumps({"resize": [3]}))
    conf = tmp_path / "gearmand.conf"
    conf.write_text(config.config_text(options.Settings(port=port)))
    process = subprocess.Popen(
        [sys.executable, script, conf, limits], stderr=subprocess.PIPE, text=True
    )
    start([config.GEARMAND, f"--config-file={conf}", "--log-file=none"], port)
    assert process.communicate(timeout=60)[1] == ""
    with Client([f"127.0.0.1:{port}"]) as client:
        for _ in range(3):
            client.submit("resize", background=True)
        with pytest.raises(SubmitError, match="full"):
            client.submit("resize", background=True)


@pytest.mark.parametrize("limits", [None, "{}"])
def test_without_limits_nobody_is_asked(limits, tmp_path):
    path = tmp_path / "max_queue.json"
    if limits is not None:
        path.write_text(limits)
    function_limit.main(str(tmp_path / "no.conf"), str(path))


def test_a_server_that_does_not_answer_is_reported(port, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(function_limit.send_commands, "__defaults__", (None, 0.1))
    (tmp_path / "max_queue.json").write_text('{"resize": [3]}')
    conf = tmp_path / "gearmand.conf"
    conf.write_text(config.config_text(options.Settings(port=port)))
    function_limit.main(str(conf), str(tmp_path / "max_queue.json"))
    assert "are not set" in capsys.readouterr().err


def test_a_server_that_is_gone_is_not_waited_for(port):
    gone = subprocess.Popen(["true"])
    gone.wait()
    started = time.monotonic()
    with pytest.raises(OSError, match="refused"):
        function_limit.send_commands("127.0.0.1", port, ["version"], gone.pid)
    assert time.monotonic() - started < 25
