//! The runtime that openraft runs on: tokio, but for its dice. They are those of `fastrand`, so that
//! whoever seeds the thread (a simulation does) decides what is drawn for an election.

use std::future::Future;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::impls::TokioRuntime as Tokio;

/// tokio with dice that can be seeded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

/// The dice of the current thread.
#[derive(Debug)]
pub(crate) struct Dice;

impl rand_core::RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        fastrand::u32(..)
    }

    fn next_u64(&mut self) -> u64 {
        fastrand::u64(..)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        fastrand::fill(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        fastrand::fill(dest);
        Ok(())
    }
}

impl AsyncRuntime for Runtime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Dice;
    type OneshotSender<T: Send> = <Tokio as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: Send> = <Tokio as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <Tokio as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        <Tokio as AsyncRuntime>::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        <Tokio as AsyncRuntime>::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        <Tokio as AsyncRuntime>::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        <Tokio as AsyncRuntime>::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        <Tokio as AsyncRuntime>::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        <Tokio as AsyncRuntime>::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Dice
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        <Tokio as AsyncRuntime>::oneshot()
    }
}
