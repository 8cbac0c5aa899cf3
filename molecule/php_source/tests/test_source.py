"""Builds that worked, builds that fail, and the change from one method to the other."""

import json
import re

import pytest

PHP = {"bookworm": "8.2", "trixie": "8.4"}
PAGES = {"bookworm": ["/fpm/page.php"], "trixie": ["/fpm/page.php", "/page.php"]}
TARBALL = "/srv/gearman.tgz"


def name_of(host):
    return host.check_output("hostname")


def arguments(lab, host, **options):
    """The options that the role gives the module on this host, with others over them."""
    sapis = lab.variables(name_of(host))["gearman_php_sapis"]
    return {"method": "source", "sapis": sapis, "run_tests": True, **options}


def place(host):
    return f"/usr/local/lib/php/{PHP[name_of(host)]}"


def get(host, path):
    """Return what the web server answers: the status, and the text."""
    code = (
        "import urllib.error, urllib.request as r, sys\n"
        "try: a = r.urlopen('http://127.0.0.1:8080' + sys.argv[1], timeout=10)\n"
        "except urllib.error.HTTPError as e: a = e\n"
        "print(a.status, a.read().decode())"
    )
    status, _blank, text = host.check_output("python3 -c %s %s", code, path).partition(" ")
    return int(status), text


@pytest.fixture(scope="module", autouse=True)
def worker(lab):
    """The reference worker on every host, with the extension that was built."""
    command = "/usr/bin/php /opt/gearvisor/php/worker.php"
    for name in PHP:
        lab[name].check_output(f"systemd-run --quiet --collect --unit=worker {command}")
    for name in PHP:
        lab.wait_until(lambda host=lab[name]: submit(host, "x").rc == 0)


def submit(host, text):
    return host.run("php /opt/gearvisor/php/client.php --timeout 5 reverse %s", text)


def serves(host):
    """Return whether every way to run PHP has the extension, and a job is answered."""
    pages = [get(host, f"{page}?text=Hello") for page in PAGES[name_of(host)]]
    return submit(host, "Hello").stdout == "olleH" and all(
        status == 200 and "<p>olleH</p>" in text for status, text in pages
    )


def verify(host):
    """Return what dpkg finds changed, but for the file in which gearman_job_server leaves a remark."""
    lines = host.run("dpkg --verify").stdout.splitlines()
    return "\n".join(
        line for line in lines if not line.endswith(" c /etc/default/gearman-job-server")
    )


def test_its_own_tests_passed(host):
    stamp = json.loads(host.file(f"{place(host)}/gearman.json").content_string)
    print(name_of(host), stamp["tests"])
    assert stamp["release"] == "2.1.4"
    assert stamp["tests"] == {"passed": 65, "failed": 0, "skipped": 0}


def test_a_job_from_the_command_line(host):
    assert submit(host, "Hello").stdout == "olleH"


def test_a_job_from_a_web_page(host):
    for page in PAGES[name_of(host)]:
        status, text = get(host, f"{page}?text=Hello%20%3CGearman%3E")
        assert (status, "<p>&gt;namraeG&lt; olleH</p>" in text) == (200, True), text
        sapi = "fpm-fcgi" if "fpm" in page else "apache2handler"
        assert f"gearman 2.1.4, {sapi}" in text


def test_the_page_says_so_when_nobody_answers(host):
    assert get(host, "/fpm/page.php?text=")[0] == 400
    host.check_output("systemctl stop gearman-job-server")
    try:
        status, text = get(host, "/fpm/page.php?text=Hello")
    finally:
        host.check_output("systemctl start gearman-job-server")
    assert (status, "Try again later" in text) == (503, True)


def test_it_is_where_dpkg_owns_nothing(host):
    assert host.run(f"dpkg --search {place(host)}/gearman.so").rc != 0
    assert verify(host) == ""


def test_only_what_is_needed_can_write_it(host):
    for path, mode in ((place(host), 0o755), (f"{place(host)}/gearman.so", 0o644)):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", "root", mode)


def test_nothing_of_the_build_is_left(host):
    assert host.run("ls /usr/local/src").stdout == ""
    # The host's own job server.
    assert host.check_output("pgrep --count --exact gearmand") == "1"


def test_a_rerun_changes_nothing(lab, host):
    result = lab.module(name_of(host), "gearman_php_extension", arguments(lab, host))
    assert (result["failed"], result["changed"]) == (False, False)
    assert result["tests"][PHP[name_of(host)]]["passed"] == 65


# --- builds that fail ----------------------------------------------------------------------------


def snapshot(host):
    """What a failure may not change: the files, the links, the packages, the processes that serve."""
    php = PHP[name_of(host)]
    return (
        host.check_output(f"sha256sum {place(host)}/*"),
        host.check_output(f"find /etc/php/{php} ! -type d -printf '%p %l %T@\n' | sort"),
        host.check_output(f"cat /run/php/php{php}-fpm.pid"),
        host.check_output("dpkg-query --show 'php*' 'libgearman*' | grep -v -- -dev"),
    )


@pytest.fixture(scope="module")
def tarballs(lab):
    """The release's tarball on the host, and manipulated copies of it."""
    host = lab["bookworm"]
    # Tests that wait for a server which is not there wait once.
    host.check_output("echo 'Acquire::Retries \"0\";' >/etc/apt/apt.conf.d/no-retries")
    address = "pool/main/p/php-gearman/php-gearman_2.1.4.orig.tar.gz"
    host.check_output(
        "mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)"
        f" && /usr/lib/apt/apt-helper download-file ${{mirror%/}}/{address} {TARBALL}"
    )
    host.check_output(
        "cd /srv && tar xf gearman.tgz && head -c 20000 gearman.tgz >broken.tgz"
        # With two tests only, of which one expects what cannot be.
        " && find gearman-2.1.4/tests -name '*.phpt' ! -name 'gearman_00*' -delete"
        " && sed -i '/^--EXPECT/a never' gearman-2.1.4/tests/gearman_002.phpt"
        " && tar czf failing.tgz gearman-2.1.4"
        " && echo 'not C at all' >>gearman-2.1.4/php_gearman.c && tar czf no-c.tgz gearman-2.1.4"
        " && ln -s /etc/passwd gearman-2.1.4/passwd && tar czf link.tgz gearman-2.1.4"
    )


@pytest.fixture
def outdated(host):
    """A working extension has to be rebuilt; in every case it is there afterwards."""
    stamp = f"{place(host)}/gearman.json"
    host.check_output(f'sed -i \'s/"libgearman": "/&0/\' {stamp}')
    before = snapshot(host)
    yield
    assert snapshot(host) == before
    assert serves(host)
    host.check_output(f'sed -i \'s/"libgearman": "0/"libgearman": "/\' {stamp}')


def fails(lab, host, *words, **options):
    result = lab.module(
        name_of(host), "gearman_php_extension", arguments(lab, host, run_tests=False, **options)
    )
    assert result["failed"], result
    for word in words:
        assert word in result["msg"]
    assert host.run("ls /usr/local/src").stdout == ""


def path(name):
    return {"path": f"/srv/{name}.tgz", "checksum": "unverified"}


@pytest.mark.on("bookworm")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checksum": "0" * 64}, ["method: 'source'", "SHA-256", "0" * 64]),
        (path("broken"), ["cannot use the tarball", "broken"]),
        (path("link"), ["cannot use the tarball", "link, to '/etc/passwd'"]),
        (path("no-c"), ["could not build gearman 2.1.4 for PHP 8.2", "make failed", "error"]),
        (path("nowhere"), ["path /srv/nowhere.tgz", "No such file"]),
        ({"version": "1.0.3"}, ["version: '1.0.3'", "PHP 5.1 to 5.6", "2.1.4"]),
        (
            {"url": ["http://127.0.0.1:9/{version}"], "debian": False},
            ["url http://127.0.0.1:9/2.1.4"],
        ),
    ],
    ids=["checksum", "broken", "link", "no C", "no file", "version", "no server"],
)
def test_a_tarball_that_cannot_be_used(lab, host, tarballs, outdated, options, words):
    fails(lab, host, *words, **options)


@pytest.mark.on("bookworm")
def test_no_compiler(lab, host, tarballs, outdated):
    host.check_output("mv /usr/bin/gcc /usr/bin/gcc.aside; mv /usr/bin/cc /usr/bin/cc.aside")
    try:
        fails(lab, host, "configure failed", "C compiler")
    finally:
        host.check_output("mv /usr/bin/gcc.aside /usr/bin/gcc; mv /usr/bin/cc.aside /usr/bin/cc")


@pytest.mark.on("bookworm")
def test_a_full_disk(lab, host, outdated):
    host.run("head -c 100M /dev/zero >/usr/local/src/full")
    assert host.run("touch /usr/local/src/more && echo x >/usr/local/src/more").rc != 0
    host.check_output("mv /usr/local/src/full /usr/local/src/.full; rm -f /usr/local/src/more")
    try:
        result = lab.module("bookworm", "gearman_php_extension", arguments(lab, host))
    finally:
        host.check_output("rm /usr/local/src/.full")
    assert result["failed"]
    assert "No space left on device" in result["msg"]


@pytest.mark.on("bookworm")
def test_no_dev_package(lab, host, tarballs, outdated):
    host.check_output("dpkg --remove php8.2-dev")
    try:
        with lab.without_packages("bookworm"):
            fails(lab, host, "method: 'source' needs php8.2-dev", "network")
    finally:
        host.check_output("apt-get -qq -y --no-install-recommends install php8.2-dev")


@pytest.mark.on("bookworm")
def test_a_test_that_fails(lab, host, tarballs, outdated):
    result = lab.module(
        "bookworm", "gearman_php_extension", arguments(lab, host, **path("failing"))
    )
    assert result["failed"]
    assert "fails its own tests on PHP 8.2: tests/gearman_002.phpt." in result["msg"]


# --- from one method to the other, and away ------------------------------------------------------


def test_package_and_back_leaves_dpkg_clean(lab, host):
    name = name_of(host)
    php = PHP[name]
    master = host.check_output(f"cat /run/php/php{php}-fpm.pid")
    sapis = lab.variables(name)["gearman_php_sapis"]
    package = {"sapis": ["cli"]}
    for options, version in (
        (package, r"2\.1\.[04]"),
        (arguments(lab, host, run_tests=False), r"2\.1\.4"),
    ):
        result = lab.module(name, "gearman_php_extension", options)
        assert (result["failed"], result["changed"]) == (False, True), result
        assert result["sapis"] == sapis
        assert serves(host)
        _status, text = get(host, "/fpm/page.php")
        assert re.search(f"gearman {version}, fpm-fcgi", text)
        assert verify(host) == ""
        again = lab.module(name, "gearman_php_extension", options)
        assert (again["failed"], again["changed"]) == (False, False), again
    # It was reloaded, never stopped.
    assert host.check_output(f"cat /run/php/php{php}-fpm.pid") == master


def test_absent(lab, host):
    name = name_of(host)
    result = lab.module(name, "gearman_php_extension", {"state": "absent"})
    assert (result["failed"], result["changed"]) == (False, True), result
    assert not host.file("/usr/local/lib/php").exists
    assert host.run("find /etc/php /var/lib/php/modules -name '*gearman-source*'").stdout == ""
    assert host.run("php -m | grep gearman").rc == 1
    for page in PAGES[name]:
        assert get(host, page)[0] == 500
    assert verify(host) == ""
    again = lab.module(name, "gearman_php_extension", {"state": "absent"})
    assert not again["changed"]
