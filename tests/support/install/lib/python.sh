# shellcheck shell=sh
# Installs Python programs at pinned versions. Sourced after common.sh.
#
# `python/NAME.in` names the program's package, and `python/NAME.txt` pins it and everything
# that it needs, by hash. To pin newer versions, change the first file, and make the second:
#
#     uv pip compile --universal --generate-hashes --no-annotate --no-header \
#         --python-version 3.11 NAME.in -o NAME.txt

# The oldest Python for which everything that is pinned exists.
python_minor_min=11

# Sets $python_version to the minor version of `python3`, which the extensions are made for.
find_python() {
    have python3 || apt python3 python3-pip
    python_version="$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    [ "${python_version#3.}" -ge "$python_minor_min" ] ||
        fail "install Python 3.$python_minor_min or newer, so that \`python3\` is on the PATH"
    python3 -m pip --version >/dev/null 2>&1 || apt python3-pip
}

# python_program NAME: installs what python/NAME.txt pins, so that `$tools/bin/NAME` starts
# its program NAME.
python_program() {
    : "${here:?}" "${tools:?}"
    pins="$here/python/$1.txt"
    find_python
    pinned="Python $python_version, $(cksum <"$pins")"
    already "$1" "$pinned" && return
    begin
    python3 -m pip --disable-pip-version-check install --quiet --root-user-action ignore --no-deps \
        --only-binary :all: --require-hashes --target "$stage/packages" --requirement "$pins" >&2 ||
        fail "python3 -m pip install --requirement $pins did not work; the message is above"
    packages="$tools/python/$1"
    mkdir -p "$tools/python"
    rm -rf "$packages"
    mv "$stage/packages" "$packages"
    printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" "$@"\n' "$packages" "$packages/bin/$1" >"$stage/$1"
    publish "$stage/$1" "$1" "$pinned"
}
