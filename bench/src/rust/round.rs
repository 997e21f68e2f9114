//! One wrapper, one project, one fresh cache: from the first build to the third worktree.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::build::{Cargo, Checkout};
use super::disk::bytes_on_disk;
use super::project::Project;
use super::volume::used_bytes;
use super::wrapper::{Wrapper, Wrapping};

/// Between two builds, so that a wrapper which stores behind the build's back has stored. A
/// person's next build comes later than this.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// How bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// As `du` does.
    Files,
    /// As the volume has fewer of them, which is for these builds alone.
    Volume,
}

/// What one round measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Nothing is cached.
    pub(crate) cold: Duration,
    /// The same checkout without its target directory.
    pub(crate) warm: Option<Duration>,
    /// Checkouts that were never built: the second and the third.
    pub(crate) first: Vec<Duration>,
    /// The second checkout again, without its target directory.
    pub(crate) later: Option<Duration>,
    /// Of a plain build: one target directory. Else three of them with the cache.
    pub(crate) bytes: u64,
    /// Crates that cargo compiled again right after a build in a second checkout.
    pub(crate) stale: usize,
}

/// Measures a wrapper in an empty directory, and removes that.
pub(crate) fn measure(
    wrapper: Wrapper,
    program: Option<PathBuf>,
    project: &Project,
    dir: &Path,
    space: Space,
) -> Result<Sample> {
    let row = tempfile::Builder::new().prefix("row").tempdir_in(dir)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&row.path().join("home"))?;
    let wrapping = Wrapping::new(wrapper, program, row.path().join("wrapper"), sockets.path().to_owned())?;
    let measured = builds(&cargo, &wrapping, wrapper, project, row.path(), space);
    wrapping.stop(&cargo);
    measured.with_context(|| format!("`{}` with {}", project.name, wrapper.name()))
}

fn builds(
    cargo: &Cargo,
    wrapping: &Wrapping,
    wrapper: Wrapper,
    project: &Project,
    row: &Path,
    space: Space,
) -> Result<Sample> {
    // Places of different lengths: what depends on the path's length would show.
    let [one, two, three] =
        ["one", "the-second", "three/deeper"].map(|name| Checkout::at(row.join("trees").join(name)));
    project.check_out(&one.root)?;
    cargo.fetch(&one)?;
    let mut sample = Sample { cold: one.build(cargo, wrapping)?.time, ..Sample::default() };
    if wrapper == Wrapper::Plain {
        sample.bytes = occupied(&[one.target()], space)?;
        return Ok(sample);
    }
    thread::sleep(SETTLE);
    one.remove_target(cargo, wrapping)?;
    sample.warm = Some(one.build(cargo, wrapping)?.time);
    for checkout in [&two, &three] {
        project.check_out(&checkout.root)?;
        thread::sleep(SETTLE);
        sample.first.push(checkout.build(cargo, wrapping)?.time);
        sample.stale += checkout.build(cargo, wrapping)?.compiled;
    }
    thread::sleep(SETTLE);
    two.remove_target(cargo, wrapping)?;
    sample.later = Some(two.build(cargo, wrapping)?.time);
    thread::sleep(SETTLE);
    wrapping.stop(cargo);
    let targets = [one, two, three].map(|checkout| checkout.target());
    sample.bytes =
        occupied(&[targets.as_slice(), &[wrapping.dir.clone(), row.join("home")]].concat(), space)?;
    fs::remove_dir_all(row.join("trees")).context("failed to remove the checkouts")?;
    Ok(sample)
}

/// How many bytes these take, which nobody needs any more.
fn occupied(dirs: &[PathBuf], space: Space) -> Result<u64> {
    if space == Space::Files {
        return bytes_on_disk(dirs);
    }
    let volume = dirs.first().and_then(|dir| dir.parent()).context("there is nothing to measure")?;
    let before = used_bytes(volume)?;
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).with_context(|| format!("failed to remove `{}`", dir.display()))?;
    }
    Ok(before.saturating_sub(used_bytes(volume)?))
}
