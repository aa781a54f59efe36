//! bearerd carries the Bearer token, so that applications need not.
