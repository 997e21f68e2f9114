//! A door.

fn main() -> std::process::ExitCode {
    kache::cli::main()
}
