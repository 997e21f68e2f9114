#!/bin/sh
# BuildGrid: a server of the Remote Execution API, here as a cache. Its command is `bgd`.
here="$(cd "$(dirname "$0")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/python.sh"

python_program bgd
