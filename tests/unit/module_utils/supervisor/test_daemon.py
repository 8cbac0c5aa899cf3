# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
import hashlib
import os
import resource
import stat

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host.host import Host
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import daemon
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor.config_file import (
    parse_sections,
)

WEB = daemon.Web(9001, "admin", "s3cret")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"minfds": 10}, ["minfds", "10", "64 or more"]),
        ({"stop_timeout": 0}, ["stop_timeout", "0", "1 or more"]),
        ({"retry_fatal": -1}, ["retry_fatal", "-1", "0 or more"]),
        ({"minfds": 2**31}, ["minfds", "fs.nr_open", "1048576"]),
        ({"stop_timeout": 10**9}, ["stop_timeout", "a week"]),
        ({"retry_fatal": 10**9}, ["retry_fatal", "a week"]),
        ({"web": WEB._replace(port=70000)}, ["web.port", "70000", "1 to 65535"]),
        ({"web": WEB._replace(username="a b")}, ["web.username", "'a b'", "letters"]),
        ({"web": WEB._replace(password="s3cret\ud800")}, ["web.password", "surrogate"]),
        ({"web": WEB._replace(password="")}, ["web.password", "empty"]),
    ],
)
def test_bad_values_are_refused(fields, words):
    with pytest.raises(InvalidOption) as caught:
        daemon.check(daemon.Request(**fields))
    for word in words:
        assert word in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "hard", "minfds"), [(8192, 20000, "8192"), (8192, 1024, "1024")]
)
def test_minfds_never_exceeds_what_the_host_allows(wanted, hard, minfds):
    """supervisord does not start with more than the hard limit."""
    settings = parse_sections(daemon.settings_text(daemon.Request(minfds=wanted), hard))
    assert settings == {"supervisord": {"minfds": minfds}}


def test_web_interface_is_on_loopback_with_a_hashed_password():
    content = daemon.settings_text(daemon.Request(web=WEB), 20000)
    assert parse_sections(content)["inet_http_server"] == {
        "port": "127.0.0.1:9001",
        "username": "admin",
        "password": "{SHA}" + hashlib.sha1(b"s3cret").hexdigest(),
    }
    assert "s3cret" not in content


def test_supervisord_takes_the_settings_from_the_included_file(idle):
    """minfds in an included [supervisord] is in force, and Debian's own file stays as it is."""
    (idle.conf_d / "00-supervisord.conf").write_text(
        daemon.settings_text(daemon.Request(minfds=2000), 20000)
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
    try:
        idle.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(idle.rpc.pid(), resource.RLIMIT_NOFILE)[0] == 2000


def test_no_listener_without_retries():
    assert daemon.listener_programs(daemon.Request(retry_fatal=0)) == {}


def test_files_have_their_modes_whatever_the_umask(tmp_path):
    host = Host(None, root=str(tmp_path))
    changes = daemon.files(daemon.Request(web=WEB), host, 65536)
    before = os.umask(0o027)
    try:
        daemon.write(host, changes)
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE((tmp_path / path.lstrip("/")).stat().st_mode)
        for path in (daemon.SETTINGS, daemon.LISTENER, os.path.dirname(daemon.LISTENER))
    }
    assert list(modes.values()) == [0o600, 0o644, 0o755]
    assert not daemon.files(daemon.Request(web=WEB), host, 65536).changed
    (tmp_path / daemon.SETTINGS.lstrip("/")).chmod(0o644)
    loosened = daemon.files(daemon.Request(web=WEB), host, 65536)
    assert loosened.paths() == [daemon.SETTINGS]
    assert "SHA" not in str(loosened.diff())
