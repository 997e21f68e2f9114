//! After the compiler: the call is put on record, and its result goes into the store.

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use super::begin::Pipeline;
use super::flights::{Follower, Landing};
use super::pending::Ticket;
use super::prepare::Prepared;
use super::sessions::{Session, Storing};
use crate::action;
use crate::compile::{Captured, Exit};
use crate::events::{Amendment, CallId, Outcome, Phase};
use crate::inputs::is_keyed;
use crate::invocation::rustc::{CrateType, Rustc};
use crate::observer::Watching;
use crate::publish::{self, Macros, Publication, Published, Stamps, Stored, Stores, Watched};

/// A result on its way into the store, after the client has gone.
#[derive(Debug)]
pub struct Publishing {
    ticket: Box<Ticket>,
    call: Option<CallId>,
    captured: Captured,
    /// The outputs as they were when the client still waited.
    stamps: Stamps,
    /// Whether that is all it said.
    is_whole: bool,
    /// Its cargo has not ended before this has.
    _storing: Option<Storing>,
}

impl Publishing {
    /// Whether it is to be stored before the call returns: what a trial has made does not
    /// stay, and is small.
    pub fn is_urgent(&self) -> bool {
        self.ticket.prepared.is_probe
    }

    /// Whether there is anything to be stored.
    fn is_shared(&self) -> bool {
        self.ticket.undertaking.is_shared
    }
}

impl Pipeline {
    /// Puts the call on record. What is returned is to be handed to [`Pipeline::publish`].
    pub fn finish(&self, mut ticket: Box<Ticket>, captured: Captured, is_whole: bool) -> Publishing {
        ticket.phases.end(Phase::Compile);
        let mut event = ticket.event.clone();
        event.at = SystemTime::now();
        event.elapsed = ticket.phases.elapsed();
        event.phases = ticket.phases.clone().into_done();
        event.compile_time = captured.wall;
        let is_probe = ticket.prepared.is_probe;
        event.compiler_runs += u32::from(!is_probe);
        event.probe_runs += u32::from(is_probe);
        if captured.exit != Exit::Code(0) && event.outcome == Outcome::Miss && !is_probe {
            event.outcome = Outcome::Skipped;
        }
        if captured.exit == Exit::Code(0)
            && let Err(error) = publish::amend_dep_info(&ticket.prepared.task)
        {
            tracing::warn!("failed to add declared inputs to a dep-info: {error}");
        }
        let call = self.recorder.record(&event);
        self.tell(&ticket.call, &ticket.client, &ticket.settings, &event);
        ticket.undertaking.leave_directory();
        let stamps = Stamps::take(&ticket.prepared.task);
        let storing = ticket.client.session.as_ref().map(Session::begin_storing);
        Publishing { ticket, call, captured, stamps, is_whole, _storing: storing }
    }

    /// Whom this result waits for: those that it depends on are stored first.
    pub fn awaited(&self, publishing: &mut Publishing) -> Vec<Follower> {
        if !publishing.is_shared() {
            return Vec::new();
        }
        let Ticket { prepared, making, .. } = &mut *publishing.ticket;
        self.outputs.awaited(&prepared.task, making)
    }

    /// Stores what can be stored. It takes its time: nobody waits but other calls of the same
    /// action.
    pub fn publish(&self, mut publishing: Publishing) {
        if !publishing.is_shared() {
            return;
        }
        let begun = Instant::now();
        let outcome = self.store_result(&publishing);
        let lead = publishing.ticket.lead.take();
        let (landing, amendment) = match outcome {
            Ok(stored) => {
                let Ticket { call, client, prepared, phases, .. } = &*publishing.ticket;
                if let Some(session) = &client.session {
                    session.note(call, prepared, phases, stored.action.hash);
                    session.note_programs(&prepared.task, &stored.outputs);
                }
                let action = stored.action.hash.to_hex();
                (Landing::Stored, Amendment { action, stored_bytes: stored.bytes, ..Amendment::default() })
            }
            Err(why) => (Landing::NotStored, Amendment { not_stored: why, ..Amendment::default() }),
        };
        if let Some(call) = publishing.call {
            self.recorder.amend(call, &Amendment { publish_time: begun.elapsed(), ..amendment });
        }
        if let Some(lead) = lead {
            lead.land(landing);
        }
        self.save_if_due();
        let Ticket { call, settings, prepared, undertaking, .. } = &*publishing.ticket;
        self.edits.stored(call, prepared, settings, undertaking);
    }

    fn store_result(&self, publishing: &Publishing) -> Result<Stored, String> {
        let Publishing { ticket, captured, is_whole, .. } = publishing;
        if !is_whole {
            return Err("it said more than is kept".to_owned());
        }
        let store = self.store().map_err(|why| why.to_string())?;
        let Prepared { query, inputs, task, rustc, .. } = &ticket.prepared;
        let record = match &ticket.watching {
            Watching::With(watch) => {
                let record = watch.read();
                Some(record.map_err(|error| format!("failed to read what it asked for: {error}"))?)
            }
            Watching::Without => None,
            Watching::Failed(why) => return Err(format!("it could not be observed: {why}")),
        };
        let in_cwd = |path: &PathBuf| ticket.call.cwd.join(path);
        let crate_dirs: Vec<PathBuf> = rustc.crate_dirs().map(in_cwd).collect();
        let temp_dir = ticket.call.env.path("TMPDIR").unwrap_or("/tmp".as_ref());
        let is_keyed = |name: &str| is_keyed(name, &inputs.env, task.runs_proc_macros);
        let own = [Some(self.observer.dir()), ticket.watching.library()];
        let own: Vec<PathBuf> = own.into_iter().flatten().map(Into::into).collect();
        let watched = record.as_ref().map(|record| Watched {
            record,
            compiler: &inputs.toolchain.driver,
            sysroot: &inputs.toolchain.sysroot,
            crate_dirs: &crate_dirs,
            observer: &own,
            temp_dir,
            is_keyed: &is_keyed,
            env: &ticket.call.env,
            known_linkers: ticket.watching.known(),
        });
        let complete = |seen: &[action::Observation]| action::complete(query, seen);
        let publication = Publication {
            task,
            inputs: &inputs.files,
            captured,
            stamps: &publishing.stamps,
            is_rebuild: ticket.is_rebuild,
            most: self.most_shared(&ticket.settings),
            keeps_failures: ticket.prepared.is_probe,
            macros: macros(rustc),
            watched,
            complete: &complete,
        };
        let stores = Stores { files: store.files(), blobs: store.blobs(), actions: store.actions() };
        match publish::publish(&publication, self.world(), stores) {
            Ok(Published::Stored(stored)) => {
                for output in &stored.outputs {
                    self.world().note_placed(&output.path, output.digest, output.seen);
                }
                self.note_shared(task, &stored.shared, &stored.outputs);
                Ok(stored)
            }
            Ok(Published::Refused(refusal)) => Err(refusal.to_string()),
            Err(error) => {
                tracing::warn!("failed to store `{}`: {error}", ticket.prepared.task.label.crate_name);
                Err(error.to_string())
            }
        }
    }
}

/// What the command line says of macros.
fn macros(rustc: &Rustc) -> Macros {
    /// Crates of the toolchain, which count with it and ask for no variable.
    const TOOLCHAIN: &[&str] = &["alloc", "core", "proc_macro", "std", "test"];
    let mut unplaced = rustc.externs.iter().filter(|external| external.path.is_none());
    Macros {
        is_proc_macro: rustc.crate_types.contains(&CrateType::ProcMacro),
        uses_unknown: unplaced.any(|external| !TOOLCHAIN.contains(&&*external.name)),
    }
}
