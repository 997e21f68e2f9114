//! Uploads of contents that the server does not have: batch updates and writes.

use anyhow::{Context, Result, ensure};
use kache_proto::Message;
use kache_proto::bytestream::WriteResponse;
use kache_proto::reapi::BatchUpdateBlobsResponse;

use crate::WrongBytes;
use crate::content::Contents;
use crate::load::{Request, Response, Workload};
use crate::requests::{self, Writes};

/// The method by which contents are uploaded.
pub(crate) enum UploadMethod {
    /// This many in each `BatchUpdateBlobs`.
    Batch(u64),
    /// One in each `Write`.
    Stream(Writes),
}

/// Every request carries new contents.
pub(crate) struct Uploads {
    contents: Contents,
    how: UploadMethod,
    next: u64,
    /// The length of a response, which is always the same; set by the warm-up.
    answer_bytes: u64,
}

impl Uploads {
    pub(crate) fn new(contents: Contents, how: UploadMethod) -> Uploads {
        Uploads { contents, how, next: 0, answer_bytes: 0 }
    }
}

impl Workload for Uploads {
    fn method(&self) -> &'static str {
        match self.how {
            UploadMethod::Batch(_) => requests::BATCH_UPDATE,
            UploadMethod::Stream(_) => requests::WRITE,
        }
    }

    fn request(&mut self, _client: usize) -> Option<Request> {
        let first = self.next;
        Some(match &self.how {
            UploadMethod::Batch(count) => {
                self.next += count;
                requests::batch_update(&self.contents, first..self.next)
            }
            UploadMethod::Stream(writes) => {
                self.next += 1;
                writes.nth(first)
            }
        })
    }

    fn has_expected_lengths(&self, _client: usize, response: &Response) -> bool {
        response.messages == 1 && response.message_bytes == self.answer_bytes
    }

    fn verify(&mut self, _client: usize, response: &Response) -> Result<()> {
        let messages = crate::wire::messages(&response.body);
        let answer = messages.first().context("the server answered without a message")?;
        match self.how {
            UploadMethod::Batch(count) => {
                let answer = BatchUpdateBlobsResponse::decode(*answer)?;
                let failed =
                    answer.responses.iter().filter_map(|one| one.status.as_ref()).find(|one| one.code != 0);
                ensure!(failed.is_none(), "the server refused a blob: {failed:?}");
                ensure!(
                    answer.responses.len() as u64 == count,
                    WrongBytes("an answer for too few blobs".to_owned())
                );
            }
            UploadMethod::Stream(_) => {
                let committed = WriteResponse::decode(*answer)?.committed_size;
                let all = committed == self.contents.size() as i64;
                ensure!(all, WrongBytes(format!("{committed} bytes were committed")));
            }
        }
        self.answer_bytes = response.message_bytes;
        Ok(())
    }
}
