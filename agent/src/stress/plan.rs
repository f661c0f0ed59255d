//! From what was asked for to what will be done; impossible wishes end here.

use std::time::Duration;

use super::curve::Curve;

/// As many threads as one process may reasonably have.
pub const MOST_WORKERS: u32 = 4096;
/// A forgotten stress ends within a day.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Without `--secs`.
pub const DEFAULT_SECS: Duration = Duration::from_secs(60);

/// How many workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU that the cpuset and the cgroup quota allow.
    All,
    /// This many, more than there are CPUs if so wished.
    Count(u32),
}

/// Before whom the workers get their CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Priority {
    /// After everybody else: nginx stays prompt, and CloudWatch reads the same.
    Idle,
    /// Like everybody else: a noisy neighbour.
    Normal,
}

/// What a percentage is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Of {
    /// A CPU of the host, or with a target the whole host.
    #[default]
    Host,
    /// What cpuset and cgroup quota allow.
    Quota,
}

/// What was asked for. Percentages from above 0 to 100.
#[derive(Debug, Clone)]
pub struct Wish {
    /// `--cpu`.
    pub workers: Workers,
    /// `--secs`; zero: until interrupted.
    pub secs: Option<Duration>,
    /// `--load`.
    pub load_pct: Option<f64>,
    /// `--target`.
    pub target_pct: Option<f64>,
    /// `--ramp`.
    pub ramp: Option<Duration>,
    /// `--profile`.
    pub profile: Option<Curve>,
    /// `--priority`.
    pub priority: Priority,
    /// `--of`.
    pub of: Of,
    /// `--exact`.
    pub exact: bool,
}

/// What the load is measured against.
#[derive(Debug, Clone, PartialEq)]
pub enum Aim {
    /// Open loop: each worker's share of one CPU.
    Load(Curve),
    /// Closed loop: the busy share of the whole host.
    Target(Curve),
}

impl Aim {
    /// The curve, whatever it is a share of.
    pub fn curve(&self) -> &Curve {
        match self {
            Self::Load(curve) | Self::Target(curve) => curve,
        }
    }
}

/// What will be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many threads.
    pub workers: u32,
    /// How long; `None`: until interrupted.
    pub secs: Option<Duration>,
    /// What they hold.
    pub aim: Aim,
    /// Whether a share was named. Without one, more workers than CPUs share the CPUs, as in stress, and that is the
    /// load they were asked for.
    pub explicit: bool,
    /// Whether a host above its target is a failure.
    pub exact: bool,
    /// Before whom.
    pub priority: Priority,
    /// What the percentages are of.
    pub of: Of,
}

/// A wish that nobody can fulfil.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WishError {
    /// More than one of them.
    #[error("--load, --target and --profile exclude each other: take one")]
    SeveralAims,
    /// A share that makes no sense.
    #[error("{flag} {pct}: a percentage above 0, at most 100")]
    Share {
        /// The flag.
        flag: &'static str,
        /// Its value.
        pct: f64,
    },
    /// No worker, or too many.
    #[error("--cpu {0}: from 1 to {MOST_WORKERS} workers, or all")]
    Workers(u32),
    /// More than a day.
    #[error("--secs: at most 24h (0 runs until interrupted)")]
    TooLong,
    /// A ramp that doesn't end in time.
    #[error("--ramp is longer than the whole run: shorten it or lengthen --secs")]
    Ramp,
    /// The closed loop looks at the host.
    #[error("--of quota goes with --load and --profile; --target is a share of the whole host")]
    TargetOfQuota,
    /// Fewer workers than the share needs.
    #[error(
        "{pct} % of the {usable:.2} CPUs that are allowed is more than {workers} workers can use: --cpu all"
    )]
    TooFewForQuota {
        /// The share.
        pct: f64,
        /// CPUs' time.
        usable: f64,
        /// How many there are.
        workers: u32,
    },
    /// A ramp beside a profile.
    #[error("--ramp and --profile exclude each other: write the ramp into the profile")]
    RampAndProfile,
}

impl Wish {
    /// The plan on a host where cpuset and quota allow `workers` workers and the time of `usable` CPUs.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn plan(self, allowed: u32, usable: f64) -> Result<Plan, WishError> {
        let aims = [self.load_pct.is_some(), self.target_pct.is_some(), self.profile.is_some()];
        if aims.into_iter().filter(|a| *a).count() > 1 {
            return Err(WishError::SeveralAims);
        }
        let workers = match self.workers {
            Workers::All => allowed.clamp(1, MOST_WORKERS),
            Workers::Count(n) if (1..=MOST_WORKERS).contains(&n) => n,
            Workers::Count(n) => return Err(WishError::Workers(n)),
        };
        let secs = self.secs.or_else(|| self.profile.as_ref().map(Curve::end)).unwrap_or(DEFAULT_SECS);
        if secs > LONGEST {
            return Err(WishError::TooLong);
        }
        let secs = (!secs.is_zero()).then_some(secs);
        let ramp = self.ramp.unwrap_or(Duration::ZERO);
        if secs.is_some_and(|secs| ramp > secs) || ramp > LONGEST {
            return Err(WishError::Ramp);
        }
        let curve = |flag, pct: f64| match pct {
            _ if pct > 0.0 && pct <= 100.0 => Ok(Curve::ramp(pct / 100.0, ramp)),
            _ => Err(WishError::Share { flag, pct }),
        };
        // All of a quota is a share of the host.
        let explicit = aims != [false; 3] || self.of == Of::Quota;
        let aim = match (self.load_pct, self.target_pct, self.profile) {
            (_, _, Some(_)) if !ramp.is_zero() => return Err(WishError::RampAndProfile),
            (_, _, Some(profile)) => Aim::Load(profile),
            (_, Some(pct), _) => Aim::Target(curve("--target", pct)?),
            (Some(pct), _, _) => Aim::Load(curve("--load", pct)?),
            (None, None, None) => Aim::Load(curve("--load", 100.0)?),
        };
        let aim = match (self.of, aim) {
            (Of::Quota, Aim::Target(_)) => return Err(WishError::TargetOfQuota),
            (Of::Quota, Aim::Load(curve)) if explicit => {
                let each = usable / f64::from(workers);
                if curve.peak() * each > 1.0 + 1e-9 {
                    return Err(WishError::TooFewForQuota { pct: 100.0 * curve.peak(), usable, workers });
                }
                Aim::Load(curve.scaled(each))
            }
            (_, aim) => aim,
        };
        Ok(Plan { workers, secs, aim, explicit, exact: self.exact, priority: self.priority, of: self.of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            workers: Workers::Count(1),
            secs: None,
            load_pct: None,
            target_pct: None,
            ramp: None,
            profile: None,
            priority: Priority::Idle,
            of: Of::Host,
            exact: false,
        }
    }

    #[test]
    fn a_bare_wish_is_full_load_for_a_minute() {
        let plan = wish().plan(2, 2.0).unwrap();
        assert_eq!((plan.workers, plan.secs, plan.explicit), (1, Some(DEFAULT_SECS), false));
        assert_eq!(plan.aim, Aim::Load(Curve::constant(1.0)));
        assert_eq!(Wish { workers: Workers::All, ..wish() }.plan(3, 3.0).unwrap().workers, 3);
        assert_eq!(Wish { secs: Some(Duration::ZERO), ..wish() }.plan(2, 2.0).unwrap().secs, None);
    }

    #[test]
    fn a_profile_lasts_as_long_as_it_says() {
        let profile = Curve::parse("0 10\n90 20").unwrap();
        let plan = Wish { profile: Some(profile), ..wish() }.plan(1, 1.0).unwrap();
        assert_eq!((plan.secs, plan.explicit), (Some(Duration::from_secs(90)), true));
    }

    #[test]
    fn a_share_of_the_quota_is_spread_over_the_workers() {
        let of = |workers, usable| {
            let wish = Wish { workers, load_pct: Some(50.0), of: Of::Quota, ..wish() };
            wish.plan(2, usable).map(|plan| plan.aim)
        };
        assert_eq!(of(Workers::All, 1.5), Ok(Aim::Load(Curve::constant(0.375))), "0.75 CPUs by 2 workers");
        assert_eq!(of(Workers::Count(1), 0.5), Ok(Aim::Load(Curve::constant(0.25))));
        assert!(matches!(of(Workers::Count(1), 4.0), Err(WishError::TooFewForQuota { .. })));
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let profile = || Curve::parse("0 10\n90 20").ok();
        let secs = |s| Some(Duration::from_secs(s));
        for (wish, error) in [
            (Wish { load_pct: Some(10.0), target_pct: Some(10.0), ..wish() }, WishError::SeveralAims),
            (Wish { load_pct: Some(0.0), ..wish() }, WishError::Share { flag: "--load", pct: 0.0 }),
            (Wish { target_pct: Some(100.5), ..wish() }, WishError::Share { flag: "--target", pct: 100.5 }),
            (Wish { workers: Workers::Count(0), ..wish() }, WishError::Workers(0)),
            (Wish { workers: Workers::Count(4097), ..wish() }, WishError::Workers(4097)),
            (Wish { secs: secs(86_401), ..wish() }, WishError::TooLong),
            (Wish { ramp: secs(61), ..wish() }, WishError::Ramp),
            (Wish { of: Of::Quota, target_pct: Some(50.0), ..wish() }, WishError::TargetOfQuota),
            (Wish { ramp: secs(1), profile: profile(), ..wish() }, WishError::RampAndProfile),
        ] {
            assert_eq!(wish.plan(2, 2.0).unwrap_err(), error);
        }
    }
}
