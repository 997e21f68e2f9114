//! Gathers the inputs of an action for remotes that get them (`upload_inputs`).
//!
//! The files come into the store first, because they may change before they are uploaded.

use std::path::PathBuf;

use kache_cas::{AccessKind, Digest, DigestFunction, Sharing, Store};

use super::context::Pipeline;
use crate::action::{FullAction, Observation, Task};
use crate::inputs::Input;
use crate::remote::UploadInputs;

/// The subject whose inputs are gathered.
pub(super) struct InputSubject<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) store: &'a Store,
    pub(super) task: &'a Task,
    /// The remote's function.
    pub(super) function: DigestFunction,
}

impl InputSubject<'_> {
    /// Returns the contents of the input roots of two actions. A file that has changed meanwhile is left out.
    pub(super) fn gather(
        &self,
        actions: [&FullAction; 2],
        files: &[Input],
        observations: &[Observation],
    ) -> UploadInputs {
        let mut inputs = UploadInputs::default();
        for action in actions {
            let directories = action.directories.iter();
            inputs.messages.extend(directories.map(|one| (one.digest().coerce(), one.bytes().clone())));
            inputs.messages.extend(action.files.iter().cloned());
        }
        inputs.messages.sort_by_key(|(digest, _)| *digest);
        inputs.messages.dedup();
        for input in files {
            let place = self.task.roots.locate(&input.path);
            inputs.stored.extend(self.file(place.as_slice(), &input.digest));
        }
        for observation in observations {
            if let Observation::File { path, digest } = observation {
                let places = self.task.roots.locate_all(path).unwrap_or_default();
                inputs.stored.extend(self.file(&places, digest));
            }
        }
        inputs.stored.sort_unstable();
        inputs.stored.dedup();
        inputs
    }

    /// Makes sure that the store has a file. Returns its digest in the remote's function, and that of the store.
    fn file(&self, places: &[PathBuf], own: &Digest) -> Option<(Digest, Digest)> {
        let InputSubject { pipeline, store, function, .. } = self;
        let twin = |place: &PathBuf| pipeline.world().file_twin(place, own, *function).ok()?;
        let (place, shared) = places.iter().find_map(|place| Some((place, twin(place)?)))?;
        let missing = store.blobs().find_missing(&[*own], AccessKind::Use).ok()?;
        if missing.contains(&true) {
            let (names, _) = store.files().ingest(place, own.function, Sharing::Private).ok()?;
            names.digest(own.function).filter(|stored| stored == own)?;
        }
        Some((shared, *own))
    }
}
