//! A door.

fn main() -> std::process::ExitCode {
    kache_client::main()
}
