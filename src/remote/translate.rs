//! Makes the keys of a compile in a remote's digest function.
//!
//! A digest belongs to a content, and so does its twin in another function. So a translated key is a key of
//! exactly the same contents: if a file has changed since it was hashed for the first key, it has no twin, and
//! there is no translated key.

use kache_cas::{Digest, DigestFunction};

use crate::action::{CallEnv, Observation, Task, names_digest};
use crate::inputs::{DiskWorld, Input, Inputs, WorldError};

/// Translates the inputs and observations of one compile.
pub struct Translator<'a> {
    /// The compile.
    pub task: &'a Task,
    /// The environment of its call.
    pub env: &'a dyn CallEnv,
    /// The files of this machine. It reads those whose twins it does not remember.
    pub world: &'a DiskWorld,
    /// The remote's function.
    pub function: DigestFunction,
}

impl Translator<'_> {
    /// Returns inputs with the digests of the remote's function; `None` if an input has changed, or if the
    /// twin of the toolchain's tree is not remembered.
    pub fn inputs(&self, inputs: &Inputs) -> Result<Option<Inputs>, WorldError> {
        let Some(tree) = self.world.known_twin(&inputs.toolchain.tree.coerce(), self.function) else {
            return Ok(None);
        };
        let mut files = Vec::with_capacity(inputs.files.len());
        for input in &inputs.files {
            let Some(path) = self.task.roots.locate(&input.path) else { return Ok(None) };
            let Some(digest) = self.world.file_twin(&path, &input.digest, self.function)? else {
                return Ok(None);
            };
            files.push(Input { digest, ..input.clone() });
        }
        let mut translated = Inputs { files, ..inputs.clone() };
        translated.toolchain.tree = tree.coerce();
        Ok(Some(translated))
    }

    /// Returns observations with the digests of the remote's function; `None` if something that was observed
    /// has changed.
    pub fn observations(&self, observations: &[Observation]) -> Result<Option<Vec<Observation>>, WorldError> {
        observations.iter().map(|one| self.observation(one)).collect()
    }

    fn observation(&self, observation: &Observation) -> Result<Option<Observation>, WorldError> {
        Ok(match observation {
            Observation::File { path, digest } => {
                let twin = self.file(path, digest)?;
                twin.map(|digest| Observation::File { path: path.clone(), digest })
            }
            Observation::Listing { path, digest } => {
                let Some(located) = self.task.roots.locate(path) else { return Ok(None) };
                let twin = self.world.listing_twin(&located, digest, self.function)?;
                twin.map(|digest| Observation::Listing { path: path.clone(), digest })
            }
            Observation::Environment { .. } => {
                Some(Observation::Environment { digest: names_digest(self.env, self.function) })
            }
            other => Some(other.clone()),
        })
    }

    /// Returns the twin of an observed file. A role path may name a file in one of several directories; the
    /// one that has the content counts.
    fn file(&self, path: &crate::roles::RolePath, digest: &Digest) -> Result<Option<Digest>, WorldError> {
        for located in self.task.roots.locate_all(path).unwrap_or_default() {
            if let Some(twin) = self.world.file_twin(&located, digest, self.function)? {
                return Ok(Some(twin));
            }
        }
        Ok(None)
    }
}
