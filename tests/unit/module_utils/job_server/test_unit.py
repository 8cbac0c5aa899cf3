from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.job_server import (
    config,
    options,
    queues,
    unit,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import (
    options as supervisor_options,
)
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import sections

OF_0_1_0 = """# Written by Ansible (Gearvisor, gearman_job_server). Changes made here are lost.
[Unit]
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=simple
PIDFile=
EnvironmentFile=
UnsetEnvironment=GEARMAND_PORT
PermissionsStartOnly=false
ExecStartPre=
ExecStart=
ExecStart=@COMMAND@
ExecStartPost=-/usr/bin/python3 @LIMITS@
User=gearman
RuntimeDirectory=gearman
LimitNOFILE=65536
Restart=always
RestartSec=1
NoNewPrivileges=true
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=true
PrivateTmp=true
PrivateDevices=true
ProtectProc=invisible
ProcSubset=pid
ProtectClock=true
ProtectHostname=true
ProtectControlGroups=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
RemoveIPC=true
LockPersonality=true
MemoryDenyWriteExecute=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
"""


def test_drop_in():
    lines = unit.drop_in_text(options.Settings(file_descriptors=5000)).splitlines()
    assert "LimitNOFILE=5000" in lines
    assert "Type=simple" in lines
    # A list is emptied before it is set, or systemd would have two commands.
    command = f"ExecStart={' '.join(config.systemd_command())}"
    assert lines.index("ExecStart=") + 1 == lines.index(command)
    assert "--daemon" not in command
    assert not any(line.startswith(("MemoryMax=", "ReadWritePaths=")) for line in lines)


def test_drop_in_of_other_settings():
    queue = queues.typed_queue({"type": "sqlite", "path": "/srv/queue/jobs"})
    lines = unit.drop_in_text(options.Settings(memory_max="2G", queue=queue)).splitlines()
    assert "MemoryMax=2G" in lines
    assert "ReadWritePaths=/srv/queue" in lines
    queue = queues.typed_queue({"type": "mysql"})
    lines = unit.drop_in_text(options.Settings(queue=queue)).splitlines()
    assert "After=network-online.target mariadb.service" in lines


def drop_in(**settings):
    return unit.drop_in_text(options.Settings(**settings))


def of_0_1_0():
    text = OF_0_1_0.replace("@COMMAND@", " ".join(config.systemd_command()))
    return text.replace("@LIMITS@", " ".join(config.max_queue_command()[1:]))


@pytest.mark.parametrize(
    ("old", "new", "restarts"),
    [
        (drop_in(), drop_in(memory_max="2G"), False),
        (drop_in(), drop_in().replace("RestartSec=1", "RestartSec=2"), False),
        (drop_in(), drop_in().replace("[Unit]", "[Unit]\nWants=x.target"), False),
        (drop_in(), drop_in(file_descriptors=5000), True),
        (drop_in(), drop_in().replace("PrivateTmp=true", "PrivateTmp=false"), True),
        (None, drop_in(), True),
        # What version 0.1.0 wrote: the same lines in another order.
        (of_0_1_0(), drop_in(), False),
    ],
)
def test_what_a_process_has_from_its_start(old, new, restarts):
    assert (unit.at_start(old) != unit.at_start(new)) is restarts


def test_the_program_is_one_that_supervisor_programs_takes():
    program = supervisor_options.typed_program("gearman-job-server", unit.supervisor_program())
    (section,) = sections.sections("gearman-job-server", program)
    assert section.title == "program:gearman-job-server"
    assert section.options["environment"] == 'GEARMAND_PORT=""'
