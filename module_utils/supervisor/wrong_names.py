# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that other tools use for what Supervisor calls differently, or does not have."""

from __future__ import annotations

_NAMES = {
    "numprocs": "count instances processes procs workers replica replicas scale concurrency number num quantity "
    "workers_count worker_count num_workers max_workers",
    "command": "cmd exec execute run script cmdline command_line program exec_start entrypoint args argv",
    "environment": "env envs environ vars variables env_vars environment_variables",
    "directory": "cwd chdir dir workdir working_dir working_directory work_dir project_path",
    "stdout_logfile": "log logs logfile log_file log_path stdout stdout_log stdout_file output out_file logs_path "
    "log_stdout",
    "stderr_logfile": "stderr stderr_log stderr_file error_log errlog error_file log_stderr",
    "stdout_logfile_maxbytes": "log_size log_maxbytes logfile_maxbytes max_log_size",
    "stdout_logfile_backups": "log_backups logfile_backups backups rotate",
    "redirect_stderr": "merge_logs combine_logs join_logs",
    "user": "username run_as runas become_user owner uid",
    "autorestart": "restart restart_policy always_restart respawn keep_alive keepalive",
    "autostart": "start enabled enable start_on_boot boot",
    "startretries": "retries max_retries restart_retries max_restarts",
    "startsecs": "start_seconds min_uptime restart_delay",
    "stopwaitsecs": "stop_timeout timeout kill_timeout stop_wait grace_period timeout_stop_sec",
    "stopsignal": "signal kill_signal",
    "stopasgroup": "stop_group",
    "killasgroup": "kill_group treekill",
    "umask": "mask mode",
    "priority": "order weight",
    "process_name": "proc_name process_title",
    "functions": "function queues jobs",
    "fingerprint": "code watch files",
    "fingerprint_exclude": "exclude ignore ignore_watch",
}
# {other tool's name, without "_": the option}
RIGHT_NAMES = {
    name.replace("_", ""): option for option, names in _NAMES.items() for name in names.split()
}

_GROUP = (
    "Programs are not put into a [group:x]: a change of the group would restart all of them. What its name "
    'was used for is in docs/recipes.md, "Groups"'
)
_LIMITS = "Supervisor has no such limit. Use the worker's own, such as --max-rss and --max-jobs"
_KEY = "In a list of programs write name; in a mapping of programs the key is the name"
_ORDER = "Supervisor starts programs in the order of their priority and waits for none of them"
_INSTEAD = {
    "group": _GROUP,
    "groups": _GROUP,
    "programs": _GROUP,
    "name": _KEY,
    "program_name": _KEY,
    "state": "Take the program out of the list to remove it, with purge: true. See docs/operations.md",
    "depends_on": _ORDER + ". Let the program try again until it can connect",
    "depends": _ORDER,
    "requires": _ORDER,
    "after": _ORDER,
    "memory_limit": _LIMITS,
    "max_memory": _LIMITS,
    "max_memory_restart": _LIMITS,
    "memory": _LIMITS,
    "mem_limit": _LIMITS,
    "limit_memory": _LIMITS,
    "limits": _LIMITS,
    "cpu_limit": _LIMITS,
    "nice": "Supervisor sets no priority of the scheduler. Begin the command with '/usr/bin/nice -n 10'",
    "env_file": "Supervisor reads no file of variables. List them in environment, or let the program read it",
    "environment_file": "Supervisor reads no file of variables. List them in environment, or let the "
    "program read it",
    "cron": 'Supervisor runs no schedule. See docs/recipes.md, "From a cron line to a job"',
    "schedule": 'Supervisor runs no schedule. See docs/recipes.md, "From a cron line to a job"',
}
# {other tool's name, without "_": what to do instead}
WITHOUT_EQUIVALENT = {name.replace("_", ""): text for name, text in _INSTEAD.items()}
