//! The load generator: many clients, one thread, closed loop.
//!
//! It shares the processors with the server. Therefore each request is encoded before the clock starts, and only
//! the status and the lengths of a response are checked; the warm-up checks every byte. Both servers are measured
//! with this code.

mod connection;
mod outbox;
mod session;
mod stream;

pub(crate) use connection::Windows;
pub(crate) use session::{Run, Session, Until};
pub(crate) use stream::{Request, Response};

/// The requests of a kind of client, and the check of the responses.
pub(crate) trait Workload {
    /// The method's path, such as `/package.Service/Method`.
    fn method(&self) -> &'static str;

    /// The client's next request. `None` if there are no more.
    fn request(&mut self, client: usize) -> Option<Request>;

    /// Whether the response to the client's last request has the expected lengths.
    fn has_expected_lengths(&self, client: usize, response: &Response) -> bool;

    /// Checks every byte of the response to the client's last request.
    fn verify(&mut self, client: usize, response: &Response) -> anyhow::Result<()>;
}
