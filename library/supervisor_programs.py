#!/usr/bin/python
# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: supervisor_programs
short_description: Converge all Supervisor programs of a host in one call
version_added: 0.1.0
author: Gearvisor contributors (@gearvisor)
description:
  - Renders the program files, checks them with Supervisor's own parser before anything is written,
    plans what has to start, stop or be replaced, does exactly that over supervisord's socket, and waits
    until the processes are C(RUNNING).
  - A process whose definition did not change is never touched. Scaling starts or stops only the
    difference. When a new definition does not start, the old files and processes are restored.
  - It never runs C(supervisorctl update); pending edits of others stay pending and are reported.
requirements:
  - Debian's package C(supervisor), 4.2.5 or later, on the target.
options:
  programs:
    description:
      - The programs by name. Each is a mapping of Supervisor's own option names (section
        C([program:x]) of its manual) to values. A list of such mappings, each with a C(name) as in
        C(gearman_worker_programs), is accepted as well.
        O(programs) may be empty.
      - C(command) is required. It is run without a shell.
      - C(environment) is a mapping of names to literal values; quoting and percent signs are taken
        care of, and values are never shown. Text goes in as it is, booleans as C(true) and C(false),
        whole numbers as digits, null as an empty value, lists and mappings as JSON. A number with a
        point is refused, because YAML has dropped how it was written; write it in quotes. Quote
        dates, octal numbers and words such as C("yes") as well, if they must stay as written.
      - C(environment_expanded) is a mapping like C(environment) whose values are in Supervisor's own
        syntax, for example C(PATH=/srv/venv/bin:%(ENV_PATH)s) or C(%(process_num)02d). A value of
        C(environment) that looks like one of these expansions is refused; other percent signs stay as they are.
      - Besides Supervisor's options, C(functions) lists the functions that each process serves, C(release) runs
        the program from a release of its code, and C(adopt) takes over a program of that name that
        another file defines. See docs/operations.md, "Deploying".
      - Other values are in Supervisor's own syntax, so a literal percent sign is written C(%%).
      - Log files that two processes or channels would rotate together, which loses lines, are
        separated - one file for stdout and stderr becomes C(redirect_stderr), and with several
        processes the number of every process but the first goes before the suffix.
    type: dict
    default: {}
  event_listeners:
    description:
      - Event listeners, as O(programs) - sections C([eventlistener:x]), with
        C(events) as a list besides C(command). Each is one section in either O(layout), since every
        section gets every event.
    type: dict
    default: {}
  fcgi_programs:
    description:
      - FastCGI programs, as O(programs) - sections C([fcgi-program:x]), with
        C(socket) besides C(command). Each is one section in either O(layout), since its processes share the socket.
    type: dict
    default: {}
  defaults:
    description:
      - Options, as in O(programs), for programs of O(programs) that do not set them. An C(environment) is merged by
        variable, and C(redirect_stderr) is left out where a program has a separate log for errors.
    type: dict
    default: {}
  fleet:
    description:
      - The fleet that owns the files. Every file names its fleet in the first line, and a call reads, changes
        and purges only files of its own fleet. Use another name for each set of programs that is
        managed separately.
    type: str
    default: default
  layout:
    description:
      - V(processes) writes one section per process, named C(NAME_NN), so that scaling and changes touch
        single processes.
      - V(numprocs) writes one section per program. It is compact, but Supervisor then restarts all
        processes of the program at once for any change, a change of C(numprocs) and a restart included.
    type: str
    choices: [processes, numprocs]
    default: processes
  batch:
    description: >-
      How many processes of one program are replaced or restarted at a time, as a number or as a share of
      its processes such as V(25%).
    type: raw
    default: 1
  max_unavailable:
    description:
      - How many processes of one program may be other than C(RUNNING) during a change or restart,
        those that were down before included; a number or a share such as V(25%).
      - Unset, it is O(batch).
    type: raw
  stable:
    description:
      - Seconds for which a started process must stay up, with one pid, before it counts as up. With V(0),
        supervisord's C(RUNNING) is enough.
      - With more, a worker must also be registered with each job server that answers - for the functions
        it served before, or for those of C(functions). Gearvisor's workers are found by their client id;
        of others, the number of workers per function has to be back to what it was. Functions paused on
        the host are left out.
    type: float
    default: 0
  watch:
    description: >-
      Seconds for which the first batch of each program is watched by its workers' status files when it was
      replaced or restarted. V(0) means that it is not watched.
    type: float
    default: 0
  watch_jobs:
    description: Jobs after which the watch ends, if they are done earlier.
    type: int
    default: 20
  max_failures:
    description: >-
      The share of failed jobs, above that of the program's processes before, that stops the rollout and takes
      it back.
    type: float
    default: 0.2
  min_jobs:
    description: With fewer jobs than this, the watch proves nothing, which RV(proved) and a warning report.
    type: int
    default: 5
  inventory_hostname:
    description: >-
      Name of this host in the inventory. When it is given, each program finds C(GEARVISOR_WORKER) in its
      environment (this name, a slash and the name of the process), and its user's C(HOME) and C(USER),
      unless it sets them itself.
    type: str
  fingerprint:
    description:
      - Files and directories, on the target, whose content is the programs' code. When it changes,
        processes whose definition did not change are restarted by signal, so that each finishes its
        job first.
      - Of a path that is a link, as to a release or a virtual environment, only where it leads counts. A
        link below a listed directory counts with where it leads.
      - The fleet's own logs, C(__pycache__) and the directories of version control never count. A program's
        own C(fingerprint) replaces this list for it, and its C(fingerprint_exclude) lists patterns of names
        or of paths from the listed directory on, such as C(*.log) and C(storage/*).
      - Only regular files are read, 200,000 and 4 GB at most. C(/), C(/proc) and the like are refused.
    type: list
    elements: path
    default: []
  restart:
    description: Restart all processes by signal, as if O(fingerprint) had changed.
    type: bool
    default: false
  purge:
    description: Stop and remove programs of this O(fleet) that are no longer in O(programs).
    type: bool
    default: false
  wait:
    description: Wait until started processes are C(RUNNING), and fail and roll back if they are not.
    type: bool
    default: true
  wait_timeout:
    description: How many seconds, besides C(startsecs), a process may take to be C(RUNNING).
    type: int
    default: 30
  create_directories:
    description:
      - Make missing directories of log files, owned by root, and missing working directories
        (C(directory)), owned by the program's C(user).
      - A working directory is made only below a directory that exists and that root controls, and never
        when it is called like a deploy tool's link (C(current), C(release), C(live), C(latest),
        C(active), C(stable)). What is missing otherwise is refused; deploy first.
    type: bool
    default: true
  create_users:
    description:
      - Users that are created when they are missing, as system users without a home or a shell. Any
        other C(user) has to exist.
    type: list
    elements: str
    default: []
  trusted_users:
    description:
      - Users who may own what root writes to, besides root. supervisord opens logs as root and follows
        links, so a log whose directory, or one above it, belongs to another user is refused, and no
        directory is made there.
      - A user named here can become root on the host. Name a deploy user who may do that anyway.
    type: list
    elements: str
    default: []
  lock_timeout:
    description: How many seconds to wait while another run of a module changes this host.
    type: int
    default: 300
  untested_release:
    description: Also run on a Debian release that Gearvisor is not tested on.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: >-
      Reports what would start and stop and touches no process and no file. It makes supervisord
      read its files again, which changes nothing that runs. After a file of Gearvisor was
      edited by hand and never loaded, it may announce a replacement that the real run then finds unnecessary.
      A user or command that is not there yet is a warning instead of an error, since an earlier
      task may create it.
  diff_mode:
    support: full
    description: Shows the files, with environment values masked, and the plan.
  idempotent:
    support: full
    description: A second call changes nothing, except with O(restart=true).
"""

EXAMPLES = r"""
- name: Twelve PHP workers and four Python workers
  supervisor_programs:
    programs:
      thumbnails:
        command: /usr/bin/php /srv/shop/worker.php
        numprocs: 12
        user: www-data
        autorestart: true
        stopwaitsecs: 330
        stdout_logfile: /var/log/supervisor/thumbnails.log
        redirect_stderr: true
      mail:
        command: /srv/mail/venv/bin/gearvisor worker mail.tasks:send
        numprocs: 4
        user: mailer
        environment:
          SMTP_PASSWORD: "{{ smtp_password }}"

- name: Deploy new code, two processes at a time, each after its job
  supervisor_programs:
    programs: "{{ my_programs }}"
    fingerprint: [/srv/shop]
    batch: 2
"""

RETURN = r"""
plan:
  description: Process groups by what happens to them.
  returned: success
  type: dict
  contains:
    added: {description: Started because they are new., type: list, elements: str, returned: success}
    removed: {description: Stopped and removed., type: list, elements: str, returned: success}
    changed: {description: Replaced because their definition changed., type: list, elements: str, returned: success}
    restarted: {description: Restarted by signal., type: list, elements: str, returned: success}
    started: {description: Started because they were down., type: list, elements: str, returned: success}
    kept: {description: Not touched., type: list, elements: str, returned: success}
files:
  description: Program files written or removed.
  returned: success
  type: list
  elements: str
directories:
  description: Directories made.
  returned: success
  type: list
  elements: str
users:
  description: Users created.
  returned: success
  type: list
  elements: str
release:
  description: >-
    The release before and after, and the running processes of the fleet by release. With several links,
    before and after are mappings by link.
  returned: when a program has a release
  type: dict
  sample:
    before: /srv/app/releases/1
    after: /srv/app/releases/2
    processes: {"/srv/app/releases/2": ["mail_00:mail_00"]}
proved:
  description: Whether the first batch of each program that was watched did enough jobs.
  returned: when a first batch was watched
  type: bool
watched:
  description: Jobs and failures of the first batch by program.
  returned: when a first batch was watched
  type: dict
  sample: {"mail": {"jobs": 20, "failed": 0, "proved": true}}
seconds:
  description: How long the change took, with its roll-back if there was one.
  returned: when something changed, or failed
  type: float
processes:
  description: The fleet's processes after the call.
  returned: success, not in check mode
  type: list
  elements: dict
  sample: [{"name": "mail_00:mail_00", "state": "RUNNING", "pid": 4242}]
reason:
  description: Why a process did not come up, or why the watch stopped the rollout.
  returned: when a process does not come up or fails its jobs
  type: str
output:
  description: The last lines that process wrote.
  returned: when a process does not come up or fails its jobs
  type: str
"""

import re

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import module
from ..module_utils.failure import InvalidOption
from ..module_utils.outcome import Outcome
from ..module_utils.supervisor import fleet, options, values

ARGUMENTS = {
    "programs": {"type": "dict", "default": {}},
    "event_listeners": {"type": "dict", "default": {}},
    "fcgi_programs": {"type": "dict", "default": {}},
    "defaults": {"type": "dict", "default": {}},
    "fleet": {"type": "str", "default": "default"},
    "layout": {"type": "str", "choices": ["processes", "numprocs"], "default": "processes"},
    "batch": {"type": "raw", "default": 1},
    "max_unavailable": {"type": "raw"},
    "stable": {"type": "float", "default": 0},
    "watch": {"type": "float", "default": 0},
    "watch_jobs": {"type": "int", "default": 20},
    "max_failures": {"type": "float", "default": 0.2},
    "min_jobs": {"type": "int", "default": 5},
    "fingerprint": {"type": "list", "elements": "path", "default": []},
    "restart": {"type": "bool", "default": False},
    "purge": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": True},
    "wait_timeout": {"type": "int", "default": 30},
    "create_directories": {"type": "bool", "default": True},
    "create_users": {"type": "list", "elements": "str", "default": []},
    "trusted_users": {"type": "list", "elements": "str", "default": []},
    "inventory_hostname": {"type": "str"},
    **module.HOST_ARGUMENTS,
}
_HOLD_SECRETS = (*options.PARAMETERS.values(), "defaults")
_DAY = 24 * 60 * 60


def without_secrets(params):
    """Return the parameters as they may be shown: environment values are masked."""
    shown = {**params, "defaults": _without_secrets(params["defaults"])}
    for parameter in options.PARAMETERS.values():
        shown[parameter] = {
            name: _without_secrets(given) for name, given in params[parameter].items()
        }
    return shown


def _without_secrets(given):
    """Hide environments and unknown options, since it may be a misspelled environment."""
    if not isinstance(given, dict):
        return "(not shown)"
    public = {*options.KINDS, *options.OURS} - {*options.SECRETS}
    return {name: value if name in public else "(not shown)" for name, value in given.items()}


# (least, most) of each number.
_BOUNDS = {
    "wait_timeout": (1, _DAY),
    "stable": (0, _DAY),
    "watch": (0, _DAY),
    "watch_jobs": (1, 10**6),
    "max_failures": (0, 1),
    "min_jobs": (0, 10**6),
}


def request_from(params):
    """Return the fleet.Request; raises InvalidOption for numbers that make no sense."""
    for option, (least, most) in _BOUNDS.items():
        value = params[option]
        # Not a number is neither above nor below.
        if not least <= value <= most:
            problem = f"is below {least}" if value < least else "is out of range"
            way_out = f"Use {least} or more" if value < least else f"Use {least} to {most}"
            raise InvalidOption(option, value, problem, way_out)
    for option in ("batch", "max_unavailable"):
        if params[option] is not None:
            _check_share(option, params[option])
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", params["fleet"]):
        raise InvalidOption(
            "fleet",
            params["fleet"],
            "is not a usable name",
            "Use letters, digits, '_' and '-', at most 100",
        )
    values.paths("fingerprint", params["fingerprint"])
    for option in ("create_users", "trusted_users"):
        for user in params[option]:
            values.user(option, user)
    given = {name: params[name] for name in fleet.Request._fields if name in params}
    return fleet.Request(
        **{
            **given,
            "fingerprint": tuple(params["fingerprint"]),
            "create_users": tuple(params["create_users"]),
            "trusted_users": tuple(params["trusted_users"]),
        }
    )


def _check_share(option, value):
    number = re.fullmatch(r"(\d{1,6})(%?)", str(value), re.ASCII)
    if isinstance(value, bool) or not number:
        raise InvalidOption(
            option,
            value,
            "is below 1"
            if re.fullmatch(r"-\d+", str(value))
            else "is neither a number nor a share",
            "Use 1 or more, or a share such as 25%",
        )
    if int(number.group(1)) < 1:
        raise InvalidOption(option, value, "is below 1", "Use 1 or more, or a share such as 25%")
    if number.group(2) and int(number.group(1)) > 100:
        raise InvalidOption(option, value, "is more than all", "Use 1% to 100%")


class _Module(AnsibleModule):
    """Takes programs as a list, too, and fails without secrets, also when Ansible refuses a type."""

    _refusal = None

    def _load_params(self):
        super()._load_params()
        for parameter in options.PARAMETERS.values():
            given = self.params.get(parameter)
            if given is not None:
                try:
                    self.params[parameter] = options.by_name(parameter, given)
                except InvalidOption as error:
                    self._refusal = str(error)

    def fail_json(self, msg, **result):
        shown = {name: self.params[name] for name in self.params if name not in _HOLD_SECRETS}
        result.setdefault("invocation", {"module_args": shown})
        super().fail_json(self._refusal or msg, **result)


def converge(params, host):
    """Return the Outcome of the fleet's convergence."""
    result = fleet.converge(request_from(params), fleet.Host(host.run), host.check_mode)
    common = {name: result.pop(name) for name in ("changed", "files", "diff", "warnings")}
    return Outcome(**common, details=result)


def main():
    # no_log keeps the parameters out of the target's syslog: environment values
    # are secrets, but masking them as such would garble every result that
    # happens to contain a short one.
    module.run(
        ARGUMENTS,
        converge,
        module_class=_Module,
        shown=without_secrets,
        no_log=True,
    )


if __name__ == "__main__":
    main()
