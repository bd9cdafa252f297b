//! Replies as hyper sends them, for peers and for the operator.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};

pub(crate) type Reply = Response<Full<Bytes>>;

/// A reply with a body of that media type.
pub(crate) fn reply(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        reply.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    reply
}

/// A reply for people.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", text)
}

/// The reply to whoever wants to do anything but read, where there is nothing else to do.
pub(crate) fn unless_reading(method: &Method) -> Option<Reply> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut reply = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET is understood here\n",
    );
    let allowed = HeaderValue::from_static("GET, HEAD");
    reply.headers_mut().insert(ALLOW, allowed);
    Some(reply)
}
