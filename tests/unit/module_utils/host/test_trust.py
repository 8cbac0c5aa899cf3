import grp
import os
import pwd
import subprocess

import pytest
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.failure import InvalidOption
from ansible_collections.gearvisor.gearvisor.plugins.module_utils.host import trust

OTHER = pwd.getpwnam("nobody").pw_uid
ROOT = frozenset({0})

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes files of other users")


@pytest.fixture
def place(tmp_path):
    """A directory of root's, with srv/app/log below it."""
    (tmp_path / "srv/app/log").mkdir(parents=True)
    for path in (tmp_path, tmp_path / "srv", tmp_path / "srv/app", tmp_path / "srv/app/log"):
        path.chmod(0o755)
    return tmp_path


def mode(name, number):
    return lambda place: (place / name).chmod(number)


def owner(name, uid, gid=0):
    return lambda place: os.chown(place / name, uid, gid, follow_symlinks=False)


def link(name, target):
    return lambda place: (place / name).symlink_to(target.format(place=place))


def together(*steps):
    return lambda place: [step(place) for step in steps]


def group_writable(group):
    return together(owner("srv/app", 0, grp.getgrnam(group).gr_gid), mode("srv/app", 0o775))


def acl(place):
    subprocess.run(["setfacl", "-m", "u:nobody:rwx", place / "srv/app"], check=True)


SAFE = {
    "root's alone": ("srv/app/log/x.log", lambda place: None),
    "missing directories below root's": ("srv/new/x.log", lambda place: None),
    "existing file of root's in a sticky directory": (
        "srv/app/x.log",
        together(mode("srv/app", 0o1777), lambda place: (place / "srv/app/x.log").touch(0o644)),
    ),
    "group root may write": ("srv/app/x.log", mode("srv/app", 0o775)),
    "a group without members may write": ("srv/app/x.log", group_writable("staff")),
    "a link of root's to a place of root's": ("srv/l/x.log", link("srv/l", "app")),
}
WEAK = {
    "the directory is another user's": (
        "srv/app/log/x.log",
        owner("srv/app/log", OTHER),
        "srv/app/log",
    ),
    "an ancestor is another user's": ("srv/app/log/x.log", owner("srv", OTHER), "srv"),
    "an ancestor of what is missing": (
        "srv/app/new/deep/x.log",
        owner("srv/app", OTHER),
        "srv/app",
    ),
    "all users may write": ("srv/app/x.log", mode("srv/app", 0o777), "srv/app"),
    "a group with members may write": (
        "srv/app/x.log",
        together(owner("srv/app", 0, pwd.getpwnam("nobody").pw_gid), mode("srv/app", 0o775)),
        "srv/app",
    ),
    "an access control list lets a user write": ("srv/app/x.log", acl, "srv/app"),
    "a missing file in a sticky directory": ("srv/app/x.log", mode("srv/app", 0o1777), "srv/app"),
    "another user's file in a sticky directory": (
        "srv/app/x.log",
        together(
            mode("srv/app", 0o1777),
            lambda place: (place / "srv/app/x.log").touch(),
            owner("srv/app/x.log", OTHER),
        ),
        "srv/app/x.log",
    ),
    "the file itself is another user's": (
        "srv/app/x.log",
        together(lambda place: (place / "srv/app/x.log").touch(), owner("srv/app/x.log", OTHER)),
        "srv/app/x.log",
    ),
    "a link leads to another user's place": (
        "srv/l/x.log",
        together(owner("srv/app", OTHER), link("srv/l", "{place}/srv/app")),
        "srv/app",
    ),
    "a link with dots leads there": (
        "srv/app/log/l/x.log",
        together(
            lambda place: (place / "u").mkdir(),
            owner("u", OTHER),
            link("srv/app/log/l", "../../../u"),
        ),
        "u",
    ),
    "a link in a circle": ("srv/l/x.log", link("srv/l", "l"), "srv/l"),
}


@pytest.mark.parametrize(("path", "prepare"), SAFE.values(), ids=SAFE)
def test_safe(place, path, prepare):
    prepare(place)
    assert trust.weakness(f"{place}/{path}", ROOT) is None
    trust.check("stdout_logfile", "x.log", f"{place}/{path}")


@pytest.mark.parametrize(("path", "prepare", "where"), WEAK.values(), ids=WEAK)
def test_weak(place, path, prepare, where):
    if prepare is acl and subprocess.run(["which", "setfacl"], capture_output=True).returncode:
        pytest.skip("setfacl is not here")
    prepare(place)
    assert trust.weakness(f"{place}/{path}", ROOT).path == f"{place}/{where}"
    with pytest.raises(InvalidOption) as caught:
        trust.check("stdout_logfile", "x.log", f"{place}/{path}")
    assert caught.value.details["directory"] == f"{place}/{where}"
    assert str(caught.value).startswith(
        "stdout_logfile: 'x.log' lies at a place that others than root control"
    )


def test_a_user_who_is_trusted(place):
    os.chown(place / "srv", OTHER, 0)
    trust.check("o", "v", f"{place}/srv/app/x.log", ["nobody", "no-such-user"])


def test_the_last_part_may_be_left_out(place):
    os.chown(place / "srv/app", OTHER, 0)
    assert trust.weakness(f"{place}/srv/app", ROOT, itself=False) is None
