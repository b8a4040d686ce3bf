//! Files of the build machine that are there as a whole or not at all.
#![expect(
    clippy::disallowed_methods,
    reason = "the boundary to the build machine's own files"
)]

use std::fs::File;
use std::io;
use std::path::Path;

/// Lets `fill` write what is to be at `path`, into a file beside it that `create` opens, and puts that there when it is done.
/// What has failed leaves nothing, and what was there stays.
pub fn write<E>(
    path: &Path,
    create: impl FnOnce(&Path) -> io::Result<File>,
    fail: impl Fn(io::Error) -> E,
    fill: impl FnOnce(File) -> Result<(), E>,
) -> Result<(), E> {
    let temp = path.with_extension(format!("new-{}", std::process::id()));
    let written = create(&temp).map_err(&fail).and_then(fill);
    let written = written.and_then(|()| std::fs::rename(&temp, path).map_err(&fail));
    if written.is_err() {
        // That it cannot be removed is not the news.
        drop(std::fs::remove_file(&temp));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_fails_leaves_nothing_and_what_was_there_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("file.toml");
        let create = |temp: &Path| File::create(temp);
        let put = |text: &'static str, end: io::Result<()>| {
            write(
                &path,
                create,
                |error| error,
                |mut file| {
                    file.write_all(text.as_bytes())?;
                    end
                },
            )
        };
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert!(put("half", full()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
        put("whole", Ok(())).expect("file");
        assert!(put("half", full()).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "whole");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }
}
