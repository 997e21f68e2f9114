//! `kache config`: the configuration and where each value comes from. The command starts
//! nothing and changes nothing.

use super::args::{ConfigArgs, ConfigCommand, GetArgs};
use super::exit_codes::{FAILURE, OK, USAGE};
use super::failure::{CommandResult, Failure};
use super::output;
use crate::config::{self, Config, ConfigSources, DEFAULT_FILE, Environment, Key};

pub(super) fn run(args: ConfigArgs) -> CommandResult {
    match args.command {
        ConfigCommand::List => list(),
        ConfigCommand::Get(args) => get(&args),
        ConfigCommand::Default => output::data(DEFAULT_FILE).map(|()| OK),
        ConfigCommand::Docs => output::data(&config::reference_page()).map(|()| OK),
    }
}

/// Loads the configuration that applies in the current directory, and warns of `KACHE_`
/// variables that do not exist.
pub(super) fn load_here() -> Result<Config, Failure> {
    let environment = Environment::of_process();
    for name in environment.unknown() {
        output::message(&format!(
            "kache: warning: unknown variable `{name}`; docs/configuration.md lists all variables"
        ));
    }
    // Without a current directory there is no project file, and a relative path in a variable
    // is an error.
    let current_dir = std::env::current_dir().ok();
    Ok(config::load(&ConfigSources { environment, current_dir })?)
}

fn list() -> CommandResult {
    output::data(&config::list(&load_here()?)).map(|()| OK)
}

fn get(args: &GetArgs) -> CommandResult {
    let Some(key) = Key::by_name(&args.key) else {
        if let Some(values) = config::values_of_remotes(&load_here()?, &args.key) {
            let lines: String = values.iter().map(|value| format!("{value}\n")).collect();
            return output::data(&lines).map(|()| if values.is_empty() { FAILURE } else { OK });
        }
        let failure = Failure { status: USAGE, ..Failure::new(format!("unknown key `{}`", args.key)) };
        return Err(match Key::nearest(&args.key) {
            Some(meant) => failure.hint(format!("did you mean `{}`?", meant.name())),
            None => failure.hint("`kache config list` shows every key"),
        });
    };
    match config::value_of(&load_here()?, key) {
        Some(value) => output::data(&format!("{value}\n")).map(|()| OK),
        // A key without a value prints nothing, so the exit code tells scripts that it has none.
        None => Ok(FAILURE),
    }
}
