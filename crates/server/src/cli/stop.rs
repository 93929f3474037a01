//! The signals that a serving process handles, and the time that a stop may take. All work that
//! remains after a stop signal shares one deadline.

use std::time::{Duration, Instant};

use fireflow_auth::ReloadHandle;
use tokio::sync::oneshot;

/// The most time that a stop reserves for the work after the last request: sending the remaining
/// traces and error reports, and closing the database's connections.
const LAST_PART: Duration = Duration::from_secs(2);
/// The exit status of a process that a second signal ended, or that did not stop in time.
const CUT_OFF: i32 = 1;

/// How much time each part of a stop has, from the signal on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StopTimes {
    /// How long requests are still accepted.
    pub(super) drain_delay: Duration,
    /// How long the rest of the stop may take.
    pub(super) stop_timeout: Duration,
}

impl StopTimes {
    /// How long requests in progress may take after the drain delay.
    pub(super) fn of_requests(self) -> Duration {
        self.stop_timeout.saturating_sub(self.last_part())
    }

    fn last_part(self) -> Duration {
        LAST_PART.min(self.stop_timeout / 5)
    }

    /// The longest time of the whole stop.
    fn all(self) -> Duration {
        self.drain_delay.saturating_add(self.stop_timeout)
    }
}

/// A stop that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    at: Instant,
    times: StopTimes,
}

impl Stop {
    fn begin(times: StopTimes) -> Self {
        Self { at: Instant::now(), times }
    }

    /// How long requests are still accepted from now on.
    pub(super) fn drains_for(self) -> Duration {
        self.times.drain_delay.saturating_sub(self.at.elapsed())
    }

    /// How much time is left for the last part. It ends a little before the deadline.
    pub(super) fn left(self) -> Duration {
        let left = self.times.all().saturating_sub(self.at.elapsed());
        left.saturating_sub(self.times.last_part() / 10)
    }

    /// Terminates the process at the deadline, whatever delays it. A separate thread does it,
    /// because the runtime's threads may be the ones that are blocked.
    pub(super) fn enforce(self) {
        let all = self.times.all();
        let wait = move || {
            std::thread::sleep(all.saturating_sub(self.at.elapsed()));
            tracing::error!(?all, "the service did not stop in time and is terminated");
            end_at_once();
        };
        if let Err(error) = std::thread::Builder::new().name("deadline".to_owned()).spawn(wait) {
            tracing::warn!(%error, "the process cannot be terminated if it does not stop in time");
        }
    }
}

/// Terminates the process without waiting for anything.
fn end_at_once() -> ! {
    std::process::exit(CUT_OFF)
}

/// The signals that a serving process handles.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Installs the handlers. From now on, none of these signals terminates the process by itself.
    ///
    /// # Errors
    /// Returns the system's error if a handler cannot be installed.
    pub(super) fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a stop signal: Ctrl-C, or the signal that service managers send.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}

/// The signals that a serving process handles: only Ctrl-C on other systems.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub(super) async fn stop(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn next(&mut self) -> Told {
        self.stop().await;
        Told::Stop
    }
}

enum Told {
    Stop,
    Reload,
}

/// Handles signals for as long as the service runs. SIGHUP reloads files, the first stop signal
/// begins a stop, and the second one terminates the process at once.
pub(super) async fn heed(
    mut signals: Signals,
    times: StopTimes,
    reload: Vec<ReloadHandle>,
    told: oneshot::Sender<Stop>,
) {
    let mut told = Some(told);
    loop {
        match (signals.next().await, told.take()) {
            (Told::Reload, still) => {
                tracing::info!("SIGHUP: reloading keys, revocations and certificates");
                reload.iter().for_each(ReloadHandle::reload);
                told = still;
            }
            (Told::Stop, Some(told)) => {
                // The receiver is the service itself, so nothing is lost if it is gone.
                let _told = told.send(Stop::begin(times)).is_ok();
            }
            (Told::Stop, None) => {
                tracing::warn!("second stop signal: terminating immediately");
                end_at_once();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_stop_shares_one_deadline() {
        let seconds = Duration::from_secs;
        let times = StopTimes { drain_delay: seconds(3), stop_timeout: seconds(10) };
        assert_eq!((times.of_requests(), times.all()), (seconds(8), seconds(13)));
        let short = StopTimes { drain_delay: Duration::ZERO, stop_timeout: seconds(1) };
        assert_eq!((short.of_requests(), short.all()), (Duration::from_millis(800), seconds(1)));
        let for_ever = StopTimes { drain_delay: Duration::MAX, stop_timeout: Duration::MAX };
        assert_eq!(for_ever.all(), Duration::MAX);
        let begun = Stop::begin(times);
        assert!(begun.left() < seconds(13) && begun.drains_for() <= seconds(3));
        assert!(Stop::begin(for_ever).left() > seconds(1_000_000));
        let over = Stop { at: begun.at, times: StopTimes { stop_timeout: seconds(0), ..short } };
        assert_eq!(over.left(), Duration::ZERO);
    }
}
