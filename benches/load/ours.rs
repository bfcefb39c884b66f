//! Our node as the bench runs it: what is compared with the bare server.
//!
//! PLACEHOLDER: until the node exists this is the bare server once more, so every ratio is about 1.

use super::bare;
use super::role::ServerOptions;

/// Binds a free loopback port, prints the address as one line on stdout, serves until stdin closes.
pub(crate) fn serve_ours(options: &ServerOptions) -> anyhow::Result<()> {
    bare::serve_bare(options)
}
