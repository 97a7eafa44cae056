//! Opens a module, runs it on zeros and prints the most likely class: what an app does, in short.
//!
//!     classify digits.alexc

use alexc_runtime::network::Network;
use alexc_runtime::session::Session;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: classify MODULE")?;
    // Checks the module and the weights beside it; any number of threads may share the network.
    let network = Arc::new(Network::open(path)?);
    // All memory that a run needs; each thread that runs the net has a session of its own.
    let mut session = Session::new(&network, 2)?;

    let input = vec![0.0; network.input_len()];
    let mut output = vec![0.0; network.output_len()];
    session.run(&input, &mut output)?;

    let best = (0..output.len()).max_by(|&a, &b| output[a].total_cmp(&output[b])).unwrap_or(0);
    let label = network.labels().get(best).map_or("", String::as_str);
    println!("{best} {label} {}", output[best]);
    Ok(())
}
