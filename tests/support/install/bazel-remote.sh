#!/bin/sh
# bazel-remote: the most widely used remote cache, here as a proxy in front of kache, and
# as the server that the benchmark compares with.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/go.sh"

version=2.6.2
already bazel-remote "$version" && exit 0
begin
go_program bazel-remote github.com/buchgr/bazel-remote/v2
publish "$stage/bazel-remote" bazel-remote "$version"
