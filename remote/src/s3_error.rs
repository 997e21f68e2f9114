//! What a failed request to S3 means: a code and a message in a small XML document.
//!
//! Only single elements are looked for, by their tags. The document is never parsed as a whole.

use crate::error::RemoteError;
use crate::failure::{Failure, first_line};

/// The error in a response of S3. A response to HEAD has none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct S3Error {
    /// The code, such as `NoSuchKey`; empty if there is none.
    pub(crate) code: String,
    message: String,
    /// The region in which the bucket is, if the server says that.
    region: Option<String>,
}

impl S3Error {
    /// Finds the error in a response.
    pub(crate) fn of(failure: &Failure) -> S3Error {
        let text = String::from_utf8_lossy(&failure.body);
        let header = failure.headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        S3Error {
            code: element(&text, "Code").unwrap_or_default(),
            message: element(&text, "Message").unwrap_or_default(),
            region: header.map(str::to_owned).or_else(|| element(&text, "Region")),
        }
    }

    /// Returns the code and the message, shortened.
    pub(crate) fn words(&self) -> String {
        let separator = if self.code.is_empty() || self.message.is_empty() { "" } else { ": " };
        first_line(format!("{}{separator}{}", self.code, self.message).as_bytes())
    }

    /// Returns what the failure means for a request that was signed for this region.
    pub(crate) fn error(&self, failure: &Failure, region: &str) -> RemoteError {
        let status = failure.status.as_u16();
        let words = self.words();
        match &self.region {
            Some(actual) if actual != region && matches!(status, 301 | 307 | 400) => {
                let actual = first_line(actual.as_bytes());
                return RemoteError::refused(format!(
                    "the bucket is in the region `{actual}`, not in `{region}`"
                ));
            }
            _ => {}
        }
        match self.code.as_str() {
            "EntityTooLarge" => RemoteError::too_large(words),
            "SlowDown"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "ExpiredToken" => RemoteError::unavailable(format!("{}: {words}", failure.status)),
            "AccessDenied" => failure.error_with(&format!("{words} ({WITHOUT_LISTING})")),
            "" if status == 403 => failure.error_with(WITHOUT_LISTING),
            _ => failure.error_with(&words),
        }
    }
}

/// Why S3 may forbid what it only does not have.
const WITHOUT_LISTING: &str =
    "S3 also says this of objects that are not there, unless `s3:ListBucket` is allowed";

/// Returns the text of the first element with this tag, with the five entities of XML replaced.
pub(crate) fn element(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{tag}>"))?;
    let (value, _) = rest.split_once(&format!("</{tag}>"))?;
    let value =
        value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(value.replace("&amp;", "&"))
}
