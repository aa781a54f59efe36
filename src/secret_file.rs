//! A file that holds one secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

/// The text of a secret file, without the one line break at its end that editors and `echo` put
/// there. Symlinks are followed, because that is how Kubernetes makes such files.
///
/// # Errors
///
/// What is wrong with the file; nothing of its content.
pub fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    // Before it is opened, because opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err(if meta.is_dir() { "a directory" } else { "not a regular file" }.to_owned());
    }
    // Room for the largest, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX + 1));
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > MAX {
        return Err("more than 64 KiB".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Zeroizing::new(text.to_owned()))
}

/// The largest that is taken, in bytes.
const MAX: usize = 64 * 1024;
