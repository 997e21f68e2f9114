//! Expands argument files as rustc does (KEY-11): an argument that begins with `@` names a file, and each
//! line of the file is one argument. rustc does not expand a line again; kache refuses a line with `@`.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::invocation::{Bypass, Reason};

/// The largest argument file, in bytes. The largest that cargo was seen to write has 1 MB.
const ARGFILE_BYTES_MAX: usize = 64 << 20;

/// The largest total size of the arguments from files, in bytes: the daemon sends the arguments to the
/// client in one frame of at most 16 MiB. Those for 30,000 features have 1 MB.
const EXPANDED_BYTES_MAX: usize = 8 << 20;

/// The size of an argument in a frame besides its own bytes.
const ARGUMENT_BYTES: usize = 4;

/// Returns the arguments as text, with the lines of argument files in place of their names.
pub(super) fn expand(
    arguments: &[OsString],
    cwd: &Path,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, Bypass> {
    let mut expanded = Vec::with_capacity(arguments.len());
    let mut from_files = 0;
    for argument in arguments {
        // rustc itself rejects arguments that are not Unicode, with a better message than kache's.
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
            return Err(refuse(format!("it names another argument file, `{line}`")));
        }
        into.push(line.to_owned());
    }
    Ok(())
}
