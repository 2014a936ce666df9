//! `vermeer doctor`: what this machine and this build can do.

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use burn::prelude::Device;
use burn::tensor::Tensor;
use serde::Serialize;
use vermeer::Result;
use vermeer_kernels::{ConvOptions, conv2d};

use crate::terminal::Terminal;

const EXAMPLES: &str = "\
Examples:
  vermeer doctor                   devices, processor, memory, and a ten-second speed check
  vermeer doctor --seconds 60      a longer one, against noise
  vermeer doctor --json > me.json  for a bug report";

/// Side of the matrices of the speed check.
const MATRIX: usize = 512;
/// Batch, channels, side of the images and side of the kernels of the speed check.
const CONVOLUTION: [usize; 4] = [16, 32, 32, 3];

/// Say what this machine and this build can do.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Device of the speed check.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Length of the speed check; 0 leaves it out.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    version: &'static str,
    system: String,
    devices: Vec<Found>,
    cores: usize,
    threads: usize,
    instruction_sets: Vec<&'static str>,
    memory_mib: Option<u64>,
    free_memory_mib: Option<u64>,
    free_disk_mib: Option<u64>,
    speed: Option<Speed>,
}

/// A device of this build.
#[derive(Serialize)]
struct Found {
    name: &'static str,
    works: bool,
    /// What it said when it does not work.
    message: Option<String>,
}

#[derive(Serialize)]
struct Speed {
    device: String,
    matmul_512_gflops: f64,
    conv_3x3_32_gflops: f64,
}

impl Args {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<()> {
        let device = vermeer::device::parse(&self.device)?;
        let half = Duration::from_secs_f64(self.seconds / 2.0);
        let speed = (!half.is_zero()).then(|| {
            terminal.note(&format!("measuring for {} seconds", self.seconds));
            Speed {
                device: self.device.clone(),
                matmul_512_gflops: matmul_gflops(&device, half),
                conv_3x3_32_gflops: conv_gflops(&device, half),
            }
        });
        let findings = Findings {
            version: env!("CARGO_PKG_VERSION"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            devices: vermeer::device::known().into_iter().map(tried).collect(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            instruction_sets: instruction_sets(),
            memory_mib: memory("MemTotal:"),
            free_memory_mib: memory("MemAvailable:"),
            free_disk_mib: fs4::available_space(".").ok().map(|bytes| bytes >> 20),
            speed,
        };
        match self.json {
            true => terminal.json(&findings),
            false => terminal.result(&findings.text()),
        }
    }
}

impl Findings {
    fn text(&self) -> String {
        let gib = |mib: Option<u64>| {
            mib.map_or("unknown".to_owned(), |mib| {
                format!("{:.1} GiB", mib as f64 / 1024.0)
            })
        };
        let mut lines = vec![
            format!("vermeer {} on {}", self.version, self.system),
            format!(
                "cores         {}, {} threads in use",
                self.cores, self.threads
            ),
            format!("instructions  {}", self.instruction_sets.join(" ")),
            format!(
                "memory        {}, {} free",
                gib(self.memory_mib),
                gib(self.free_memory_mib)
            ),
            format!("disk          {} free here", gib(self.free_disk_mib)),
        ];
        for device in &self.devices {
            let state = match &device.message {
                None => "works".to_owned(),
                Some(message) => format!("does not work: {message}"),
            };
            lines.push(format!("device        {:<8} {state}", device.name));
        }
        if let Some(speed) = &self.speed {
            lines.push(format!(
                "speed         {:.1} GFLOP/s matrix product, {:.1} GFLOP/s convolution on {}",
                speed.matmul_512_gflops, speed.conv_3x3_32_gflops, speed.device
            ));
        }
        lines.join("\n")
    }
}

/// Adds two numbers on a device. A driver that is missing ends in a panic there.
fn tried(name: &'static str) -> Found {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let sum = panic::catch_unwind(AssertUnwindSafe(|| {
        let device = vermeer::device::parse(name)?;
        Ok::<f32, vermeer::Error>(
            Tensor::<1>::from_floats([1.0, 2.0], &device)
                .sum()
                .into_scalar(),
        )
    }));
    panic::set_hook(hook);
    let message = match sum {
        Ok(Ok(sum)) if (sum - 3.0).abs() < 1e-6 => None,
        Ok(Ok(sum)) => Some(format!("1 + 2 is {sum} there")),
        Ok(Err(error)) => Some(error.to_string()),
        Err(payload) => Some(
            payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| {
                    payload
                        .downcast_ref::<&str>()
                        .map(|text| (*text).to_owned())
                })
                .unwrap_or_else(|| "it gave up without a word".to_owned()),
        ),
    };
    Found {
        name,
        works: message.is_none(),
        message,
    }
}

fn matmul_gflops(device: &Device, length: Duration) -> f64 {
    let matrix = Tensor::<2>::ones([MATRIX, MATRIX], device).mul_scalar(0.5);
    let operations = 2.0 * (MATRIX as f64).powi(3);
    gflops(operations, length, || {
        matrix.clone().matmul(matrix.clone()).sum().into_scalar()
    })
}

fn conv_gflops(device: &Device, length: Duration) -> f64 {
    let [batch, channels, side, kernel] = CONVOLUTION;
    let images = Tensor::<4>::ones([batch, channels, side, side], device).mul_scalar(0.5);
    let weights = Tensor::<4>::ones([channels, channels, kernel, kernel], device).mul_scalar(0.5);
    let operations = 2.0
        * [batch, channels, side, side, channels, kernel, kernel]
            .iter()
            .product::<usize>() as f64;
    gflops(operations, length, || {
        let options = ConvOptions {
            padding: [1, 1],
            ..ConvOptions::default()
        };
        conv2d(images.clone(), weights.clone(), None, options)
            .sum()
            .into_scalar()
    })
}

/// Repeats a piece of work for a while and takes its best time; the result is read back, so that
/// a device that works ahead has to finish.
fn gflops(operations: f64, length: Duration, work: impl Fn() -> f32) -> f64 {
    let begun = Instant::now();
    let mut best = f64::INFINITY;
    while best.is_infinite() || begun.elapsed() < length {
        let start = Instant::now();
        std::hint::black_box(work());
        best = best.min(start.elapsed().as_secs_f64().max(1e-9));
    }
    operations / best / 1e9
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    let sets = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx", is_x86_feature_detected!("avx")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    sets.into_iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let sets = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("fp16", is_aarch64_feature_detected!("fp16")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
        ("sve", is_aarch64_feature_detected!("sve")),
    ];
    sets.into_iter()
        .filter(|(_, there)| *there)
        .map(|(name, _)| name)
        .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<&'static str> {
    vec![]
}

/// An entry of `/proc/meminfo` in MiB, where there is one.
fn memory(entry: &str) -> Option<u64> {
    mib(&std::fs::read_to_string("/proc/meminfo").ok()?, entry)
}

fn mib(text: &str, entry: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(entry))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_works() {
        let found = tried("flex");
        assert!(found.works, "{:?}", found.message);
        assert!(!tried("quantum").works);
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:        4028756 kB\nMemFree:          203020 kB\nMemAvailable:    2097152 kB\n";
        assert_eq!(mib(text, "MemTotal:"), Some(3934));
        assert_eq!(mib(text, "MemAvailable:"), Some(2048));
        assert_eq!(mib(text, "Swap:"), None);
    }
}
