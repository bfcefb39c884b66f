//! Links between nodes: the part that needs no network.

mod admit;
mod control;
mod credit;
mod order;

pub use admit::{Admission, Asked, CATCH_UP, LAPSE_WAIT, NotHere, Owned, Reason};
pub use control::Control;
pub use credit::{Credit, CreditLimits, Credited};
pub use order::{Arrived, Inbox, Opened, Outbox, StaleLink};
