//! The split as text: who does what, what crosses, and how much.

use super::{Share, Split};
use crate::compile::Prepared;
use crate::report::table::{Align, Table, bytes};

impl Split {
    /// For people; `net` is what was split.
    pub fn text(&self, net: &Prepared) -> String {
        let mut table = Table::new(&[
            ("step", Align::Right),
            ("call", Align::Left),
            ("first device", Align::Left),
            ("second device", Align::Left),
            ("crosses before it", Align::Left),
        ]);
        for (number, (step, share)) in net.steps.iter().zip(&self.shares).enumerate() {
            let kernel = &net.kernels[step.kernel];
            let [first, second] = match *share {
                Share::Both => ["all".to_owned(), "all".to_owned()],
                Share::First => ["all".to_owned(), String::new()],
                Share::Halves { dim, at } => {
                    let dim = kernel.parallel[dim];
                    let name = &kernel.vars[usize::from(dim.var.0)];
                    [format!("{name} 0..{at}"), format!("{name} {at}..{}", dim.count)]
                }
            };
            let crossing = self.transfers.iter().filter(|transfer| transfer.before == number);
            let crossing = crossing.map(|transfer| {
                let arrow = if transfer.from == 0 { "->" } else { "<-" };
                format!("{arrow} {} {}", transfer.value, bytes(transfer.bytes() as u64))
            });
            let crossing = crossing.collect::<Vec<_>>().join(", ");
            table.row([number.to_string(), step.name.clone(), first, second, crossing]);
        }
        let crossing = |from: usize| {
            let list = self.transfers.iter().filter(|transfer| transfer.from == from);
            list.map(|transfer| transfer.bytes() as u64).sum::<u64>()
        };
        let [first, second] = [0, 1].map(|device| {
            let weights = self.parts[device].weights_bytes as u64;
            (bytes(weights), bytes(crossing(device)))
        });
        format!(
            "two devices: weights {} and {}, of {} together; {} go from the first to the second, \
             {} back\n\n{table}",
            first.0,
            second.0,
            bytes(net.plan.weights_bytes as u64),
            first.1,
            second.1
        )
    }
}
