//! How a serving process is told what to do by signals, and how much time it has when it is told to
//! stop: everything that is still to be done shares one deadline.

use std::time::{Duration, Instant};

use fireflow_auth::ReloadHandle;
use tokio::sync::oneshot;

/// The most that is kept of the time to stop for what comes after requests: what the receivers of
/// traces and defects have not taken yet, and the end of the database's connections.
const LAST_PART: Duration = Duration::from_secs(2);
/// The exit status of a process that a second signal ended, or that did not stop in time.
const CUT_OFF: i32 = 1;

/// How much time there is for what, from the signal on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StopTimes {
    /// How long requests are still taken.
    pub(super) drain_delay: Duration,
    /// How long all of the rest may take.
    pub(super) stop_timeout: Duration,
}

impl StopTimes {
    /// How long requests under way may take to their end after the drain delay.
    pub(super) fn of_requests(self) -> Duration {
        self.stop_timeout.saturating_sub(self.last_part())
    }

    fn last_part(self) -> Duration {
        LAST_PART.min(self.stop_timeout / 5)
    }

    /// All of it.
    fn all(self) -> Duration {
        self.drain_delay.saturating_add(self.stop_timeout)
    }
}

/// When a stop began, and how it goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    at: Instant,
    times: StopTimes,
}

impl Stop {
    fn begin(times: StopTimes) -> Self {
        Self { at: Instant::now(), times }
    }

    /// How long requests are still taken.
    pub(super) fn drains_for(self) -> Duration {
        self.times.drain_delay.saturating_sub(self.at.elapsed())
    }

    /// How much is left for what comes last; a little less than until the deadline.
    pub(super) fn left(self) -> Duration {
        let left = self.times.all().saturating_sub(self.at.elapsed());
        left.saturating_sub(self.times.last_part() / 10)
    }

    /// Ends the process at the deadline, whatever holds it up: in a thread of its own, since the
    /// runtime's may be what does.
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

/// Ends the process without waiting for anything.
fn end_at_once() -> ! {
    std::process::exit(CUT_OFF)
}

/// The signals that a serving process heeds.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until it is told to stop: by Ctrl-C, or by what service managers send.
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

/// The signals that a serving process heeds: elsewhere Ctrl-C alone.
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

/// Heeds signals for as long as the service runs: has files read again, tells of the first signal to
/// stop, and ends the process at once at the second.
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
                // Who waits for it is the service itself.
                let _told = told.send(Stop::begin(times)).is_ok();
            }
            (Told::Stop, None) => {
                tracing::warn!("second stop signal: terminating at once");
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
