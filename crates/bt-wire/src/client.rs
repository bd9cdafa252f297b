//! The name of the program behind a peer id (BEP 20, and what else is met in the wild).

use bt_core::PeerId;

/// The program's name and version, as far as the id tells. Printable ASCII only.
///
/// A peer chooses its id freely: good enough to be shown, never a reason to treat a peer one way or another.
#[must_use]
pub fn client_name(_id: &PeerId) -> Option<String> {
    None
}
