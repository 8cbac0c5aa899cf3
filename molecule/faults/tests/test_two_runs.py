"""Two runs of one playbook at the same time end in the state of one, both successful."""

import concurrent.futures

WATCHED = ("/etc/supervisor", "/etc/gearman", "/var/lib/gearvisor")


def play(lab, retries):
    return lab.play(
        "molecule/faults/converge.yml", "-e", f"gearman_job_server_job_retries={retries}"
    )


def test_both_are_ok(lab, targets):
    names, retries = ("plain", "booted"), 5
    play(lab, retries - 1)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        recaps = [recap for recap, _output in pool.map(lambda _n: play(lab, retries), range(2))]
    assert [recap[name]["failed"] for recap in recaps for name in names] == [0] * 4
    # One of the two did it, and the other found it done.
    assert [sum(recap[name]["changed"] for recap in recaps) for name in names] == [1, 1]
    found = [targets(name).files(*WATCHED) for name in names]
    assert [play(lab, retries)[0][name]["changed"] for name in names] == [0, 0]
    assert [targets(name).files(*WATCHED) for name in names] == found
    assert not [
        path for files in found for path in files if path.startswith("/var/lib/gearvisor/journal/")
    ]
