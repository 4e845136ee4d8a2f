//! Writes the seed corpora of the fuzz targets to `fuzz/corpus`, in place of what is there.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use tcpcopy_fuzz_bodies::{TARGETS, seeds};

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for target in TARGETS {
        let folder = corpus.join(target.name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let seeds = seeds::seeds_of(target.name);
        let bytes: usize = seeds.iter().map(|seed| seed.bytes.len()).sum();
        for seed in &seeds {
            let file = folder.join(&seed.name);
            fs::write(&file, &seed.bytes).with_context(|| format!("writing {}", file.display()))?;
        }
        println!("{}: {} seeds, {bytes} bytes", target.name, seeds.len());
    }
    Ok(())
}
