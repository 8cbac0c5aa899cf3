# Copyright: Gearvisor contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a candidate configuration with Supervisor's own parser; starts nothing.

This file is run as a script under the interpreter that runs supervisord. It gets one JSON object on standard input:
  config         the path of supervisord.conf
  overlay        {path: text or null}: included files as they would be
  directories    directories to be taken as existing
  users          user names to be taken as existing
  environment    supervisord's environment, for %(ENV_x)s
and prints {"error": text or null, "owners": {section: [paths]}}.

ServerOptions.realize() parses without binding sockets, forking or touching
logs (read in supervisor/options.py of 4.2.5 and 4.3.0).
"""

import fnmatch
import glob
import io
import json
import os
import sys
import warnings


class Refused(Exception):
    pass


def parse(request):
    """Return (error or None, {section: [files that define it]})."""
    from supervisor import datatypes, options

    overlay = {os.path.normpath(path): text for path, text in request["overlay"].items()}
    main = options.UnhosedConfigParser()
    main.read(request["config"])
    owners = {section: [request["config"]] for section in main.sections()}

    class OverlaidGlob:
        @staticmethod
        def glob(pattern):
            found = {os.path.normpath(path) for path in glob.glob(pattern)}
            for path, text in overlay.items():
                if text is None:
                    found.discard(path)
                elif fnmatch.fnmatch(path, os.path.normpath(pattern)):
                    found.add(path)
            return sorted(found)

    class OverlaidParser(options.UnhosedConfigParser):
        def read(self, filenames, **kwargs):
            path = os.path.normpath(filenames if isinstance(filenames, str) else filenames[0])
            try:
                text = overlay.get(path)
                if text is None:
                    # supervisord skips a file that it cannot read; that would drop its programs.
                    with open(path, encoding="utf-8") as file:
                        text = file.read()
                part = options.UnhosedConfigParser()
                part.read_file(io.StringIO(text), source=path)
                known = set(self.sections())
                self.read_file(io.StringIO(text), source=path)
            except Exception as error:
                raise ValueError(f"{error} (file: '{path}')") from None
            for section in part.sections():
                owners.setdefault(section, []).append(path)
                if section not in known:
                    self.section_to_file[section] = path
            return [path]

    is_directory = os.path.isdir
    to_user_id = datatypes.name_to_uid
    directories = {os.path.normpath(path) for path in request["directories"]}

    def is_or_will_be_directory(path):
        return os.path.normpath(path) in directories or is_directory(path)

    def user_id(name):
        return 0 if name in request["users"] else to_user_id(name)

    server = options.ServerOptions()
    server.stderr = io.StringIO()

    def refuse(_code):
        raise Refused(server.stderr.getvalue())

    server.exit = refuse
    os.path.isdir = is_or_will_be_directory
    options.name_to_uid = user_id
    options.glob = OverlaidGlob
    options.UnhosedConfigParser = OverlaidParser
    try:
        server.realize(args=["-c", request["config"]], doc="")
    except Refused as error:
        text = str(error).partition("\nFor help")[0].strip()
        return text[len("Error: ") :] if text.startswith("Error: ") else text, owners
    except Exception as error:
        return f"{type(error).__name__}: {error}", owners
    return None, owners


def main():
    warnings.simplefilter("ignore")
    request = json.load(sys.stdin)
    os.environ.clear()
    os.environ.update(request["environment"])
    error, owners = parse(request)
    json.dump({"error": error, "owners": owners}, sys.stdout)


if __name__ == "__main__":
    main()
