#!/bin/sh
# remotetool: the command of the Remote Execution SDK for Go. It has no releases; the
# version is the date of a commit.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/go.sh"

version=20251202150838
already remotetool "$version" && exit 0
begin
go_program remotetool github.com/bazelbuild/remote-apis-sdks/go/cmd/remotetool
publish "$stage/remotetool" remotetool "$version"
