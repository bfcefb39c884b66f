//! Links between nodes.
//!
//! Whoever sends dials: requests go one way, replies come back, over a link of its own per peer and
//! class. A link opens with a handshake (`handshake.rs`: greetings, secret, TLS), then carries frames
//! of envelopes. A request has one answer, or is accepted with a stream: messages both ways, each way
//! with a window of its own, for as long as the link lives. Pure parts: order across a reconnect,
//! credit and windows, admission, the control messages. [`Links`] is the shell that performs them on
//! tokio.

mod admit;
mod control;
mod credit;
mod frame;
mod handshake;
mod hello;
mod inbound;
mod links;
mod order;
mod outbound;
mod pipe;
mod probe;
mod queue;
mod request;
mod secret;
mod stream;
mod streams;
mod tls;
mod transport;
mod view;
mod window;

pub use admit::{
    Admission, Asked, CATCH_UP, Grounds, LAPSE_WAIT, NotHere, Owned, Reason, Verdict, judge,
};
pub use control::Control;
pub use credit::{Credit, CreditLimits, Credited};
pub use frame::{Envelope, Outcome};
pub use handshake::{HANDSHAKE_TIMEOUT, SecurityConfig, SecurityError};
pub use hello::{Class, Hello, Identity, LinkError, PROTOCOLS};
pub use links::{
    HANDSHAKES, Handler, LinkConfig, LinkEvent, LinkState, Links, NewSecurity, PAYLOAD_MAX, Remote,
    SILENCE,
};
pub use order::{Arrived, Ends, Inbox, Opened, Outbox, StaleLink};
pub use outbound::{Answer, Answered, Answers, Mark, Reply, RequestError, Sent, StreamAnswer};
pub use probe::{Met, ProbeError, probe};
pub use request::{NotAccepted, Request};
pub use secret::{SECRET_MIN, SECRETS_MAX, SecretError, SecretSource};
pub use stream::{FINAL_MAX, OpenStream, StreamError, StreamItem, StreamRx, StreamTx};
pub use tls::{TlsError, TlsFiles};
pub use transport::{BoxStream, Connection, Opening, Stream, Tcp, Transport};
pub use view::{Direction, PeerView};
pub use window::{STREAM_BYTES, STREAM_MESSAGES};

pub(crate) mod fuzz {
    //! What the fuzz bodies reach into.
    pub(crate) use super::frame::{frame, take_frame};
    pub(crate) use super::handshake::parse;
    pub(crate) use super::queue::Queue;
    pub(crate) use super::streams::Streams;
}
