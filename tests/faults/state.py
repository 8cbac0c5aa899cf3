"""Prints what a lab host is, for one run to be compared with another: files, users, units, leftovers.

    state.py DIRECTORY...

One line of JSON: {path: [kind, mode, owner, group, digest of the content or target of the link]} of
everything below the directories, without what differs between two equal hosts.
"""

import hashlib
import json
import os
import stat
import sys

# Logs, pid files and sockets come and go with the processes.
LEFT_OUT = (".log", ".pid", ".sock", ".lock")
# With a file of this content Python's tempfile tries where it may write, for any program's first temporary file.
TRIAL_OF_TEMPFILE = hashlib.sha256(b"blat").hexdigest()


def described(path):
    found = os.lstat(path)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return ["link", 0, 0, 0, os.readlink(path)]
    if stat.S_ISDIR(found.st_mode):
        return ["directory", mode, found.st_uid, found.st_gid, ""]
    if not stat.S_ISREG(found.st_mode):
        return ["other", mode, found.st_uid, found.st_gid, ""]
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    return ["file", mode, found.st_uid, found.st_gid, digest]


def main():
    result = {}
    for top in sys.argv[1:]:
        for directory, below, names in os.walk(top):
            # systemd's private /tmp of a unit has another name after each start.
            below[:] = [name for name in below if not name.startswith("systemd-private-")]
            for name in sorted(below + names):
                path = os.path.join(directory, name)
                if name.endswith(LEFT_OUT):
                    continue
                found = described(path)
                if found[-1] != TRIAL_OF_TEMPFILE:
                    result[path] = found
    print(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    main()
