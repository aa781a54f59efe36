//! Heads of messages that are used again.
//!
//! A head costs four allocations to make and to give back, three of them its header map's, and
//! every exchange needs two heads. One that has been emptied costs none, and is not moved either.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request, response};

use super::spare::Spare;

/// How many heads of either kind a runtime keeps: as many as there are exchanges at the same time where
/// there are many.
const KEPT: usize = 1024;
/// How much room the header map of one that is kept may have, in fields.
const MOST: usize = 64;
/// How much room one that is made has at least, in fields.
const LEAST: usize = 8;

/// A head in a box, because it goes through many hands. When it is dropped the box is kept for the
/// next one, and nothing of what was in it. One that was made elsewhere is not: where such come, none is
/// asked for, and nothing bounds what its map has had in it.
#[derive(Debug)]
pub struct Head<T: Parts> {
    parts: Option<Box<T>>,
    is_kept: bool,
}

/// What is in a head.
pub trait Parts: Sized + 'static {
    /// What says nothing.
    fn blank() -> Self;
    /// Makes this say nothing, but for its header map.
    fn clear(&mut self);
    /// Its header map.
    fn headers(&mut self) -> &mut HeaderMap;
    /// Those that are kept.
    fn spare() -> &'static LocalKey<RefCell<Spare<Box<Self>>>>;
}

thread_local! {
    static REQUESTS: RefCell<Spare<Box<request::Parts>>> = const { RefCell::new(Spare::new(KEPT)) };
    static ANSWERS: RefCell<Spare<Box<response::Parts>>> = const { RefCell::new(Spare::new(KEPT)) };
}

/// Frees what has not been needed on this thread for a while.
pub(super) fn sweep() {
    REQUESTS.with_borrow_mut(Spare::sweep);
    ANSWERS.with_borrow_mut(Spare::sweep);
}

impl Parts for request::Parts {
    fn blank() -> Self {
        Request::new(()).into_parts().0
    }

    fn clear(&mut self) {
        (self.method, self.uri, self.version) = (Method::GET, Uri::default(), Version::HTTP_11);
        self.extensions.clear();
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn spare() -> &'static LocalKey<RefCell<Spare<Box<Self>>>> {
        &REQUESTS
    }
}

impl Parts for response::Parts {
    fn blank() -> Self {
        Response::new(()).into_parts().0
    }

    fn clear(&mut self) {
        (self.status, self.version) = (StatusCode::OK, Version::HTTP_11);
        self.extensions.clear();
    }

    fn headers(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    fn spare() -> &'static LocalKey<RefCell<Spare<Box<Self>>>> {
        &ANSWERS
    }
}

impl<T: Parts> Head<T> {
    /// A head that says nothing yet, for about `fields` fields.
    pub fn blank(fields: usize) -> Self {
        let spare = T::spare().with_borrow_mut(Spare::take);
        let parts = spare.unwrap_or_else(|| {
            let mut head = Box::new(T::blank());
            *head.headers() = HeaderMap::with_capacity(fields.max(LEAST));
            head
        });
        Self { parts: Some(parts), is_kept: true }
    }

    /// What is in it.
    pub fn into_parts(mut self) -> T {
        self.parts.take().map_or_else(T::blank, |parts| *parts)
    }
}

impl<T: Parts> From<T> for Head<T> {
    fn from(parts: T) -> Self {
        Self { parts: Some(Box::new(parts)), is_kept: false }
    }
}

impl<T: Parts> Deref for Head<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.parts {
            Some(parts) => parts,
            None => unreachable!("what was in it is taken with all of it"),
        }
    }
}

impl<T: Parts> DerefMut for Head<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.parts {
            Some(parts) => parts,
            None => unreachable!("what was in it is taken with all of it"),
        }
    }
}

impl<T: Parts> Drop for Head<T> {
    fn drop(&mut self) {
        let Some(mut head) = self.parts.take_if(|parts| self.is_kept && parts.headers().capacity() <= MOST)
        else {
            return;
        };
        head.headers().clear();
        head.clear();
        // At a thread's end there may be nowhere to keep it.
        let _ = T::spare().try_with(|spare| spare.borrow_mut().keep(head));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HOST;

    use super::*;

    fn kept<T: Parts>() -> usize {
        T::spare().with_borrow(Spare::len)
    }

    fn is_as_new<T: Parts>(mut head: Head<T>) -> bool {
        head.headers().is_empty() && head.headers().capacity() > 0 && head.headers().get(HOST).is_none()
    }

    #[test]
    fn a_request_is_as_new_when_it_is_used_again() {
        let mut head = Head::<request::Parts>::blank(3);
        let place = std::ptr::from_ref(&*head);
        head.headers.insert(HOST, HeaderValue::from_static("a"));
        head.headers.append(HOST, HeaderValue::from_static("b"));
        (head.method, head.uri, head.version) = (Method::POST, Uri::from_static("/x?y"), Version::HTTP_10);
        head.extensions.insert("x");
        drop(head);
        assert_eq!((kept::<request::Parts>(), kept::<response::Parts>()), (1, 0));
        let head = Head::<request::Parts>::blank(3);
        assert_eq!((std::ptr::from_ref(&*head), kept::<request::Parts>()), (place, 0));
        assert_eq!((&head.method, head.version), (&Method::GET, Version::HTTP_11));
        assert!(head.uri == Uri::default() && head.extensions.is_empty() && is_as_new(head));
    }

    #[test]
    fn an_answer_is_as_new_when_it_is_used_again() {
        let mut head = Head::<response::Parts>::blank(3);
        let place = std::ptr::from_ref(&*head);
        head.headers.insert(HOST, HeaderValue::from_static("a"));
        (head.status, head.version) = (StatusCode::NOT_FOUND, Version::HTTP_10);
        head.extensions.insert("x");
        drop(head);
        let head = Head::<response::Parts>::blank(3);
        assert_eq!(std::ptr::from_ref(&*head), place);
        assert_eq!((head.status, head.version), (StatusCode::OK, Version::HTTP_11));
        assert!(head.extensions.is_empty() && is_as_new(head));
    }

    #[test]
    fn neither_large_ones_are_kept_nor_what_was_made_or_taken_elsewhere() {
        drop(Head::<response::Parts>::blank(10 * MOST));
        drop(Head::from(response::Parts::blank()));
        Head::<response::Parts>::blank(1).into_parts();
        assert_eq!(kept::<response::Parts>(), 0);
        drop(Head::<response::Parts>::blank(1));
        assert_eq!(kept::<response::Parts>(), 1);
    }
}
