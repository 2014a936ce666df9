//! Measures one workload of `tools/bench/compare` and prints JSON: the median milliseconds, the
//! memory it needs above the loaded model, and numbers of its result where both sides have the
//! same weights.
//!
//! ```text
//! RAYON_NUM_THREADS=2 cargo run --release -p vermeer --example compare -- srvgg [seconds]
//! ```
#![allow(clippy::print_stdout, reason = "an example reports on the terminal")]

mod nets;
mod training;

use std::error::Error;
use std::time::Instant;

use burn::tensor::Tensor;
use serde_json::json;

/// A workload: one run, and the numbers of its result that are compared.
pub(crate) type Workload = Box<dyn FnMut() -> Option<Tensor<4>>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments
        .next()
        .ok_or("usage: compare WORKLOAD [seconds]")?;
    let seconds: f64 = arguments.next().map_or(Ok(4.0), |text| text.parse())?;
    let mut run = match nets::workload(&name) {
        Some(run) => run,
        None => training::workload(&name)?,
    };
    // What making the network took does not count; 5 forgets the peak (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").ok();
    let loaded = resident_mib("VmRSS:");
    let result = run();
    let check = result.map(numbers);
    run();
    let mut times = vec![];
    let began = Instant::now();
    while times.len() < 5 || began.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        run();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "workload": name,
            "ms": times[times.len() / 2],
            "runs": times.len(),
            "extra_mib": resident_mib("VmHWM:").zip(loaded).map(|(peak, loaded)| peak - loaded),
            "check": check,
        })
    );
    Ok(())
}

/// Eight numbers of a result, evenly apart, and its mean square.
fn numbers(result: Tensor<4>) -> Vec<f64> {
    let data = result.into_data();
    let values: Vec<f64> = data.iter::<f32>().map(f64::from).collect();
    let step = values.len() / 8;
    let mean = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
    let some = (0..8).map(|i| values[i * step]);
    some.chain([mean]).collect()
}

/// A line of this process's memory, in MiB.
fn resident_mib(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|text| text.starts_with(line))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
