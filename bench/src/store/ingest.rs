//! Compares the ingest of 1 GiB in 200 files with hashing them.
//!
//! One thread, with the files in the page cache. Every ingest must at least hash.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kache_cas::{BlobNames, DigestFunction, Hasher, Link, LinkedFile, Sharing, Store, StoreSettings};

use crate::WrongBytes;
use crate::content::Contents;
use crate::median::median;
use crate::report::Figure;
use crate::server::processor_time;

pub(crate) const NAME: &str = "ingest";

const FILES: u64 = 200;
const FILE_BYTES: usize = (1 << 30) / FILES as usize;
/// The number of rounds. Each hashes all files once and ingests them once into a new store.
const ROUNDS: usize = 5;
/// The size of a read. A larger one is not faster.
const READ_BYTES: usize = 128 * 1024;

const RATIO_MAX: f64 = 1.3;

/// Measures how long hashing and ingesting the same files take.
pub(crate) fn measure(dir: &Path) -> Result<Vec<Figure>> {
    let dir = tempfile::Builder::new().prefix("ingest").tempdir_in(dir)?;
    let files = make_files(dir.path())?;
    let (mut hashing, mut ingesting, mut ratios, mut work_ratios) = (vec![], vec![], vec![], vec![]);
    let mut copies = 0;
    hash_all(&files)?;
    for round in 0..ROUNDS {
        let (names, hash_time) = hash_all(&files)?;
        let store_dir = dir.path().join(format!("store{round}"));
        let (stored, ingest_time) = ingest_all(&files, &store_dir)?;
        std::fs::remove_dir_all(&store_dir)?;
        let same = names.iter().zip(&stored).all(|(names, (stored, _))| names.blake3 == stored.blake3);
        ensure!(same, WrongBytes("a file was stored with another digest".to_owned()));
        copies += stored.iter().filter(|(_, linked)| linked.link == Link::Copy).count();
        hashing.push(hash_time.elapsed.as_secs_f64());
        ingesting.push(ingest_time.elapsed.as_secs_f64());
        ratios.push(ingest_time.elapsed.as_secs_f64() / hash_time.elapsed.as_secs_f64());
        work_ratios.push(ingest_time.work.as_secs_f64() / hash_time.work.as_secs_f64());
    }
    let figure = |name, value, unit, limit| Figure { name, value, unit, limit };
    let middle = |values| median(values).context("there are rounds");
    Ok(vec![
        figure("hashing 1 GiB in 200 files, BLAKE3", middle(hashing)?, "s", None),
        figure("ingesting them", middle(ingesting)?, "s", None),
        figure("ingesting, compared with hashing", middle(ratios)?, "x", Some(RATIO_MAX)),
        figure("the same in processor time, database included", middle(work_ratios)?, "x", None),
        figure("files that were copied, not linked", copies as f64, "", Some(0.0)),
    ])
}

/// The time of a task, and the processor time of all threads meanwhile.
struct Elapsed {
    elapsed: Duration,
    work: Duration,
}

/// Measures a task.
struct Meter {
    started: Instant,
    work: Duration,
}

impl Meter {
    fn start() -> Result<Meter> {
        Ok(Meter { started: Instant::now(), work: processor_time(libc::CLOCK_PROCESS_CPUTIME_ID)? })
    }

    fn stop(&self) -> Result<Elapsed> {
        let work = processor_time(libc::CLOCK_PROCESS_CPUTIME_ID)?.saturating_sub(self.work);
        Ok(Elapsed { elapsed: self.started.elapsed(), work })
    }
}

fn make_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let contents = Contents::new(FILE_BYTES);
    let make = |number: u64| {
        let path = dir.join(format!("file{number}"));
        let mut file = File::create(&path)?;
        file.write_all(contents.base())?;
        file.write_all(&contents.nth(number).tail)?;
        Ok(path)
    };
    (0..FILES).map(make).collect()
}

fn hash_all(files: &[PathBuf]) -> Result<(Vec<BlobNames>, Elapsed)> {
    let meter = Meter::start()?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hash = |path: &PathBuf| {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::new(DigestFunction::Blake3);
        loop {
            match file.read(&mut buffer)? {
                0 => break Ok(hasher.finish()),
                read => hasher.update(&buffer[..read]),
            }
        }
    };
    let names = files.iter().map(&mut hash).collect::<Result<_>>()?;
    Ok((names, meter.stop()?))
}

fn ingest_all(files: &[PathBuf], store: &Path) -> Result<(Vec<(BlobNames, LinkedFile)>, Elapsed)> {
    let store = Store::open(StoreSettings::new(store)).context("opening a store")?;
    let meter = Meter::start()?;
    let ingest = |path: &PathBuf| store.files().ingest(path, DigestFunction::Blake3, Sharing::Hardlink);
    let names = files.iter().map(ingest).collect::<Result<_, _>>()?;
    let elapsed = meter.stop()?;
    store.close()?;
    Ok((names, elapsed))
}
