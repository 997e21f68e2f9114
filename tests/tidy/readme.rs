//! The commands in the README are those that CI runs.

use crate::Complaint;

/// The line of the README before the commands.
const BEFORE_THE_COMMANDS: &str = "CI runs exactly this:";

/// The differences between the README and CI's script.
pub(crate) fn check_commands(readme: &str, script: &str) -> Vec<Complaint> {
    let promised = readme.split_once(BEFORE_THE_COMMANDS).map_or("", |(_, after)| after);
    let promised = promised.split("```").nth(1).unwrap_or_default();
    let (promised, run) = (commands(promised), commands(script));
    if promised.is_empty() || promised != run {
        return vec![format!("README.md: says that CI runs {promised:?}, and it runs {run:?}")];
    }
    Vec::new()
}

fn commands(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("./x ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readme_that_promises_something_else_is_found() {
        let readme = |commands: &str| {
            format!("CI runs exactly this:\n\n```sh\n{commands}\n```\n\n```sh\n./x fuzz 9\n```\n")
        };
        let script = "set -e\n./x lint\n./x test\n";
        assert_eq!(check_commands(&readme("./x lint\n./x test"), script).len(), 0);
        assert_eq!(check_commands(&readme("./x test"), script).len(), 1);
        assert_eq!(check_commands("nothing", "nothing").len(), 1);
    }
}
