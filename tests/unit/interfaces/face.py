# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others build on: the public face of a checkout, as data.

face.json beside this file is the face of the last commit before the rooms were rebuilt; it was made by

    python tests/unit/interfaces/face.py CHECKOUT >tests/unit/interfaces/face.json

and ../test_interfaces.py compares the tree with it. Names are added to it by a release, never removed.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

OPTION_KEYS = ("type", "elements", "default", "choices", "required", "aliases")
GEARMAND = "/usr/sbin/gearmand"
# What operators and their backups, monitors and runbooks know: found as text in the sources.
PATHS = (
    "/etc/gearman/max_queue.json",
    "/etc/gearmand.conf",
    "/etc/gearvisor/firewall.nft",
    "/etc/gearvisor/tunnel",
    "/etc/supervisor/conf.d/00-supervisord.conf",
    "/etc/systemd/system/supervisor.service.d/gearvisor.conf",
    "/opt/gearvisor/php",
    "/opt/gearvisor/venv",
    "/run/gearman/gearmand.pid",
    "/run/gearvisor-gearman-job-server.json",
    "/usr/local/lib/gearvisor/max_queue.py",
    "/usr/local/lib/gearvisor/retry_fatal.py",
    "/var/lib/gearvisor/firewall.listing",
    "/var/lib/gearvisor/gearmand/queue.sqlite3",
    "/var/log/gearman-worker/%(program_name)s_%(process_num)02d.log",
    "/var/log/supervisor/gearman-job-server.log",
    "/var/log/supervisor/gearman-tunnel.log",
    "/var/log/supervisor/retry-fatal.log",
)


def face(root: Path) -> dict:
    """Return the whole face of the checkout in *root*."""
    return {
        "modules": modules(root),
        "roles": roles(root),
        "python": python_names(root),
        "commands": commands(root),
        "fields": fields(root),
        "paths": paths(root),
        "variables": variables(root),
        "run": run_commands(root),
        "ansible.cfg": ansible_settings(root),
    }


def options(documented: dict) -> dict:
    """Reduce documented options to what a caller depends on."""
    reduced = {}
    for name, option in (documented or {}).items():
        reduced[name] = {key: option[key] for key in OPTION_KEYS if option.get(key) is not None}
        if "options" in option:
            reduced[name]["options"] = options(option["options"])
    return reduced


def results(documented: dict) -> dict:
    return {
        name: {
            "type": entry.get("type"),
            **({"contains": results(entry["contains"])} if "contains" in entry else {}),
        }
        for name, entry in (documented or {}).items()
    }


def modules(root: Path) -> dict:
    found = {}
    for path in sorted((root / "library").glob("*.py")):
        texts = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("DOCUMENTATION", "RETURN")
        }
        found[path.stem] = {
            "options": options(yaml.safe_load(texts["DOCUMENTATION"]).get("options")),
            "results": results(yaml.safe_load(texts["RETURN"])),
        }
    return found


def roles(root: Path) -> dict:
    return {
        path.parents[1].name: {
            entry: options(spec.get("options"))
            for entry, spec in yaml.safe_load(path.read_text())["argument_specs"].items()
        }
        for path in sorted((root / "roles").glob("*/meta/argument_specs.yml"))
    }


def python_names(root: Path) -> dict:
    """Return {module: {name: {"parameters": [...]} or {"members": {...}} or {}}} of gearvisor.*."""
    found = {}
    for path in sorted((root / "python/src/gearvisor").glob("*.py")):
        if path.stem.startswith("_") and path.stem != "__init__":
            continue
        module = "gearvisor" if path.stem == "__init__" else f"gearvisor.{path.stem}"
        found[module] = definitions(ast.parse(path.read_text()).body)
    # A program rather than a library: its entry point and its exit codes.
    kept = ("main", "OK", "FAILED", "USAGE", "NO_SERVER", "TIMEOUT")
    found["gearvisor.cli"] = {name: found["gearvisor.cli"][name] for name in kept}
    return found


def definitions(body: list) -> dict:
    names: dict = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {"members": definitions(node.body)}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names[node.name] = {
                "parameters": [each.arg for each in arguments if each.arg != "self"]
            }
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for each in ast.walk(target):
                    if isinstance(each, ast.Name):
                        names[each.id] = {}
    return {name: entry for name, entry in names.items() if is_public(name)}


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in ("__version__", "__init__")


def commands(root: Path) -> dict:
    """Return the options and exit codes of each program, read from its --help."""
    python = [sys.executable, "-m", "gearvisor"]
    environment = {**os.environ, "PYTHONPATH": str(root / "python/src"), "COLUMNS": "200"}

    def helped(*argv: str) -> str:
        return subprocess.run(
            [*argv, "--help"], env=environment, check=True, capture_output=True, text=True
        ).stdout

    whole = helped(*python)
    found = {"gearvisor": described(whole)}
    for command in re.findall(r"^    ([a-z]+)  ", whole, re.M):
        found[f"gearvisor {command}"] = described(helped(*python, command))
    for script in ("worker.php", "client.php"):
        found[script] = described(helped("php", str(root / "php" / script)))
    return found


def described(text: str) -> dict:
    codes = text[re.search(r"(?i)exit codes:", text).end() :] if "xit codes:" in text else ""
    return {
        "options": sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))),
        "exit_codes": sorted({int(code) for code in re.findall(r"(?<![\w.])\d+(?= |\))", codes)}),
    }


def fields(root: Path) -> dict:
    """Return the fields of the status files and of the JSON logs, as both workers write them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(root / "python/src")}
    gearvisor = [sys.executable, "-m", "gearvisor"]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [GEARMAND, "--listen=127.0.0.1", f"--port={port}", "--log-file=none",
             f"--pid-file={folder}/pid"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            written = {}
            for language, program in {
                "python": [*gearvisor, "worker", "gearvisor.reference"],
                "php": ["php", str(root / "php/worker.php")],
            }.items():
                written[language] = written_by(
                    [*program, "--server", address], Path(folder), [*gearvisor, "submit", "--server", address],
                    environment,
                )  # fmt: skip
            return written
        finally:
            server.kill()
            server.wait()


def written_by(worker: list[str], folder: Path, submit: list[str], environment: dict) -> dict:
    status, log = folder / "status.json", folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*worker, "--log-format", "json", "--log-level", "debug", "--status-file", status],
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        for function in ("reverse", "fail"):
            subprocess.run(
                [*submit, "--timeout", "20", function, "x"], env=environment, capture_output=True
            )
        until(lambda: status.exists() and json.loads(status.read_text())["failed"] == 1)
        document = json.loads(status.read_text())
    finally:
        process.terminate()
        process.wait(timeout=20)
    function = next(iter(document["functions"].values()))
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    log.unlink()
    return {
        "status_file": sorted(document),
        "status_file_functions": sorted(function),
        "log": sorted(set().union(*entries)),
    }


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {seconds} s")
        time.sleep(0.05)


def sources(root: Path, *folders: str) -> str:
    files = (path for folder in folders for path in sorted((root / folder).rglob("*")))
    kinds = (".py", ".php", ".yml")
    return "\n".join(path.read_text() for path in files if path.suffix in kinds and path.is_file())


def paths(root: Path) -> list:
    text = sources(root, "module_utils", "library", "roles")
    return [path for path in PATHS if path in text]


def variables(root: Path) -> list:
    text = sources(root, "python/src", "php", "roles", "molecule")
    return sorted(set(re.findall(r"\bGEARVISOR_[A-Z_]+", text)))


def run_commands(root: Path) -> list:
    usage = subprocess.run([root / "run", "help"], check=True, capture_output=True, text=True)
    return re.findall(r"^  ([a-z]+) ", usage.stdout, re.M)


def ansible_settings(root: Path) -> dict:
    lines = (root / "ansible.cfg").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line)
    return {key: settings[key] for key in ("library", "module_utils", "roles_path")}


if __name__ == "__main__":
    json.dump(face(Path(sys.argv[1]).resolve()), sys.stdout, indent=1, sort_keys=True)
    print()
