def test_a_host_comes_back(host, lab):
    name = host.check_output("hostname")
    lab.restart(name)
    assert host.check_output("hostname") == name
