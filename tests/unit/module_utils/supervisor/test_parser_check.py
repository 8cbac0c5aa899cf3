from __future__ import annotations

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.supervisor import config_file

pytestmark = pytest.mark.supervisords("one")

GOOD = "[program:x]\ncommand=/bin/true\n"


@pytest.mark.supervisords("all")
def test_a_good_candidate(dry_run, tmp_path):
    answer = dry_run({"x.conf": GOOD})
    assert answer["error"] is None
    assert answer["owners"]["program:x"] == [f"{tmp_path}/conf.d/x.conf"]
    assert answer["owners"]["supervisord"] == [f"{tmp_path}/supervisord.conf"]
    assert not list((tmp_path / "conf.d").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "auto",
        "conf.d",
        "supervisord.conf",
    ]


# What Supervisor's own parser refuses, and its message.
REFUSED = {
    "no process_num": (
        "[program:x]\ncommand=/bin/true\nnumprocs=12\n",
        "%(process_num) must be present within process_name",
    ),
    "unknown user": ("[program:x]\ncommand=/bin/true\nuser=nobody-here\n", "nobody-here"),
    "no log directory": (
        "[program:x]\ncommand=/bin/true\nstdout_logfile=/no/such/x.log\n",
        "/no/such",
    ),
    "no command": ("[program:x]\nuser=root\n", "does not specify a command"),
    "kill only one": (
        "[program:x]\ncommand=/bin/true\nstopasgroup=true\nkillasgroup=false\n",
        "stopasgroup=true and killasgroup=false",
    ),
    "unknown expansion": ("[program:x]\ncommand=/bin/x %(ENV_NOT_THERE)s\n", "ENV_NOT_THERE"),
    "no section": ("command=/bin/true\n", "no section headers"),
    "size": ("[program:x]\ncommand=/bin/true\nstdout_logfile_maxbytes=10M\n", "'10m'"),
}


@pytest.mark.parametrize(("candidate", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_bad_candidate(dry_run, tmp_path, candidate, reason):
    answer = dry_run({"x.conf": candidate})
    assert reason in answer["error"]
    assert f"(file: '{tmp_path}/conf.d/x.conf')" in answer["error"]
    assert not answer["error"].startswith("Error: ")
    assert "For help" not in answer["error"]


def test_files_on_disk_are_read_unless_overlaid(dry_run, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/bad.conf").write_text("[program:bad]\nnumprocs=two\n")
    (tmp_path / "conf.d/other.conf").write_text(GOOD)
    assert "bad.conf" in dry_run({"x.conf": GOOD})["error"]
    assert dry_run({"bad.conf": None})["error"] is None
    answer = dry_run({"bad.conf": "[program:bad]\ncommand=/bin/true\n"})
    assert answer["error"] is None
    assert answer["owners"]["program:bad"] == [f"{tmp_path}/conf.d/bad.conf"]


@pytest.mark.supervisords("all")
def test_a_section_in_two_files_has_two_owners(dry_run, tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/a.conf").write_text(GOOD)
    answer = dry_run({"b.conf": GOOD})
    # Supervisor itself merges the two without a word.
    assert answer["error"] is None
    assert answer["owners"]["program:x"] == [f"{tmp_path}/conf.d/{name}.conf" for name in "ab"]


@pytest.mark.parametrize("make", ["directory", "latin-1"])
def test_an_included_file_that_cannot_be_read_is_an_error(dry_run, tmp_path, make):
    """Supervisor would skip it silently and take its programs as removed."""
    bad = tmp_path / "conf.d/bad.conf"
    bad.parent.mkdir()
    if make == "directory":
        bad.mkdir()
    else:
        bad.write_bytes(b"[program:x]\ncommand=/bin/true\n; gr\xfc\xdfe\n")
    assert f"(file: '{bad}')" in dry_run({"x.conf": GOOD})["error"]


def test_directories_and_users_to_come_count_as_there(dry_run):
    candidate = "[program:x]\ncommand=/bin/true\nuser=to-come\nstdout_logfile=/to/come/x.log\n"
    assert "to-come" in dry_run({"x.conf": candidate})["error"]
    assert "/to/come" in dry_run({"x.conf": candidate}, users=["to-come"])["error"]
    answer = dry_run({"x.conf": candidate}, users=["to-come"], directories=["/to/come/"])
    assert answer["error"] is None


def test_the_environment_is_supervisords(dry_run):
    candidate = "[program:x]\ncommand=/bin/x %(ENV_FROM_SUPERVISORD)s\n"
    assert dry_run({"x.conf": candidate})["error"] is None
    assert "FROM_SUPERVISORD" in dry_run({"x.conf": candidate}, environment={})["error"]


@pytest.mark.parametrize(
    "value", ["", "a,B=c", "100%", "it's", '{"a": 1}', "a;b#c", "größe", "C:\\x", "%(x)s"]
)
def test_supervisors_own_interpreter_reads_environment_values_back(dry_run, value):
    """The directory of a log is not a directory, so the parser's error shows what it has read."""
    line = config_file.quote_environment("o", {"VALUE": value})
    candidate = (
        f"[program:x]\ncommand=/bin/true\nenvironment={line}\n"
        "stdout_logfile=/no/%(ENV_VALUE)s/x.log\n"
    )
    error = dry_run({"x.conf": candidate})["error"]
    assert f"/no/{value}" in error
