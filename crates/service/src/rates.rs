//! Rate limits per client address and per subject.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

/// After this many requests, clients without recent requests are removed.
const REQUESTS_PER_CLEANING: u64 = 8_192;

/// The rate of probes per address. Kubernetes sends one every few seconds.
const PROBES_PER_SECOND: u32 = 200;
/// The rate of documentation requests per address. A page in a browser needs one or two.
const DOCUMENTS_PER_SECOND: u32 = 50;

const fn per_second(count: u32) -> Rate {
    let count = match NonZeroU32::new(count) {
        Some(count) => count,
        None => NonZeroU32::MIN,
    };
    Rate { count, per: Duration::from_secs(1) }
}

/// A number of requests per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The number of requests, which may also come in a burst.
    pub count: NonZeroU32,
    /// The period.
    pub per: Duration,
}

/// The limits; `None` is unlimited. They are kept in memory, so each process counts separately.
#[derive(Debug, Default)]
pub struct Rates {
    by_address: Option<Limit>,
    by_subject: Option<Limit>,
    probes: Option<Limit>,
    documents: Option<Limit>,
    /// Clients are identified by keyed hashes, so that nobody can provoke collisions.
    names: RandomState,
}

/// How much of its rate a subject has left, for the headers of the answer
/// (draft-ietf-httpapi-ratelimit-headers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    /// The rate.
    pub rate: Rate,
    /// How many requests are left.
    pub remaining: u32,
    /// The number of seconds until the full rate is available; after a refusal, until the next
    /// request is accepted.
    pub reset_s: u64,
}

/// A client has exceeded its rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit of {who} is exceeded; retry after {retry_after_s} s")]
pub struct RateExceeded {
    /// The owner of the limit, in the words of the message.
    pub who: &'static str,
    /// When to retry, in seconds.
    pub retry_after_s: i64,
}

/// Carries the state from the check to the answer.
pub type RateCell = Arc<OnceLock<RateState>>;

type Limiter =
    RateLimiter<u64, DefaultKeyedStateStore<u64>, DefaultClock, StateInformationMiddleware>;

struct Limit {
    rate: Rate,
    limiter: Limiter,
    clock: DefaultClock,
    requests: AtomicU64,
}

impl std::fmt::Debug for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limit").finish_non_exhaustive()
    }
}

impl Rates {
    /// Limits the requests of each address and of each subject.
    #[must_use]
    pub fn new(by_address: Option<Rate>, by_subject: Option<Rate>) -> Self {
        Self {
            by_address: by_address.and_then(Limit::new),
            by_subject: by_subject.and_then(Limit::new),
            // These limits are off if there is no limit per address.
            probes: by_address.and_then(|_| Limit::new(per_second(PROBES_PER_SECOND))),
            documents: by_address.and_then(|_| Limit::new(per_second(DOCUMENTS_PER_SECOND))),
            names: RandomState::new(),
        }
    }

    /// Counts a request of an address, before its token is checked.
    ///
    /// # Errors
    /// Returns [`RateExceeded`] if the address has exceeded its limit.
    pub fn check_address(&self, address: Option<IpAddr>) -> Result<(), RateExceeded> {
        self.check_network(self.by_address.as_ref(), address)
    }

    /// Counts a request of an address for an open path. Probes and documents have separate limits,
    /// so that other requests from the same address do not cause a failed health check.
    ///
    /// # Errors
    /// Returns [`RateExceeded`] if the address has exceeded its limit on probes.
    pub fn check_probe(&self, address: Option<IpAddr>) -> Result<(), RateExceeded> {
        self.check_network(self.probes.as_ref(), address)
    }

    /// Counts a request of an address for a document that is open to everybody.
    ///
    /// # Errors
    /// Returns [`RateExceeded`] if the address has exceeded its limit on documents.
    pub fn check_document(&self, address: Option<IpAddr>) -> Result<(), RateExceeded> {
        self.check_network(self.documents.as_ref(), address)
    }

    fn check_network(
        &self,
        limit: Option<&Limit>,
        address: Option<IpAddr>,
    ) -> Result<(), RateExceeded> {
        let (Some(limit), Some(address)) = (limit, address) else { return Ok(()) };
        limit.check(self.number(&network(address)), "this address").1
    }

    /// Counts a request of a subject, and stores its remaining rate for the answer.
    ///
    /// # Errors
    /// Returns [`RateExceeded`] if the subject has exceeded its limit.
    pub fn check_subject(
        &self,
        subject: &str,
        state: Option<&RateCell>,
    ) -> Result<(), RateExceeded> {
        let Some(limit) = &self.by_subject else { return Ok(()) };
        let (now, result) = limit.check(self.number(&subject), "your subject");
        if let Some(state) = state {
            state.get_or_init(|| now);
        }
        result
    }

    /// A cell for the state of a request's rate, if there is a limit per subject.
    #[must_use]
    pub fn state(&self) -> Option<RateCell> {
        self.by_subject.as_ref().map(|_| RateCell::default())
    }

    fn number(&self, name: &impl Hash) -> u64 {
        self.names.hash_one(name)
    }
}

/// The network within which a client can choose its address freely. For IPv6, it has a 64-bit
/// prefix.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
    }
}

impl Limit {
    fn new(rate: Rate) -> Option<Self> {
        let each = rate.per.checked_div(rate.count.get())?;
        let quota = Quota::with_period(each)?.allow_burst(rate.count);
        Some(Self {
            rate,
            limiter: RateLimiter::keyed(quota).with_middleware(),
            clock: DefaultClock::default(),
            requests: AtomicU64::new(0),
        })
    }

    fn check(&self, key: u64, who: &'static str) -> (RateState, Result<(), RateExceeded>) {
        if self.requests.fetch_add(1, Ordering::Relaxed) % REQUESTS_PER_CLEANING
            == REQUESTS_PER_CLEANING - 1
        {
            self.limiter.retain_recent();
        }
        let rate = self.rate;
        let seconds = |wait: Duration| u64::try_from(wait.as_millis().div_ceil(1_000));
        let refused = match self.limiter.check_key(&key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = rate.count.get().saturating_sub(remaining);
                let each = rate.per.checked_div(rate.count.get()).unwrap_or_default();
                let reset_s = seconds(each.saturating_mul(used)).unwrap_or(u64::MAX);
                return (RateState { rate, remaining, reset_s }, Ok(()));
            }
            Err(refused) => refused,
        };
        let wait = refused.wait_time_from(self.clock.now()).max(Duration::from_millis(1));
        let reset_s = seconds(wait).unwrap_or(u64::MAX);
        let state = RateState { rate, remaining: 0, reset_s };
        let retry_after_s = i64::try_from(reset_s).unwrap_or(i64::MAX);
        (state, Err(RateExceeded { who, retry_after_s }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_share_of_its_own() {
        let rate = Rate { count: NonZeroU32::new(3).unwrap(), per: Duration::from_secs(3_600) };
        let rates = Rates::new(Some(rate), Some(rate));
        for _ in 0..3 {
            assert!(rates.check_subject("ann", None).is_ok());
        }
        assert_eq!(rates.check_subject("ann", None).unwrap_err().who, "your subject");
        assert!(rates.check_subject("bob", None).is_ok());
        let of = |text: &str| rates.check_address(Some(text.parse().unwrap())).is_ok();
        assert!(of("2001:db8::1") && of("2001:db8::2") && of("2001:db8::3"));
        assert!(!of("2001:db8::4"), "a network of 64 bits is one client");
        assert!(of("2001:db8:0:1::1") && of("192.0.2.1"));
        assert!(rates.check_address(None).is_ok());
        assert!((0..10_000).all(|_| Rates::default().check_subject("ann", None).is_ok()));
    }

    #[test]
    fn probes_and_documents_have_a_share_of_their_own() {
        let rate = Rate { count: NonZeroU32::MIN, per: Duration::from_secs(3_600) };
        let rates = Rates::new(Some(rate), None);
        let address = Some("192.0.2.1".parse().unwrap());
        let documents = || rates.check_document(address).is_ok();
        assert!((0..10 * DOCUMENTS_PER_SECOND).any(|_| !documents()));
        assert!(rates.check_probe(address).is_ok());
        assert!(rates.check_address(address).is_ok());
        assert!((0..10_000).all(|_| Rates::default().check_probe(address).is_ok()));
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let rate = Rate { count: NonZeroU32::new(1_000_000).unwrap(), per: Duration::from_secs(1) };
        let rates = Rates::new(None, Some(rate));
        for index in 0..3 * REQUESTS_PER_CLEANING {
            rates.check_subject(&index.to_string(), None).unwrap();
        }
        let known = rates.by_subject.unwrap().limiter.len();
        assert!(known <= usize::try_from(2 * REQUESTS_PER_CLEANING).unwrap(), "{known}");
    }
}
