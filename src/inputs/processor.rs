//! The meaning of `native` on this machine, as the compiler itself says (KEY-09).
//!
//! `-C target-cpu=native` makes the compiler look at the processor. It takes the nearest processor
//! that its code generator knows, and every feature that this one has or lacks. Both stand in the
//! text form of every function that it generates, so one tiny compile answers the question.
//! (`--print cfg` names less than half of the features; the others decide instructions, too.)
//!
//! A hit starts no compiler: the answer holds for a toolchain and for what the kernel says of the
//! processor since it was started. A machine whose kernel says nothing gets no answer.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::bytes::{Reader, Writer};
use super::disk_world::DiskWorld;
use super::process::ask;
use super::proxy::resolve;
use super::types::Toolchain;
use crate::invocation::rustc::RustcInvocation;
use crate::invocation::{Bypass, Call, Reason};

/// The kernel's description of the processors.
const DESCRIPTION: &str = "/proc/cpuinfo";

/// A name that the kernel makes up when it is started. A virtual machine may come up on another
/// processor, of which the kernel does not describe every feature.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// How much of the description is read. The kernel writes it anew for each reader, and needs
/// about 10 µs for each processor.
const DESCRIPTION_BYTES_MAX: u64 = 64 * 1024;

/// Lines of the description that are about one moment or about one of several alike processors.
const VOLATILE: &[&str] =
    &["processor", "cpu MHz", "bogomips", "BogoMIPS", "core id", "apicid", "initial apicid", "physical id"];

/// A function whose text form shows for which processor it is made.
const SOURCE: &str = "#![no_std]\n#[no_mangle]\npub extern \"C\" fn processor() {}\n";

/// The processor's name and its features, in a form in which they can enter a key.
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
    let mut question = Writer(b"native".to_vec());
    question.digest(&toolchain.tree).path(compiler).bytes(described);
    let fact = world.fact(question, || {
        let said = said_by(compiler, call).map_err(|error| unknown(&error.to_string()))?;
        let native = in_text_form(&said).ok_or_else(|| unknown("the compiler does not say what it is"))?;
        let mut value = Writer::default();
        value.bytes(&native);
        // All that the answer depends on is in the question.
        Ok((value.0, Vec::new()))
    })?;
    Reader(&fact.value).text().ok_or_else(|| unknown("what is known of it is damaged"))
}

/// Everything that the kernel says and that tells one processor from another.
fn described(description: &Path, boot: &Path) -> io::Result<Vec<u8>> {
    let mut described = fs::read(boot)?;
    let mut lines: Vec<String> = Vec::new();
    for line in first_processors(description)?.lines() {
        let name = line.split(':').next().unwrap_or_default().trim_end();
        if !VOLATILE.contains(&name) && !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
    }
    described.extend_from_slice(lines.join("\n").as_bytes());
    Ok(described)
}

/// What the kernel says of the first processor, or of as many as there is room for. The
/// processors of an x86 machine have the same features, and others are described in few words.
fn first_processors(description: &Path) -> io::Result<String> {
    const CHUNK_BYTES: u64 = 4096;
    let file = File::open(description)?;
    let mut text = Vec::new();
    while (text.len() as u64) < DESCRIPTION_BYTES_MAX {
        let read = (&file).take(CHUNK_BYTES).read_to_end(&mut text)?;
        let is_told = cfg!(any(target_arch = "x86", target_arch = "x86_64"))
            && memchr::memmem::find(&text, b"\n\n").is_some();
        if read == 0 || is_told {
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

/// The text form of the function, from a compile in a directory of its own.
fn said_by(compiler: &Path, call: &Call) -> io::Result<String> {
    let directory = Scratch::new(call.env.path("TMPDIR").unwrap_or(Path::new("/tmp")))?;
    let (source, output) = (directory.0.join("processor.rs"), directory.0.join("processor.ll"));
    File::create_new(&source)?.write_all(SOURCE.as_bytes())?;
    let arguments = ["--crate-name=processor", "--crate-type=lib", "--emit=llvm-ir", "--cap-lints=allow"];
    let arguments = arguments.into_iter().chain(["-Ctarget-cpu=native", "-Ccodegen-units=1", "processor.rs"]);
    let arguments: Vec<_> = arguments.map(std::ffi::OsStr::new).collect();
    ask(compiler, &arguments, &call.env, &["HOME", "PATH"], &directory.0)?;
    fs::read_to_string(output)
}

/// A directory that goes when the question is answered.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> io::Result<Scratch> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("kache-native-{}-{number}", std::process::id()));
        fs::create_dir(&directory)?;
        Ok(Scratch(directory))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that cannot be removed stays with the temporary files and does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The processor and its features, from the text form of a function.
fn in_text_form(text: &str) -> Option<String> {
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
    use super::super::process::asked;
    use super::super::testing::{call, real_sysroot, real_toolchain, write};
    use super::*;

    #[test]
    fn key_09_native_is_what_the_compiler_generates_code_for() {
        let (world, call) = (DiskWorld::new(), call(Path::new("/")));
        let (toolchain, compiler) = (real_toolchain(&world), real_sysroot().join("bin/rustc"));
        let of = |described: &[u8]| native_of(described, &compiler, &call, &toolchain, &world).unwrap();
        let before = asked();
        let native = of(b"one processor");
        assert_eq!(of(b"one processor"), native);
        assert_eq!(asked() - before, 1, "it is asked once");
        let question = ["--print=cfg", "-Ctarget-cpu=native"].map(std::ffi::OsStr::new);
        let said = ask(&compiler, &question, &call.env, &[], Path::new("/")).unwrap();
        let named: Vec<&str> = native.split(',').collect();
        assert!(!named[0].starts_with(['+', '-']), "{native}");
        // Of those that have other names there, there are few.
        for feature in ["avx2", "sse4.2", "neon", "popcnt"] {
            let is_there = said.contains(&format!("target_feature=\"{feature}\""));
            assert_eq!(named.contains(&&*format!("+{feature}")), is_there, "{feature}: {native}");
        }
        // A machine that comes up with another processor is asked again.
        of(b"another processor");
        assert_eq!(asked() - before, 3);
    }

    #[test]
    fn key_09_a_description_holds_what_tells_processors_apart() {
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
    fn key_09_name_and_features_are_read_from_the_text_form() {
        let text = "attributes #0 = { nounwind \"target-cpu\"=\"znver5\" \"target-features\"=\"+b,-c,+a\" }";
        assert_eq!(in_text_form(text).as_deref(), Some("znver5,+a,+b,-c"));
        assert_eq!(in_text_form("\"target-cpu\"=\"generic\"").as_deref(), Some("generic"));
        for text in ["", "\"target-cpu\"=\"native\"", "\"target-cpu\"=\"\"", "\"target-cpu\"=\"open"] {
            assert_eq!(in_text_form(text), None, "{text}");
        }
    }
}
