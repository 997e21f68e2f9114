//! The program `kached`; see `kache::cli`.

fn main() -> std::process::ExitCode {
    kache::cli::main()
}
