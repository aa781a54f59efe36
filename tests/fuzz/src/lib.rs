//! What the targets judge bearerd by: readings of their own, none of which shares a line with it.

pub mod http1;
pub mod login;
