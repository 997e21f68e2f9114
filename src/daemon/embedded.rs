//! A daemon's work for one call, or for `kache verify`, in the caller's own process.
//!
//! Only one process opens the store at a time, and cargo starts many: it is open while an
//! answer is found and while a result is stored, and never while the compiler runs. Whoever
//! cannot have it within [`STORE_WAIT_MAX`] does without.
//!
//! The store is let go of as a process that dies lets go of it. To close it in good order means
//! to have the volume written out (a quarter of a second beside a build, measured), and all
//! that it saves is that blobs are hashed before they are served (STO-02), which takes a
//! thousandth of that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kache_cas::{Store, StoreError, StoreSettings};
use kache_client::control::{Compile, Ran, Verify, reply};
use kache_client::{Engine, Intent, Place, Session};
use tokio::sync::watch;

use super::{serving, verifying, wire};
use crate::config::Settings;
use crate::invocation::{Bypass, Reason};
use crate::pipeline::{self, Begun, Pipeline, StoreSlot, Ticket};
use crate::restore::Staging;

/// How long a call waits for a store that another process has open, each time. Others have it
/// for some hundredths of a second.
const STORE_WAIT_MAX: Duration = Duration::from_secs(3);

/// How long after somebody has waited in vain nobody waits: what holds a store for so long is
/// no other call.
const STORE_TRIED_FOR: Duration = Duration::from_secs(30);

/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(3);

/// Its date says when somebody has waited in vain.
const IN_VAIN: &str = "embedded.busy";

/// What answers one call.
pub struct Embedded {
    place: Place,
    settings: StoreSettings,
    pipeline: Pipeline,
    slot: watch::Sender<StoreSlot>,
    ticket: Option<Box<Ticket>>,
}

impl Embedded {
    /// For the store of these settings. Nothing is opened yet.
    pub fn new(settings: &Settings) -> Self {
        let cache_dir = settings.place.cache_dir();
        let (slot, seen) = watch::channel(StoreSlot::Opening);
        let pipeline =
            Pipeline::of_one_call(cache_dir.to_owned(), seen).with_uploads(serving::uploads(settings));
        let settings_of_store = StoreSettings {
            limit_bytes: settings.max_size_bytes,
            reserve_bytes: settings.reserve_bytes,
            ..StoreSettings::new(cache_dir)
        };
        Embedded { place: settings.place.clone(), settings: settings_of_store, pipeline, slot, ticket: None }
    }

    /// What a daemon would say of an action that is to be compiled once more.
    pub fn verify(&self, verify: &Verify) -> reply::Kind {
        self.with_store(|pipeline| verifying::answer_here(pipeline, verify))
    }

    /// Does this with the store open, or with the reason why it is not.
    fn with_store<T>(&self, work: impl FnOnce(&Pipeline) -> T) -> T {
        let store = self.open().map(Arc::new);
        self.slot.send_replace(match &store {
            Ok(store) => StoreSlot::Open(Arc::clone(store)),
            Err(why) => StoreSlot::Unusable(why.clone()),
        });
        self.pipeline.resume_after_others();
        let done = work(&self.pipeline);
        // Before another process has its turn: one at a time writes to the log and says what is
        // known of files.
        self.pipeline.rest();
        self.slot.send_replace(StoreSlot::Unusable("it is closed".to_owned()));
        drop(store);
        done
    }

    /// Opens the store as soon as nobody else has it.
    fn open(&self) -> Result<Store, String> {
        if self.has_daemon() {
            return Err("a daemon has it".to_owned());
        }
        let in_vain = self.in_vain();
        let give_up = if is_fresh(&in_vain) { Instant::now() } else { Instant::now() + STORE_WAIT_MAX };
        loop {
            match Store::open(self.settings.clone()) {
                Err(error @ StoreError::InUse { .. }) => {
                    if Instant::now() >= give_up {
                        note(&in_vain);
                        return Err(error.to_string());
                    }
                    std::thread::sleep(TRY_EVERY);
                }
                opened => return opened.map_err(|error| error.to_string()),
            }
        }
    }

    /// A daemon has the store for as long as it lives. To look changes nothing (DMN-06).
    fn has_daemon(&self) -> bool {
        self.place.control_socket().exists()
            && Session::open(&self.place, Intent::Look, Instant::now() + STORE_WAIT_MAX).is_ok()
    }

    fn in_vain(&self) -> PathBuf {
        self.place.cache_dir().join(IN_VAIN)
    }
}

impl Engine for Embedded {
    fn ask(&mut self, compile: Compile) -> Option<reply::Kind> {
        let call = Arc::new(wire::call(&compile));
        let client = i32::try_from(std::process::id()).ok();
        let staging = Staging::new(wire::place(&compile.staging));
        let begin = || {
            // A toolchain that nobody has looked at yet takes a second, for which nobody else is
            // to wait.
            self.pipeline.look_ahead(&call);
            self.with_store(|pipeline| pipeline.begin(Arc::clone(&call), client, staging.clone()))
        };
        Some(match catch_unwind(AssertUnwindSafe(begin)).ok()? {
            // Nobody stays who could look into a hit, or lay down what is asked for next.
            Begun::Answer(reply) | Begun::Verify(reply, _) | Begun::Seed(reply, _) => {
                wire::reply(reply, false)
            }
            Begun::Run(run, ticket) => {
                self.ticket = Some(ticket);
                wire::run(run)
            }
            // One call has nobody to wait for.
            Begun::Wait(..) => {
                let why = Bypass::new(Reason::Trouble, "nobody compiles");
                wire::reply(pipeline::unrecorded(&call, why), false)
            }
        })
    }

    fn report(&mut self, ran: Ran) {
        let Some(ticket) = self.ticket.take() else { return };
        let (captured, is_whole) = wire::captured(ran);
        let store = || {
            self.with_store(|pipeline| {
                let publishing = pipeline.finish(ticket, captured, is_whole);
                pipeline.publish(publishing);
            });
        };
        let _ = catch_unwind(AssertUnwindSafe(store));
    }
}

fn is_fresh(in_vain: &std::path::Path) -> bool {
    let noted = std::fs::metadata(in_vain).and_then(|found| found.modified());
    noted.is_ok_and(|noted| {
        SystemTime::now().duration_since(noted).is_ok_and(|passed| passed < STORE_TRIED_FOR)
    })
}

/// Without it others wait, too; that is all.
fn note(in_vain: &std::path::Path) {
    let _ = std::fs::File::create(in_vain).and_then(|file| file.set_modified(SystemTime::now()));
}
