//! Splits a command line into options with their values, and free arguments.
//!
//! It follows the `getopts` crate that rustc uses: options and free arguments in any order, `--long=value`,
//! `--long value`, `-svalue`, `-s value`, several flags in one argument (`-gO`), and after `--` only free
//! arguments. It does not know what an option means.

use super::options::{CompilerOption, by_long, by_short};
use crate::invocation::{Bypass, Reason};

/// One option of the command line with its value, as it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenOption<'a> {
    pub(super) option: &'static CompilerOption,
    /// The text before the value in the same argument (`--out-dir=`, `-L`), or the whole argument if the
    /// value is the next argument or the option has none.
    pub(super) head: &'a str,
    /// The value; `None` for an option that takes none.
    pub(super) value: Option<&'a str>,
    /// Whether the value is a separate argument.
    pub(super) is_apart: bool,
}

/// One part of the command line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Argument<'a> {
    /// An option with its value.
    Option(GivenOption<'a>),
    /// An argument that is no option: a source file, or `-` for standard input.
    Free(&'a str),
    /// The argument `--`, which ends the options.
    EndOfOptions(&'a str),
}

/// Splits the arguments, keeping their order. The bypass names an option that is not in the tables.
pub(super) fn split_arguments(arguments: &[String]) -> Result<Vec<Argument<'_>>, Bypass> {
    let mut split = Vec::with_capacity(arguments.len());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        if argument == "--" {
            split.push(Argument::EndOfOptions(argument));
            split.extend(rest.by_ref().map(Argument::Free));
        } else if let Some(long) = argument.strip_prefix("--") {
            split.push(Argument::Option(long_option(argument, long, &mut rest)?));
        } else if argument.len() > 1 && argument.starts_with('-') {
            short_options(argument, &mut rest, &mut split)?;
        } else {
            split.push(Argument::Free(argument));
        }
    }
    Ok(split)
}

fn unknown(argument: &str) -> Bypass {
    Bypass::new(Reason::UnknownOption, argument)
}

fn long_option<'a>(
    argument: &'a str,
    long: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
) -> Result<GivenOption<'a>, Bypass> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let option = by_long(name).ok_or_else(|| unknown(&argument[..name.len() + 2]))?;
    match (option.takes_value, value) {
        (false, Some(_)) => Err(unknown(argument)),
        (false, None) => Ok(GivenOption { option, head: argument, value: None, is_apart: false }),
        (true, Some(value)) => {
            let head = &argument[..argument.len() - value.len()];
            Ok(GivenOption { option, head, value: Some(value), is_apart: false })
        }
        (true, None) => value_in_next(option, argument, rest),
    }
}

fn short_options<'a>(
    argument: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
    split: &mut Vec<Argument<'a>>,
) -> Result<(), Bypass> {
    for (at, name) in argument.char_indices().skip(1) {
        let option = by_short(name).ok_or_else(|| unknown(argument))?;
        let (head, after) = argument.split_at(at + name.len_utf8());
        if !option.takes_value {
            let head = separate_flag(name).ok_or_else(|| unknown(argument))?;
            split.push(Argument::Option(GivenOption { option, head, value: None, is_apart: false }));
            continue;
        }
        if at != 1 {
            // `-gCopt-level=3` is legal, but no build tool writes it.
            return Err(unknown(argument));
        }
        let given = match after {
            "" => value_in_next(option, argument, rest)?,
            value => GivenOption { option, head, value: Some(value), is_apart: false },
        };
        split.push(Argument::Option(given));
        return Ok(());
    }
    Ok(())
}

/// Returns the flag as a separate argument, because `-vV` means `-v -V`.
fn separate_flag(name: char) -> Option<&'static str> {
    ["-h", "-g", "-O", "-V", "-v"].into_iter().find(|flag| flag.ends_with(name))
}

/// The option whose value is the next argument.
fn value_in_next<'a>(
    option: &'static CompilerOption,
    head: &'a str,
    rest: &mut impl Iterator<Item = &'a str>,
) -> Result<GivenOption<'a>, Bypass> {
    let value = rest.next().ok_or_else(|| unknown(head))?;
    Ok(GivenOption { option, head, value: Some(value), is_apart: true })
}
