# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command line means to Supervisor, which splits it into words and runs no shell. All pure.

Supervisor looks a name without a slash up in PATH, and a name with one from its own working
directory (supervisor/options.py, get_execv_args of process.py). It watches and signals the process
that it has started, so this has to be the worker itself, in the foreground.
"""

from __future__ import annotations

import os.path
import re
import shlex

from ..failure import InvalidOption

# Quoted and escaped parts of a command line; what is left is what a shell would interpret.
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.")
_SINGLE_QUOTED = re.compile(r"'[^']*'|\\.")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}]*\}|\()|`")
_OPERATOR = re.compile(r"(?:\|\|?|\|&|&&?|;|[0-9]?>>?&?[0-9-]?|&>>?|[0-9]?<<?)\Z")
_REDIRECTION = re.compile(r"(?:[0-9]?>>?|&>>?|[0-9]?<)[^=>].*")

# An absolute path with a wildcard: other words may hold one for the program to see.
_WILDCARD = re.compile(r"/(?=[^=]*(?:[*?]|\{[^}]*(?:,|\.\.)))")

_EXEC = "/bin/sh -c 'exec ...'"
# What to write instead of each command that only a shell has.
_SHELL_COMMANDS = {
    "cd": "Set directory, and begin the command with the program",
    "pushd": "Set directory, and begin the command with the program",
    "export": "List the variables in environment",
    "declare": "List the variables in environment",
    "set": "List the variables in environment",
    "unset": "List the variables in environment",
    "exec": "Leave 'exec' out: Supervisor runs the command in place of itself anyway",
    "source": "Write /bin/bash -c 'source FILE && exec PROGRAM'",
    ".": "Write /bin/sh -c '. FILE && exec PROGRAM'",
    "umask": "Set the option umask",
    "ulimit": "Write /bin/sh -c 'ulimit ...; exec PROGRAM'",
    "eval": f"Write {_EXEC}",
    "trap": f"Write {_EXEC}",
    "while": "Put the loop into a script",
    "until": "Put the loop into a script",
    "for": "Put the loop into a script",
    "if": "Put the condition into a script",
    "case": "Put the condition into a script",
    "[[": "Put the condition into a script",
    "!": "Put the condition into a script",
    "{": f"Write {_EXEC}",
    "(": "Begin the command with the program, without parentheses",
    "alias": "Write the command that the alias stands for",
    "shopt": f"Write {_EXEC}",
    "nvm": "nvm is a function of the shell. Write the full path of node, such as "
    "/home/USER/.nvm/versions/node/v22.11.0/bin/node",
    "rvm": "rvm is a function of the shell. Write the full path of ruby, or of rvm's wrapper",
    "conda": "Write the full path of the environment's interpreter",
    "workon": "Write the full path of the environment's interpreter",
    "deactivate": "Leave it out",
}

# Programs that run the rest of their arguments in their own place.
_IN_PLACE = {"env", "nice", "ionice", "chrt", "stdbuf", "setpriv", "nohup", "taskset", "numactl"}
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash", "busybox"}
# Programs that start another one and wait for it. The stop signal of Supervisor ends them, not it.
_WRAPPERS = {
    "sudo",
    "su",
    "runuser",
    "doas",
    "npm",
    "npx",
    "yarn",
    "pnpm",
    "bunx",
    "flock",
    "time",
    "script",
    "unbuffer",
    "xvfb-run",
    "dbus-run-session",
    "watch",
    "make",
    "nodemon",
    "ts-node-dev",
    "foreman",
    "honcho",
    "composer",
    "ddev",
    "lando",
}
_SCRIPTS_OF_WRAPPERS = {"nvm-exec", "nvm.sh"}

_ANY = ()
# Programs that put themselves into the background: what makes them do so (_ANY: they always do),
# and how they stay in the foreground.
_DAEMONS = {
    "setsid": (_ANY, "Leave setsid out", ("-w", "--wait")),
    "start-stop-daemon": (("-b", "--background"), "Run the program itself", _ANY),
    "daemonize": (_ANY, "Run the program itself", _ANY),
    "daemon": (_ANY, "Run the program itself", ("-f", "--foreground")),
    "screen": (("-dm", "-dmS", "-d"), "Run the program itself", _ANY),
    "tmux": (("-d",), "Run the program itself", _ANY),
    "pm2": (_ANY, "Run node itself, or pm2-runtime", _ANY),
    "forever": (("start",), "Run node itself", _ANY),
    "gearmand": (("-d", "--daemon"), "Leave -d out", _ANY),
    "memcached": (("-d", "--daemon"), "Leave -d out", _ANY),
    "redis-server": (("--daemonize",), "Write --daemonize no", ("no",)),
    "mongod": (("--fork",), "Leave --fork out", _ANY),
    "mysqld": (("--daemonize", "-D"), "Leave --daemonize out", _ANY),
    "nginx": (_ANY, "Write nginx -g 'daemon off;' into a script of its own", ("daemon off",)),
    "php-fpm": (_ANY, "Write --nodaemonize", ("-F", "--nodaemonize")),
    "celery": (("multi", "-D", "--detach"), "Write celery worker, without --detach", _ANY),
    "gunicorn": (("-D", "--daemon"), "Leave it out", _ANY),
    "uwsgi": (("-d", "--daemonize", "--daemonize2"), "Leave it out", _ANY),
    "haproxy": (("-D",), "Write -db", _ANY),
    "unicorn": (("-D", "--daemonize"), "Leave it out", _ANY),
    "puma": (("-d", "--daemon"), "Leave it out", _ANY),
    "sidekiq": (("-d", "--daemon"), "Leave it out", _ANY),
    "docker": (("-d", "--detach"), "Leave -d out", ("exec",)),
    "podman": (("-d", "--detach"), "Leave -d out", ("exec",)),
    "docker-compose": (("-d", "--detach"), "Leave -d out", _ANY),
    "stunnel4": (_ANY, "Write 'foreground = yes' into its configuration", (".conf",)),
    "rabbitmq-server": (("-detached",), "Leave it out", _ANY),
    "delayed_job": (("start",), "Write 'run'", _ANY),
    "gearman_manager.php": (("-d",), "Leave -d out", _ANY),
    "pecl-manager.php": (("-d",), "Leave -d out", _ANY),
    "pear-manager.php": (("-d",), "Leave -d out", _ANY),
    "gearmanmanager.php": (("-d",), "Leave -d out", _ANY),
}
_INTERPRETER = re.compile(r"(php|python|ruby|perl|node|nodejs)[0-9.]*\Z")
_DAEMON_FLAGS = {"--daemon", "--daemonize", "--detach", "--background", "--fork"}


def words(command):
    """Return the command's words as Supervisor gets them; None where a quote is not closed."""
    try:
        return shlex.split(command.replace("%%", "%"))
    except ValueError:
        return None


def check(option, command):
    """Refuse a command that cannot work without a shell. Raises InvalidOption."""
    found = words(command)
    if not found:
        return
    first = found[0]
    if _ASSIGNMENT.match(first):
        raise InvalidOption(
            option,
            _without_values(command),
            f"begins with the variable {first.split('=')[0]}, which only a shell would set; Supervisor runs no shell",
            "List it in environment, and begin the command with the program",
        )
    if first.startswith("("):
        first = "("
    if first in _SHELL_COMMANDS:
        raise InvalidOption(
            option,
            command,
            f"begins with '{first}', a command of the shell; Supervisor runs no shell",
            _SHELL_COMMANDS[first],
        )
    if first.startswith("~"):
        raise InvalidOption(
            option,
            command,
            "begins with '~', which only a shell would replace; Supervisor runs no shell",
            "Write the path of the home directory",
        )
    if "/" in first and not first.startswith(("/", "%(")):
        raise InvalidOption(
            option,
            command,
            f"begins with {first}, a relative path, which Supervisor looks up from its own working directory "
            "and not from the option directory",
            f"Write the absolute path, such as /srv/app/{os.path.normpath(first)}",
        )
    background = daemon(found)
    if background:
        raise InvalidOption(
            option,
            command,
            f"puts {background[0]} into the background, where Supervisor neither sees nor stops it and starts "
            "another one each time",
            background[1],
        )


def advice(command, stops_group=False):
    """Return what is worth a warning in a command. *stops_group*: stopasgroup is true."""
    found = words(command)
    if not found:
        return []
    result = list(_shell_syntax(command, found))
    script = shell_script(found)
    if script is not None and re.search(r"[^&>]&\s*\Z", script):
        result.append(
            "the shell puts its command into the background with '&', where Supervisor neither sees nor stops "
            "it. Leave the '&' out and begin the command with exec"
        )
    elif not stops_group:
        wrapper = _wrapper(found)
        if wrapper:
            result.append(
                f"{wrapper} is the process that Supervisor signals, and the worker behind it goes on unseen after a "
                "stop. Begin its last command with exec, run the worker itself, or set stopasgroup: true and "
                "killasgroup: true"
            )
    flags = sorted(_DAEMON_FLAGS & set(found))
    known = {os.path.basename(word) for word in found} & {"artisan", *_DAEMONS}
    if flags and not known:
        result.append(
            f"{flags[0]} looks as if it put the program into the background, where Supervisor neither sees nor stops "
            "it. Leave it out if it does"
        )
    if os.path.basename(found[0]) == "nohup":
        result.append("nohup is not needed: Supervisor's programs have no terminal. Leave it out")
    return result


def is_wrapper(command):
    """Return whether the process that Supervisor starts runs the worker as another process."""
    found = words(command)
    return bool(found and _wrapper(found))


def daemon(found):
    """Return (program, way out) when the words of a command start it in the background, or None."""
    rest = _real_program(found)
    names = [os.path.basename(word).lower() for word in rest]
    if rest and _INTERPRETER.match(names[0]):
        # The script is the first argument that is not an option of the interpreter.
        script = next((n for n, word in enumerate(rest[1:], 1) if not word.startswith("-")), None)
        rest, names = (rest[script:], names[script:]) if script else ([], [])
    if not rest:
        return None
    name = "php-fpm" if names[0].startswith("php-fpm") else names[0]
    if name not in _DAEMONS:
        return None
    flags, way_out, foreground = _DAEMONS[name]
    arguments = {part for word in rest[1:] for part in (word, word.split("=")[0])}
    if any(sign in word for sign in foreground for word in rest[1:]):
        return None
    if flags and not arguments & set(flags):
        return None
    return rest[0], way_out


def _real_program(found):
    """Return the words from the program on that runs in the end, past those that run it in place."""
    while found and os.path.basename(found[0]) in _IN_PLACE:
        found = found[1:]
        while found and (
            found[0].startswith("-") or "=" in found[0] or re.match(r"[0-9,-]+\Z", found[0])
        ):
            found = found[1:]
    return found


def shell_script(found):
    """Return the text after -c when a shell is to run one, or None."""
    rest = _real_program(found)
    if not rest or os.path.basename(rest[0]) not in _SHELLS:
        return None
    for number, word in enumerate(rest[1:], 1):
        if re.match(r"-[a-z]*c[a-z]*\Z", word):
            return rest[number + 1] if number + 1 < len(rest) else ""
    return None


def _wrapper(found):
    """Return the name of the first process when the worker is a child of it, or None."""
    rest = _real_program(found)
    if not rest:
        return None
    name = os.path.basename(rest[0])
    if name in _SCRIPTS_OF_WRAPPERS or (name in _WRAPPERS and not _runs_in_place(rest)):
        return name
    script = shell_script(found)
    if script is None:
        return None
    last = re.split(r"&&|\|\||[;|&\n]", _QUOTED.sub("Q", script))
    ends_with_exec = re.match(r"\s*exec\s", last[-1])
    # bash runs a single command in its own place; dash, Debian's sh, does not.
    single = len(last) == 1 and name == "bash"
    return None if ends_with_exec or single else name


def _runs_in_place(rest):
    return os.path.basename(rest[0]) == "flock" and bool({"-F", "--no-fork"} & set(rest))


def _shell_syntax(command, found):
    """Yield a warning for each thing that only a shell would understand."""
    bare = _QUOTED.sub("Q", command.replace("%%", "%"))
    parts = bare.split()
    script = shell_script(found)
    operators = [part for part in parts if _OPERATOR.match(part)]
    redirections = [part for part in parts if part not in operators and _REDIRECTION.match(part)]
    if re.search(r"[^&]&\Z", parts[-1]):
        operators.append("&")
    if any(part.endswith(";") and part != ";" for part in parts):
        operators.append(";")
    operators += [
        "|" for part in parts if re.match(r"[^-|=:]+\|[A-Za-z]", part) and "://" not in part
    ]
    if operators or redirections:
        seen = dict.fromkeys([*operators, *redirections])
        yield (
            f"{' '.join(seen)} will be an argument of the program: Supervisor runs no shell. "
            + _instead_of(operators, redirections)
        )
    if script is None:
        variable = _VARIABLE.search(_SINGLE_QUOTED.sub("Q", command))
        if variable:
            yield (
                f"{variable.group()} will not be replaced: Supervisor runs no shell. Write the value, or "
                "%(ENV_NAME)s for a variable of supervisord"
            )
        for part in parts:
            if _WILDCARD.match(part):
                yield (
                    f"{part} will not be expanded: Supervisor runs no shell. Name the files, or let the program "
                    "find them"
                )
        if any(part.startswith("~/") for part in parts):
            yield "'~' will not be replaced: Supervisor runs no shell. Write the path of the home directory"


def _instead_of(operators, redirections):
    signs = {re.sub(r"[0-9-]", "", sign) for sign in [*operators, *redirections]}
    if "&" in signs:
        return "Leave '&' out: the program has to stay in the foreground"
    if signs & {"&&", "||", ";"}:
        return f"Run one program, with directory and environment, or write {_EXEC}"
    if signs & {"|", "|&", "<", "<<"} or any(sign.startswith("<") for sign in signs):
        return "Put the command into a script"
    return "Use stdout_logfile, stderr_logfile and redirect_stderr"


def _without_values(command):
    """Return the command with the values of its variables hidden."""
    return re.sub(r"\b([A-Za-z_][A-Za-z0-9_]*=)\S*", r"\1***", command)
