#!/bin/sh
# Buildbarn's storage, a server of the Remote Execution API. It has no releases; the version
# is the date of a commit.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/go.sh"

version=20250819193852
bytestream=google.golang.org/genproto/googleapis/bytestream
already bb_storage "$version" && exit 0
begin
go_module bb_storage
# Buildbarn builds with Bazel, which generates this file anew: there, any registrar will do.
go_command mod download -modcacherw "$bytestream" || fail "fetching $bytestream did not work; the message is above"
generated="$(echo "$stage/modules/$bytestream"@*/bytestream.pb.go)"
sed 's/^func RegisterByteStreamServer(s \*grpc\.Server,/func RegisterByteStreamServer(s grpc.ServiceRegistrar,/' \
    "$generated" >"$stage/patched"
mv "$stage/patched" "$generated"
go_build bb_storage github.com/buildbarn/bb-storage/cmd/bb_storage
publish "$stage/bb_storage" bb_storage "$version"
