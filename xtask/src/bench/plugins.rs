//! `cargo xtask bench --plugins`: what a protocol plugin adds to the cost of a request.
//!
//! Runs without plugin, with the native and with the WebAssembly one take turns. Shared machines change their speed by more than a
//! plugin costs, so each run is compared with the one without plugin in the same round, and the median of these ratios counts.

use super::{Args, Costs, Load, Workload, replayed, workloads};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use tcpcopy_lab::programs;

/// What a plugin may add to `tcpcopy`'s CPU time for each request, as a share of what it is without.
const NATIVE_AIM: f64 = 0.03;
const WASM_AIM: f64 = 0.15;

/// How requests are replayed.
struct Way {
    name: &'static str,
    /// Ending of the plugin's file; none for no plugin.
    ending: Option<&'static str>,
    aim: Option<f64>,
}

const WAYS: [Way; 3] = [
    Way { name: "no plugin", ending: None, aim: None },
    Way { name: "native", ending: Some("so"), aim: Some(NATIVE_AIM) },
    Way { name: "wasm", ending: Some("wasm"), aim: Some(WASM_AIM) },
];

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    crate::plugins::build()?;
    let runs = args.runs.max(3);
    println!(
        "CPU time for each request, the least of {runs} runs; how much more it is than without plugin, the median of the rounds\n"
    );
    println!(
        "{:<24} {:<10} {:>12} {:>12} {:>8}",
        "workload", "plugin", "tcpcopy µs", "intercept µs", "more %"
    );
    let mut results = Vec::new();
    for workload in workloads() {
        if args.filter.as_ref().is_some_and(|filter| !workload.name.contains(filter.as_str())) {
            continue;
        }
        let mut best: [Option<Costs>; WAYS.len()] = [const { None }; WAYS.len()];
        let mut ratios: [Vec<f64>; WAYS.len()] = [const { Vec::new() }; WAYS.len()];
        for _ in 0..runs {
            let mut without = None;
            for ((way, best), ratios) in WAYS.iter().zip(&mut best).zip(&mut ratios) {
                let costs = replayed(&workload, &module(&workload, way)?)
                    .with_context(|| format!("measuring {} with {}", workload.name, way.name))?;
                let now = costs.per_request(costs.tcpcopy);
                ratios.push(now / *without.get_or_insert(now));
                *best = Some(match best.take() {
                    Some(before) => before.better(costs),
                    None => costs,
                });
            }
        }
        for ((way, costs), ratios) in WAYS.iter().zip(best.iter().flatten()).zip(&mut ratios) {
            let tcpcopy = costs.per_request(costs.tcpcopy);
            let more = median(ratios) - 1.0;
            println!(
                "{:<24} {:<10} {:>12.2} {:>12.2} {:>8.1}{}",
                workload.name,
                way.name,
                tcpcopy,
                costs.per_request(costs.intercept),
                more * 100.0,
                if way.aim.is_some_and(|aim| more > aim) { "  above the aim" } else { "" },
            );
            results.push(json!({
                "workload": workload.name,
                "plugin": way.name,
                "tcpcopy_cpu_us_per_request": tcpcopy,
                "intercept_cpu_us_per_request": costs.per_request(costs.intercept),
                "more_than_without": more,
                "aim": way.aim,
            }));
        }
    }
    let file = args.json.clone().unwrap_or_else(|| programs::target_folder().join("bench/plugins.json"));
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    std::fs::write(&file, serde_json::to_string_pretty(&results)?)
        .with_context(|| format!("writing {}", file.display()))?;
    println!(
        "\naims: at most {:.0} % more with the native plugin, {:.0} % with the WebAssembly one",
        NATIVE_AIM * 100.0,
        WASM_AIM * 100.0
    );
    println!("results are in {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(1.0)
}

/// The options that name the plugin.
fn module(workload: &Workload, way: &Way) -> Result<String> {
    let Some(ending) = way.ending else { return Ok(String::new()) };
    let (name, more) = match workload.load {
        // redis-benchmark asks the server for its configuration before it begins.
        Load::Redis(_) | Load::RedisBenchmark(_) => {
            ("redis", " --module-opt redis.allow-dangerous=@dangerous")
        }
        Load::Http(_) => ("http", ""),
    };
    let file: PathBuf = programs::target_folder().join("plugins").join(format!("{name}.{ending}"));
    ensure!(file.exists(), "there is no {}\nhint: cargo xtask build-plugins", file.display());
    Ok(format!("--module {}:{}{more}", file.display(), workload.port()))
}
