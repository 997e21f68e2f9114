#!/bin/sh
# moon: a task runner whose remote cache client compresses with zstd.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"

version=2.5.5
already moon "$version" && exit 0
have npm || apt nodejs npm
begin
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$stage" "@moonrepo/cli@$version" >&2 ||
    fail "npm install @moonrepo/cli@$version did not work; the message is above"
# The package is a launcher in JavaScript; the program lies in the one for this platform.
for program in "$stage"/node_modules/@moonrepo/core-*/moon; do
    [ -x "$program" ] && publish "$program" moon "$version" && exit 0
done
fail "npm has no moon $version for $(uname -sm)"
