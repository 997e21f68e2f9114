//! The load generator: many clients, one thread, closed loop.
//!
//! It shares the machine with the server that it drives, so each request is encoded before
//! the clock starts, and of an answer only the status and the lengths are looked at; the
//! warm-up looks at everything. Both servers are driven by exactly this code.

mod connection;
mod outbox;
mod session;
mod stream;

pub(crate) use connection::Windows;
pub(crate) use session::{Run, Session, Until};
pub(crate) use stream::{Reply, Request};

/// What a client asks for, again and again, and what it takes for an answer.
pub(crate) trait Workload {
    /// The method's path, such as `/package.Service/Method`.
    fn method(&self) -> &'static str;

    /// The client's next request; `None` when there is nothing left to ask.
    fn request(&mut self, client: usize) -> Option<Request>;

    /// Whether the answer to the client's last request is right, by its lengths alone.
    fn looks_right(&self, client: usize, reply: &Reply) -> bool;

    /// Checks every byte of the answer to the client's last request.
    fn verify(&mut self, client: usize, reply: &Reply) -> anyhow::Result<()>;
}
