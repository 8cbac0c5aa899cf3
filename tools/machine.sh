# What a machine needs for ./run, which sources this: packages of Debian, and Python with its own.
# shellcheck shell=sh disable=SC2154 # root and venv are set by ./run

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "This needs root: run it as root, or install sudo."
    fi
}

is_installed() {
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# patiently WHAT COMMAND [ARGUMENT...]: run it, and report every 15 seconds that it still runs.
patiently() {
    what=$1
    shift
    (
        elapsed=0
        while kill -0 $$ 2>/dev/null; do
            sleep 15 >/dev/null 2>&1
            elapsed=$((elapsed + 15))
            say "$what: running for $elapsed s"
        done
    ) &
    ticker=$!
    status=0
    "$@" || status=$?
    kill "$ticker" 2>/dev/null || :
    return "$status"
}

# install_packages PACKAGE...: those that are missing, with apt.
install_packages() {
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "This is not Debian: install the likes of$missing by hand."

    say "Installing with apt:$missing"
    # A test needs gearmand's and Supervisor's programs, not their services: a policy-rc.d
    # keeps apt from starting (or restarting) any. One that is there already is its owner's.
    # shellcheck disable=SC2016,SC2086 # expanded by the inner shell; one word a package
    patiently apt as_root env DEBIAN_FRONTEND=noninteractive sh -euc '
        policy=/usr/sbin/policy-rc.d
        if ! [ -e "$policy" ]; then
            trap "rm -f $policy" EXIT
            trap "exit 1" HUP INT TERM
            printf "#!/bin/sh\nexit 101\n" >"$policy"
            chmod 755 "$policy"
        fi
        apt-get -qq update
        apt-get -qq -o Dpkg::Use-Pty=0 install "$@" >/dev/null
    ' install $missing ||
        die "apt could not install$missing: correct the error above, then run this again."
}

# A shim or a Python without venv (Debian splits it off) does not count.
find_python() {
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# fingerprint REQUIREMENTS: changes when .venv has to be recreated.
fingerprint() {
    { echo "$venv" && "$python" --version && cat "$root/requirements.txt" "$root/$1"; } | sha256sum
}

# install_python REQUIREMENTS: make .venv from that file, unless it was already.
install_python() {
    python=$(find_python) || {
        install_packages python3-venv
        python=$(find_python) || die "No Python 3.11 or later with venv here: install one as python3."
    }
    if [ "$(cat "$venv/$1.done" 2>/dev/null)" != "$(fingerprint "$1")" ]; then
        say "Installing the Python packages of $1 (about a minute, once)"
        "$python" -m venv --clear "$venv"
        patiently pip "$venv/bin/pip" install -qq --disable-pip-version-check -r "$root/$1" ||
            die "pip could not install $1: is its package index in reach? Then run this again."
        # Each file includes those before it.
        for file in requirements.txt requirements-test.txt requirements-bench.txt; do
            fingerprint "$file" >"$venv/$file.done"
            [ "$file" != "$1" ] || break
        done
        [ -e "$venv/bin/molecule" ] || promise_molecule
    fi
    PATH=$venv/bin:$PATH
    export PATH
}

# promise_molecule: a user of the activated environment who runs molecule gets it installed.
promise_molecule() {
    printf '#!/bin/sh\nexec "%s/run" install-molecule "$@"\n' "$root" >"$venv/bin/molecule"
    chmod 755 "$venv/bin/molecule"
}

# find_other_python VERSION: from PATH or from pyenv, whose shims for others than its current one
# do not run.
find_other_python() {
    for candidate in "python$1" "${PYENV_ROOT:-${HOME-}/.pyenv}/versions/$1".*/bin/python3; do
        if "$candidate" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# install_other_python VERSION: make .venv-pyVERSION with pytest and hypothesis, unless it was already.
install_other_python() {
    other=$venv-py$1
    tools=$(grep -E '^(hypothesis|pytest|pytest-xdist)==' "$root/requirements-test.txt")
    wanted="$other $("$python" --version) $tools"
    if [ "$(cat "$other/done" 2>/dev/null)" != "$wanted" ]; then
        say "Installing pytest and hypothesis for Python $1 (some seconds, once)"
        "$python" -m venv --clear "$other"
        echo "$tools" >"$other/requirements.txt"
        "$other/bin/pip" install -qq --disable-pip-version-check -r "$other/requirements.txt" ||
            die "pip could not install them: is its package index in reach? Then run this again."
        echo "$wanted" >"$other/done"
    fi
}

# Ansible refuses to run in a locale that is not UTF-8.
use_utf8() {
    if [ "$(locale charmap 2>/dev/null)" != UTF-8 ]; then
        LC_ALL=C.UTF-8
        export LC_ALL
    fi
}
