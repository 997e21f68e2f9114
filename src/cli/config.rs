//! `kache config`: what kache is told, and by whom. It starts nothing and changes nothing.

use super::args::{ConfigArgs, ConfigCommand, GetArgs};
use super::exit_codes::{FAILURE, OK, USAGE};
use super::failure::{Failure, Outcome};
use super::output;
use crate::config::{self, Config, DEFAULT_FILE, Environment, Key, Sources};

pub(super) fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        ConfigCommand::List => list(),
        ConfigCommand::Get(args) => get(&args),
        ConfigCommand::Default => output::data(DEFAULT_FILE).map(|()| OK),
        ConfigCommand::Docs => output::data(&config::reference_page()).map(|()| OK),
    }
}

/// The configuration that holds in the current directory.
pub(super) fn load_here() -> Result<Config, Failure> {
    let environment = Environment::of_process();
    for name in environment.unknown() {
        output::talk(&format!(
            "kache: warning: there is no variable `{name}`; docs/configuration.md lists them all"
        ));
    }
    // Without a current directory there is no project, and no relative path in a variable.
    let current_dir = std::env::current_dir().ok();
    Ok(config::load(&Sources { environment, current_dir })?)
}

fn list() -> Outcome {
    output::data(&config::list(&load_here()?)).map(|()| OK)
}

fn get(args: &GetArgs) -> Outcome {
    let Some(key) = Key::by_name(&args.key) else {
        let failure = Failure { status: USAGE, ..Failure::new(format!("there is no key `{}`", args.key)) };
        return Err(match Key::nearest(&args.key) {
            Some(meant) => failure.hint(format!("did you mean `{}`?", meant.name())),
            None => failure.hint("`kache config list` shows every key"),
        });
    };
    match config::value_of(&load_here()?, key) {
        Some(value) => output::data(&format!("{value}\n")).map(|()| OK),
        // Nothing on stdout, and a code that scripts can tell from a value.
        None => Ok(FAILURE),
    }
}
