//! Register allocation by linear scan (Poletto and Sarkar, 1999) over live intervals. Kernels are
//! straight-line code and counted loops, so an interval is one range of positions.

/// A value that wants a register.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    /// First position, a definition.
    pub(super) start: u32,
    /// Last position.
    pub(super) end: u32,
    /// Uses, each counted with the trip counts around it: what spilling costs.
    pub(super) weight: f64,
    /// A value whose register would save a copy, should it end where this one starts.
    pub(super) hint: Option<usize>,
}

/// Where a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Index into the allocatable registers.
    Register(usize),
    /// Index of a stack slot.
    Slot(usize),
    /// It is never used.
    Nowhere,
}

/// Homes of all values and the number of slots.
pub(super) fn allocate(intervals: &[Option<Interval>], registers: usize) -> (Vec<Home>, usize) {
    let mut homes = vec![Home::Nowhere; intervals.len()];
    let mut order: Vec<(usize, Interval)> =
        intervals.iter().enumerate().filter_map(|(i, v)| v.map(|v| (i, v))).collect();
    order.sort_by_key(|(index, v)| (v.start, *index));
    let mut active: Vec<(usize, Interval)> = Vec::new();
    let mut free = vec![true; registers];
    let mut spilled: Vec<usize> = Vec::new();
    for (index, interval) in order {
        active.retain(|&(other, v)| {
            let alive = v.end > interval.start;
            if let (false, Home::Register(r)) = (alive, homes[other]) {
                free[r] = true;
            }
            alive
        });
        let hinted = interval.hint.and_then(|other| match homes[other] {
            Home::Register(r) if free[r] => Some(r),
            _ => None,
        });
        if let Some(r) = hinted.or_else(|| free.iter().position(|f| *f)) {
            free[r] = false;
            homes[index] = Home::Register(r);
            active.push((index, interval));
            continue;
        }
        // The cheapest of all that are alive goes to the stack.
        let cheapest =
            active.iter().enumerate().min_by(|a, b| a.1.1.weight.total_cmp(&b.1.1.weight));
        match cheapest {
            Some((place, &(other, v))) if v.weight < interval.weight => {
                homes[index] = homes[other];
                spilled.push(other);
                active[place] = (index, interval);
            }
            _ => spilled.push(index),
        }
    }
    let slots = color_slots(intervals, &spilled, &mut homes);
    (homes, slots)
}

/// Slots are shared by values that are not alive together.
fn color_slots(intervals: &[Option<Interval>], spilled: &[usize], homes: &mut [Home]) -> usize {
    let mut order: Vec<(usize, Interval)> =
        spilled.iter().filter_map(|&i| intervals[i].map(|v| (i, v))).collect();
    order.sort_by_key(|(index, v)| (v.start, *index));
    let mut ends: Vec<u32> = Vec::new();
    for (index, interval) in order {
        let slot = match ends.iter().position(|&end| end < interval.start) {
            Some(slot) => slot,
            None => {
                ends.push(0);
                ends.len() - 1
            }
        };
        ends[slot] = interval.end;
        homes[index] = Home::Slot(slot);
    }
    ends.len()
}

#[cfg(test)]
mod tests {
    use super::{Home, Interval, allocate};

    fn interval(start: u32, end: u32, weight: f64) -> Option<Interval> {
        Some(Interval { start, end, weight, hint: None })
    }

    #[test]
    fn a_register_is_free_where_its_value_ends() {
        let (homes, slots) = allocate(&[interval(0, 4, 1.0), interval(4, 8, 1.0)], 1);
        assert_eq!(homes, [Home::Register(0), Home::Register(0)]);
        assert_eq!(slots, 0);
    }

    #[test]
    fn the_cheapest_goes_to_the_stack() {
        let values = [interval(0, 9, 5.0), interval(1, 9, 1.0), interval(2, 9, 9.0), None];
        let (homes, slots) = allocate(&values, 2);
        assert_eq!(homes, [Home::Register(0), Home::Slot(0), Home::Register(1), Home::Nowhere]);
        assert_eq!(slots, 1);
    }

    #[test]
    fn slots_are_shared_only_by_strangers() {
        let values = [interval(0, 9, 1.0), interval(1, 3, 2.0), interval(4, 6, 2.0)];
        let (homes, slots) = allocate(&values, 0);
        assert_eq!(slots, 2);
        assert_ne!(homes[0], homes[1]);
        assert_eq!(homes[1], homes[2]);
    }
}
