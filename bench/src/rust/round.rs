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
use super::wrapper::{Wrapper, WrapperSetup};

/// The pause between two builds, in which a wrapper that stores results in the background finishes. A user's next
/// build comes later than this.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// The way in which bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceMeasure {
    /// Counts files as `du` does.
    Files,
    /// Counts the space that the volume, which has only these builds, gains when they are removed.
    Volume,
}

/// The figures of one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// The first build, with nothing cached.
    pub(crate) cold: Duration,
    /// The build of the same checkout after its target directory was removed.
    pub(crate) warm: Option<Duration>,
    /// The first builds of the second and the third checkout.
    pub(crate) first: Vec<Duration>,
    /// The build of the second checkout after its target directory was removed.
    pub(crate) later: Option<Duration>,
    /// Bytes of one target directory for a plain build, otherwise of three target directories and the cache.
    pub(crate) bytes: u64,
    /// The number of crates that cargo compiled again in a second build of an unchanged checkout.
    pub(crate) stale: usize,
}

/// Measures a wrapper in a new directory, and removes that.
pub(crate) fn measure(
    wrapper: Wrapper,
    program: Option<PathBuf>,
    project: &Project,
    dir: &Path,
    space: SpaceMeasure,
) -> Result<Sample> {
    let row = tempfile::Builder::new().prefix("row").tempdir_in(dir)?;
    let sockets = tempfile::Builder::new().prefix("kb").tempdir()?;
    let cargo = Cargo::with_home(&row.path().join("home"))?;
    let wrapping =
        WrapperSetup::new(wrapper, program, row.path().join("wrapper"), sockets.path().to_owned())?;
    let measured = builds(&cargo, &wrapping, wrapper, project, row.path(), space);
    wrapping.stop(&cargo);
    measured.with_context(|| format!("`{}` with {}", project.name, wrapper.name()))
}

fn builds(
    cargo: &Cargo,
    wrapping: &WrapperSetup,
    wrapper: Wrapper,
    project: &Project,
    row: &Path,
    space: SpaceMeasure,
) -> Result<Sample> {
    // The paths have different lengths, which reveals a dependence on the length.
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

/// The bytes that directories occupy. Removes them if that is how bytes are counted.
fn occupied(dirs: &[PathBuf], space: SpaceMeasure) -> Result<u64> {
    if space == SpaceMeasure::Files {
        return bytes_on_disk(dirs);
    }
    let volume = dirs.first().and_then(|dir| dir.parent()).context("there is nothing to measure")?;
    let before = used_bytes(volume)?;
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        fs::remove_dir_all(dir).with_context(|| format!("failed to remove `{}`", dir.display()))?;
    }
    Ok(before.saturating_sub(used_bytes(volume)?))
}
