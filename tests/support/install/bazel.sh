#!/bin/sh
# Bazel as Debian packages it: 4.2.3, which builds without a network. Where there is no
# apt, a Bazel that is on the PATH is taken; other versions may want other flags than the
# tests give.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"

[ -x "$tools/bin/bazel" ] && exit 0
# Debian's Bazel reads the C++ compiler's name from its own wrapper, and needs one.
{ [ -x /usr/bin/bazel ] && have cc; } || { have bazel && ! have apt-get; } ||
    apt bazel-bootstrap gcc libc6-dev
bazel=/usr/bin/bazel
[ -x "$bazel" ] || bazel="$(command -v bazel)"
ln -sf "$bazel" "$tools/bin/bazel"
say "installed bazel from $bazel"
