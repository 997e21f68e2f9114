//! Contents that the server has never seen: batch updates and writes.

use anyhow::{Context, Result, ensure};
use kache_proto::Message;
use kache_proto::bytestream::WriteResponse;
use kache_proto::reapi::BatchUpdateBlobsResponse;

use crate::WrongBytes;
use crate::content::Contents;
use crate::load::{Reply, Request, Workload};
use crate::requests::{self, Writes};

/// How contents are uploaded.
pub(crate) enum How {
    /// So many to a `BatchUpdateBlobs`.
    Batch(u64),
    /// One to a `Write`.
    Stream(Writes),
}

/// Every request carries new contents.
pub(crate) struct Uploads {
    contents: Contents,
    how: How,
    next: u64,
    /// The length of an answer, which never differs; noted in the warm-up.
    answer_bytes: u64,
}

impl Uploads {
    pub(crate) fn new(contents: Contents, how: How) -> Uploads {
        Uploads { contents, how, next: 0, answer_bytes: 0 }
    }
}

impl Workload for Uploads {
    fn method(&self) -> &'static str {
        match self.how {
            How::Batch(_) => requests::BATCH_UPDATE,
            How::Stream(_) => requests::WRITE,
        }
    }

    fn request(&mut self, _client: usize) -> Option<Request> {
        let first = self.next;
        Some(match &self.how {
            How::Batch(count) => {
                self.next += count;
                requests::batch_update(&self.contents, first..self.next)
            }
            How::Stream(writes) => {
                self.next += 1;
                writes.nth(first)
            }
        })
    }

    fn looks_right(&self, _client: usize, reply: &Reply) -> bool {
        reply.messages == 1 && reply.message_bytes == self.answer_bytes
    }

    fn verify(&mut self, _client: usize, reply: &Reply) -> Result<()> {
        let messages = crate::wire::messages(&reply.body);
        let answer = messages.first().context("the server answered without a message")?;
        match self.how {
            How::Batch(count) => {
                let answer = BatchUpdateBlobsResponse::decode(*answer)?;
                let failed =
                    answer.responses.iter().filter_map(|one| one.status.as_ref()).find(|one| one.code != 0);
                ensure!(failed.is_none(), "the server refused a blob: {failed:?}");
                ensure!(
                    answer.responses.len() as u64 == count,
                    WrongBytes("an answer for too few blobs".to_owned())
                );
            }
            How::Stream(_) => {
                let committed = WriteResponse::decode(*answer)?.committed_size;
                let all = committed == self.contents.size() as i64;
                ensure!(all, WrongBytes(format!("{committed} bytes were committed")));
            }
        }
        self.answer_bytes = reply.message_bytes;
        Ok(())
    }
}
