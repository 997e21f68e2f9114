//! Argument files, expanded as rustc expands them (KEY-11): every argument that begins with
//! `@` stands for the lines of a file. A line is one argument, and is not expanded again.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::invocation::{Bypass, Reason};

/// More than this is not read: the largest that cargo was seen to write has 1 MB.
const ARGFILE_BYTES_MAX: usize = 64 << 20;

/// What arguments from files may take together: a client has to be told them in one frame of
/// 16 MiB. That of 30,000 features, the longest that cargo was seen to write, has 1 MB.
const EXPANDED_BYTES_MAX: usize = 8 << 20;

/// What an argument takes in a frame besides its bytes.
const ARGUMENT_BYTES: usize = 4;

/// Arguments as text, argument files replaced by what they say.
pub(super) fn expand(
    arguments: &[OsString],
    cwd: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, Bypass> {
    let mut expanded = Vec::with_capacity(arguments.len());
    let mut from_files = 0;
    for argument in arguments {
        // rustc refuses what is not Unicode, and says so better.
        let text = argument
            .to_str()
            .ok_or_else(|| Bypass::new(Reason::UnknownOption, argument.to_string_lossy().into_owned()))?;
        match text.strip_prefix('@') {
            None => expanded.push(text.to_owned()),
            Some(file) => {
                let before = expanded.len();
                lines(file, cwd, read, &mut expanded)?;
                from_files +=
                    expanded[before..].iter().map(|line| line.len() + ARGUMENT_BYTES).sum::<usize>();
            }
        }
    }
    if from_files > EXPANDED_BYTES_MAX {
        return Err(Bypass::new(Reason::ArgFile, "more than 8 MiB of arguments"));
    }
    Ok(expanded)
}

fn lines(
    file: &str,
    cwd: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    into: &mut Vec<String>,
) -> Result<(), Bypass> {
    let refuse = |why: String| Bypass::new(Reason::ArgFile, format!("`{file}`: {why}"));
    let bytes = read(&cwd.join(file)).map_err(|error| refuse(error.to_string()))?;
    if bytes.len() > ARGFILE_BYTES_MAX {
        return Err(refuse("too long".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("not UTF-8".to_owned()))?;
    for line in text.lines() {
        if line.starts_with('@') {
            return Err(refuse(format!("has the argument file `{line}` in it")));
        }
        into.push(line.to_owned());
    }
    Ok(())
}
