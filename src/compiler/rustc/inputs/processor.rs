//! The meaning of `native` on this machine, as the compiler itself tells it (KEY-09).
//!
//! With `-C target-cpu=native`, the compiler takes the most similar processor that its codegen backend knows,
//! and each feature that the machine's processor has or lacks. Both are in the LLVM IR of each function, so
//! one tiny compile tells them. (`--print cfg` names less than half of the features, and the others decide
//! instructions, too.)
//!
//! A hit starts no compiler: the answer is remembered for the toolchain and for the kernel's description of
//! the processor since the system started. If the kernel does not describe the processor, the call is a
//! bypass.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::proxy::resolve;
use crate::compiler::rustc::invocation::RustcInvocation;
use crate::inputs::{ByteReader, ByteWriter, DiskWorld, Toolchain, ask};
use crate::invocation::{Bypass, Call, Reason};

/// The kernel's description of the processors.
const DESCRIPTION: &str = "/proc/cpuinfo";

/// An id that the kernel makes up at each start of the system. A virtual machine may start again on another
/// processor, and the kernel's description does not contain each feature.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The largest part of the description that is read, in bytes. The kernel generates the text for each reader
/// and needs about 10 µs for each processor.
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// Lines of the description that change with time or differ between equal processors of a machine.
const VOLATILE: &[&str] =
    &["processor", "cpu MHz", "bogomips", "BogoMIPS", "core id", "apicid", "initial apicid", "physical id"];

/// The source of the tiny compile: a function whose LLVM IR names the processor.
const SOURCE: &str = "#![no_std]\n#[no_mangle]\npub extern \"C\" fn processor() {}\n";

/// Returns the name and the features of the processor in the form in which they enter a key. If no answer is
/// remembered, it runs the compiler.
pub(super) fn native(
    rustc: &RustcInvocation,
    call: &Call,
    toolchain: &Toolchain,
    world: &DiskWorld,
) -> Result<String, Bypass> {
    let described = described(Path::new(DESCRIPTION), Path::new(BOOT));
    let described = described.map_err(|error| unknown(&format!("this machine's processor: {error}")))?;
    let (_, compiler) = resolve(&rustc.rustc, call, world)?;
    native_of(&described, &compiler, call, toolchain, world)
}

fn native_of(
    described: &[u8],
    compiler: &Path,
    call: &Call,
    toolchain: &Toolchain,
    world: &DiskWorld,
) -> Result<String, Bypass> {
    let mut question = ByteWriter(b"native".to_vec());
    question.digest(&toolchain.tree).path(compiler).bytes(described);
    let answer = world.cached_answer(question, || {
        let ir = compile_to_ir(compiler, call).map_err(|error| unknown(&error.to_string()))?;
        let native = processor_in_ir(&ir).ok_or_else(|| unknown("the compiler does not tell its meaning"))?;
        let mut value = ByteWriter::default();
        value.bytes(&native);
        // The answer depends on no file: everything that decides it is part of the question.
        Ok((value.0, Vec::new()))
    })?;
    ByteReader(&answer.value).text().ok_or_else(|| unknown("the remembered answer is damaged"))
}

/// Returns the part of the kernel's description that tells processors apart, after the id of the system's
/// start.
fn described(description: &Path, boot: &Path) -> io::Result<Vec<u8>> {
    let mut described = fs::read(boot)?;
    let mut lines: Vec<String> = Vec::new();
    for line in first_processors(description)?.lines() {
        let name = line.split(':').next().unwrap_or_default().trim_end();
        if !VOLATILE.contains(&name) && !lines.iter().any(|earlier| earlier == line) {
            lines.push(line.to_owned());
        }
    }
    described.extend_from_slice(lines.join("\n").as_bytes());
    Ok(described)
}

/// Returns the description of the first processor on x86, where all processors of a machine have the same
/// features. Elsewhere it returns as much as the limit allows; the descriptions are short there.
fn first_processors(description: &Path) -> io::Result<String> {
    const CHUNK_BYTES: u64 = 4096;
    let file = File::open(description)?;
    let mut text = Vec::new();
    while (text.len() as u64) < DESCRIPTION_BYTES_MAX {
        let read = (&file).take(CHUNK_BYTES).read_to_end(&mut text)?;
        let is_complete = cfg!(any(target_arch = "x86", target_arch = "x86_64"))
            && memchr::memmem::find(&text, b"\n\n").is_some();
        if read == 0 || is_complete {
            break;
        }
    }
    if text.is_empty() {
        return Err(io::Error::other(format!("`{}` is empty", description.display())));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_x86 = cfg!(any(target_arch = "x86", target_arch = "x86_64"));
    let first = text.split("\n\n").next().filter(|_| is_x86);
    Ok(first.unwrap_or(&text).to_owned())
}

/// Compiles the function in a temporary directory and returns its LLVM IR.
fn compile_to_ir(compiler: &Path, call: &Call) -> io::Result<String> {
    let directory = ScratchDir::new(call.env.path("TMPDIR").unwrap_or(Path::new("/tmp")))?;
    let (source, output) = (directory.0.join("processor.rs"), directory.0.join("processor.ll"));
    File::create_new(&source)?.write_all(SOURCE.as_bytes())?;
    let arguments = ["--crate-name=processor", "--crate-type=lib", "--emit=llvm-ir", "--cap-lints=allow"];
    let arguments = arguments.into_iter().chain(["-Ctarget-cpu=native", "-Ccodegen-units=1", "processor.rs"]);
    let arguments: Vec<_> = arguments.map(std::ffi::OsStr::new).collect();
    ask(compiler, &arguments, &call.env, &["HOME", "PATH"], &directory.0)?;
    fs::read_to_string(output)
}

/// A temporary directory, removed on drop.
struct ScratchDir(PathBuf);

impl ScratchDir {
    fn new(parent: &Path) -> io::Result<ScratchDir> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("kache-native-{}-{number}", std::process::id()));
        fs::create_dir(&directory)?;
        Ok(ScratchDir(directory))
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // A directory that cannot be removed stays with the temporary files and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the processor and its features, sorted, from the attributes of a function in LLVM IR.
fn processor_in_ir(text: &str) -> Option<String> {
    let attribute = |name: &str| {
        let after = text.split_once(&format!("\"{name}\"=\""))?.1;
        after.split_once('"').map(|(value, _)| value)
    };
    let name = attribute("target-cpu").filter(|name| !name.is_empty() && *name != "native")?;
    let features = attribute("target-features").unwrap_or_default();
    let mut features: Vec<&str> = features.split(',').filter(|feature| !feature.is_empty()).collect();
    features.sort_unstable();
    Some([name].into_iter().chain(features).collect::<Vec<_>>().join(","))
}

fn unknown(why: &str) -> Bypass {
    Bypass::new(Reason::UncacheableOption, format!("`native`: {why}"))
}

#[cfg(test)]
mod tests {
    use kache_cas::DigestFunction;

    use super::super::testing::{real_sysroot, real_toolchain};
    use super::*;
    use crate::inputs::questions_asked;
    use crate::inputs::testing::{call, write};

    #[test]
    fn key_09_native_is_the_processor_that_the_compiler_generates_code_for() {
        let (world, call) = (DiskWorld::new(DigestFunction::Blake3), call(Path::new("/")));
        let (toolchain, compiler) = (real_toolchain(&world), real_sysroot().join("bin/rustc"));
        let of = |described: &[u8]| native_of(described, &compiler, &call, &toolchain, &world).unwrap();
        let before = questions_asked();
        let native = of(b"one processor");
        assert_eq!(of(b"one processor"), native);
        assert_eq!(questions_asked() - before, 1, "the compiler is asked once");
        let question = ["--print=cfg", "-Ctarget-cpu=native"].map(std::ffi::OsStr::new);
        let cfg = ask(&compiler, &question, &call.env, &[], Path::new("/")).unwrap();
        let named: Vec<&str> = native.split(',').collect();
        assert!(!named[0].starts_with(['+', '-']), "{native}");
        // `--print=cfg` has other names for some features, but not for these.
        for feature in ["avx2", "sse4.2", "neon", "popcnt"] {
            let is_there = cfg.contains(&format!("target_feature=\"{feature}\""));
            assert_eq!(named.contains(&&*format!("+{feature}")), is_there, "{feature}: {native}");
        }
        // After a start with another processor, the compiler is asked again.
        of(b"another processor");
        assert_eq!(questions_asked() - before, 3);
    }

    #[test]
    fn key_09_a_description_tells_processors_apart() {
        let dir = tempfile::tempdir().unwrap();
        let of = |boot: &str, text: &str| {
            let (boot, description) =
                (write(dir.path(), "boot", boot.as_bytes()), write(dir.path(), "cpu", text.as_bytes()));
            described(&description, &boot).unwrap()
        };
        let text = |flags: &str, speed: u32| {
            let processor = |number| {
                format!("processor\t: {number}\nmodel\t\t: 2\ncpu MHz\t\t: {speed}\nflags\t\t: {flags}\n\n")
            };
            processor(0) + &processor(1)
        };
        let known = of("boot", &text("sse avx", 2000));
        assert_eq!(of("boot", &text("sse avx", 3000)), known);
        assert_ne!(of("boot", &text("sse", 2000)), known);
        assert_ne!(of("other", &text("sse avx", 2000)), known);
        let empty = write(dir.path(), "empty", b"");
        assert!(described(&empty, &empty).is_err());
        assert!(described(&dir.path().join("absent"), &empty).is_err());
    }

    #[test]
    fn key_09_name_and_features_are_read_from_llvm_ir() {
        let text = "attributes #0 = { nounwind \"target-cpu\"=\"znver5\" \"target-features\"=\"+b,-c,+a\" }";
        assert_eq!(processor_in_ir(text).as_deref(), Some("znver5,+a,+b,-c"));
        assert_eq!(processor_in_ir("\"target-cpu\"=\"generic\"").as_deref(), Some("generic"));
        for text in ["", "\"target-cpu\"=\"native\"", "\"target-cpu\"=\"\"", "\"target-cpu\"=\"open"] {
            assert_eq!(processor_in_ir(text), None, "{text}");
        }
    }
}
