//! The blobs that are being fetched from one remote, so that each is fetched once (NET-03).

use std::collections::HashMap;

use kache_cas::Digest;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The blobs that are being fetched.
#[derive(Debug, Default)]
pub(super) struct BlobFlights {
    by_blob: Mutex<HashMap<Digest, watch::Receiver<()>>>,
}

/// Blobs that a call fetches. Others may fetch them when this is dropped.
#[derive(Debug)]
pub(super) struct Leading<'a> {
    flights: &'a BlobFlights,
    /// The blobs.
    pub(super) blobs: Vec<Digest>,
    /// Its receivers learn of the end when it is dropped.
    _end: watch::Sender<()>,
}

/// Blobs that other calls fetch.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// The blobs.
    pub(super) blobs: Vec<Digest>,
    ends: Vec<watch::Receiver<()>>,
}

impl BlobFlights {
    /// Divides blobs into those that the caller fetches and those that another call fetches already. The caller
    /// has to ask the store again for the former, which may have come there since the store was asked.
    pub(super) fn join(&self, wanted: impl IntoIterator<Item = Digest>) -> (Leading<'_>, Following) {
        let (end, ended) = watch::channel(());
        let mut leading = Leading { flights: self, blobs: Vec::new(), _end: end };
        let mut following = Following::default();
        let mut by_blob = self.by_blob.lock();
        for blob in wanted {
            if let Some(end) = by_blob.get(&blob) {
                following.blobs.push(blob);
                following.ends.push(end.clone());
            } else {
                by_blob.insert(blob, ended.clone());
                leading.blobs.push(blob);
            }
        }
        (leading, following)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut by_blob = self.flights.by_blob.lock();
        for blob in &self.blobs {
            by_blob.remove(blob);
        }
    }
}

impl Following {
    /// Returns when the other calls have fetched the blobs or failed.
    pub(super) async fn ended(&mut self) {
        for end in &mut self.ends {
            // The sender sends nothing: it is dropped at the end.
            let _ = end.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::*;

    #[tokio::test]
    async fn net_03_one_call_leads_and_the_others_follow_until_it_ends() {
        let flights = BlobFlights::default();
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(DigestFunction::Sha256, bytes));
        let (first, nobody) = flights.join([a, b]);
        assert_eq!((first.blobs.as_slice(), nobody.blobs.len()), (&[a, b][..], 0));
        let (second, mut followed) = flights.join([b, c]);
        assert_eq!((second.blobs.as_slice(), followed.blobs.as_slice()), (&[c][..], &[b][..]));
        let ended = async {
            followed.ended().await;
            flights.join([b]).0.blobs.clone()
        };
        let (blobs, ()) = tokio::join!(ended, async { drop(first) });
        assert_eq!(blobs, [b]);
        assert_eq!(flights.join([c]).0.blobs, []);
    }
}
