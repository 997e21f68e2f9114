#!/bin/sh
# moto: a server that behaves as S3 does, and keeps its objects in memory.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/python.sh"

python_program moto_server
