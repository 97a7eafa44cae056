//! `alexc check`: the layer table of a spec.

use super::args::CheckArgs;
use super::failure::{Failure, write};
use super::{device, load};
use crate::report::check::Check;

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    // Sizes depend on neither, but what is wrong is not passed over.
    device::find(&args.device.device)?;
    load::threads(args.device.threads)?;
    let (spec, graph) = load::graph(&args.spec, &args.common)?;
    load::labels(&spec, &args.spec, &graph)?;
    let check = Check::new(&spec, &graph);
    let text =
        if args.common.json { format!("{:#}\n", check.to_json()) } else { check.to_string() };
    write(args.output.as_deref(), &text)
}
