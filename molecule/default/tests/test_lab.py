"""The lab itself: do its hosts match the inventory?"""


def test_release(host, lab):
    container_image = lab.variables(host.check_output("hostname"))["container_image"]
    assert host.system_info.codename == container_image


def test_first_process(host, lab):
    container_systemd = lab.variables(host.check_output("hostname"))["container_systemd"]
    assert (host.process.get(pid=1).comm == "systemd") is container_systemd


def test_hosts_know_each_other(host):
    for name in ("bookworm", "trixie", "plain"):
        assert host.addr(name).is_resolvable
