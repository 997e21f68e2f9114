//! The program `kache`; see `kache_client`.

fn main() -> std::process::ExitCode {
    kache_client::main()
}
