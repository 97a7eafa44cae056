//! Items of a group in shared memory, by running through them: groups are small, and what all
//! items have in common (dimensions of the parallel space, loops with barriers) adds the same to
//! both addresses or takes few values.

use super::sites::{Phase, Site, Turn, Visit};
use super::values::{Kind, Sum, Values};
use super::{Meeting, Steps};
use crate::ir::Kernel;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Most accesses that one kernel's items are followed through.
const MOST_ACCESSES: u64 = 1 << 22;

/// Most values of what items have in common.
const MOST_COMMON: u64 = 1 << 16;

pub(super) struct Shared<'k> {
    pub(super) kernel: &'k Kernel,
    pub(super) values: &'k Values,
    pub(super) sites: &'k [Site<'k>],
    counts: Vec<u32>,
    steps: Steps,
}

/// An access of a phase, taken apart.
struct Visited<'k> {
    site: usize,
    /// What the items have in common, as a sum of counted variables.
    common: Sum,
    /// The rest of the address.
    own: Sum,
    /// Guards that are known with the variables that are run through.
    guards: Vec<(usize, i64)>,
    /// These are all.
    exact: bool,
    /// Loops without barriers that matter, with their counts.
    loops: Vec<(usize, i64)>,
    turns: &'k [(usize, Turn)],
}

impl<'k> Shared<'k> {
    pub(super) fn new(kernel: &'k Kernel, values: &'k Values, sites: &'k [Site<'k>]) -> Self {
        let counts = kernel.trip_counts();
        Shared { kernel, values, sites, counts, steps: Steps::new(MOST_ACCESSES) }
    }

    /// The first two accesses of a phase that meet in each buffer.
    pub(super) fn meetings(&mut self, phase: &Phase) -> Vec<Meeting> {
        let of = |visit: &Visit| self.sites[visit.site].addr.buffer;
        let stored: BTreeSet<_> =
            phase.iter().filter(|v| self.sites[v.site].stores).map(of).collect();
        let mut meetings = Vec::new();
        for buffer in stored {
            let visits: Vec<&Visit> = phase.iter().filter(|v| of(v) == buffer).collect();
            meetings.extend(self.meeting(&visits));
        }
        meetings
    }

    fn meeting(&mut self, visits: &[&Visit]) -> Option<Meeting> {
        let run = self.common_variables(visits);
        let visited: Vec<Visited<'_>> =
            visits.iter().filter_map(|visit| self.take_apart(visit, &run)).collect();
        let store = visited.iter().find(|v| self.sites[v.site].stores)?.site;
        let unproved = Meeting { store, other: visited.last()?.site, proved: false };
        let mut extent = 1_u64;
        for &(var, first) in &run {
            let count = i64::from(self.counts[var]) - first;
            extent = extent.saturating_mul(count.max(0) as u64);
        }
        if extent > MOST_COMMON {
            return Some(unproved);
        }
        // Where a division mixes what is common with what is an item's own, no two values of the
        // common variables are alike; else only differences of addresses count.
        let mixed = visited.iter().any(|v| {
            let mut counted = Vec::new();
            v.own.terms.iter().for_each(|&(var, _)| self.values.counted(var, &mut counted));
            v.guards.iter().for_each(|&(var, _)| self.values.counted(var, &mut counted));
            counted.iter().any(|&var| run.iter().any(|r| r.0 == var))
        });
        let mut seen: HashSet<Vec<i64>> = HashSet::new();
        let mut counted = vec![0; self.values.kinds.len()];
        for number in 0..extent {
            let mut rest = number as i64;
            for &(var, first) in &run {
                let count = i64::from(self.counts[var]) - first;
                counted[var] = first + rest % count;
                rest /= count;
            }
            let mut bases: Vec<i64> = Vec::with_capacity(visited.len());
            for one in &visited {
                let turned = turned(&counted, one.turns);
                bases.push(self.values.value_of(&one.common, &turned));
            }
            let least = bases.iter().copied().min().unwrap_or(0);
            bases.iter_mut().for_each(|base| *base -= least);
            if !mixed && !seen.insert(bases.clone()) {
                continue;
            }
            match self.run_through(&visited, &bases, &counted) {
                Ok(None) => {}
                Ok(Some((store, other))) => {
                    let mut of_both = visited.iter().filter(|v| [store, other].contains(&v.site));
                    let proved = of_both.all(|v| v.exact);
                    return Some(Meeting { store, other, proved });
                }
                Err(()) => return Some(unproved),
            }
        }
        None
    }

    fn is_common(&self, var: usize) -> bool {
        self.values.kinds[var] == Kind::Common
    }

    /// The common variables whose values matter, each with its first one: those in divisions, and
    /// those that the accesses' addresses hold in different numbers.
    fn common_variables(&self, visits: &[&Visit]) -> Vec<(usize, i64)> {
        let mut run: Vec<usize> = Vec::new();
        let mut linear: Vec<Vec<(usize, i64)>> = Vec::new();
        for visit in visits {
            let mut of_this = Vec::new();
            for &(var, by) in &self.address(visit).terms {
                let mut counted = Vec::new();
                self.values.counted(var, &mut counted);
                if self.is_common(var) {
                    if !matches!(turn_of(visit, var), Some(Turn::Fixed(_))) {
                        of_this.push((var, by));
                    }
                } else {
                    run.extend(counted.into_iter().filter(|&v| {
                        self.is_common(v) && !matches!(turn_of(visit, v), Some(Turn::Fixed(_)))
                    }));
                }
            }
            linear.push(of_this);
        }
        let all: BTreeSet<(usize, i64)> = linear.iter().flatten().copied().collect();
        for term in all {
            if linear.iter().any(|of| !of.contains(&term)) {
                run.push(term.0);
            }
        }
        run.sort_unstable();
        run.dedup();
        let first = |var: usize| {
            let shifts = visits.iter().filter_map(|visit| match turn_of(visit, var) {
                Some(Turn::Shifted(by)) => Some(-by),
                _ => None,
            });
            shifts.max().unwrap_or(0).max(0)
        };
        run.into_iter().map(|var| (var, first(var))).collect()
    }

    fn address(&self, visit: &Visit) -> Sum {
        self.values.spelled(&self.values.address(self.sites[visit.site].addr))
    }

    /// `None` for an access that never takes place.
    fn take_apart<'v>(&self, visit: &'v Visit, run: &[(usize, i64)]) -> Option<Visited<'v>> {
        let site = &self.sites[visit.site];
        self.values.guarded(site.addr)?;
        let address = self.address(visit);
        let mut common = Sum { offset: address.offset, terms: Vec::new() };
        let mut own = Sum::default();
        let mut counted = Vec::new();
        for &(var, by) in &address.terms {
            let mut of_this = Vec::new();
            self.values.counted(var, &mut of_this);
            // A common variable that is not run through adds the same everywhere, but for turns.
            if of_this.iter().all(|&v| self.is_common(v)) {
                common.terms.push((var, by));
            } else {
                own.terms.push((var, by));
                counted.extend(of_this);
            }
        }
        // A guard that cannot be told is taken to hold: more accesses than there are.
        let mut exact = true;
        let mut guards = Vec::new();
        for guard in &site.addr.guards {
            let mut of_this = Vec::new();
            let var = self.values.same(guard.var);
            self.values.counted(var, &mut of_this);
            let known = |&v: &usize| {
                !self.is_common(v)
                    || run.iter().any(|r| r.0 == v)
                    || matches!(turn_of(visit, v), Some(Turn::Fixed(_)))
            };
            let all_known = of_this.iter().all(known);
            exact &= all_known;
            if all_known {
                guards.push((var, i64::from(guard.count)));
                counted.extend(of_this);
            }
        }
        counted.sort_unstable();
        counted.dedup();
        let loops = counted
            .into_iter()
            .filter(|&var| self.values.kinds[var] == Kind::Loop)
            .map(|var| (var, i64::from(self.counts[var])))
            .collect();
        Some(Visited { site: visit.site, common, own, guards, exact, loops, turns: &visit.turns })
    }

    /// Who stores what, then who touches it; the first pair that meets.
    fn run_through(
        &mut self,
        visited: &[Visited<'_>],
        bases: &[i64],
        counted: &[i64],
    ) -> Result<Option<(usize, usize)>, ()> {
        let mut owners: HashMap<i64, (u64, usize)> = HashMap::new();
        for stores in [true, false] {
            for (one, &base) in visited.iter().zip(bases) {
                let site = &self.sites[one.site];
                if site.stores != stores {
                    continue;
                }
                let mut counted = turned(counted, one.turns);
                for item in 0..self.kernel.group() {
                    super::place(&self.kernel.items, item, &mut counted);
                    let turns: i64 = one.loops.iter().map(|l| l.1).product();
                    if !self.steps.take(turns.unsigned_abs() * site.lanes.unsigned_abs()) {
                        return Err(());
                    }
                    for turn in 0..turns {
                        let mut rest = turn;
                        for &(var, count) in &one.loops {
                            counted[var] = rest % count;
                            rest /= count;
                        }
                        let holds = |&(var, count): &(usize, i64)| {
                            (0..count).contains(&self.values.value(var, &counted))
                        };
                        if !one.guards.iter().all(holds) {
                            continue;
                        }
                        let at = base + self.values.value_of(&one.own, &counted);
                        for element in at..at + site.lanes {
                            let owner = match owners.entry(element) {
                                Entry::Occupied(entry) => *entry.get(),
                                Entry::Vacant(entry) if stores => *entry.insert((item, one.site)),
                                Entry::Vacant(_) => continue,
                            };
                            if owner.0 != item {
                                return Ok(Some((owner.1, one.site)));
                            }
                        }
                    }
                }
            }
        }
        Ok(None)
    }
}

fn turn_of(visit: &Visit, var: usize) -> Option<Turn> {
    visit.turns.iter().find(|t| t.0 == var).map(|t| t.1)
}

/// Counted variables as an access sees them.
fn turned(counted: &[i64], turns: &[(usize, Turn)]) -> Vec<i64> {
    let mut counted = counted.to_vec();
    for &(var, turn) in turns {
        match turn {
            Turn::Fixed(value) => counted[var] = value,
            Turn::Shifted(by) => counted[var] += by,
        }
    }
    counted
}
