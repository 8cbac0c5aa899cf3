def test_worker_answers(host):
    submit = "/opt/gearvisor/venv/bin/gearvisor submit reverse_python Hello"
    assert host.check_output(submit) == "olleH"
