#!/bin/sh
# The wrappers that `./x bench rust` compares kache with, as crates.io has them: each in a
# directory of its own, because two of the three programs have the same name as ours or as
# something that may be on the PATH.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/../../tests/support/install/lib/common.sh"

peers="$tools/peers"

# crate NAME VERSION CARGO-OPTIONS...
crate() {
    name="$1"
    version="$2"
    shift 2
    [ ! -x "$peers/$name-$version/bin/$name" ] || return 0
    begin
    say "compiling $name $version, which takes some minutes"
    # A lock file may name a version that was withdrawn since; then what fits is taken.
    for locked in --locked ""; do
        # shellcheck disable=SC2086 # Nothing, where it is empty.
        CARGO_TARGET_DIR="$stage/target" CARGO_PROFILE_RELEASE_DEBUG=0 \
            cargo install --quiet $locked --root "$stage/root" "$@" "$name@$version" >&2 && break
    done
    [ -x "$stage/root/bin/$name" ] || fail "cargo install $name@$version did not work; the message is above"
    mkdir -p "$peers"
    rm -rf "$peers/$name-$version"
    mv "$stage/root" "$peers/$name-$version"
    rm -rf "$stage"
}

crate mbx 1.29.1
crate kache 2.0.0
# Only its cache on disk is measured; the rest is clients of clouds.
crate sccache 0.19.0 --no-default-features
