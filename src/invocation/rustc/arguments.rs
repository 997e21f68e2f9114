//! From arguments to words: which are options, which are values, which are neither. As the
//! getopts of rustc reads them: options and free arguments in any order, `--long=value`,
//! `--long value`, `-svalue`, `-s value`, flags in one (`-gO`), all free after `--`.

use super::options::{CompilerOption, by_long, by_short};
use crate::invocation::{Bypass, Reason};

/// One option as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    /// Which.
    pub(super) option: &'static CompilerOption,
    /// What stands before the value in the same argument (`--out-dir=`, `-L`), or the whole
    /// argument where the value is the next one or there is none.
    pub(super) head: &'a str,
    /// Its value.
    pub(super) value: Option<&'a str>,
    /// Whether the value is an argument of its own.
    pub(super) is_apart: bool,
}

/// One thing that was given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    /// An option.
    Option(Given<'a>),
    /// Something else: a source, or a `--` that ends the options.
    Free(&'a str),
    /// `--`
    End(&'a str),
}

/// All of them, in order.
pub(super) fn items(arguments: &[String]) -> Result<Vec<Item<'_>>, Bypass> {
    let mut items = Vec::with_capacity(arguments.len());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        if argument == "--" {
            items.push(Item::End(argument));
            items.extend(rest.by_ref().map(Item::Free));
        } else if let Some(long) = argument.strip_prefix("--") {
            items.push(Item::Option(long_option(argument, long, &mut rest)?));
        } else if argument.len() > 1 && argument.starts_with('-') {
            short_options(argument, &mut rest, &mut items)?;
        } else {
            items.push(Item::Free(argument));
        }
    }
    Ok(items)
}

fn unknown(argument: &str) -> Bypass {
    Bypass::new(Reason::UnknownOption, argument)
}

fn long_option<'a>(
    argument: &'a str,
    long: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
) -> Result<Given<'a>, Bypass> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let option = by_long(name).ok_or_else(|| unknown(&argument[..name.len() + 2]))?;
    match (option.takes_value, value) {
        (false, Some(_)) => Err(unknown(argument)),
        (false, None) => Ok(Given { option, head: argument, value: None, is_apart: false }),
        (true, Some(value)) => {
            let head = &argument[..argument.len() - value.len()];
            Ok(Given { option, head, value: Some(value), is_apart: false })
        }
        (true, None) => apart(option, argument, rest),
    }
}

fn short_options<'a>(
    argument: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
    items: &mut Vec<Item<'a>>,
) -> Result<(), Bypass> {
    for (at, name) in argument.char_indices().skip(1) {
        let option = by_short(name).ok_or_else(|| unknown(argument))?;
        let (head, after) = argument.split_at(at + name.len_utf8());
        if !option.takes_value {
            let head = flag(name).ok_or_else(|| unknown(argument))?;
            items.push(Item::Option(Given { option, head, value: None, is_apart: false }));
            continue;
        }
        if at != 1 {
            // `-gCopt-level=3` is legal; nobody writes it.
            return Err(unknown(argument));
        }
        let given = match after {
            "" => apart(option, argument, rest)?,
            value => Given { option, head, value: Some(value), is_apart: false },
        };
        items.push(Item::Option(given));
        return Ok(());
    }
    Ok(())
}

/// A flag as an argument of its own: `-vV` is `-v -V`.
fn flag(name: char) -> Option<&'static str> {
    ["-h", "-g", "-O", "-V", "-v"].into_iter().find(|flag| flag.ends_with(name))
}

fn apart<'a>(
    option: &'static CompilerOption,
    head: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
) -> Result<Given<'a>, Bypass> {
    let value = rest.next().ok_or_else(|| unknown(head))?;
    Ok(Given { option, head, value: Some(value), is_apart: true })
}
