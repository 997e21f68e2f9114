//! REAPI `GetTree`: all directories below a root, breadth first, each once.
//!
//! Without a page size the whole tree is streamed, in messages that all clients accept. With
//! one, a request gets one page and a token for the next. The token is a position in the walk.
//! The order of the walk depends only on the digest of the root, so nothing is remembered
//! between requests.
//!
//! Missing directories are left out, as REAPI prescribes. The walk is limited, because a client
//! can upload directories that describe a tree of any size.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use kache_cas::digest::DirectoryMessage;
use kache_cas::{AccessKind, Digest, DigestFunction, Hash};
use kache_proto::Message as _;
use kache_proto::reapi::{Directory, GetTreeRequest, GetTreeResponse};
use tonic::{Code, Status};

use super::context::{Backend, RequestContext};
use super::grpc_response::{self as response, ResponseBody};
use super::status::{of_store_error, over_limit};
use super::{message, offload, wire_digest};

/// The digest of a directory.
type DirectoryDigest = Digest<DirectoryMessage>;

/// A message with this many bytes gets no further directory, so that it stays within what
/// clients accept.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A larger directory, in bytes, is refused: no message could carry it.
const DIRECTORY_BYTES_MAX: u64 = 4_000_000;

/// How many bytes each directory adds to a page besides its own: a tag and a length.
const DIRECTORY_OVERHEAD_BYTES: usize = 6;

/// Handles a `GetTree` request.
pub(super) async fn get(context: &RequestContext, body: Incoming) -> Result<Response<ResponseBody>, Status> {
    let (request, _room) = message::only::<GetTreeRequest, _>(body, &context.shared).await?;
    wire_digest::check(&request.instance_name)?;
    let function = wire_digest::function(request.digest_function)?;
    let root = wire_digest::required(function, request.root_digest.as_ref(), "root_digest")?.coerce();
    let page_directories = match usize::try_from(request.page_size) {
        Ok(0) => None,
        Ok(size) => Some(size),
        Err(_) => return Err(Status::invalid_argument("`page_size` is negative")),
    };
    let skip = read_token(&request.page_token, root.hash)?;
    let walk =
        TreeWalk::new(Arc::clone(&context.shared.store), root, context.limits().tree_directories_max, skip);
    // The first page is made before the response begins, so that a missing root is a status.
    let (walk, first) = step(walk, page_directories).await?;
    let pages = TreePages { walk, page_directories };
    Ok(response::messages(pages.into_stream(first)))
}

/// The page token: `{first 16 digits of the root}-{directories sent so far}`.
fn token(root: Hash, given: usize) -> String {
    format!("{}-{given}", &root.to_hex()[..16])
}

fn read_token(token: &str, root: Hash) -> Result<usize, Status> {
    if token.is_empty() {
        return Ok(0);
    }
    let position = token.split_once('-').filter(|(of, _)| *of == &root.to_hex()[..16]);
    position
        .and_then(|(_, given)| given.parse().ok())
        .ok_or_else(|| Status::invalid_argument("`page_token` is none that was given for this root"))
}

struct TreePages {
    walk: TreeWalk,
    page_directories: Option<usize>,
}

impl TreePages {
    fn into_stream(self, first: Option<GetTreeResponse>) -> response::FramedStream {
        // One page is made while another one is being sent.
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let (mut walk, mut page) = (self.walk, first);
            while let Some(response) = page {
                let is_last = self.page_directories.is_some();
                if sender.send(Ok(response::framed(&response))).await.is_err() || is_last {
                    return;
                }
                page = match step(walk, self.page_directories).await {
                    Ok((next_walk, next)) => {
                        walk = next_walk;
                        next
                    }
                    Err(status) => {
                        // If the client is gone, the status has no receiver.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                };
            }
        });
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
    }
}

/// Makes one page on a blocking thread.
async fn step(
    mut walk: TreeWalk,
    page_directories: Option<usize>,
) -> Result<(TreeWalk, Option<GetTreeResponse>), Status> {
    offload::on_blocking_thread(move || walk.page(page_directories).map(|page| (walk, page))).await?
}

struct TreeWalk {
    store: Arc<dyn Backend>,
    root: DirectoryDigest,
    queue: VecDeque<DirectoryDigest>,
    seen: HashSet<DirectoryDigest>,
    seen_max: usize,
    /// How many directories are skipped, because earlier pages held them.
    skip: usize,
    given: usize,
    /// A directory that was read and did not fit the last page.
    held_over: Option<Directory>,
}

impl TreeWalk {
    fn new(store: Arc<dyn Backend>, root: DirectoryDigest, seen_max: usize, skip: usize) -> Self {
        TreeWalk {
            store,
            root,
            queue: VecDeque::from([root]),
            seen: HashSet::from([root]),
            seen_max,
            skip,
            given: 0,
            held_over: None,
        }
    }

    /// The next page; `None` after the last.
    fn page(&mut self, directories_max: Option<usize>) -> Result<Option<GetTreeResponse>, Status> {
        let mut page = GetTreeResponse::default();
        let mut bytes = 0;
        while directories_max.is_none_or(|max| page.directories.len() < max) {
            let Some(directory) = self.next()? else { break };
            let len = directory.encoded_len() + DIRECTORY_OVERHEAD_BYTES;
            if bytes + len > PAGE_BYTES_MAX && !page.directories.is_empty() {
                self.held_over = Some(directory);
                break;
            }
            bytes += len;
            page.directories.push(directory);
        }
        self.given += page.directories.len();
        if directories_max.is_some() && !self.is_over() {
            page.next_page_token = token(self.root.hash, self.given);
        }
        Ok((!page.directories.is_empty()).then_some(page))
    }

    fn is_over(&self) -> bool {
        self.held_over.is_none() && self.queue.is_empty()
    }

    fn next(&mut self) -> Result<Option<Directory>, Status> {
        if self.held_over.is_some() {
            return Ok(self.held_over.take());
        }
        while let Some(digest) = self.queue.pop_front() {
            let Some(directory) = self.read(&digest)? else { continue };
            self.enqueue_children(digest.function, &directory)?;
            // A page token is the number of directories that were sent. The walk has the same order each time, so
            // the next page repeats it and skips these.
            if self.given < self.skip {
                self.given += 1;
                continue;
            }
            return Ok(Some(directory));
        }
        Ok(None)
    }

    fn enqueue_children(&mut self, function: DigestFunction, directory: &Directory) -> Result<(), Status> {
        for child in &directory.directories {
            let digest = wire_digest::required(function, child.digest.as_ref(), "DirectoryNode.digest")?;
            // A directory that occurs several times in the tree is sent once.
            if self.seen.insert(digest.coerce()) {
                self.queue.push_back(digest.coerce());
            }
        }
        if self.seen.len() > self.seen_max {
            let limit = self.seen_max;
            return Err(over_limit(Code::ResourceExhausted, "the tree", "tree_directories_max", limit));
        }
        Ok(())
    }

    /// Reads a directory; `None` if it is missing. A missing root is an error.
    fn read(&self, digest: &DirectoryDigest) -> Result<Option<Directory>, Status> {
        let blob: Digest = digest.coerce();
        if blob.is_empty_blob() {
            return Ok(Some(Directory::default()));
        }
        if blob.size_bytes > DIRECTORY_BYTES_MAX {
            let what = format!("the directory `{blob}`");
            return Err(over_limit(Code::InvalidArgument, &what, "DIRECTORY_BYTES_MAX", DIRECTORY_BYTES_MAX));
        }
        let content =
            self.store.blobs().open(&blob, AccessKind::Promise).map_err(|error| of_store_error(&error))?;
        let Some(content) = content else {
            let is_root = *digest == self.root;
            return if is_root {
                Err(Status::not_found(format!("`{blob}` is not in the cache")))
            } else {
                Ok(None)
            };
        };
        let bytes: Bytes = content
            .read_all()
            .map_err(|error| Status::internal(format!("the store failed to read `{blob}`: {error}")))?;
        let directory = Directory::decode(bytes);
        directory.map(Some).map_err(|_| Status::invalid_argument(format!("`{blob}` is not a Directory")))
    }
}
