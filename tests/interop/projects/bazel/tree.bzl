"""An output that is a directory, with a directory in it and a file that can be executed."""

def _tree_impl(ctx):
    out = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [out],
        arguments = [out.path],
        command = """
            mkdir -p "$1/deep/deeper"
            for i in 1 2 3 4 5; do head -c 5000 /dev/urandom > "$1/deep/$i"; done
            : > "$1/deep/deeper/empty"
            echo 'echo run' > "$1/run.sh"
            chmod +x "$1/run.sh"
        """,
    )
    return [DefaultInfo(files = depset([out]))]

tree = rule(implementation = _tree_impl)
