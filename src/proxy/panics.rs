//! A panic while a request is carried is a problem of that request alone.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use super::respond::Problem;

/// What becomes of `carried`, which is not to be polled again after a panic; where it happened is
/// in the log by then.
///
/// It is right to go on with what others use too, although it saw the panic: none of it is half
/// written for longer than its owner is on the stack. Unwinding gives back borrows, locks (whose
/// poison is ignored, each with its reason) and places in counts; and a connection that the exchange
/// had is closed, because only an answer that has come to its end gives it back.
pub(super) async fn caught<T>(
    mut carried: Pin<&mut impl Future<Output = Result<T, Problem>>>,
) -> Result<T, Problem> {
    poll_fn(|cx| {
        catch_unwind(AssertUnwindSafe(|| carried.as_mut().poll(cx)))
            .unwrap_or(Poll::Ready(Err(Problem::Panicked)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_problem_whether_it_comes_at_once_or_later() {
        for waits in [0, 1, 3] {
            let carried = pin!(async {
                for _ in 0..waits {
                    tokio::task::yield_now().await;
                }
                if waits < 4 {
                    panic!("this is the test's doing");
                }
                Ok(())
            });
            assert_eq!(caught(carried).await, Err(Problem::Panicked));
        }
    }

    #[tokio::test]
    async fn what_ends_well_or_in_a_problem_is_passed_on() {
        assert_eq!(caught(pin!(async { Ok(7) })).await, Ok(7));
        assert_eq!(caught(pin!(async { Err::<(), _>(Problem::Loop) })).await, Err(Problem::Loop));
    }
}
