//! Proves that the items of a kernel keep out of each other's way: between two barriers no two
//! items of a group touch an element of shared memory that one of them stores, and in other memory
//! no two items at all do, because barriers of a group bring nothing there.
//!
//! Shared memory by running through the items of one group (`shared`), which is exact as long as
//! the addresses have the same common part; other memory by reading addresses as numbers in a
//! mixed radix (`apart`), whatever the size. What cannot be proved is refused.

mod apart;
mod shared;
mod sites;
mod values;

use super::{Problem, VerifyError};
use crate::ir::{Access, Inst, Kernel, ParallelDim};
use crate::text::InstText;
use apart::{Apart, Touch};
use shared::Shared;
use sites::Site;
use values::Values;

/// Digits read for one kernel.
const MOST_DIGITS: u64 = 2_000_000;

/// What is left of the work that one kernel is worth.
struct Steps(u64);

impl Steps {
    fn new(most: u64) -> Self {
        Steps(most)
    }

    /// False when they are used up.
    fn take(&mut self, steps: u64) -> bool {
        let enough = self.0 >= steps;
        self.0 = self.0.saturating_sub(steps);
        enough
    }
}

/// Two accesses, as indices into the sites, that meet, or are not proved to keep apart.
struct Meeting {
    store: usize,
    other: usize,
    proved: bool,
}

/// One error for each buffer and phase. Takes a kernel without other errors.
pub(super) fn races(kernel: &Kernel) -> Vec<VerifyError> {
    let values = Values::new(kernel);
    let (sites, phases) = sites::sites(kernel, &values);
    if let Some(store) = sites.iter().position(|site| !values.fits(site.addr)) {
        return vec![error(kernel, &sites, &Meeting { store, other: store, proved: false }, false)];
    }
    let mut errors = Vec::new();
    let mut add = |meeting: Meeting, between: bool| {
        let error = error(kernel, &sites, &meeting, between);
        if !errors.contains(&error) {
            errors.push(error);
        }
    };
    let mut shared = Shared::new(kernel, &values, &sites);
    match phases {
        Some(phases) => {
            for phase in phases {
                shared.meetings(&phase).into_iter().for_each(|meeting| add(meeting, true));
            }
        }
        None => {
            let of_shared = |site: &&Site<'_>| {
                kernel.buffers[usize::from(site.addr.buffer.0)].access == Access::Shared
            };
            let first = sites.iter().filter(of_shared).position(|site| site.stores);
            if let Some(store) = first {
                add(Meeting { store, other: store, proved: false }, true);
            }
        }
    }
    elsewhere(kernel, &values, &sites).into_iter().for_each(|meeting| add(meeting, false));
    errors
}

/// For each buffer that all groups see the first two accesses that may meet.
fn elsewhere(kernel: &Kernel, values: &Values, sites: &[Site<'_>]) -> Vec<Meeting> {
    let dims: Vec<usize> = kernel
        .parallel
        .iter()
        .chain(&kernel.items)
        .filter(|dim| dim.count > 1)
        .map(|dim| values.same(dim.var))
        .collect();
    let mut steps = Steps::new(MOST_DIGITS);
    let mut meetings = Vec::new();
    for (index, buffer) in kernel.buffers.iter().enumerate() {
        if !matches!(buffer.access, Access::Write | Access::ReadWrite) {
            continue;
        }
        let of_buffer =
            sites.iter().enumerate().filter(|s| usize::from(s.1.addr.buffer.0) == index);
        // Without those whose guards never hold.
        let touches: Vec<(usize, bool, Touch)> = of_buffer
            .filter_map(|(number, site)| {
                let touch = Touch {
                    address: values.address(site.addr),
                    lanes: site.lanes,
                    ranges: values.guarded(site.addr)?,
                    guarded: site.addr.guards.iter().map(|g| values.same(g.var)).collect(),
                };
                Some((number, site.stores, touch))
            })
            .collect();
        let pairs = touches.iter().enumerate().flat_map(|(n, a)| {
            let others = touches[n..].iter().filter(|b| a.1 || b.1);
            others.map(move |b| (a, b))
        });
        for (a, b) in pairs {
            let dims = &dims;
            let mut apart = Apart { values, dims, steps: &mut steps, a: &a.2, b: &b.2 };
            if !apart.holds() {
                let (store, other) = if a.1 { (a.0, b.0) } else { (b.0, a.0) };
                meetings.push(Meeting { store, other, proved: false });
                break;
            }
        }
    }
    meetings
}

fn error(kernel: &Kernel, sites: &[Site<'_>], meeting: &Meeting, between: bool) -> VerifyError {
    let (store, other) = (&sites[meeting.store], &sites[meeting.other]);
    let text = |site: &Site<'_>| InstText { kernel, inst: site.inst }.to_string();
    let buffer = kernel.buffers[usize::from(store.addr.buffer.0)].name.clone();
    let verb = if matches!(other.inst, Inst::Store { .. }) { "stores" } else { "loads" };
    let other = text(other);
    VerifyError {
        kernel: kernel.name.clone(),
        place: super::race::place(kernel, store.number, &store.loops, text(store)),
        problem: match (between, meeting.proved) {
            (true, true) => Problem::ItemRace { buffer, verb, other },
            (true, false) => Problem::NotApart { who: "item of the group", buffer, verb, other },
            (false, _) => Problem::NotApart { who: "item or group", buffer, verb, other },
        },
    }
}

/// Sets the variables of a space of dimensions, the last one fastest.
fn place(dims: &[ParallelDim], mut rest: u64, counted: &mut [i64]) {
    for dim in dims.iter().rev() {
        counted[usize::from(dim.var.0)] = (rest % u64::from(dim.count)) as i64;
        rest /= u64::from(dim.count);
    }
}
